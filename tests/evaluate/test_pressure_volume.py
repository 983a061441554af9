"""P(V) from logs whose answer is known: V₀, K and P_max come back with honest errors; what is no point is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clusterflow.errors import ScienceError
from clusterflow.evaluate.pressure_fit import fit_pressure
from clusterflow.evaluate.pressure_volume import Run, pressure_volume
from clusterflow.evaluate.property_figures import comparison, figure
from clusterflow.evaluate.property_result import result_from_json
from clusterflow.physics.timeseries import Series

V0, K = 9100.0, 37.0  # UiO-66-like, Å³ and GPa
TOP = K / 36.0  # of P = −K (x + 9 x²), at x = −1/18


def pressure(volume: np.ndarray) -> np.ndarray:
    x = volume / V0 - 1.0
    return -K * (x + 9.0 * x * x)


def volume(p: float) -> float:
    """On the stable branch."""
    return V0 * (1.0 + (-1.0 + np.sqrt(1.0 - 36.0 * p / K)) / 18.0)


def logged(rng: np.random.Generator, *, volumes: float, pressures: float, n: int = 400, stop: str = "") -> Series:
    cell, zero = np.tile(20.9 * np.eye(3), (n, 1, 1)), np.zeros((n, 3, 3))
    v = volumes + rng.normal(0.0, 40.0, n)
    p = pressures + rng.normal(0.0, 0.3, n)
    return Series(np.arange(n) * 50.0, np.zeros(n), np.zeros(n), v, p, cell, zero, stop)


def runs(seed: int, *, stop_above: float = 0.9) -> list[Run]:
    rng = np.random.default_rng(seed)
    found = []
    for p in np.linspace(-0.8, 1.0, 19).round(3):
        stop = "the bond has broken" if p > stop_above else ""
        found.append(Run("pressure", float(p), logged(rng, volumes=volume(p), pressures=p, stop=stop)))
    for ratio in (0.92, 0.93, 0.94, 0.95, 0.96):
        v = ratio * V0
        flat = logged(rng, volumes=v, pressures=float(pressure(np.array(v))))
        object.__setattr__(flat, "volume", np.full(400, v))
        found.append(Run("volume", ratio, flat))
    return found


def test_the_curve_comes_back_with_honest_errors() -> None:
    off = []
    for seed in range(4):
        q = pressure_volume(runs(seed), temperature=300.0).quantities
        for name, exact in (("V0", V0), ("K", K), ("P_max", TOP)):
            off.append((q[name].value - exact) / q[name].uncertainty)
    assert np.abs(off).max() < 3.5
    assert np.sqrt(np.mean(np.square(off))) < 1.6
    assert q["K"].uncertainty < 2.0
    assert q["P_max"].uncertainty < 0.03
    assert q["V at P_max"].value == pytest.approx(V0 * (1.0 - 1.0 / 18.0), rel=0.01)


def test_what_is_no_equilibrium_is_left_out_and_named() -> None:
    given = runs(1)
    falling = given[12].series  # 0.4 GPa: collapses half way
    object.__setattr__(falling, "volume", falling.volume - np.where(np.arange(400) > 200, 900.0, 0.0))
    given.append(Run("pressure", 0.0, logged(np.random.default_rng(9), volumes=V0, pressures=0.0, n=20)))
    found = pressure_volume(given, temperature=300.0, failed={"1.1 GPa": "the start has overlapping atoms"})
    assert found.quantities["K"].value == pytest.approx(K, abs=4.0)
    notes = " ".join(found.notes)
    assert "Left out: 1 GPa (the bond has broken)" in notes
    assert "Left out: 0.4 GPa (the volume still drifts" in notes
    assert "Left out: 1.1 GPa (the start has overlapping atoms)" in notes
    assert result_from_json(found.to_json()) == found
    json.dumps(found.to_json(), allow_nan=False)


def test_more_runs_are_wanted_where_it_is_not_converged() -> None:
    given = runs(2)
    strict = pressure_volume(given, temperature=300.0, tolerance_bulk=1e-6, tolerance_top=10.0)
    assert any("Not converged: K" in n for n in strict.notes)
    assert set(strict.wanted) <= {"-0.1 GPa", "0 GPa", "0.1 GPa", "0.2 GPa", "-0.2 GPa"}
    assert len(strict.wanted) == 3
    both = pressure_volume(given, temperature=300.0, tolerance_bulk=1e-6, tolerance_top=1e-6)
    assert set(strict.wanted) < set(both.wanted)
    assert "0.94 × V" in both.wanted or "0.95 × V" in both.wanted
    loose = pressure_volume(given, temperature=300.0, tolerance_bulk=50.0, tolerance_top=5.0)
    assert loose.wanted == ()
    assert not any("Not converged" in n for n in loose.notes)
    # a share with which nothing can be fitted is not converged, and no number
    short = pressure_volume(given, temperature=300.0, discards=(0.2, 0.97))
    assert any("K comes and goes" in n for n in short.notes)
    json.dumps(short.to_json(), allow_nan=False)
    # runs at the same condition are combined
    twice = pressure_volume([*given, *runs(3)], temperature=300.0)
    assert set(twice.curves["points"].columns["runs"]) == {2.0}


def test_without_a_maximum_there_is_a_bound() -> None:
    stable = [r for r in runs(3) if r.kind == "pressure" and r.value < 0.5]
    found = pressure_volume(stable, temperature=300.0)
    assert "P_max" not in found.quantities
    assert found.quantities["P_max, at least"].value == pytest.approx(0.4, abs=0.05)
    assert any("No maximum of P" in n for n in found.notes)
    for images in (figure(found, "UiO-66"), comparison({"UiO-66": found}, "all")):
        assert images["png"][:4] == b"\x89PNG"


def test_points_that_cannot_tell_are_refused() -> None:
    compressed = [r for r in runs(4) if r.kind == "pressure" and 0.15 < r.value < 0.9]
    with pytest.raises(ScienceError, match=r"Outside the stable range: all 7 pressures are above zero") as error:
        pressure_volume(compressed, temperature=300.0)
    assert "negative `pressures:`" in error.value.todo
    with pytest.raises(ScienceError, match=r"5 points or more; there are 3"):
        pressure_volume(compressed[:3], temperature=300.0)
    with pytest.raises(ScienceError, match=r"there are 0\. 24 conditions gave none, .*samples are too few"):
        pressure_volume([Run("pressure", 0.1 * i, r.series.after(0.97)) for i, r in enumerate(runs(5))],
                        temperature=300.0)  # fmt: skip


def test_errors_that_are_too_small_are_noticed_and_made_up_for() -> None:
    v = np.linspace(0.97 * V0, 1.04 * V0, 16)
    for seed in range(3):
        p = pressure(v) + np.random.default_rng(seed).normal(0.0, 0.04, len(v))
        # Half of the error is said to be that of V, as of runs at constant pressure.
        honest, bold = (
            fit_pressure(v, p, np.full(len(v), said * V0 / K / 2**0.5), np.full(len(v), said / 2**0.5))
            for said in (0.04, 0.01)
        )
        assert honest.misfit == 1.0
        assert 2.0 < bold.misfit < 8.0
        assert bold.bulk_error == pytest.approx(honest.bulk_error, rel=0.7)
        assert abs(bold.bulk - K) < 3.5 * bold.bulk_error


def test_a_straight_line_stays_one() -> None:
    v = np.linspace(90.0, 110.0, 8)
    fit = fit_pressure(v, -0.5 * (v - 100.0), np.zeros(8), np.full(8, 0.05))
    assert fit.v0 == pytest.approx(100.0, abs=0.01)
    assert fit.bulk == pytest.approx(50.0, rel=0.01)
    assert not fit.reached
    assert fit.bulk_error < 5.0
