"""Free energies from biased samples, against profiles that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clusterflow.physics.reweighting import (
    BiasedSamples,
    barriers,
    bias_offset,
    bin_centres,
    crossings,
    free_energy,
    histogram,
    jackknife_error,
    joined_samples,
    leave_one_out,
    load_samples,
    stationary_points,
    ways_out,
)
from clusterflow.units import BOLTZMANN_EV

T = 300.0
KT = BOLTZMANN_EV * T
GRID = np.linspace(-np.pi, np.pi, 721)


def profile(phi: np.ndarray) -> np.ndarray:
    return 0.1 * (1 + np.cos(3 * phi)) + 0.06 * (1 + np.cos(phi))


def drawn(bias: np.ndarray, offset: float, count: int, rng: np.random.Generator) -> BiasedSamples:
    """Exact samples of exp(−(F + V)/kT), V on `GRID`."""
    density = np.exp(-(profile(GRID) + bias) / KT)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    phi = np.interp(rng.random(count), cumulative / cumulative[-1], GRID)
    return BiasedSamples(
        np.arange(count, dtype=float), phi[:, None], np.interp(phi, GRID, bias), np.full(count, offset)
    )


def test_samples_under_a_bias_that_grows_give_the_profile_back() -> None:
    """Every stage has another bias; c(t) makes their weights comparable."""
    rng, gamma = np.random.default_rng(4), 8.0
    full = -(gamma - 1) / gamma * (profile(GRID) - profile(GRID).max())  # what a converged bias is
    parts = [drawn(full + level, bias_offset((full + level)[:-1], T, gamma), 60_000, rng) for level in (0.1, 0.25)]
    parts.append(drawn(0.9 * full, bias_offset(0.9 * full[:-1], T, gamma), 10_000, rng))
    found = free_energy(histogram(joined_samples(parts[:2]), T, 120, [0]), T)
    exact = profile(bin_centres(120))
    assert found - found.mean() == pytest.approx(exact - exact.mean(), abs=0.006)
    # A constant in the bias changes nothing: c(t) takes it up.
    weights = [histogram(p, T, 120, [0]).sum() / len(p) for p in parts[:2]]
    assert weights[0] == pytest.approx(weights[1], rel=0.05)


def test_two_angles_and_one_integrated_out() -> None:
    rng = np.random.default_rng(1)
    first, second = (drawn(np.zeros(721), 0.0, 100_000, rng) for _ in range(2))
    both = BiasedSamples(first.times, np.hstack([first.angles, second.angles]), np.zeros(100_000), np.zeros(100_000))
    surface = histogram(both, T, 24, [0, 1])
    assert surface.shape == (24, 24)
    assert surface.sum(axis=1) == pytest.approx(histogram(first, T, 24, [0]))
    assert surface.sum(axis=0) == pytest.approx(histogram(second, T, 24, [0]))


def test_barriers_and_stationary_points() -> None:
    phi = bin_centres(360)
    found = stationary_points(profile(phi), KT / 2)
    assert sorted(np.degrees(phi[found.minima]).round()) == pytest.approx([-64, 64, 180], abs=6)
    values = profile(phi)
    lowest, full = barriers(values, ways_out(values, KT / 2))
    assert full == pytest.approx(profile(np.array(0.0)) - profile(phi).min(), abs=1e-3)
    side = profile(phi[(phi > 1.2) & (phi < 3.0)]).max() - profile(phi).min()
    assert lowest == pytest.approx(side, abs=1e-6)
    rolled = np.roll(values, 77)  # wherever the circle is cut
    assert barriers(rolled, ways_out(rolled, KT / 2)) == pytest.approx((lowest, full))
    single = 0.2 * (1 - np.cos(phi))
    assert barriers(single, ways_out(single, KT / 2)) == pytest.approx((0.4, 0.4), abs=1e-3)
    assert barriers(np.zeros(360), ways_out(np.zeros(360), KT / 2)) == (0.0, 0.0)


def test_crossings_count_arrivals_and_not_hesitations() -> None:
    minima = np.array([-2.0, 0.0, 2.0])
    path = np.array([-2.0, -1.2, -0.9, -1.1, -2.1, -0.1, 0.9, 1.1, 0.8, 1.9, 2.1, 3.1, -2.1])
    assert crossings(path, minima) == 3
    assert crossings(path, minima[:1]) == 0


def test_a_jackknife_is_the_standard_error_of_a_mean() -> None:
    values = np.random.default_rng(2).normal(size=(50, 3))
    left = np.array(leave_one_out(list(values))) / 49
    assert jackknife_error(left) == pytest.approx(values.std(axis=0, ddof=1) / np.sqrt(50))


def test_samples_survive_a_file(tmp_path: Path) -> None:
    samples = drawn(np.zeros(721), 0.3, 10, np.random.default_rng(0))
    samples.save(tmp_path / "s.npz")
    back = load_samples(tmp_path / "s.npz")
    assert (back.angles == samples.angles).all()
    assert (back.offset == 0.3).all()
    assert len(back.after(0.2)) == 8
