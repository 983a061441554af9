"""Leaves the forces on mantle and termination atoms out of the training.

A fragment reproduces its parent around the core only; the forces near its surface belong to the fragment, not to the
material. Their labels become NaN, which the loss and the statistics of `clusterflow.train.dataset` ignore.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core import keys
from clusterflow.core.data import BoolArray
from clusterflow.errors import InputError


def core_atoms(atoms: Atoms) -> BoolArray:
    """(n,) bool: the atoms whose forces stand for the parent's; all of them in a frame that is not a fragment.

    Raises
    ------
    InputError
        A region that is none of core, mantle and termination, or no core atom at all.
    """
    if keys.REGION not in atoms.arrays:
        return np.ones(len(atoms), dtype=np.bool_)
    region = np.asarray(atoms.arrays[keys.REGION]).astype(str)
    unknown = sorted(set(region) - set(keys.REGIONS))
    core = np.asarray(region == "core", dtype=np.bool_)
    if unknown or not core.any():
        what = f"regions called {', '.join(unknown)}" if unknown else "no core atom"
        raise InputError(
            f"A frame of {len(atoms)} atoms ({atoms.get_chemical_formula()}) has {what} in its '{keys.REGION}' array.",
            where=str(atoms.info.get(keys.FRAGMENT, "")),
            todo=f"Each atom is one of {', '.join(keys.REGIONS)}; remove the array to train on all forces.",
        )
    return core


def mask_forces(frames: Sequence[Atoms]) -> list[Atoms]:
    """Copies of labelled frames whose forces on atoms outside the core are NaN; energies and stress are kept."""
    masked = []
    for atoms in frames:
        core = core_atoms(atoms)
        copy: Atoms = atoms.copy()
        results = dict(atoms.calc.results) if atoms.calc is not None else {}
        if "forces" in results:
            results["forces"] = np.where(core[:, None], np.asarray(results["forces"], dtype=np.float64), np.nan)
        copy.calc = SinglePointCalculator(copy, **results)
        masked.append(copy)
    return masked
