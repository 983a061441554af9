"""OpenMM dynamics as physics: equipartition, mean volume, invariance; and every way a walk can end."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.core.data import Prediction
from clusterflow.errors import ExploreError, InputError, StructureError
from clusterflow.explore.evaluation import Evaluator
from clusterflow.explore.openmm_md import OpenMMDynamics, OpenMMExplorer
from clusterflow.explore.stop import BlowUpLimits
from clusterflow.testing.analytic_potentials import AnalyticPotential, EinsteinCrystal, ElasticCell, LennardJones
from clusterflow.units import BOLTZMANN_EV, GPA

LOOSE = BlowUpLimits(
    keep_bonds=False,
    min_distance_factor=0.0,
    max_temperature_factor=1e6,
    max_force=1e6,
    energy_jump=1e6,
    volume_ratio=(1e-3, 1e3),
    check_interval=10,
)
COPPER = LennardJones(epsilon=0.25, sigma=2.6, cutoff=5.2)


def copper(repeat=3):
    """Primitive fcc cells: the 60° angles sit on the edge of OpenMM's reduced form."""
    return bulk("Cu", "fcc", a=4.0).repeat(repeat)


@pytest.mark.parametrize("platform", ["CPU", "Reference"])
def test_equipartition_in_an_einstein_crystal(platform, tmp_path):
    rng = np.random.default_rng(0)
    sites = rng.random((24, 3)) * 20
    start = Atoms("C12O12", positions=sites, cell=[20] * 3, pbc=True)
    explorer = OpenMMExplorer(
        400.0, None, 6_000, timestep_fs=1.0, friction_time_fs=25.0, frame_interval=10, limits=LOOSE, platform=platform
    )
    walk = explorer.explore(start, EinsteinCrystal(sites=sites, stiffness=3.0), seed=1, workdir=tmp_path)
    frames = walk.frames[50:]
    # 72 oscillators, 6 ps, correlation time about 50 fs: standard error of both means about 1.5 %
    kinetic = np.mean([f.info["temperature_K"] for f in frames])
    potential = np.mean([f.info["potential_energy"] for f in frames]) * 2 / (72 * BOLTZMANN_EV)
    assert kinetic == pytest.approx(400.0, rel=0.05)
    assert potential == pytest.approx(400.0, rel=0.05)
    # fluctuations of the kinetic energy are canonical: var(T)/T² = 2/(3N)
    assert np.var([f.info["temperature_K"] for f in frames]) / kinetic**2 == pytest.approx(2 / 72, rel=0.35)
    # light and heavy atoms alike
    u = np.array([f.positions - sites for f in frames])
    assert (u[:, :12] ** 2).mean() == pytest.approx((u[:, 12:] ** 2).mean(), rel=0.12)


@pytest.mark.parametrize("barostat", ["affine", "openmm"])
@pytest.mark.parametrize("pressure_GPa", [2.0, -2.0])
def test_mean_volume_at_both_signs_of_pressure(barostat, pressure_GPa, tmp_path):
    """Against the exact ⟨V⟩ of an ideal gas in an elastic box: sign, units and ensemble of the whole chain."""
    reference = np.diag([9.0, 10.0, 11.0])
    potential = ElasticCell(reference=reference, bulk=20 * GPA, shear=20 * GPA)
    start = Atoms("C8", positions=np.random.default_rng(0).random((8, 3)) * 9, cell=reference, pbc=True)
    explorer = OpenMMExplorer(
        600.0, pressure_GPa, 4000, barostat_interval=1, frame_interval=10, limits=LOOSE, barostat=barostat
    )
    walk = explorer.explore(start, potential, seed=3, workdir=tmp_path)
    mean = np.mean([f.cell.volume for f in walk.frames[50:]])
    exact = potential.mean_volume(8, BOLTZMANN_EV * 600.0, pressure_GPa * GPA)
    assert walk.stop_reason == ""
    assert mean == pytest.approx(exact, abs=5.0)  # 993 without pressure, 895 and 1092 with it; standard error 1.3


