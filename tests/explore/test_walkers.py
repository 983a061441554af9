"""Conditions of walkers."""

import numpy as np
import pytest

from clusterflow.errors import InputError
from clusterflow.explore.walkers import draw_conditions, walker_seed

PAPER = {"temperature_K": 600.0, "pressure_GPa": (-1.5, 1.5), "campaign_seed": 11}


def test_ranges_are_filled_evenly():
    walkers = draw_conditions(
        2000,
        temperature_K=(300.0, 600.0),
        pressure_GPa=(-1.5, 1.5),
        campaign_seed=3,
        iteration=0,
        system="a",
    )
    for values, low, high in (
        ([w.temperature_K for w in walkers], 300.0, 600.0),
        ([w.pressure_GPa for w in walkers], -1.5, 1.5),
    ):
        assert low <= min(values) <= max(values) <= high
        counts = np.histogram(values, bins=10, range=(low, high))[0]
        assert counts.min() > 130  # 200 each, standard deviation 13
    correlation = np.corrcoef([[w.temperature_K, w.pressure_GPa] for w in walkers], rowvar=False)[0, 1]
    assert abs(correlation) < 0.1


def test_deterministic_and_distinct():
    first = draw_conditions(4, iteration=1, system="mof", **PAPER)
    assert first == draw_conditions(4, iteration=1, system="mof", **PAPER)
    assert first[:2] == draw_conditions(2, iteration=1, system="mof", **PAPER)
    seeds = {walker_seed(c, i, s, w) for c in (0, 1) for i in range(5) for s in ("a", "b", "") for w in range(20)}
    assert len(seeds) == 2 * 5 * 3 * 20
    assert all(0 <= s < 2**63 for s in seeds)
    assert all(w.temperature_K == 600.0 for w in first)


def test_constant_volume_has_no_pressure():
    walkers = draw_conditions(2, temperature_K=500, pressure_GPa=None, campaign_seed=0, iteration=0, system="m")
    assert [w.pressure_GPa for w in walkers] == [None, None]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"n_walkers": 0}, "0 walkers"),
        ({"temperature_K": 0.0}, "not positive"),
        ({"temperature_K": (600.0, 300.0)}, "temperature_K = [600, 300]"),
        ({"pressure_GPa": (1.0, float("nan"))}, "pressure_GPa"),
    ],
)
def test_bad_input(change, text):
    settings = {"n_walkers": 2, "iteration": 0, "system": "mof", **PAPER, **change}
    with pytest.raises(InputError, match=r".") as caught:
        draw_conditions(settings.pop("n_walkers"), **settings)
    assert text in str(caught.value)
