"""The final linear model is its folder: proves that what is on disk predicts what was fitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.errors import InputError, TrainError
from clusterflow.train.linear_basis import design
from clusterflow.train.linear_model import read_model
from clusterflow.train.linear_pairs import find_pairs
from clusterflow.train.linear_potential import LinearPotential
from clusterflow.train.repulsion import repulsion

TOLERANCE = 1e-6
"""eV/atom and eV/Å."""


def export_linear(folder: Path, test_frames: Sequence[Atoms]) -> dict[str, Any]:
    """Loads the folder again and compares the potential, on the test frames, with the functions of the fit times the
    weights: two ways of computing the same energies and forces.

    Returns JSON data as `clusterflow.train.nequip_export.export_final` does: no further files are made.

    Raises
    ------
    InputError
        No test frames.
    StateError
        The folder is damaged.
    TrainError
        The two ways disagree.
    """
    if not test_frames:
        raise InputError("There are no frames to compare the final model on.", todo="Give at least one structure.")
    model = read_model(folder)
    energy, force = 0.0, 0.0
    for atoms, found in zip(test_frames, LinearPotential(model).predict(test_frames), strict=True):
        pairs = find_pairs(atoms, model.elements, model.settings.cutoff)
        on_energy, on_forces, _ = design(model.basis, pairs)
        expected = float(on_energy @ model.weights) + float(model.offsets[pairs.types].sum())
        forces = on_forces @ model.weights
        if model.settings.repulsion:
            close = repulsion(atoms.numbers, pairs)
            expected, forces = expected + close.energy, forces + close.forces
        energy = max(energy, abs(found.energy - expected) / len(atoms))
        force = max(force, float(np.abs(found.forces - forces).max()))
    if not (energy <= TOLERANCE and force <= TOLERANCE):
        raise TrainError(
            f"The model on disk is not the fitted one: energies differ by up to {energy:.3g} eV/atom, forces by "
            f"{force:.3g} eV/Å (allowed {TOLERANCE:g}) on {len(test_frames)} frames.",
            where=str(folder),
            todo="Report the versions of numpy, scipy and sphericart.",
        )
    return {
        "model_id": model.model_id,
        "files": {},
        "differences": {"folder": {"energy_eV_per_atom": energy, "force_eV_per_A": force}},
        "tolerances": {"energy_eV_per_atom": TOLERANCE, "force_eV_per_A": TOLERANCE},
        "seconds": {},
        "skipped": {},
    }
