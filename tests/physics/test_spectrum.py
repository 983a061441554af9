"""Spectra of motions that are known: made-up velocities, and a chain of oscillators that is really integrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.units import fs, kB

from clusterflow.core.data import Prediction
from clusterflow.errors import ScienceError
from clusterflow.explore.microcanonical import free_run
from clusterflow.explore.thermodynamics import kinetic_energy
from clusterflow.physics.spectrum import LIGHT, broadened, power_spectrum, window_steps
from clusterflow.physics.vibrations import harmonic_modes
from clusterflow.testing.analytic_potentials import AnalyticPotential, LennardJones


@dataclass(frozen=True)
class Chain(AnalyticPotential):
    """A ring of atoms along x with springs between neighbours and softer ones to their sites in y and z."""

    spring: float = 12.0
    site: float = 3.0
    spacing: float = 2.0

    def one(self, atoms: Atoms) -> Prediction:
        n = len(atoms)
        u = atoms.positions - np.array([[self.spacing * i, 0.0, 0.0] for i in range(n)])
        stretch = np.roll(u[:, 0], -1) - u[:, 0]
        forces = -self.site * u
        forces[:, 0] = self.spring * (stretch - np.roll(stretch, 1))
        energy = 0.5 * self.spring * (stretch**2).sum() + 0.5 * self.site * (u[:, 1:] ** 2).sum()
        return Prediction(float(energy), forces, np.zeros((3, 3)))

    def rows(self, n: int) -> np.ndarray:
        """(n, 3, n, 3) exact Hessian."""
        found = np.zeros((n, 3, n, 3))
        for i in range(n):
            found[i, 0, i, 0] = 2.0 * self.spring
            found[i, 0, (i + 1) % n, 0] -= self.spring
            found[i, 0, (i - 1) % n, 0] -= self.spring
            found[i, 1, i, 1] = found[i, 2, i, 2] = self.site
        return found


def test_two_known_modes_give_two_lines_of_area_one_each() -> None:
    spacing, temperature = 2.0, 300.0
    t = spacing * np.arange(20_000)
    masses = np.array([12.0, 1.0])
    speed = np.sqrt(2.0 * kB * temperature / masses)  # m⟨v²⟩ = kT
    velocities = np.zeros((len(t), 2, 3))
    for k, nu in enumerate((500.0, 3000.0)):
        velocities[:, k, k] = speed[k] * np.cos(2.0 * np.pi * nu * LIGHT * t + 0.3)
    found = power_spectrum(
        velocities, masses, ("C", "H"), spacing=spacing, timestep=1e-6, resolution=10.0, degrees_of_freedom=2
    )
    assert found.elements == ("C", "H")
    assert found.temperature == pytest.approx(temperature, rel=1e-3)
    for row, nu in zip(found.density, (500.0, 3000.0), strict=True):
        assert np.trapezoid(row, found.wavenumber) == pytest.approx(1.0, rel=1e-3)
        assert found.wavenumber[np.argmax(row)] == pytest.approx(nu, abs=4.0)
        half = found.wavenumber[row > 0.5 * row.max()]
        assert np.ptp(half) == pytest.approx(10.0, abs=3.5)  # two steps of 1.74 cm⁻¹ are lost at the ends


def test_the_axis_of_the_integrator_is_taken_back() -> None:
    """Velocity Verlet of a stiff oscillator with a long step: its frequency is 3 % too high, the spectrum's is not."""
    timestep, omega = 1.5, 0.8 / 1.5  # ωΔt = 0.8
    x, v, velocities = 1.0, 0.0, np.zeros((30_000, 1, 3))
    for k in range(len(velocities)):
        v -= 0.5 * timestep * omega**2 * x
        x += timestep * v
        v -= 0.5 * timestep * omega**2 * x
        velocities[k, 0, 0] = v
    found = power_spectrum(
        velocities, np.ones(1), ("H",), spacing=timestep, timestep=timestep, resolution=10.0, degrees_of_freedom=1
    )
    exact = omega / (2.0 * np.pi * LIGHT)
    assert found.wavenumber[np.argmax(found.density[0])] == pytest.approx(exact, abs=5.0)
    assert 2.0 * np.arcsin(0.4) / 0.8 > 1.02  # what it would be
    assert np.trapezoid(found.density[0], found.wavenumber) == pytest.approx(1.0, rel=2e-3)


