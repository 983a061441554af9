"""Part of `acquire`: selection by empty bins (CBAD) of whole frames, or of the fragments around what fills them.

The bins are counted from what is labelled, each time anew: whole frames from their labels, fragments from the record
that the selection which cut them has left (``cbad.json``). So a label that failed leaves its bins empty, and there is
no state that could be lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.config.cbad import CBAD
from clusterflow.core import keys
from clusterflow.core.data import Fragment, IntArray, Site
from clusterflow.core.frames import content_hash, fragment_to_atoms, read_optional_frames
from clusterflow.errors import ExtractionError, InputError, StructureError
from clusterflow.execution.workplace import Workplace, section
from clusterflow.extract.rules import BuildingBlockRule, WholeStructure
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.selection.cbad import Bins, Cover, Descriptors
from clusterflow.selection.duplicates import DUPLICATE, drop_duplicates
from clusterflow.selection.held_out import HeldOut

RECORD = "cbad.json"
_TRIES = 8
"""Atoms of one frame around which a fragment is tried to be cut in vain, before the frame is given up."""


@dataclass(frozen=True)
class Covered:
    """Fragments to label, best first, with the bins that each fills; why others were not; a summary, in which
    ``covered`` is the share of the bins visited by these walks that labels filled before."""

    fragments: list[Fragment]
    refused: list[str]
    filled: list[IntArray]
    bins: Bins
    told: dict[str, Any]

    def write(self, folder: Path, label_keys: Sequence[str]) -> None:
        """The record: the state of the bins, and what each fragment fills, by its label key."""
        d = self.bins.descriptors
        by_label = {k: d.to_json(codes) for k, codes in zip(label_keys, self.filled, strict=True)}
        data = {"bins": self.bins.to_json(), "fragments": by_label}
        (folder / RECORD).write_text(json.dumps(data), encoding="utf-8")


def cover(
    payload: Mapping[str, Any],
    frames: Sequence[Atoms],
    rule: Any,
    along: BlocksAlong | None,
    known: Sequence[Fragment],
    held_out: HeldOut,
    place: Workplace,
) -> Covered:
    """Accepts frames until none fills an empty bin or the budget is spent; at most one of each walk. Nothing resembles
    what is ``held_out``."""
    settings = section(CBAD, payload["select"])
    whole = isinstance(rule, WholeStructure)
    labelled = place.labelled(payload["labelled"])
    names = {str(a.info.get(keys.SYSTEM, "")) for a in (*frames, *labelled)}
    references = {n: place.system(n) for n in sorted(names) if place.has_system(n)}
    descriptors = Descriptors(references, settings.build(), types=settings.types)
    bins = Bins(descriptors)
    not_counted = _fill_from_labels(bins, labelled, whole=whole)
    for key in payload["acquired"]:
        _fill_from_record(bins, place.result("acquire", key) / RECORD, set(payload["labelled"]))
    before = len(bins.codes)
    measured = [_measured(descriptors, a, whole=whole) for a in frames]
    visited = [np.unique(codes) for codes, _ in measured]
    covered = bins.covered(np.unique(np.concatenate(visited)))
    search = Cover(bins, visited, _walk_numbers(payload, frames, place))
    kept: list[Fragment] = []
    filled: list[IntArray] = []
    refused: list[str] = []
    while len(kept) < payload["budget"] and (found := search.best()) is not None:
        number, new = found
        if whole:
            cut, reasons = _whole(frames[number], rule, measured[number][0], held_out)
        else:
            room = min(settings.per_frame, payload["budget"] - len(kept))
            taken = [*known, *kept]
            cut, reasons = _around(frames[number], rule, along, taken, held_out, measured[number], new, room)
        refused += reasons
        if cut:
            search.accept(number, np.concatenate([codes for _, codes in cut]))
            kept += [f for f, _ in cut]
            filled += [codes for _, codes in cut]
    told = {
        "candidates": len(frames),
        "accepted": len(kept),
        "covered": round(covered, 4),
        "bins_before": before,
        "bins_after": len(bins.codes),
        "not_counted": not_counted,
        "state": bins.identity,
    }
    return Covered(kept, refused, filled, bins, told)


def _fill_from_labels(bins: Bins, labelled: Sequence[Atoms], *, whole: bool) -> int:
    """Bins of labelled frames of the systems; returns how many labels are no such frames (fragments, other seeds)."""
    left_out = 0
    for atoms in labelled:
        name = str(atoms.info.get(keys.SYSTEM, ""))
        if bins.descriptors.knows(atoms, name):
            bins.fill(np.unique(_measured(bins.descriptors, atoms, whole=whole)[0]))
        else:
            left_out += 1
    return left_out


def _fill_from_record(bins: Bins, record: Path, labelled: set[str]) -> None:
    if record.is_file():  # an earlier selection may have been of another kind
        data = json.loads(record.read_text(encoding="utf-8"))
        Bins.from_json(bins.descriptors, data["bins"])  # refuses other resolutions
        for key, codes in data["fragments"].items():
            if key in labelled:
                bins.fill(bins.descriptors.from_json(codes))


def _measured(descriptors: Descriptors, atoms: Atoms, *, whole: bool) -> tuple[IntArray, IntArray]:
    """Codes of what a frame holds and the atoms of each; a fragment has no cell, so its parameters do not count."""
    name = str(atoms.info[keys.SYSTEM])
    codes, members = descriptors.of_atoms(atoms, name)
    if not whole:
        return codes, members
    cell = descriptors.of_cell(atoms, name)
    return np.concatenate((cell, codes)), np.concatenate((np.full((len(cell), 4), -1), members))


def _walk_numbers(payload: Mapping[str, Any], frames: Sequence[Atoms], place: Workplace) -> list[int]:
    """Which walk each frame is from: the first that has it."""
    first: dict[str, int] = {}
    for number, key in enumerate(payload["walkers"]):
        for atoms in read_optional_frames(place.result("explore", key) / "trajectory.extxyz"):
            first.setdefault(content_hash(atoms), number)
    return [first[content_hash(a)] for a in frames]


def _whole(
    atoms: Atoms, rule: Any, codes: IntArray, held_out: HeldOut
) -> tuple[list[tuple[Fragment, IntArray]], list[str]]:
    frame = content_hash(atoms)
    try:
        fragment = rule.extract(atoms, [Site(frame, 0)])
    except (ExtractionError, StructureError) as error:
        return [], [f"frame {frame[:12]}: {error.what}"]
    if why := held_out.refuses(fragment_to_atoms(fragment, **{keys.FRAME: frame})):
        return [], [f"frame {frame[:12]}: {why}"]
    return [(fragment, np.unique(codes))], []


def _around(
    atoms: Atoms,
    rule: Any,
    along: BlocksAlong | None,
    known: Sequence[Fragment],
    held_out: HeldOut,
    measured: tuple[IntArray, IntArray],
    new: IntArray,
    room: int,
) -> tuple[list[tuple[Fragment, IntArray]], list[str]]:
    """Fragments of one frame around the atoms that are in most of what falls into empty bins, and what each fills: the
    bins of everything in which one of its core atoms takes part."""
    frame, (codes, members) = content_hash(atoms), measured
    open_terms = np.isin(codes, new)
    cut: list[tuple[Fragment, IntArray]] = []
    refused: list[str] = []
    left = np.ones(len(atoms) + 1, dtype=bool)
    left[-1] = False  # where −1 points to: no atom
    while open_terms.any() and len(cut) < room and len(refused) < _TRIES:
        count = np.bincount(members[open_terms].ravel() % (len(atoms) + 1), minlength=len(atoms) + 1) * left
        index = int(count.argmax())
        if count[index] == 0:
            break
        left[index] = False
        try:
            blocks = {"blocks": along.of(atoms)} if along is not None and isinstance(rule, BuildingBlockRule) else {}
            fragment = rule.extract(atoms, [Site(frame, index)], **blocks)
        except (ExtractionError, StructureError, InputError) as error:
            refused.append(f"atom {index} of frame {frame[:12]}: {error.what}")
            continue
        if why := held_out.refuses(fragment_to_atoms(fragment, **{keys.FRAME: frame})):
            refused.append(f"atom {index} of frame {frame[:12]}: {why}")
            continue
        if not drop_duplicates([fragment], known=[*known, *(f for f, _ in cut)]):
            refused.append(f"atom {index} of frame {frame[:12]}: {DUPLICATE}")
            continue
        core = fragment.parent[fragment.core & (fragment.parent >= 0)]
        inside = np.isin(members, core).any(axis=1)
        cut.append((fragment, np.unique(codes[inside])))
        open_terms &= ~np.isin(codes, codes[inside])
        left[core] = False
    return cut, refused
