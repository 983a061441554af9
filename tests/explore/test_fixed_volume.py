"""The (N, V, σ=0, T) ensemble: exact shapes, `physical_validation`, and its meeting with constant pressure.

Rogge et al., J. Chem. Theory Comput. 11, 5583 (2015), doi:10.1021/acs.jctc.5b00748.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import physical_validation
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.core.data import FloatArray
from clusterflow.errors import InputError
from clusterflow.explore.barostat import AffineBarostat
from clusterflow.explore.openmm_md import OpenMMExplorer
from clusterflow.explore.sampling import sample
from clusterflow.physics.timeseries import Series, block_error
from clusterflow.testing.analytic_potentials import ElasticCell, LennardJones
from clusterflow.units import BOLTZMANN_EV, EV_IN_KJ_PER_MOL, EV_PER_A3_IN_GPA, GPA

REFERENCE, VOLUME = np.diag([9.0, 10.0, 11.0]), 990.0
KT = BOLTZMANN_EV * 600.0
ARGON = LennardJones(cutoff=7.0)
UNITS = physical_validation.data.UnitData(
    kb=BOLTZMANN_EV, energy_str="eV", energy_conversion=EV_IN_KJ_PER_MOL, length_str="Å", length_conversion=0.1,
    volume_str="Å³", volume_conversion=1e-3, temperature_str="K", temperature_conversion=1.0, pressure_str="GPa",
    pressure_conversion=1e4, time_str="fs", time_conversion=1e-3,
)  # fmt: skip


def exact_energies(shear: float, volume: float) -> tuple[FloatArray, FloatArray]:
    """(energies, cumulated probability) of the shape of an `ElasticCell` at constant volume.

    In principal log strains λ₁ + λ₂ + λ₃ = 0 the Haar measure of SL(3) is Π_{i<j} sinh|λ_i − λ_j| dλ₁dλ₂.
    """
    line = np.linspace(-1.2, 1.2, 1201)
    a, b = np.meshgrid(line, line)
    strains = np.array([a, b, -a - b])
    energy = 0.5 * shear * volume * (0.25 * np.expm1(2.0 * strains) ** 2).sum(axis=0)
    gaps = np.abs([strains[0] - strains[1], strains[1] - strains[2], strains[0] - strains[2]])
    weight = np.prod(np.sinh(gaps), axis=0) * np.exp(-energy / KT)
    order = np.argsort(energy.ravel())
    cumulated = np.cumsum(weight.ravel()[order])
    return energy.ravel()[order], cumulated / cumulated[-1]


def moved(pressure_GPa: float | None, shear: float, moves: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """(energies, volumes) of a gas in an elastic cell under the barostat's moves alone."""
    potential = ElasticCell(reference=REFERENCE, bulk=20 * GPA, shear=shear)
    barostat = AffineBarostat(600.0, pressure_GPa, 8, VOLUME, np.random.default_rng(seed))
    gas = Atoms("C8", cell=REFERENCE, pbc=True)
    cell, energy, volume = REFERENCE.copy(), 0.0, VOLUME
    energies, volumes = np.zeros(moves), np.zeros(moves)
    for k in range(moves):
        trial = cell @ barostat.propose()
        gas.set_cell(trial)
        found = potential.one(gas).energy, float(abs(np.linalg.det(trial)))
        if barostat.accept(found[0] - energy, volume, found[1]):
            cell, (energy, volume) = trial, found
        energies[k], volumes[k] = energy, volume
    return energies[1000:], volumes[1000:]


@pytest.mark.parametrize("shear_GPa", [20.0, 0.7])
def test_shapes_have_the_exact_distribution(shear_GPa: float) -> None:
    """Stiff, and so soft that the measure matters: without its factors the mean energy would be another."""
    energies, volumes = moved(None, shear_GPa * GPA, 11_000, seed=5)
    assert volumes == pytest.approx(VOLUME, rel=1e-9)
    grid, cumulated = exact_energies(shear_GPa * GPA, VOLUME)
    mean = float((0.5 * (grid[1:] + grid[:-1]) * np.diff(cumulated)).sum())
    found, error, _ = block_error(energies)
    assert found == pytest.approx(mean, abs=4.0 * error)
    assert error < 0.05 * mean
    levels = np.interp(np.quantile(energies, np.linspace(0.1, 0.9, 9)), grid, cumulated)
    assert levels == pytest.approx(np.linspace(0.1, 0.9, 9), abs=0.04)


def argon() -> Atoms:
    return bulk("Ar", "fcc", a=5.40, cubic=True).repeat(2)


def run(
    tmp_path_factory: pytest.TempPathFactory,
    temperature: float,
    steps: int,
    *,
    pressure: float | None = None,
    edge: float = 0.0,
) -> Series:
    start = argon()
    if edge:
        start.set_cell([edge] * 3, scale_atoms=True)
    found, _ = sample(
        start, ARGON, temperature_K=temperature, pressure_GPa=pressure, steps=steps, timestep_fs=10.0,
        friction_time_fs=150.0, barostat_interval=2, interval=10, seed=7,
        workdir=tmp_path_factory.mktemp("walk"), keep_bonds=False,
    )  # fmt: skip
    assert found.stop_reason == ""
    return found.after(0.15)


@pytest.fixture(scope="module")
def isobaric(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Series]:
    return {p: run(tmp_path_factory, 40.0, 2_500, pressure=p) for p in (0.0, 0.06)}


