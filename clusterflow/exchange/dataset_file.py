"""Labelled frames as one extxyz file that says where each comes from, and a datasheet (JSON) beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.frames import write_frames

SOURCE, LICENCE = "source", "licence"

ENTRIES: Mapping[str, str] = {
    "energy": "eV, total, of the frame as it is",
    "forces": "eV/Å, per atom; of all atoms, whatever a training may have masked",
    "stress": "eV/Å³, tension positive; periodic frames only",
    keys.LEVEL: "level of theory of energy, forces and stress",
    keys.CHARGE: "total charge, e",
    keys.SPIN: "number of unpaired electrons",
    keys.REGION: "per atom: core, mantle or termination of a fragment; forces on core atoms are those of the material",
    keys.PARENT: "per atom: index in the frame it was cut from, −1 for termination atoms",
    keys.RULE: "rule that cut the fragment, with its settings",
    keys.CERTIFICATE: "JSON: tolerance (eV/Å), confidence, method and verdict on the fragment's force errors",
    keys.FORCE_BOUND: "per atom, eV/Å: certified bound on the error that cutting made in the force",
    keys.FORCE_ESTIMATE: "per atom, eV/Å: the error to expect from cutting",
    keys.SYSTEM: "system of the campaign",
    keys.SPLIT: "train, validation or test; test frames were never trained on",
    keys.ITERATION: "iteration that asked for the label; 0: the start",
    keys.FRAME: "content hash of the frame it was cut from",
    keys.FRAGMENT: "content hash of its own geometry",
    keys.LABEL: "key of the label in the campaign's store",
    SOURCE: "where the structure of the system comes from",
    LICENCE: "licence of the frame",
}


def write_dataset(
    path: Path, frames: Sequence[Atoms], origins: Mapping[str, tuple[str, str]], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes the frames with the source and licence of their system, or those that they state; returns the datasheet.

    ``origins``: system → (source, licence), "" where not stated. ``about``: further entries of the datasheet.
    """
    written = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = atoms.calc
        for name, value in zip(
            (SOURCE, LICENCE), origins.get(str(atoms.info.get(keys.SYSTEM, "")), ("", "")), strict=True
        ):
            if value and name not in copy.info:  # what a frame states itself is known better
                copy.info[name] = value
        written.append(copy)
    write_frames(path, written)
    return datasheet(written, origins, about)


def datasheet(
    frames: Sequence[Atoms], origins: Mapping[str, tuple[str, str]], about: Mapping[str, Any]
) -> dict[str, Any]:
    """What is in a dataset, as JSON data: levels, counts per system and split, licences, meaning of the entries."""
    counts = Counter((str(a.info.get(keys.SYSTEM, "")), str(a.info.get(keys.SPLIT, ""))) for a in frames)
    present = {k for a in frames for k in (*a.info, *a.arrays, *(a.calc.results if a.calc is not None else ()))}
    systems = {}
    for name in sorted({system for system, _ in counts}):
        source, licence = origins.get(name, ("", ""))
        systems[name] = {
            "frames": {split: n for (system, split), n in sorted(counts.items()) if system == name},
            "source": source or "not stated",
            "licence": licence or "not stated",
        }
    return {
        **about,
        "frames": len(frames),
        "levels_of_theory": sorted({str(a.info.get(keys.LEVEL, "not stated")) for a in frames}),
        "systems": systems,
        "certified": sum(keys.CERTIFICATE in a.info for a in frames),
        "entries": {k: v for k, v in ENTRIES.items() if k in present},
    }