def test_a_chain_of_oscillators_has_its_modes(tmp_path: Path) -> None:
    """From start to spectrum, against the eigenvalues: ω = 2 √(k/m) sin(q/2) along the chain, √(k′/m) across."""
    n, resolution = 8, 25.0
    atoms = Atoms(f"C{n}", [[2.0 * i, 0, 0] for i in range(n)], cell=[2.0 * n, 8, 8], pbc=True)
    run = free_run(
        atoms, Chain(), temperature_K=300.0, equilibration=400, steps=6_000, interval=2, timestep_fs=1.5,
        friction_time_fs=100.0, seed=4, workdir=tmp_path, keep_bonds=False,
    )  # fmt: skip
    assert abs(run.drift) < 1e-4
    found = power_spectrum(
        run.velocities, atoms.get_masses(), tuple(atoms.get_chemical_symbols()), spacing=3.0, timestep=1.5,
        resolution=resolution, degrees_of_freedom=3 * n - 3,
    )  # fmt: skip
    modes = harmonic_modes(atoms, Chain().rows(n)).wavenumbers
    along = np.sqrt(Chain().spring / 12.011) * fs / (2.0 * np.pi * LIGHT)
    exact = np.unique(np.round(2.0 * along * np.sin(np.pi * np.arange(1, n // 2 + 1) / n), 6))
    across = np.sqrt(Chain().site / 12.011) * fs / (2.0 * np.pi * LIGHT)
    assert np.unique(np.round(modes[modes > across + 1.0], 3)) == pytest.approx(exact[exact > across], rel=1e-4)
    grid, density = found.wavenumber, found.density[0]
    for nu in (*exact, across):  # each line stands where it should, and nothing stands elsewhere
        near = np.abs(grid - nu) < 2.0 * resolution
        assert grid[near][np.argmax(density[near])] == pytest.approx(nu, abs=0.6 * resolution)
    lines = broadened(np.array([*exact, across]), grid, 1.5 * resolution)
    assert np.trapezoid(density[lines < 1e-6], grid[lines < 1e-6]) < 0.05 * (3 * n - 3)
    assert np.trapezoid(density, grid) == pytest.approx(3 * n - 3, rel=0.01)


def test_a_run_too_short_for_its_lines_is_refused() -> None:
    with pytest.raises(ScienceError, match=r"Lines of 10 cm⁻¹ need 2402 samples; there are 100") as error:
        power_spectrum(
            np.zeros((100, 1, 3)), np.ones(1), ("H",), spacing=2.0, timestep=0.5, resolution=10.0, degrees_of_freedom=3
        )
    assert "duration" in error.value.todo
    assert window_steps(10.0, 2.0) == 2402


@dataclass(frozen=True)
class Runaway(Chain):
    """Forces that do not belong to the energy."""

    def one(self, atoms: Atoms) -> Prediction:
        p = super().one(atoms)
        return Prediction(-p.energy, p.forces, p.stress)


def test_an_energy_that_runs_away_is_told(tmp_path: Path) -> None:
    atoms = Atoms("C4", [[2.0 * i, 0, 0] for i in range(4)], cell=[8, 8, 8], pbc=True)
    with pytest.raises(ScienceError, match=r"ran away by more than 0\.1 eV per atom"):
        free_run(
            atoms, Runaway(), temperature_K=3000.0, equilibration=50, steps=2000, interval=2, timestep_fs=1.0,
            friction_time_fs=50.0, seed=1, workdir=tmp_path, keep_bonds=False,
        )  # fmt: skip


def test_motion_at_constant_energy_has_the_temperature_asked_for(tmp_path: Path) -> None:
    """Two atoms: taking out the motion of their centre must not heat what is left, which three of six freedoms are."""
    start = bulk("Cu", "fcc", a=3.8).repeat((2, 1, 1))
    potential = LennardJones(epsilon=0.25, sigma=2.6, cutoff=5.2)
    found = []
    for seed in range(60):
        run = free_run(
            start, potential, temperature_K=300.0, equilibration=20, steps=1, interval=1, timestep_fs=1.0,
            friction_time_fs=5.0, seed=seed, workdir=tmp_path / str(seed), keep_bonds=False,
        )  # fmt: skip
        energy = kinetic_energy(run.velocities[0], start.get_masses())
        found.append(2.0 * energy / (3.0 * kB))
    assert np.mean(found) == pytest.approx(300.0, abs=110.0)  # 600 K if it does; the mean of 60 scatters by 32 K
