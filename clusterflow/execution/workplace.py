"""Where a stage finds what earlier tasks have published, and where it works."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from pydantic import TypeAdapter

from clusterflow.core import keys
from clusterflow.core.data import Fragment
from clusterflow.core.frames import (
    certificate_from_atoms,
    fragment_from_atoms,
    read_frames,
    with_label,
)
from clusterflow.errors import StateError
from clusterflow.selection.held_out import structure_hash
from clusterflow.state.fragments import annotated_fragments
from clusterflow.state.labels import LabelStore, label_key
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import REMEDY, verify_folder


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a stage works: the campaign's folder, a scratch folder of its own, and the folder of files to publish."""

    folder: CampaignFolder
    scratch: Path
    out: Path
    threads: int = 1

    @property
    def labels(self) -> LabelStore:
        return LabelStore(self.folder.labels)

    def result(self, kind: str, key: str) -> Path:
        """Published files of an earlier task, each checked against its recorded hash.

        Raises
        ------
        StateError
            They are not there, or damaged.
        """
        path = self.folder.result(kind, key)
        if not path.is_dir():
            raise StateError(
                f"The result of {kind} {key[:16]} is missing, although the journal says it is done.",
                where=str(path),
                todo=REMEDY,
            )
        verify_folder(path)
        return path

    def system(self, name: str) -> Atoms:
        """The built structure of a system."""
        return read_frames(self.folder.inputs / f"{name}.extxyz")[0]

    def has_system(self, name: str) -> bool:
        """Whether there is a system of this name; frames of a seed dataset may be of none."""
        return (self.folder.inputs / f"{name}.json").is_file()

    def known_fragments(self, label_keys: Sequence[str]) -> list[Fragment]:
        """Fragments of this campaign that have been asked for already."""
        wanted = set(label_keys)
        return [
            fragment_from_atoms(a)
            for key, a in annotated_fragments(self.folder).items()
            if key in wanted and keys.REGION in a.arrays
        ]

    def annotated(self, label_keys: Sequence[str]) -> list[Atoms]:
        """What this campaign knows of these fragments, without energies; those that it does not know are left out."""
        known = annotated_fragments(self.folder)
        return [known[key] for key in label_keys if key in known]

    def labelled(self, label_keys: Sequence[str]) -> list[Atoms]:
        """Annotated and labelled frames, in the order given."""
        store, annotated = self.labels, annotated_fragments(self.folder)
        frames = []
        for key in label_keys:
            found = store.get(key)
            if found is None:
                raise StateError(
                    f"Label {key[:16]} is missing from the label store.",
                    where=str(self.folder.labels),
                    todo=REMEDY,
                )
            frames.append(with_label(annotated.get(key, found[0]), found[1], **{keys.LABEL: key}))
        return frames


def section(kind: Any, data: Mapping[str, Any]) -> Any:
    """A configuration section (or a union of them) from its JSON form."""
    return TypeAdapter(kind).validate_python(data)


def _claimed(fragment: Atoms) -> dict[str, Any]:
    """What the certificate of a fragment claims, if it has one: whether it passed, and the largest bound in eV/Å over
    the required atoms (None: only estimated)."""
    certificate = certificate_from_atoms(fragment)
    if certificate is None:
        return {}
    worst = float(certificate.bound[certificate.required].max())
    bounded = certificate.confidence > 0 and math.isfinite(worst)
    return {"certified": certificate.passed, "force_bound": worst if bounded else None}


def describe_fragments(fragments: Sequence[Atoms], level: str, sets: Sequence[str]) -> list[dict[str, Any]]:
    """The summary's entry for each fragment, by which the plan knows it; ``confirms``: the label key of the smaller
    fragment that it confirms."""
    own = [
        label_key(a, level_of_theory=level, charge=int(a.info[keys.CHARGE]), spin=int(a.info[keys.SPIN]))
        for a in fragments
    ]
    by_id = {str(a.info.get(keys.FRAGMENT, "")): key for a, key in zip(fragments, own, strict=True)}
    return [
        {
            "label_key": key,
            "system": str(a.info.get(keys.SYSTEM, "")),
            "kind": str(a.info.get(keys.KIND, "")),
            "n_atoms": len(a),
            "set": s,
            "structure": structure_hash(a),
            **_claimed(a),
            **({"confirms": by_id[str(a.info[keys.CONFIRMS])]} if keys.CONFIRMS in a.info else {}),
        }
        for key, a, s in zip(own, fragments, sets, strict=True)
    ]
