"""Random displacements and strain: the cheapest way to a varied set of starting structures."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from clusterflow.errors import InputError


def perturb(atoms: Atoms, *, displacement: float, strain: float, rng: np.random.Generator) -> Atoms:
    """Copy with Gaussian displacements and a random symmetric strain; without calculator, velocities or constraints.

    Parameters
    ----------
    displacement
        Standard deviation in Å of every Cartesian component of every atom.
    strain
        Standard deviation (no unit) of each of the six components of the symmetric strain tensor. Atoms follow the
        cell. Only directions spanned by periodic cell vectors are strained, so that molecules keep their size.
    rng
        Source of all randomness: the same state gives the same structure. Strain is drawn first.

    Raises
    ------
    InputError
        A negative or non-finite standard deviation.
    """
    for name, value in (("displacement", displacement), ("strain", strain)):
        if not (np.isfinite(value) and value >= 0.0):
            raise InputError(f"{name} = {value} is no standard deviation.", todo="Give a number ≥ 0.")
    out: Atoms = atoms.copy()
    out.set_constraint()
    if out.has("momenta"):
        del out.arrays["momenta"]
    drawn = rng.normal(0.0, strain, size=6)
    if strain > 0.0 and out.pbc.any():
        epsilon = np.zeros((3, 3))
        epsilon[np.triu_indices(3)] = drawn
        epsilon = epsilon + np.triu(epsilon, 1).T
        q, _ = np.linalg.qr(out.cell.array[out.pbc].T)
        periodic = q @ q.T  # projector on the periodic directions
        deformation = np.eye(3) + periodic @ epsilon @ periodic
        out.set_cell(out.cell.array @ deformation, scale_atoms=False)
        out.positions = out.positions @ deformation
    out.positions = out.positions + rng.normal(0.0, displacement, size=(len(out), 3))
    return out
