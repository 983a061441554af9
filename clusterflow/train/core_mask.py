"""Leaves the forces on mantle and termination atoms out of the training, or weights all forces by their certificates.

A fragment reproduces its parent around the core only; the forces near its surface belong to the fragment, not to the
material. Their labels become NaN, which the loss and the statistics of `clusterflow.train.dataset` ignore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core import keys
from clusterflow.core.data import BoolArray, FloatArray
from clusterflow.core.frames import certificate_from_atoms
from clusterflow.errors import InputError
from clusterflow.train.dataset import check_sets


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


def learnable_sets(
    training: Sequence[Atoms], validation: Sequence[Atoms], *, core_only: bool
) -> tuple[str, Sequence[Atoms], Sequence[Atoms]]:
    """The level of theory of both sets, and the sets as they are learnt from, with ``core_only`` as by `mask_forces`.

    Raises as `clusterflow.train.dataset.check_sets`.
    """
    level = check_sets(training, validation)
    if not core_only:
        return level, training, validation
    return level, mask_forces(training), mask_forces(validation)


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


def certificate_weights(atoms: Atoms) -> FloatArray:
    """(n,) what each force is worth: 1 / (1 + (e / tolerance)²) with e the bound of the fragment's certificate where it
    claims one, else twice its estimate, and its tolerance; zero for termination atoms; one without a certificate.

    The weight of a label with the variance tolerance² of the model's own errors beside e², up to a factor.
    """
    certificate = certificate_from_atoms(atoms)
    if certificate is None:
        return np.ones(len(atoms))
    error = certificate.bound if certificate.confidence > 0 else 2.0 * certificate.estimate
    return np.asarray(1.0 / (1.0 + (error / certificate.tolerance) ** 2), dtype=np.float64)


def force_weights(
    atoms: Atoms, *, certificates: bool, noise: Mapping[str, float] | None = None, scale: float = 0.05
) -> FloatArray:
    """(n,) what each force is worth: 1 / (1 + (e / tolerance)² + (σ / scale)²), with e and tolerance as in
    `certificate_weights` (no such term without ``certificates``) and σ the ``noise`` of its element's labels (element →
    standard deviation of a force vector in eV/Å; none for elements that are not named).

    A weighted least-squares fit weighs by the inverse variance; ``scale`` eV/Å stands for the error that the potential
    will have anyway, so that the least noisy element does not get all the weight.
    """
    known = certificate_weights(atoms) if certificates else np.ones(len(atoms))
    if noise is None:
        return known
    sigma = np.array([noise.get(e, 0.0) for e in atoms.get_chemical_symbols()])
    some = known > 0  # termination atoms of certified fragments count for nothing
    out = np.zeros(len(atoms))
    out[some] = 1.0 / (1.0 / known[some] + (sigma[some] / scale) ** 2)
    return out
