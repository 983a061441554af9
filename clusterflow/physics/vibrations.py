"""Harmonic vibrations from Hessian rows, and what follows from them at a temperature.

The rows of the atoms of one cell in a supercell are enough: a supercell of r₀ × r₁ × r₂ cells has the modes of the
commensurate wave vectors, each a Hermitian matrix of one cell,

    D(q)_{iα,jβ} = Σ_R d²E/dx_iα(0) dx_jβ(R) exp(2πi q·R) / √(m_i m_j).

Rigid motions (translations; rotations too where nothing is periodic) are projected out before the diagonalisation at
q = 0, so they never count as modes. Frequencies are wavenumbers in cm⁻¹, negative where the eigenvalue is (imaginary).
Heat capacity after Gönner, Reuter & Margraf, J. Chem. Theory Comput. 21, 4742 (2025), doi:10.1021/acs.jctc.4c01790,
eq. 13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from clusterflow.core.data import FloatArray
from clusterflow.errors import InputError, ScienceError

EV_PER_WAVENUMBER: float = units.invcm
"""eV per cm⁻¹."""
_EV_PER_ROOT = units._hbar * 1e10 / math.sqrt(units._e * units._amu)
"""ħω in eV for ω² = 1 eV/(Å² u)."""
GAS_CONSTANT = units.kB * units.mol / units.kJ * 1000.0
"""J/(mol K)."""


@dataclass(frozen=True, slots=True)
class Modes:
    """``wavenumbers`` (m,) cm⁻¹, ascending, imaginary ones negative, of ``cells`` cells together; ``rigid`` motions
    that were projected out; ``asymmetry`` max |H − Hᵀ| and ``acoustic_residual`` max |Σ_j H_ij| of the rows, eV/Å²."""

    wavenumbers: FloatArray
    cells: int
    rigid: int
    asymmetry: float
    acoustic_residual: float


def rigid_motions(atoms: Atoms) -> FloatArray:
    """(3n, r) orthonormal mass-weighted rigid motions: 3 translations, and the rotations of a molecule (3; 2 if it is
    linear, none of a single atom)."""
    n = len(atoms)
    roots = np.sqrt(atoms.get_masses())
    moves = [np.kron(np.ones(n), axis).reshape(n, 3) for axis in np.eye(3)]
    if not atoms.pbc.any():
        around = atoms.positions - atoms.get_center_of_mass()
        moves += [np.cross(axis, around) for axis in np.eye(3)]
    weighted = np.stack([(m * roots[:, None]).ravel() for m in moves], axis=1)
    u, s, _ = np.linalg.svd(weighted, full_matrices=False)
    return np.asarray(u[:, s > 1e-6 * s.max()])


def harmonic_modes(atoms: Atoms, rows: FloatArray, repeat: Sequence[int] = (1, 1, 1)) -> Modes:
    """Modes of ``repeat`` cells of ``atoms``, from the rows (n, 3, n·cells, 3) eV/Å² of the first cell's atoms in the
    supercell ``atoms.repeat(repeat)``.

    Raises
    ------
    InputError
        Rows of another shape, or a repeated structure that is not periodic along that direction.
    ScienceError
        Rows that are not finite.
    """
    n, cells = len(atoms), math.prod(repeat)
    if rows.shape != (n, 3, n * cells, 3):
        raise InputError(
            f"Rows of {n} atoms in {cells} cells have the shape {(n, 3, n * cells, 3)}, not {rows.shape}.",
            todo="Give the rows of the atoms of the first cell, in order.",
        )
    require_repeatable(atoms, repeat)
    if not np.isfinite(rows).all():
        raise ScienceError("The Hessian is not finite.", todo="Look at the relaxed structure: do atoms overlap?")
    blocks = rows.reshape(n, 3, *repeat, n, 3)
    waves = np.fft.fftn(blocks, axes=(2, 3, 4)).transpose(2, 3, 4, 0, 1, 5, 6).reshape(cells, 3 * n, 3 * n)
    conjugate = waves.conj().transpose(0, 2, 1)
    asymmetry = float(np.abs(waves - conjugate).max())
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    dynamical = 0.5 * (waves + conjugate) / np.outer(roots, roots)
    rigid = rigid_motions(atoms)
    found = [_eigenvalues_without(dynamical[0].real, rigid)]
    found += [np.linalg.eigvalsh(d) for d in dynamical[1:]]
    values = np.concatenate(found)
    wavenumbers = np.sign(values) * np.sqrt(np.abs(values)) * _EV_PER_ROOT / EV_PER_WAVENUMBER
    return Modes(
        wavenumbers=np.sort(wavenumbers),
        cells=cells,
        rigid=rigid.shape[1],
        asymmetry=asymmetry,
        acoustic_residual=float(np.abs(rows.sum(axis=2)).max()),
    )


def require_repeatable(atoms: Atoms, repeat: Sequence[int]) -> None:
    """Raises InputError where a structure is repeated along a direction in which it is not periodic."""
    for times, periodic, name in zip(repeat, atoms.pbc, "abc", strict=True):
        if times > 1 and not periodic:
            raise InputError(
                f"{atoms.get_chemical_formula()} is not periodic along {name}, so {times} cells of it mean nothing.",
                todo="Give repeats of 1 there, or a structure file with a cell and pbc.",
            )


def _eigenvalues_without(matrix: FloatArray, rigid: FloatArray) -> FloatArray:
    """Eigenvalues in the space orthogonal to the columns of ``rigid``."""
    complete: NDArray[Any] = np.linalg.qr(rigid, mode="complete")[0]
    rest = complete[:, rigid.shape[1] :]
    return np.asarray(np.linalg.eigvalsh(rest.T @ matrix @ rest))


def _reduced(wavenumbers: FloatArray, temperatures: FloatArray) -> tuple[FloatArray, FloatArray]:
    """hν in eV (m,) and hν/kT (T, m)."""
    nu = np.asarray(wavenumbers, dtype=np.float64)
    t = np.asarray(temperatures, dtype=np.float64)
    if nu.size and nu.min() <= 0.0:
        raise InputError("Thermodynamics needs real modes; imaginary ones must be excluded first.")
    if t.min() <= 0.0:
        raise InputError(f"A temperature must be positive; the lowest is {t.min()} K.")
    quanta = nu * EV_PER_WAVENUMBER
    return quanta, quanta[None, :] / (units.kB * t[:, None])


def heat_capacity(wavenumbers: FloatArray, temperatures: FloatArray) -> FloatArray:
    """C_V (T,) in k_B: Σ x² eˣ/(eˣ − 1)², x = hν/kT, over real modes (m,) cm⁻¹ at temperatures (T,) K."""
    _, x = _reduced(wavenumbers, temperatures)
    return np.asarray((x**2 * np.exp(-x) / np.expm1(-x) ** 2).sum(axis=1))


def free_energy(wavenumbers: FloatArray, temperatures: FloatArray) -> FloatArray:
    """Harmonic F (T,) in eV, zero-point energy included: Σ hν/2 + kT ln(1 − e⁻ˣ)."""
    quanta, x = _reduced(wavenumbers, temperatures)
    kT = units.kB * np.asarray(temperatures, dtype=np.float64)
    return np.asarray(0.5 * quanta.sum() + kT * np.log(-np.expm1(-x)).sum(axis=1))


def entropy(wavenumbers: FloatArray, temperatures: FloatArray) -> FloatArray:
    """Harmonic S (T,) in k_B: Σ x/(eˣ − 1) − ln(1 − e⁻ˣ)."""
    _, x = _reduced(wavenumbers, temperatures)
    return np.asarray((x * np.exp(-x) / -np.expm1(-x) - np.log(-np.expm1(-x))).sum(axis=1))


def zero_point_energy(wavenumbers: FloatArray) -> float:
    """Σ hν/2 in eV over real modes."""
    return float(0.5 * np.sum(wavenumbers) * EV_PER_WAVENUMBER)


def fit_scaling(references: Sequence[tuple[FloatArray, float, float]], *, low: float = 0.5, high: float = 2.0) -> float:
    """One factor for all frequencies that brings C_V closest to given values: least squares of relative errors.

    ``references``: (real modes cm⁻¹, temperature K, C_V in k_B of the same modes).

    Raises
    ------
    ScienceError
        The best factor is at the edge of ``low`` to ``high``: the references are not of this material, or not C_V.
    """
    from scipy.optimize import minimize_scalar

    def misfit(factor: float) -> float:
        return sum(
            (float(heat_capacity(nu * factor, np.array([t]))[0]) / known - 1.0) ** 2 for nu, t, known in references
        )

    found = float(minimize_scalar(misfit, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)
    if min(found - low, high - found) < 1e-3:
        raise ScienceError(
            f"No scaling factor between {low:g} and {high:g} brings the heat capacity to the given references.",
            todo="Check their unit (J/g/K), temperature and material; above the Dulong–Petit limit nothing helps.",
        )
    return found
