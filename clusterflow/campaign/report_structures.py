"""Which structures the report draws: the worst test frames of the last model, and frames with something new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from clusterflow.core import keys
from clusterflow.core.data import IntArray
from clusterflow.core.frames import read_optional_frames
from clusterflow.evaluate.report.data import StructureView
from clusterflow.evaluate.report.structure_views import FORCE_ERROR, around, novelty_name, structure_view
from clusterflow.state.fragments import annotated_fragments
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import Snapshot

MAX_TESTED = 24
MAX_EXPLORED = 8

Arrays = Mapping[str, NDArray[Any]]


def asking_iterations(snapshot: Snapshot) -> dict[str, int]:
    """Label key → the iteration that asked for it, 0 for the start; in the streaming loop the one that follows on the
    version it was chosen with."""
    found: dict[str, int] = {}
    for outcome in snapshot.outcomes.values():
        if outcome.kind == "start" and outcome.status == "done":
            found |= dict.fromkeys((str(f["label_key"]) for f in outcome.summary["fragments"]), 0)
    for name, value in snapshot.decisions.items():
        if name.startswith("selected/"):
            for key in value["fragments"]:
                found.setdefault(str(key), int(name.split("/")[1]))
        elif name.startswith("acquire/") and (chosen := snapshot.outcomes.get(str(value["task"]))) is not None:
            for told in chosen.summary.get("fragments", ()):
                found.setdefault(str(told["label_key"]), int(value["version"]) + 1)
    return found


def tested(folder: CampaignFolder, labels: Sequence[str], arrays: Arrays, unit: str) -> list[StructureView]:
    """The test frames with the largest force errors, worst first, coloured by these and by novelty.

    ``labels``: the keys that were evaluated, in this order; ``arrays``: what `evaluate` found (``frame``,
    ``reference``, ``predicted``, ``novelty`` in ``unit``), all atoms of all frames one after the other.
    """
    store, annotated = LabelStore(folder.labels), annotated_fragments(folder)
    errors = 1000.0 * np.linalg.norm(arrays["predicted"] - arrays["reference"], axis=1)
    worst = [float(np.nanmax(errors[arrays["frame"] == k], initial=0.0)) for k in range(len(labels))]
    views = []
    for k in sorted(range(len(labels)), key=lambda k: -worst[k])[:MAX_TESTED]:
        found = store.get(labels[k])
        if found is None:
            continue
        mine = arrays["frame"] == k
        atoms: Atoms = annotated.get(labels[k], found[0])
        shown, part = around(atoms, int(np.nanargmax(np.nan_to_num(errors[mine]))))
        shown = _without_notes(shown)
        scalars = {FORCE_ERROR: errors[mine][part], novelty_name(unit): arrays["novelty"][mine][part]}
        views.append(
            structure_view(shown, name=f"test, up to {worst[k]:.0f} meV/Å", status="test", scalars=scalars, unit=unit)
        )
    return views


def explored(place: Path, pool: Arrays, first: int, unit: str) -> tuple[list[StructureView], IntArray]:
    """Frames of an `acquire` result with the most atoms that were selected, coloured by novelty (``unit``); and for
    every atom of the ``pool`` (m, 2) the structure, counted from ``first``, and the atom in it that it is drawn as, or
    (−1, −1)."""
    file = place / "frames.extxyz"
    frames = read_optional_frames(file) if file.is_file() else []
    ends = np.cumsum([len(a) for a in frames])
    selected, novelty = pool["selected"] > 0, pool["novelty"]
    count = [int(selected[e - len(a) : e].sum()) for a, e in zip(frames, ends, strict=True)]
    drawn = np.full((len(novelty), 2), -1, dtype=np.int64)
    views: list[StructureView] = []
    for k in sorted(range(len(frames)), key=lambda k: (-count[k], k))[:MAX_EXPLORED]:
        begin = int(ends[k]) - len(frames[k])
        mine = novelty[begin : ends[k]]
        chosen = selected[begin : ends[k]]
        centre = int(np.argmax(np.where(chosen, mine, -np.inf) if chosen.any() else mine))
        shown, part = around(frames[k], centre)
        drawn[begin + part] = np.column_stack((np.full(len(part), first + len(views)), np.arange(len(part))))
        name = f"explored, {count[k]} atoms selected"
        marked, scalars = np.flatnonzero(chosen[part]).tolist(), {novelty_name(unit): mine[part]}
        views.append(structure_view(shown, name=name, status="explored", scalars=scalars, marked=marked, unit=unit))
    return views, drawn


def _without_notes(atoms: Atoms) -> Atoms:
    """Novelty as it was when the fragment was cut is not that of the last model."""
    copy: Atoms = atoms.copy()
    copy.arrays.pop(keys.NOVELTY, None)
    return copy
