"""Expansion coefficients from logs made with known ones, and what the figures and notes say of them."""

from __future__ import annotations

import numpy as np
import pytest

from clusterflow.errors import ScienceError
from clusterflow.evaluate.equilibrium import shape_note
from clusterflow.evaluate.property_figures import comparison, figure
from clusterflow.evaluate.property_result import PropertyResult
from clusterflow.evaluate.thermal_expansion import Run, cell_parameters, thermal_expansion
from clusterflow.physics.timeseries import Series

SLOPES = {"a": -13e-6, "b": -13e-6, "c": 40e-6}  # 1/K


def logged(t: float, rng: np.random.Generator, *, bend: float = 0.0, n: int = 300, stop: str = "") -> Series:
    """Orthogonal cells of 12 Å whose edges fluctuate by 0.02 Å."""
    strain = np.array([SLOPES[k] * (t - 300.0) + bend * (t - 300.0) ** 2 for k in "abc"])
    edges = 12.0 * np.exp(strain) + rng.normal(0.0, 0.02, (n, 3))
    cells = np.array([np.diag(e) for e in edges])
    zero = np.zeros(n)
    return Series(np.arange(n) * 50.0, zero, zero, edges.prod(axis=1), zero, cells, np.zeros((n, 3, 3)), stop)


def found(
    seed: int, temperatures: tuple[float, ...] = (100.0, 200.0, 300.0, 400.0, 500.0), **how: float
) -> PropertyResult:
    rng = np.random.default_rng(seed)
    return thermal_expansion([Run(t, logged(t, rng, **how)) for t in temperatures], temperature=300.0, pressure=0.0)


def test_coefficients_come_back_with_honest_errors() -> None:
    off = []
    for seed in range(12):
        q = found(seed).quantities
        exact = {"α_V": 14.0, "α_a": -13.0, "α_c": 40.0, "a": 12.0, "V": 1728.0}
        off += [(q[name].value - value) / q[name].uncertainty for name, value in exact.items()]
        assert q["alpha"].value == pytest.approx(90.0)
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(1.0, abs=0.35)
    assert q["α_V"].uncertainty < 3.0


def test_a_bent_curve_has_the_slope_at_the_temperature_of_the_table() -> None:
    temperatures = tuple(np.linspace(100.0, 600.0, 11))
    bent = found(1, temperatures, bend=2e-7)
    assert bent.quantities["α_c"].value == pytest.approx(40.0, abs=3.0 * (bent.quantities["α_c"].uncertainty or 0.0))
    assert bent.curves["fit"].columns["c [Å]"][-1] == pytest.approx(12.0 * np.exp(300 * 40e-6 + 2e-7 * 9e4), rel=1e-3)


def test_what_is_left_out_is_named_and_three_are_needed() -> None:
    rng = np.random.default_rng(3)
    runs = [Run(t, logged(t, rng)) for t in (100.0, 300.0, 500.0)]
    lost = [Run(900.0, logged(900.0, rng, stop="the bond C1–O2 has broken"))]
    given = thermal_expansion([*runs, *lost], temperature=700.0, pressure=0.1, failed={"50 K": "no start"})
    notes = " ".join(given.notes)
    assert "Left out: 900 K (the bond C1–O2 has broken)" in notes
    assert "Left out: 50 K (no start)" in notes
    assert "Extrapolated: 700 K" in notes
    with pytest.raises(ScienceError, match=r"3 temperatures; 2 are left\. 900 K: the bond"):
        thermal_expansion([*runs[:2], *lost], temperature=300.0, pressure=0.0)


def test_a_cell_that_turns_into_another_is_noted() -> None:
    rng = np.random.default_rng(5)
    runs = [Run(t, logged(t, rng)) for t in (100.0, 300.0, 500.0)]
    assert shape_note([r.series for r in runs]) == ()
    wild = runs[2].series
    object.__setattr__(wild, "cell", wild.cell * rng.normal(1.0, 0.08, (300, 3, 1)))
    given = thermal_expansion(runs, temperature=300.0, pressure=0.0)
    assert any("fluctuate by 8" in n and "Take a supercell" in n for n in given.notes)


def test_lengths_and_angles() -> None:
    from ase.cell import Cell

    cell = Cell.fromcellpar([3.0, 4.0, 5.0, 80.0, 95.0, 110.0])
    parameters = cell_parameters(np.array([cell.array, cell.array @ np.diag([1.0, 1.0, -1.0])]))
    assert [v[0] for v in parameters.values()] == pytest.approx([3.0, 4.0, 5.0, 80.0, 95.0, 110.0])
    assert [v[1] for v in parameters.values()] == pytest.approx([3.0, 4.0, 5.0, 80.0, 95.0, 110.0])


def test_figures() -> None:
    for images in (figure(found(1), "MOF-5"), comparison({"MOF-5": found(1), "ZIF-8": found(2)}, "all")):
        assert images["png"][:4] == b"\x89PNG"
