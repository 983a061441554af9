"""Harmonic modes and thermodynamics against exact answers."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from clusterflow.errors import InputError, ScienceError
from clusterflow.physics import vibrations
from clusterflow.physics.hessian import central_difference_rows, potential_rows
from clusterflow.testing.analytic_potentials import EinsteinCrystal


def forces(atoms: Atoms) -> np.ndarray:
    atoms.calc = EMT()
    return atoms.get_forces()


def test_one_oscillator_is_exact() -> None:
    nu, t = np.array([500.0]), np.array([50.0, 300.0, 2000.0])
    x = 500.0 * units.invcm / (units.kB * t)
    assert vibrations.heat_capacity(nu, t) == pytest.approx(x**2 * np.exp(x) / (np.exp(x) - 1.0) ** 2, rel=1e-12)
    assert vibrations.zero_point_energy(nu) == pytest.approx(0.5 * 500.0 * 1.239841984e-4, rel=1e-8)
    direct = 0.5 * 500.0 * units.invcm + units.kB * t * np.log(1.0 - np.exp(-x))
    assert vibrations.free_energy(nu, t) == pytest.approx(direct, rel=1e-12)


def test_thermodynamic_identities() -> None:
    """S = −dF/dT and C = T dS/dT, for a spectrum from 3 to 3,500 cm⁻¹."""
    nu = np.geomspace(3.0, 3500.0, 25)
    t, h = np.array([40.0, 300.0, 900.0]), 1e-2
    slope = (vibrations.free_energy(nu, t + h) - vibrations.free_energy(nu, t - h)) / (2 * h)
    assert vibrations.entropy(nu, t) * units.kB == pytest.approx(-slope, rel=1e-6)
    rise = (vibrations.entropy(nu, t + h) - vibrations.entropy(nu, t - h)) / (2 * h)
    assert vibrations.heat_capacity(nu, t) == pytest.approx(t * rise, rel=1e-6)


def test_dulong_petit_and_the_cold() -> None:
    nu = np.array([100.0, 250.0, 3000.0])
    assert vibrations.heat_capacity(nu, np.array([1e6])) == pytest.approx([3.0], rel=1e-4)
    cold = vibrations.heat_capacity(nu, np.array([0.5]))
    assert np.isfinite(cold).all()
    assert cold[0] < 1e-100
    assert vibrations.free_energy(nu, np.array([0.5]))[0] == pytest.approx(vibrations.zero_point_energy(nu))


def test_an_einstein_crystal_has_one_frequency() -> None:
    atoms = bulk("Cu", cubic=True)
    potential = EinsteinCrystal(sites=atoms.positions.copy(), stiffness=2.5)
    rows = potential_rows(potential, atoms, step=0.01)
    found = vibrations.harmonic_modes(atoms, rows)
    omega = np.sqrt(2.5 * units._e / 1e-20 / (atoms.get_masses()[0] * units._amu))  # 1/s
    assert found.wavenumbers == pytest.approx(omega / (2 * np.pi * units._c * 100.0), rel=1e-9)
    assert found.rigid == 3
    assert len(found.wavenumbers) == 9
    assert found.acoustic_residual == pytest.approx(2.5)  # springs to fixed sites: no sum rule


@pytest.mark.parametrize(("name", "modes", "rigid"), [("N2", 1, 5), ("H2O", 3, 6), ("CO2", 4, 5), ("O", 0, 3)])
def test_rigid_motions_of_molecules_are_no_modes(name: str, modes: int, rigid: int) -> None:
    atoms = molecule(name) if name != "O" else Atoms("O")
    atoms.rotate(31.0, (1, 2, 3))
    motions = vibrations.rigid_motions(atoms)
    assert motions.shape == (3 * len(atoms), rigid)
    assert motions.T @ motions == pytest.approx(np.eye(rigid), abs=1e-12)
    n = len(atoms)
    springs = np.eye(3 * n).reshape(n, 3, n, 3)
    assert len(vibrations.harmonic_modes(atoms, springs).wavenumbers) == modes


def test_a_diatomic_has_the_frequency_of_its_reduced_mass() -> None:
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])
    k, mu = 118.0, 12.011 * 15.999 / (12.011 + 15.999)
    axis = np.zeros((3, 3))
    axis[2, 2] = k
    rows = np.block([[axis, -axis], [-axis, axis]]).reshape(2, 3, 2, 3)
    (nu,) = vibrations.harmonic_modes(atoms, rows).wavenumbers
    assert nu == pytest.approx(np.sqrt(k / mu) * 521.4708, rel=1e-5)  # √(eV/Å²/u) in cm⁻¹


def test_waves_of_one_cell_are_the_modes_of_the_supercell() -> None:
    """The rows of two atoms give the spectrum that the whole dense Hessian of 24 atoms gives."""
    atoms = Atoms("CuAu", [[0, 0, 0], [0.0, 1.8, 1.9]], cell=[[3.7, 0, 0], [0.1, 3.6, 0], [0, 0.2, 3.9]], pbc=True)
    repeat = (2, 3, 2)
    supercell = atoms.repeat(repeat)
    rows = central_difference_rows(forces, supercell, range(2), step=1e-3)
    ours = vibrations.harmonic_modes(atoms, rows, repeat)
    dense = central_difference_rows(forces, supercell, step=1e-3)
    theirs = vibrations.harmonic_modes(supercell, dense)
    assert ours.cells == 12
    assert len(ours.wavenumbers) == len(theirs.wavenumbers) == 69
    assert ours.wavenumbers**2 * np.sign(ours.wavenumbers) == pytest.approx(
        theirs.wavenumbers**2 * np.sign(theirs.wavenumbers), abs=0.5
    )


def test_scaling_comes_back() -> None:
    nu = np.geomspace(30.0, 3000.0, 40)
    known = [(nu, t, float(vibrations.heat_capacity(nu * 1.18, np.array([t]))[0])) for t in (250.0, 300.0, 400.0)]
    assert vibrations.fit_scaling(known) == pytest.approx(1.18, abs=1e-4)
    with pytest.raises(ScienceError, match="No scaling factor"):
        vibrations.fit_scaling([(nu, 300.0, 60.0)])  # above the Dulong–Petit limit of 40 k_B


def test_what_makes_no_sense_is_refused() -> None:
    atoms = bulk("Cu")
    with pytest.raises(InputError, match="have the shape"):
        vibrations.harmonic_modes(atoms, np.zeros((1, 3, 4, 3)))
    with pytest.raises(InputError, match="not periodic along a"):
        vibrations.harmonic_modes(molecule("H2O"), np.zeros((3, 3, 6, 3)), (2, 1, 1))
    with pytest.raises(ScienceError, match="not finite"):
        vibrations.harmonic_modes(atoms, np.full((1, 3, 1, 3), np.nan))
    with pytest.raises(InputError, match="imaginary ones"):
        vibrations.heat_capacity(np.array([-1.0, 5.0]), np.array([300.0]))
    with pytest.raises(InputError, match="must be positive"):
        vibrations.heat_capacity(np.array([5.0]), np.array([0.0]))
