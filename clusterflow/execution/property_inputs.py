"""What the tasks of a property run begin from: the potential, relaxed structures and their modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.config.potential import Calculator, Model
from clusterflow.core.data import FloatArray
from clusterflow.core.frames import read_frames
from clusterflow.core.protocols import Potential
from clusterflow.execution.workplace import Workplace
from clusterflow.physics.vibrations import Modes, harmonic_modes
from clusterflow.state.publish import verify_folder


def potential_of(told: Mapping[str, Any], place: Workplace) -> Potential:
    """The potential that a payload names: the run's own copy of a model, or a calculator."""
    if told["kind"] == "model":
        folder = place.folder.inputs / f"potential-{told['id'][:16]}"
        verify_folder(folder)
        section = Model(folder=folder, device=told["device"])
        loaded: Potential = section.build(folder, precision=told["precision"], threads=place.threads)
        return loaded
    built: Potential = Calculator.model_validate(told).build()
    return built


def relaxed_structure(key: str, place: Workplace) -> Atoms:
    """A structure as a relaxation left it, to the last digit."""
    folder = place.result("relax", key)
    atoms = read_frames(folder / "relaxed.extxyz")[0]
    with np.load(folder / "relaxed.npz", allow_pickle=False) as exact:
        atoms.set_cell(exact["cell"])
        atoms.positions = exact["positions"]
    return atoms


def modes_of(atoms: Atoms, repeat: Sequence[int], keys: Sequence[str], place: Workplace) -> Modes:
    """The modes that blocks of Hessian rows give together."""
    blocks: list[FloatArray] = []
    for key in keys:
        with np.load(place.result("hessian", key) / "rows.npz", allow_pickle=False) as data:
            blocks.append(data["rows"])
    return harmonic_modes(atoms, np.concatenate(blocks), tuple(repeat))