@pytest.fixture(scope="module")
def isochoric(tmp_path_factory: pytest.TempPathFactory, isobaric: dict[float, Series]) -> dict[float, Series]:
    edge = float(isobaric[0.06].volume.mean() ** (1.0 / 3.0))
    return {t: run(tmp_path_factory, t, 2_000, edge=edge) for t in (40.0, 46.0)}


def validated(
    series: Series, ensemble: str, temperature: float, **fixed: float
) -> physical_validation.data.SimulationData:
    return physical_validation.data.SimulationData(
        units=UNITS,
        dt=10.0,
        system=physical_validation.data.SystemData(
            natoms=32, nconstraints=0, ndof_reduction_tra=0, ndof_reduction_rot=0
        ),
        ensemble=physical_validation.data.EnsembleData(ensemble, natoms=32, temperature=temperature, **fixed),
        observables=physical_validation.data.ObservableData(
            kinetic_energy=series.kinetic,
            potential_energy=series.energy,
            total_energy=series.kinetic + series.energy,
            volume=series.volume,
        ),
    )


def test_kinetic_energy(isobaric: dict[float, Series], isochoric: dict[float, Series]) -> None:
    for series, kind, fixed in (
        (isobaric[0.0], "NPT", {"pressure": 0.0}),
        (isochoric[40.0], "NVT", {"volume": float(isochoric[40.0].volume[0])}),
    ):
        mean, width = physical_validation.kinetic_energy.distribution(
            validated(series, kind, 40.0, **fixed), strict=False, verbosity=0, bootstrap_seed=1
        )
        assert abs(mean) < 3.5  # standard errors from the Maxwell–Boltzmann distribution
        assert abs(width) < 3.5


def quantiles_off(first: object, second: object, samples: tuple[FloatArray, FloatArray]) -> float:
    """By how many standard errors the slope of ln of the ratio of two distributions is off its true one.

    All samples go in, and the error is corrected for their correlation: few would be left if they were thinned first.
    """
    (off,) = physical_validation.ensemble.check(first, second, data_is_uncorrelated=True, verbosity=0, bootstrap_seed=1)
    inefficiency = [(block_error(x)[1] / (x.std(ddof=1) / np.sqrt(len(x)))) ** 2 for x in samples]
    return float(off / np.sqrt(max(1.0, *inefficiency)))


def test_volume_at_constant_pressure(isobaric: dict[float, Series]) -> None:
    """ln of the ratio of both volume distributions is linear in V with the slope −ΔP/kT."""
    data = [validated(s, "NPT", 40.0, pressure=p) for p, s in isobaric.items()]
    assert quantiles_off(*data, (isobaric[0.0].volume, isobaric[0.06].volume)) < 3.0
    # The same of moves alone, of which there can be many more.
    many = {p: moved(p, 20 * GPA, 7_000, seed=6) for p in (0.0, 0.8)}
    volumes = (many[0.0][1], many[0.8][1])

    def off(factor: float) -> float:
        series = [replace(isobaric[0.0], volume=v, kinetic=e, energy=e) for e, v in many.values()]
        found = [validated(s, "NPT", 600.0, pressure=factor * p) for s, p in zip(series, many, strict=True)]
        return quantiles_off(*found, volumes)

    assert off(1.0) < 3.0
    assert off(2.0) > 3.0


def test_energy_at_constant_volume_and_free_shape(isochoric: dict[float, Series]) -> None:
    """ln of the ratio of both energy distributions is linear in U with the slope −Δβ: canonical, the shape included."""
    volume = float(isochoric[40.0].volume[0])
    data = [validated(s, "NVT", t, volume=volume) for t, s in isochoric.items()]
    assert quantiles_off(*data, (isochoric[40.0].energy, isochoric[46.0].energy)) < 3.0
    wrong = [validated(s, "NVT", 2.5 * t - 60.0, volume=volume) for t, s in isochoric.items()]
    assert quantiles_off(*wrong, (isochoric[40.0].energy, isochoric[46.0].energy)) > 3.0
    cells = isochoric[40.0].cell
    assert np.ptp(isochoric[40.0].volume) < 1e-6 * volume
    assert cells[:, 0, 1].std() > 0.05  # Å: the shape does move


def test_both_ensembles_meet_on_one_curve(isobaric: dict[float, Series], isochoric: dict[float, Series]) -> None:
    """At the mean volume of an NPT run the internal pressure is the one that was applied."""
    series = isochoric[40.0]
    found, error, _ = block_error(series.pressure)
    _, spread, _ = block_error(isobaric[0.06].volume)
    low, high = (float(isobaric[p].volume.mean()) for p in (0.0, 0.06))
    slope = 0.06 / (low - high)  # GPa/Å³
    assert abs(found - 0.06) < 4.0 * np.hypot(error, slope * spread)
    assert np.hypot(error, slope * spread) < 0.008
    # no shear stress in the mean, and none of the three normal stresses differs
    stress = series.stress.mean(axis=0) * EV_PER_A3_IN_GPA
    assert stress - np.trace(stress) / 3.0 * np.eye(3) == pytest.approx(np.zeros((3, 3)), abs=0.02)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="free_shape is for constant volume"):
        OpenMMExplorer(300.0, 1.0, 10, free_shape=True)
    with pytest.raises(InputError, match="free_shape is for constant volume"):
        OpenMMExplorer(300.0, None, 10, free_shape=True, barostat="openmm")
    with pytest.raises(InputError, match="A free shape needs a cell that is periodic in three directions"):
        sample(molecule("H2O"), ARGON, temperature_K=300.0, pressure_GPa=None, steps=10, seed=1, workdir=".")
