"""Torsional free energies: exact samples, and real metadynamics against exact quadrature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clusterflow.errors import ScienceError
from clusterflow.evaluate.property_figures import comparison, figure
from clusterflow.evaluate.property_result import PropertyResult
from clusterflow.evaluate.torsion_free_energy import torsion_free_energy
from clusterflow.explore.metadynamics import MetadynamicsSettings, metadynamics
from clusterflow.physics.reweighting import BiasedSamples, bin_centres
from clusterflow.testing.torsion_chain import TorsionChain, chain, exact_profile
from clusterflow.units import BOLTZMANN_EV

T = 400.0
KT = BOLTZMANN_EV * T
GRID = np.linspace(-np.pi, np.pi, 721)


def profile(phi: np.ndarray) -> np.ndarray:
    return 0.06 * (1 + np.cos(3 * phi)) + 0.04 * (1 + np.cos(phi))


def drawn(count: int, seed: int, *, columns: int = 1, half: bool = False) -> BiasedSamples:
    """Exact samples under a bias that has flattened most of the profile."""
    rng, bias = np.random.default_rng(seed), -0.8 * profile(GRID)
    density = np.exp(-(profile(GRID) + bias) / KT) * (GRID > 0.0 if half else 1.0)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    phi = np.interp(rng.random((count, columns)), cumulative / cumulative[-1], GRID)
    total = np.interp(phi, GRID, bias).sum(axis=1)
    return BiasedSamples(1000.0 * np.arange(1, count + 1), phi, total, np.zeros(count))


def column(result: PropertyResult, curve: str, name: str) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in result.curves[curve].columns[name]])


def test_exact_samples_give_the_profile_and_honest_errors() -> None:
    replicas = [drawn(6000, seed) for seed in range(4)]
    result = torsion_free_energy(replicas, temperature_K=T, bias_factor=5.0, discard=0.0)
    found, error = column(result, "profile", "free energy [eV]"), column(result, "profile", "error [eV]")
    exact = profile(bin_centres(120))
    assert found - found.mean() == pytest.approx(exact - exact.mean(), abs=0.012)
    assert 0.5 < np.sqrt(np.mean(((found - exact - (found - exact).mean()) / error) ** 2)) < 2.0
    q = result.quantities
    full = profile(np.array(0.0)) - profile(GRID).min()
    side = profile(GRID[GRID > 1.2]).max() - profile(GRID).min()
    assert abs(q["barrier of a turn"].value - full) < 4 * (q["barrier of a turn"].uncertainty or 0.0)
    assert abs(q["barrier"].value - side) < 4 * (q["barrier"].uncertainty or 0.0)
    assert 0.0 < (q["barrier"].uncertainty or 0.0) < 0.01
    assert q["sampling time"].value == pytest.approx(24_000.0)
    assert result.notes == ()
    for images in (figure(result, "x"), comparison({"a": result, "b": result}, "x")):
        assert images["png"][:4] == b"\x89PNG"


def test_two_torsions_give_a_map_and_both_profiles() -> None:
    replicas = [drawn(20_000, seed, columns=2) for seed in range(3)]
    result = torsion_free_energy(replicas, temperature_K=T, bias_factor=5.0, bins=48)
    exact = profile(bin_centres(48))
    for name in ("profile", "profile2"):
        found = column(result, name, "free energy [eV]")
        assert found - found.mean() == pytest.approx(exact - exact.mean(), abs=0.015)
    assert {"barrier", "barrier, torsion 2", "crossings, torsion 2"} <= set(result.quantities)
    assert len(result.curves["map"].columns["free energy [eV]"]) == 24 * 24
    assert figure(result, "x")["png"][:4] == b"\x89PNG"


def test_what_is_too_little_is_said() -> None:
    one = torsion_free_energy([drawn(4000, 1)], temperature_K=T, bias_factor=5.0)
    assert any("One replica only" in note for note in one.notes)
    slow = drawn(4000, 1)
    order = np.argsort(slow.angles[:, 0])  # it went around once in all the time
    slow = BiasedSamples(slow.times, slow.angles[order], slow.bias[order], slow.offset[order])
    result = torsion_free_energy([slow, slow], temperature_K=T, bias_factor=5.0, discard=0.0)
    assert any("crossings in 2 replicas are few" in note for note in result.notes)
    assert any("had not gone around" in note for note in result.notes)
    with pytest.raises(ScienceError, match="never seen in") as error:
        torsion_free_energy([drawn(2000, 1, half=True)] * 2, temperature_K=T, bias_factor=5.0)
    assert "Walk longer" in error.value.todo
    with pytest.raises(ScienceError, match="too few"):
        torsion_free_energy([drawn(4, 1)], temperature_K=T, bias_factor=5.0)


def test_metadynamics_of_a_butane_like_chain_is_the_exact_quadrature(tmp_path: Path) -> None:
    """Bonds, angles and a 1–4 repulsion are coupled to the torsion; 20 ps in each of three replicas."""
    potential = TorsionChain()
    settings = MetadynamicsSettings(
        ((0, 1, 2, 3),), T, timestep_fs=2.0, height=0.01, width=0.2, bias_factor=6.0, interval=50, grid=0.1
    )
    replicas, biases = [], []
    for seed in range(3):
        samples, state = metadynamics(chain(potential), potential, settings, steps=10_000, seed=seed, workdir=tmp_path)
        replicas.append(samples)
        biases.append(state.bias)
    result = torsion_free_energy(replicas, temperature_K=T, bias_factor=6.0, biases=biases)
    found = column(result, "profile", "free energy [eV]")
    exact = exact_profile(potential, T, bin_centres(120))
    difference = found - exact
    difference -= np.average(difference, weights=np.exp(-exact / KT))
    assert np.sqrt(np.mean(difference**2)) < 0.025  # 0.22 eV high, 0.034 eV k_BT; 0.01 eV is usual
    turn = result.quantities["barrier of a turn"]
    assert abs(turn.value - exact.max()) < max(4 * (turn.uncertainty or 0.0), 0.03)
    assert abs(result.quantities["barrier of a turn, bias"].value - exact.max()) < 0.05
    assert result.quantities["crossings"].value > 20
    # The quadrature itself: without the repulsion it is the cosine series, exactly.
    free = TorsionChain(strength=0.0)
    phi = bin_centres(60)
    assert exact_profile(free, T, phi) == pytest.approx(free.torsion(phi) - free.torsion(phi).min())
    assert np.abs(exact_profile(potential, T, phi) - exact_profile(potential, T, phi, points=10)).max() < 1e-8
    assert (
        np.abs(exact - (potential.torsion(bin_centres(120)) - potential.torsion(bin_centres(120)).min())).max() > 0.01
    )
