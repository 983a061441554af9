"""Errors of means of correlated samples, against what repetition tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from clusterflow.physics.timeseries import Series, block_error, joined, load_series


def correlated(n: int, time: float, rng: np.random.Generator) -> np.ndarray:
    """Autoregressive samples of unit variance with the correlation time ``time``."""
    a = np.exp(-1.0 / time)
    return lfilter([np.sqrt(1.0 - a * a)], [1.0, -a], rng.standard_normal(n + 400))[400:]


@pytest.mark.parametrize("time", [0.1, 5.0, 40.0])
def test_the_error_is_the_scatter_of_repeated_means(time: float) -> None:
    rng = np.random.default_rng(2)
    runs = [block_error(correlated(4000, time, rng)) for _ in range(150)]
    scatter = np.std([mean for mean, _, _ in runs])
    assert np.mean([error for _, error, _ in runs]) == pytest.approx(scatter, rel=0.2)


def test_few_samples_and_constant_ones() -> None:
    assert block_error(np.zeros(0))[1] == np.inf
    assert block_error(np.arange(15.0))[:2] == (7.0, np.inf)
    assert block_error(np.full(64, 3.0)) == (3.0, 0.0, 64)
    drift = block_error(np.linspace(0.0, 1.0, 256))  # no block is long enough: the largest error there is
    assert drift[1] > 0.09


def series(n: int, start: float, stop: str = "") -> Series:
    x = np.arange(1.0, n + 1.0)
    return Series(x, start + x, x, x, x, np.zeros((n, 3, 3)), np.zeros((n, 3, 3)), stop)


def test_pieces_of_a_run_are_one_run(tmp_path: Path) -> None:
    whole = joined([series(4, 0.0), series(3, 4.0), series(0, 0.0, "torn")])
    assert whole.time.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert whole.energy.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert whole.stop_reason == "torn"
    assert whole.after(0.4).time.tolist() == [4, 5, 6, 7]
    whole.save(tmp_path / "s.npz")
    again = load_series(tmp_path / "s.npz")
    assert again.stop_reason == "torn"
    assert np.array_equal(again.energy, replace(whole).energy)
