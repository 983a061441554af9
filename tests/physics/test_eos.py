"""Equations of state: parameters come back from curves that were made with them, and bad grids are refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase.eos import EquationOfState, birchmurnaghan, vinet

from clusterflow.errors import ScienceError
from clusterflow.physics.eos import FORMS, GPA, agreeing_fits, fit_eos, require_minimum

MADE = {"birch_murnaghan": birchmurnaghan, "vinet": vinet}
K, DERIVATIVE, V0, E0 = 37.0, 5.2, 9010.0, -1234.5  # UiO-66-like, GPa and Å³


def curve(form: str, v: np.ndarray) -> np.ndarray:
    return np.asarray(MADE[form](v, E0, K / GPA, DERIVATIVE, V0))


@pytest.mark.parametrize("form", sorted(MADE))
@pytest.mark.parametrize("scale", [1.0, 1e-3, 10.0])
def test_parameters_come_back(form: str, scale: float) -> None:
    v = np.linspace(0.93, 1.05, 13) * V0 * scale
    e = np.asarray(MADE[form](v, E0, K / GPA, DERIVATIVE, V0 * scale))
    fit = fit_eos(v, e, form)
    assert fit.bulk * GPA == pytest.approx(K, rel=1e-7)
    assert fit.volume == pytest.approx(V0 * scale, rel=1e-8)
    assert fit.derivative == pytest.approx(DERIVATIVE, rel=1e-5)
    assert fit.energy == pytest.approx(E0, abs=1e-9)
    assert fit.energies(v) == pytest.approx(e, abs=1e-9)


def test_a_quartic_comes_back_from_the_polynomial() -> None:
    v = np.linspace(85.0, 118.0, 11)
    c = (2.0e-3, -3.0e-5, 4.0e-7)
    e = -3.0 + c[0] * (v - 100.0) ** 2 + c[1] * (v - 100.0) ** 3 + c[2] * (v - 100.0) ** 4
    fit = fit_eos(v, e, "polynomial")
    assert fit.volume == pytest.approx(100.0, rel=1e-10)
    assert fit.bulk == pytest.approx(100.0 * 2.0 * c[0], rel=1e-8)
    assert fit.derivative == pytest.approx(-1.0 - 100.0 * 6.0 * c[1] / (2.0 * c[0]), rel=1e-7)
    assert fit.residual < 1e-12
    assert fit.energies(v) == pytest.approx(e, abs=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_pressure_is_minus_the_slope_of_the_energy(form: str) -> None:
    v = np.linspace(0.94, 1.06, 13) * V0
    fit = fit_eos(v, curve("vinet", v), form)
    at, step = np.linspace(v[1], v[-2], 7), 0.01
    slope = (fit.energies(at + step) - fit.energies(at - step)) / (2.0 * step)
    assert fit.pressures(at) == pytest.approx(-slope, abs=1e-7)
    assert fit.pressures(np.array([fit.volume])) == pytest.approx([0.0], abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [("birch_murnaghan", "birchmurnaghan"), ("vinet", "vinet")])
def test_equal_to_ase_on_noisy_points(ours: str, theirs: str) -> None:
    rng = np.random.default_rng(3)
    v = np.linspace(38.0, 55.0, 12)
    e = np.asarray(birchmurnaghan(v, -2.0, 0.9, 4.4, 46.0)) + rng.normal(0.0, 1e-4, 12)
    v0, e0, bulk = EquationOfState(v, e, eos=theirs).fit()
    fit = fit_eos(v, e, ours)
    assert fit.volume == pytest.approx(v0, rel=1e-6)
    assert fit.energy == pytest.approx(e0, rel=1e-6)
    assert fit.bulk == pytest.approx(bulk, rel=1e-5)


def test_standard_errors_are_those_of_repeated_noise() -> None:
    v = np.linspace(0.95, 1.05, 15) * 46.0
    clean = np.asarray(birchmurnaghan(v, -2.0, 0.9, 4.4, 46.0))
    rng = np.random.default_rng(11)
    for form in FORMS:
        fits = [fit_eos(v, clean + rng.normal(0.0, 2e-4, len(v)), form) for _ in range(200)]
        for name in ("volume", "energy", "bulk", "derivative"):
            scatter = np.std([getattr(f, name) for f in fits])
            stated = np.mean([getattr(f, f"{name}_error") for f in fits])
            assert stated == pytest.approx(scatter, rel=0.25), f"{name} of {form}"


def test_uncertainties_cover_the_truth_although_the_forms_were_made_to_agree() -> None:
    """Noise and a curve that no form is made for: the range over the forms alone would be far too small."""
    v = np.linspace(0.93, 1.07, 15) * V0
    x = v / V0 - 1.0
    exact = K / GPA * V0 * (0.5 * x**2 - 0.9 * x**3 + 1.5 * x**4)
    rng, off, ranges = np.random.default_rng(5), [], []
    for _ in range(40):
        found = agreeing_fits(v, exact + rng.normal(0.0, 3e-3, len(v)))
        for name, value in (("volume", V0), ("bulk", K / GPA), ("energy", 0.0)):
            off.append((found.mean(name) - value) / found.uncertainty(name))
            values = [getattr(f, name) for f in found.fits]
            ranges.append((found.mean(name) - value) / (0.5 * np.ptp(values)))
    assert np.sqrt(np.mean(np.square(off))) < 1.3
    assert np.sqrt(np.mean(np.square(ranges))) > 3.0


def test_the_interval_shrinks_until_the_forms_agree() -> None:
    """A curve that only a quartic can follow far out: softening on the compressed side, as frameworks have."""
    v = np.linspace(0.88, 1.12, 41) * V0
    x = v / V0 - 1.0
    e = K / GPA * V0 * (0.5 * x**2 - 0.5 * x**3 - 9.0 * x**4)
    wide = [fit_eos(v, e, form).bulk for form in FORMS]
    assert (max(wide) - min(wide)) / np.mean(wide) > 0.05
    found = agreeing_fits(v, e, tolerance=0.01)
    assert found.agreed
    assert found.spread <= 0.01
    assert [round(h[0], 6) for h in found.history] == sorted({round(h[0], 6) for h in found.history}, reverse=True)
    low, high = found.fits[0].interval
    assert abs((V0 - low) - (high - V0)) <= 1.01 * (v[1] - v[0])  # symmetric but for one point
    assert found.mean("bulk") * GPA == pytest.approx(K, rel=0.01)
    stricter = agreeing_fits(v, e, tolerance=0.002)
    assert stricter.fits[0].points < found.fits[0].points


def test_forms_that_never_agree_say_so() -> None:
    rng = np.random.default_rng(0)
    v = np.linspace(0.97, 1.03, 9) * 46.0
    e = np.asarray(birchmurnaghan(v, -2.0, 0.9, 4.4, 46.0)) + rng.normal(0.0, 2e-3, 9)
    found = agreeing_fits(v, e, tolerance=1e-4)
    assert not found.agreed
    assert found.spread > 1e-4
    assert found.fits[0].points >= 7


@pytest.mark.parametrize(("low", "high", "side"), [(1.01, 1.2, "smallest"), (0.8, 0.99, "largest")])
def test_a_grid_beside_the_minimum_is_refused(low: float, high: float, side: str) -> None:
    v = np.linspace(low, high, 11) * V0
    with pytest.raises(ScienceError, match=f"outside the stable range.*{side}") as error:
        agreeing_fits(v, curve("vinet", v))
    assert "range:" in error.value.todo


def test_too_few_volumes_are_refused() -> None:
    v = np.linspace(0.95, 1.05, 6) * V0
    with pytest.raises(ScienceError, match="7 volumes or more; there are 6"):
        require_minimum(v, curve("vinet", v))
