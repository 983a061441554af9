"""ASE's integrators behind the same Protocol sample the same ensembles."""

from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms

from clusterflow.errors import InputError
from clusterflow.explore.ase_md import ASEExplorer
from clusterflow.explore.stop import BlowUpLimits
from clusterflow.testing.analytic_potentials import (
    AnalyticPotential,
    EinsteinCrystal,
    ElasticCell,
    LennardJones,
    PredictionCalculator,
)
from clusterflow.units import BOLTZMANN_EV, GPA

LOOSE = BlowUpLimits(keep_bonds=False, min_distance_factor=0.0, max_temperature_factor=1e6, volume_ratio=(1e-3, 1e3))


def test_equipartition_in_an_einstein_crystal(tmp_path):
    sites = np.random.default_rng(0).random((24, 3)) * 20
    start = Atoms("C12O12", positions=sites, cell=[20] * 3, pbc=True)
    explorer = ASEExplorer(400.0, None, 3000, timestep_fs=1.0, friction_time_fs=25.0, frame_interval=10, limits=LOOSE)
    walk = explorer.explore(start, EinsteinCrystal(sites=sites, stiffness=3.0), seed=1, workdir=tmp_path)
    frames = walk.frames[50:]
    assert np.mean([f.info["temperature_K"] for f in frames]) == pytest.approx(400.0, rel=0.07)
    energy = np.mean([f.info["potential_energy"] for f in frames])
    assert energy * 2 / (72 * BOLTZMANN_EV) == pytest.approx(400.0, rel=0.07)


@pytest.mark.parametrize("pressure_GPa", [2.0, -2.0])
def test_mean_volume_at_both_signs_of_pressure(pressure_GPa, tmp_path):
    """Equations of motion for the cell against the exact ⟨V⟩, as for the Monte Carlo barostats."""
    reference = np.diag([9.0, 10.0, 11.0])
    potential = ElasticCell(reference=reference, bulk=20 * GPA, shear=20 * GPA)
    start = Atoms("C8", positions=np.random.default_rng(0).random((8, 3)) * 9, cell=reference, pbc=True)
    explorer = ASEExplorer(
        600.0, pressure_GPa, 2500, timestep_fs=2.0, barostat_time_fs=100.0, frame_interval=10, limits=LOOSE
    )
    walk = explorer.explore(start, potential, seed=3, workdir=tmp_path)
    mean = np.mean([f.cell.volume for f in walk.frames[50:]])
    exact = potential.mean_volume(8, BOLTZMANN_EV * 600.0, pressure_GPa * GPA)
    assert mean == pytest.approx(exact, abs=15.0)  # 993 without pressure, 895 and 1092 with it


@dataclass(frozen=True)
class NoStress(AnalyticPotential):
    """Energies and forces only."""

    def calculator(self):
        calc = PredictionCalculator(self)
        calc.implemented_properties = ["energy", "forces"]
        return calc


def test_constant_pressure_needs_the_stress(tmp_path):
    start = Atoms("C2", positions=[[0, 0, 0], [5, 5, 5]], cell=[10] * 3, pbc=True)
    with pytest.raises(InputError, match="needs a potential that gives the stress"):
        ASEExplorer(300.0, 1.0, 10).explore(start, NoStress(), seed=1, workdir=tmp_path)
    walk = ASEExplorer(300.0, None, 10).explore(start, NoStress(), seed=1, workdir=tmp_path)
    assert walk.steps_done == 10


def test_blow_up_and_bad_settings(tmp_path):
    close = Atoms("Ar2", positions=[[0, 0, 0], [2.2, 0, 0]], cell=[12] * 3, pbc=True)
    walk = ASEExplorer(300.0, None, 500).explore(close, LennardJones(cutoff=5.0), seed=1, workdir=tmp_path)
    assert "stopped between steps" in walk.stop_reason
    with pytest.raises(InputError, match="barostat_time_fs"):
        ASEExplorer(300.0, 1.0, 10, barostat_time_fs=0.0)
    with pytest.raises(InputError, match="steps = 0"):
        ASEExplorer(300.0, 1.0, 0)
