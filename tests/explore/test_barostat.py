"""The affine barostat against an integral."""

import numpy as np
import pytest
from ase import Atoms

from clusterflow.explore.barostat import AffineBarostat
from clusterflow.testing.analytic_potentials import ElasticCell
from clusterflow.units import BOLTZMANN_EV, GPA


@pytest.mark.parametrize("pressure_GPa", [2.0, -2.0])
def test_mean_and_spread_of_the_volume(pressure_GPa):
    """Ideal gas in an elastic box, where ⟨V⟩ is known; positive pressure compresses, negative expands."""
    n, temperature_K = 8, 600.0
    reference = np.diag([9.0, 10.0, 11.0])
    potential = ElasticCell(reference=reference, bulk=20 * GPA, shear=20 * GPA)
    exact = potential.mean_volume(n, BOLTZMANN_EV * temperature_K, pressure_GPa * GPA)
    barostat = AffineBarostat(temperature_K, pressure_GPa, n, 990.0, np.random.default_rng(5))
    gas = Atoms("C8", cell=reference, pbc=True)
    cell, energy, volume, volumes = reference.copy(), potential.one(gas).energy, 990.0, []
    for _ in range(12_000):
        trial = cell @ barostat.propose()
        gas.set_cell(trial)
        trial_energy, trial_volume = potential.one(gas).energy, abs(np.linalg.det(trial))
        if barostat.accept(trial_energy - energy, volume, trial_volume):
            cell, energy, volume = trial, trial_energy, trial_volume
        volumes.append(volume)
    kept = np.array(volumes[1000:])
    # σ = 20 Å³ and a correlation time of about 8 moves: the standard error is 0.7 Å³
    assert kept.mean() == pytest.approx(exact, abs=3.0)
    assert (exact - 993.3) * pressure_GPa < -150.0  # the sign, against ⟨V⟩ without pressure
    assert kept.std() == pytest.approx(np.sqrt(BOLTZMANN_EV * temperature_K * 990.0 / (20 * GPA)), rel=0.08)
    assert barostat.accepted / barostat.attempts == pytest.approx(0.35, abs=0.02)


def test_moves_are_symmetric_and_their_inverse_is_as_likely():
    barostat = AffineBarostat(300.0, 0.0, 10, 1000.0, np.random.default_rng(0))
    moves = np.array([barostat.propose() for _ in range(4000)])
    assert np.allclose(moves, moves.transpose(0, 2, 1))
    log_volume = np.log(np.linalg.det(moves))
    assert abs(log_volume.mean()) < 4 * log_volume.std() / np.sqrt(len(moves))
    assert log_volume.std() == pytest.approx(np.sqrt(3) * barostat.width, rel=0.06)


def test_a_senseless_trial_is_refused():
    barostat = AffineBarostat(300.0, 0.0, 10, 1000.0, np.random.default_rng(0))
    assert not barostat.accept(np.inf, 1000.0, 1000.0)
    assert barostat.accept(-5.0, 1000.0, 1000.0)
