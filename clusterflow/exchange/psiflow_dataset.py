"""Datasets of psiflow, which are extxyz files with a header of their own, in and out.

psiflow 4 (Vandenhaute et al. 2023, doi:10.1038/s41524-023-00969-x) reads headers with a regular expression that gives
up at quotes inside of quotes: of a file with our provenance it keeps the positions and loses energy, stress and cell
without a word. So what goes out has its own few entries only, and `identifier` leads back to the frame of our dataset.
Units (eV, Å, eV/Å, eV/Å³ with tension positive) are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core import keys
from clusterflow.core.frames import read_frames, write_frames
from clusterflow.errors import InputError

IDENTIFIER, PHASE = "identifier", "phase"
_NAMES = ("energy", "forces", "stress")


def write_psiflow(path: Path, frames: Sequence[Atoms]) -> None:
    """Writes labelled frames as psiflow's `Dataset` reads them; the system's name becomes the `phase`.

    ``identifier`` of a frame is its number in ``frames``, counted from 0.

    Raises
    ------
    InputError
        No frames, or one without energy or with forces that are missing or not all known (psiflow has no mask).
    """
    if not frames:
        raise InputError("There are no labelled frames to write for psiflow.", where=str(path))
    write_frames(path, [_plain(atoms, number) for number, atoms in enumerate(frames)])


def _plain(atoms: Atoms, number: int) -> Atoms:
    results = _results(atoms)
    forces = np.asarray(results.get("forces", np.nan))
    if "energy" not in results or not np.isfinite(forces).all():
        raise InputError(
            f"Frame {number} has no energy, or not all of its forces are known.",
            where=f"{atoms.get_chemical_formula()}, {keys.SYSTEM} '{atoms.info.get(keys.SYSTEM, '')}'",
            todo="Give frames that are labelled completely: psiflow trains on all forces of a frame.",
        )
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell if atoms.pbc.any() else None, pbc=atoms.pbc)
    plain.info[IDENTIFIER] = number
    if name := str(atoms.info.get(keys.SYSTEM, "")):
        plain.info[PHASE] = name
    plain.calc = SinglePointCalculator(plain, **{k: results[k] for k in _NAMES if k in results})
    return plain


def read_psiflow(path: Path, *, level_of_theory: str) -> list[Atoms]:
    """Labelled frames of a dataset that psiflow saved, with the level of theory that they do not state themselves.

    psiflow's placeholders of failed calculations (one atom without an element) and its logs are left out; `phase`
    becomes the system's name.

    Raises
    ------
    InputError
        Unreadable; no level given; frames without energy and forces; nothing is left.
    """
    if not level_of_theory.strip():
        raise InputError(
            "The level of theory of this dataset is not known: psiflow's files do not state it.",
            where=str(path),
            todo='Say it, e.g. --level "PBE-D3(BJ)/TZVP CP2K 2024.1": levels are never mixed, so it must be exact.',
        )
    frames = [a for a in read_frames(path) if a.numbers.any()]
    bare = [n for n, a in enumerate(frames) if not {"energy", "forces"} <= set(_results(a))]
    if not frames:
        raise InputError(
            "The dataset holds no frames but psiflow's placeholders of failed calculations.",
            where=str(path),
            todo="Label its structures again, and look at psiflow's logs for why they failed.",
        )
    if bare:
        raise InputError(
            f"{len(bare)} of {len(frames)} frames have no energy or no forces (first: frame {bare[0]}).",
            where=str(path),
            todo="Evaluate the dataset in psiflow first, and save what `not_null()` leaves.",
        )
    return [_ours(a, level_of_theory) for a in frames]


def _ours(atoms: Atoms, level_of_theory: str) -> Atoms:
    results = _results(atoms)
    ours = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    ours.info[keys.LEVEL] = level_of_theory
    if name := str(atoms.info.get(PHASE, "")):
        ours.info[keys.SYSTEM] = name
    if IDENTIFIER in atoms.info:
        ours.info["psiflow_identifier"] = int(atoms.info[IDENTIFIER])
    ours.calc = SinglePointCalculator(ours, **{k: results[k] for k in _NAMES if k in results})
    return ours


def _results(atoms: Atoms) -> dict[str, object]:
    """What is known of a frame, wherever its reader has put it."""
    found = dict(atoms.calc.results) if atoms.calc is not None else {}
    if "forces" not in found and "forces" in atoms.arrays:
        found["forces"] = atoms.arrays["forces"]
    if "energy" not in found and "energy" in atoms.info:
        found["energy"] = atoms.info["energy"]
    return found