@pytest.mark.parametrize("barostat", ["affine", "openmm"])
def test_a_crystal_under_pressure_and_tension(barostat, tmp_path):
    """The barostat drives the internal pressure to the applied one, in a cell with 60° angles."""
    mean = {}
    for pressure in (4.0, -4.0):
        explorer = OpenMMExplorer(
            100.0, pressure, 1200, timestep_fs=2.0, barostat_interval=5, frame_interval=25, barostat=barostat
        )
        walk = explorer.explore(copper(), COPPER, seed=2, workdir=tmp_path)
        assert walk.stop_reason == ""
        late = walk.frames[len(walk.frames) // 2 :]
        internal = np.mean([f.info["internal_pressure_GPa"] for f in late])
        assert internal == pytest.approx(pressure, abs=1.0)
        mean[pressure] = np.mean([f.cell.volume for f in late])
        for frame in walk.frames:
            found = COPPER.one(frame)
            assert found.energy == pytest.approx(frame.info["potential_energy"], abs=1e-9)
    assert mean[4.0] < 0.97 * mean[-4.0]


@dataclass(frozen=True)
class Recorder(LennardJones):
    """Writes down the fractional coordinates and the cell of every call."""

    calls: list = field(default_factory=list)

    def one(self, atoms):
        self.calls.append((atoms.get_scaled_positions(wrap=False), np.array(atoms.cell.array)))
        return super().one(atoms)


@pytest.mark.parametrize("barostat", ["affine", "openmm"])
def test_only_affine_moves_take_the_atoms_along(barostat, tmp_path):
    """Why the affine barostat is the default: OpenMM's moves shear the cell but not what is in it, so that all of the
    shear falls on the bonds across the boundary."""
    potential = Recorder(epsilon=0.25, sigma=2.6, cutoff=5.2)
    explorer = OpenMMExplorer(10.0, 0.0, 40, barostat=barostat, barostat_interval=10, limits=LOOSE)
    explorer.explore(copper(), potential, seed=1, workdir=tmp_path)
    shifts = [
        np.abs(after - before).max()
        for (before, old), (after, new) in itertools.pairwise(potential.calls)
        if not np.array_equal(old, new)
    ]
    assert len(shifts) >= 4
    assert (max(shifts) < 1e-4) == (barostat == "affine")


def test_a_barostat_move_costs_one_evaluation():
    start = copper()
    for barostat in ("affine", "openmm"):
        evaluator = Evaluator(COPPER, start, 1e9)
        explorer = OpenMMExplorer(300.0, 0.0, 100, barostat=barostat, barostat_interval=5, limits=LOOSE)
        dynamics = OpenMMDynamics(explorer, start, evaluator, seed=1)
        for _ in range(10):
            dynamics.advance(10)
            dynamics.snapshot()
        assert evaluator.evaluations <= 100 + 20 + 1  # steps, moves, and the last snapshot
        dynamics.close()


def test_walks_side_by_side_in_threads_do_not_mix_their_random_numbers(tmp_path):
    explorer = OpenMMExplorer(300.0, 0.0, 60, barostat_interval=5, frame_interval=60)

    def last(seed):
        frame = explorer.explore(copper(), COPPER, seed=seed, workdir=tmp_path / str(seed)).frames[-1]
        return frame.positions, frame.cell.array

    alone = [last(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(last, (1, 2)))
    for (a, cell_a), (b, cell_b) in zip(alone, together, strict=True):
        assert np.array_equal(a, b)
        assert np.array_equal(cell_a, cell_b)


def test_constant_volume_does_not_touch_cell_orientation_or_images(tmp_path):
    start = copper()
    start.positions[0] += 2 * start.cell.array[0]  # in another image, and it stays there
    walk = OpenMMExplorer(300.0, None, 50, frame_interval=50).explore(start, COPPER, seed=1, workdir=tmp_path)
    assert np.array_equal(walk.frames[-1].cell.array, start.cell.array)
    assert np.abs(walk.frames[-1].positions - start.positions).max() < 1.0


def test_a_molecule_keeps_its_centre_of_mass(tmp_path):
    start = molecule("C6H6")
    sites = start.positions.copy()
    walk = OpenMMExplorer(500.0, None, 300, frame_interval=50).explore(
        start, EinsteinCrystal(sites=sites, stiffness=5.0), seed=1, workdir=tmp_path
    )
    for frame in walk.frames:
        # 0.3 Å without the removal
        assert np.allclose(frame.get_center_of_mass(), start.get_center_of_mass(), atol=0.01)
        assert np.allclose(frame.get_momenta().sum(axis=0), 0.0, atol=1e-9)


def test_frames_times_and_progress(tmp_path):
    start = copper()
    start.info["system"] = "copper"
    walk = OpenMMExplorer(300.0, 1.0, 250, frame_interval=100).explore(start, COPPER, seed=1, workdir=tmp_path / "w")
    assert walk.times.tolist() == [0.0, 50.0, 100.0, 125.0]  # the last frame is always there
    assert walk.steps_done == 250
    last = walk.frames[-1].info
    assert last["system"] == "copper"
    assert last["step"] == 250
    assert last["pressure_GPa"] == 1.0
    assert walk.frames[-1].get_temperature() == pytest.approx(last["temperature_K"], rel=1e-4)
    progress = json.loads((tmp_path / "w" / "progress.json").read_text())
    assert progress["step"] == progress["steps"] == 250
    assert progress["reason"] == ""
    assert [p.name for p in (tmp_path / "w").iterdir()] == ["progress.json"]


@dataclass(frozen=True)
class Attraction(AnalyticPotential):
    """Pulls atoms 0 and 1 together with a constant force, as a potential with a hole does."""

    def one(self, atoms):
        d = atoms.positions[1] - atoms.positions[0]
        r = np.linalg.norm(d)
        forces = np.zeros((len(atoms), 3))
        forces[0], forces[1] = d / r, -d / r
        return Prediction(float(r), forces)


@dataclass(frozen=True)
class Hill(AnalyticPotential):
    """Every atom slides down a parabola: kinetic energy without end."""

    def one(self, atoms):
        x = atoms.positions - 5.0
        return Prediction(-0.1 * float((x * x).sum()), 0.2 * x)


class Jump(AnalyticPotential):
    """The energy drops by 10 eV/atom at the 35th call."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "calls", 0)

    def one(self, atoms):
        object.__setattr__(self, "calls", self.calls + 1)
        return Prediction(-10.0 * len(atoms) * (self.calls >= 35), np.zeros((len(atoms), 3)))


class Broken(AnalyticPotential):
    """A programming error inside the potential."""

    def one(self, atoms):
        if atoms.positions[0, 0] != 4.0:
            raise ZeroDivisionError("inside the model")
        return super().one(atoms)


GAS = Atoms(
    "C6",
    positions=[[4, 5, 5], [7, 5, 5], [5, 2, 5], [5, 8, 5], [5, 5, 1], [5, 5, 9.0]],
    cell=[10.0] * 3,
    pbc=True,
)
LONG = OpenMMExplorer(300.0, None, 5000, frame_interval=1000)
HOT = BlowUpLimits(max_temperature_factor=1e6, energy_jump=1e6)  # not what ends the walk


@pytest.mark.parametrize(
    ("explorer", "potential", "text"),
    [
        (replace(LONG, limits=HOT), Attraction(), "atoms C0 and C1 are"),
        (LONG, Hill(), "the temperature is"),
        (replace(LONG, limits=replace(HOT, max_force=1.0)), Hill(), "the force on C"),
        (LONG, Jump(), "changed by 10.00 eV/atom within 10 steps"),
        (replace(LONG, pressure_GPa=100.0, barostat_interval=1), AnalyticPotential(), "(limits 0.5 to 2)"),
        (replace(LONG, pressure_GPa=-5.0, barostat_interval=1), AnalyticPotential(), "(limits 0.5 to 2)"),
    ],
    ids=["attraction", "heat", "force", "jump", "collapse", "expansion"],
)
def test_blow_ups_stop_at_a_sane_frame(explorer, potential, text, tmp_path):
    limits = replace(explorer.limits, keep_bonds=False)  # what the graph takes for bonds in a gas
    explorer = replace(explorer, limits=limits)
    if explorer.pressure_GPa is not None:  # an ideal gas: only the volume matters here
        explorer = replace(explorer, limits=replace(limits, min_distance_factor=0.0))
    if isinstance(potential, Hill | Jump):
        explorer = replace(explorer, limits=replace(limits, min_distance_factor=0.0))
    walk = explorer.explore(GAS, potential, seed=1, workdir=tmp_path)
    assert text in walk.stop_reason
    assert f"stopped between steps {walk.steps_done} and {walk.steps_done + 10}" in walk.stop_reason
    assert 0 < walk.steps_done < explorer.steps
    last = walk.frames[-1]
    assert last.info["step"] == walk.steps_done
    assert 0.5 <= last.cell.volume / 1000 <= 2.0
    if isinstance(potential, Attraction):
        assert last.get_distance(0, 1, mic=True) > 0.9
    assert json.loads((tmp_path / "progress.json").read_text())["reason"] == walk.stop_reason


def test_a_walk_that_ends_at_once_has_the_start_alone(tmp_path):
    hot = replace(LONG, limits=BlowUpLimits(max_temperature_K=1.0))
    walk = hot.explore(GAS, AnalyticPotential(), seed=1, workdir=tmp_path)
    assert len(walk.frames) == 1
    assert walk.times.tolist() == [0.0]
    assert walk.steps_done == 0
    assert "limit 1 K" in walk.stop_reason


def test_errors_of_the_potential_come_through(tmp_path):
    with pytest.raises(ZeroDivisionError, match="inside the model"):
        LONG.explore(GAS, Broken(), seed=1, workdir=tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"temperature_K": 0.0}, "temperature_K = 0.0"),
        ({"pressure_GPa": float("nan")}, "pressure_GPa = nan"),
        ({"steps": 0}, "steps = 0"),
        ({"timestep_fs": 50.0}, "timestep_fs = 50.0"),
        ({"friction_time_fs": 0.0}, "friction_time_fs"),
        ({"frame_interval": 0}, "frame_interval"),
        ({"barostat_interval": 0}, "barostat_interval = 0"),
        ({"barostat": "berendsen"}, "barostat = berendsen"),
    ],
)
def test_bad_settings(change, text):
    with pytest.raises(InputError) as caught:
        OpenMMExplorer(**{"temperature_K": 300.0, "pressure_GPa": None, "steps": 10, **change})
    assert text in str(caught.value)


def test_bad_starts(tmp_path):
    with pytest.raises(InputError, match="periodic in three directions"):
        OpenMMExplorer(300.0, 1.0, 10).explore(molecule("H2O"), AnalyticPotential(), seed=1, workdir=tmp_path)
    with pytest.raises(InputError, match="no atoms"):
        LONG.explore(Atoms(), AnalyticPotential(), seed=1, workdir=tmp_path)
    with pytest.raises(InputError, match="no platform 'Abacus'"):
        replace(LONG, platform="Abacus").explore(GAS, AnalyticPotential(), seed=1, workdir=tmp_path)
    with pytest.raises(StructureError, match="does not know C"):
        LONG.explore(GAS, AnalyticPotential(elements=("H", "O")), seed=1, workdir=tmp_path)
    close = GAS.copy()
    close.positions[3] = close.positions[2] + [0, 0, 0.1]
    with pytest.raises(ExploreError, match=r"C2 and C3 are 0\.100"):
        LONG.explore(close, AnalyticPotential(), seed=1, workdir=tmp_path)


def test_a_torn_bond_ends_the_walk_unless_bonds_are_free(tmp_path):
    gas = replace(LONG, pressure_GPa=-5.0, barostat_interval=1, limits=BlowUpLimits(min_distance_factor=0.0))
    walk = gas.explore(GAS, AnalyticPotential(), seed=1, workdir=tmp_path / "kept")
    assert "the bond C" in walk.stop_reason
    assert "has broken" in walk.stop_reason
    free = replace(gas, limits=replace(gas.limits, keep_bonds=False))
    assert free.explore(GAS, AnalyticPotential(), seed=1, workdir=tmp_path / "free").steps_done > walk.steps_done
