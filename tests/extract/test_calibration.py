"""Bounds hold for new fragments, whatever the indicators are worth; few confirmations bound nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from clusterflow.core.data import FloatArray
from clusterflow.errors import InputError
from clusterflow.extract.calibration import JOINING, Confirmation, ErrorModel, Indicator, calibrate, conformal_quantile

COLUMNS = (Indicator("good", 1.0, 0.5), Indicator("useless", 0.0, 0.2))


def confirmations(n: int, rng: np.random.Generator, *, scatter: float = 0.5) -> list[Confirmation]:
    """Errors that follow the first indicator with a part shared within the fragment, a part per environment, and
    noise with a heavy tail."""
    offset = {"O(Zr)": 0.6, "C(C)": -0.3}
    made = []
    for number in range(n):
        k = int(rng.integers(2, 12))
        x = rng.normal(-1.0, 1.0, (k, 2))
        around = tuple(rng.choice(sorted(offset), k).tolist())
        noise = scatter * (rng.normal() + 0.7 * rng.standard_t(4, k))
        made.append(
            Confirmation(
                str(number), x, around, np.exp(x[:, 0] + [offset[a] for a in around] + noise), np.full(k, True)
            )
        )
    return made


def coverage(model: ErrorModel, fragments: list[Confirmation]) -> float:
    """Share of the fragments in which every atom stays below its bound."""
    held = [bool((c.errors <= model.bound(c.indicators, c.environments, c.required)).all()) for c in fragments]
    return float(np.mean(held))


def test_all_atoms_of_new_fragments_stay_below_their_bounds_as_often_as_promised():
    rng = np.random.default_rng(1)
    reached = [
        coverage(calibrate(COLUMNS, confirmations(60, rng), tolerance=0.1, confidence=0.9), confirmations(200, rng))
        for _ in range(20)
    ]
    assert 0.88 <= np.mean(reached) <= 0.95


def test_atoms_that_join_the_core_are_held_to_wider_bounds_and_the_required_ones_to_tighter():
    rng = np.random.default_rng(8)

    def with_few_required(n: int) -> list[Confirmation]:
        return [replace(c, required=np.arange(len(c.errors)) < 2) for c in confirmations(n, rng)]

    models = [calibrate(COLUMNS, with_few_required(60), tolerance=1e3, confidence=0.9) for _ in range(20)]
    reached = [coverage(m, with_few_required(200)) for m in models]
    assert 0.88 <= np.mean(reached) <= 0.95
    same = calibrate(COLUMNS, confirmations(60, rng), tolerance=1e3, confidence=0.9)
    assert np.mean([m.factor for m in models]) < same.factor
    x, around = np.zeros((2, 2)), ["C(C)", "C(C)"]
    required, joining = same.bound(x, around, np.array([True, False])) + same.floor
    assert joining == pytest.approx(JOINING * required)


def test_a_useless_indicator_costs_tightness_not_truth():
    rng = np.random.default_rng(2)
    blind = [replace(c, indicators=c.indicators[:, ::-1]) for c in confirmations(80, rng)]
    new = confirmations(300, rng)
    new_blind = [replace(c, indicators=c.indicators[:, ::-1]) for c in new]
    trusting = (Indicator("trusted, but useless", 1.0, 0.5),)
    model = calibrate(trusting, [_first_column(c) for c in blind], tolerance=0.1, confidence=0.9)
    assert abs(model.coefficients[1]) < 0.2
    assert coverage(model, [_first_column(c) for c in new_blind]) > 0.85
    sharp = calibrate(COLUMNS, confirmations(80, rng), tolerance=0.1, confidence=0.9)
    assert sharp.scatter < 0.8 * model.scatter


def _first_column(c: Confirmation) -> Confirmation:
    return replace(c, indicators=c.indicators[:, :1])


def test_estimates_find_what_environments_differ_by():
    model = calibrate(COLUMNS, confirmations(200, np.random.default_rng(3)), tolerance=0.1)
    assert model.coefficients[1] == pytest.approx(1.0, abs=0.15)
    assert model.coefficients[2] == pytest.approx(0.0, abs=0.1)
    assert model.offsets["O(Zr)"] - model.offsets["C(C)"] == pytest.approx(0.9, abs=0.2)


@pytest.mark.parametrize(("n", "finite"), [(0, False), (5, False), (18, False), (19, True), (40, True)])
def test_a_bound_needs_enough_confirmations(n: int, finite: bool):
    model = calibrate(COLUMNS, confirmations(n, np.random.default_rng(4)), tolerance=0.1, confidence=0.95)
    bound = model.bound(np.zeros((3, 2)), ["C(C)", "O(Zr)", "never seen"], np.full(3, True))
    assert np.isfinite(bound[:2]).all() == finite
    assert np.isinf(bound[2])
    assert model.attained == n / (n + 1)
    assert np.isfinite(model.estimate(np.zeros((2, 2)), ["C(C)", "never seen"])).all()


def test_what_no_indicator_brings_down_is_estimated_where_it_stays():
    """Errors of one environment follow the indicator, those of the other stay at 50 meV/Å."""
    rng = np.random.default_rng(10)

    def plateau(n: int) -> list[Confirmation]:
        made = []
        for c in confirmations(n, rng, scatter=0.2):
            stays = np.array([e == "O(Zr)" for e in c.environments])
            made.append(replace(c, errors=np.where(stays, 0.05 * np.exp(0.2 * rng.normal(size=len(stays))), c.errors)))
        return made

    model = calibrate(COLUMNS, plateau(60), tolerance=0.1, confidence=0.9)
    x = np.array([[-3.0, 0.0], [0.0, 0.0]])
    assert model.estimate(x, ["O(Zr)"] * 2) == pytest.approx([0.05, 0.05], rel=0.4)
    follows = model.estimate(x, ["C(C)"] * 2)
    assert follows[1] > 8 * follows[0]
    assert coverage(model, plateau(300)) > 0.85


def test_without_confirmations_the_prior_speaks():
    model = calibrate(COLUMNS, (), tolerance=0.1)
    x = np.array([[np.log(0.3), 5.0]])
    assert model.estimate(x, ["C(C)"]) == pytest.approx(0.3 - model.floor)


def test_a_model_survives_json_also_without_a_bound():
    for n in (3, 30):
        model = calibrate(COLUMNS, confirmations(n, np.random.default_rng(5)), tolerance=0.1)
        again = ErrorModel.from_json(json.loads(json.dumps(model.to_json())))
        x: FloatArray = np.random.default_rng(6).normal(size=(4, 2))
        around = ["C(C)", "O(Zr)", "C(C)", "new"]
        required = np.array([True, False, True, True])
        np.testing.assert_array_equal(again.bound(x, around, required), model.bound(x, around, required))
        np.testing.assert_array_equal(again.estimate(x, around), model.estimate(x, around))


def test_the_conformal_quantile_is_the_rank_statistic():
    assert conformal_quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert conformal_quantile(list(range(1, 20)), 0.95) == 19
    assert conformal_quantile([1.0, 2.0], 0.95) == np.inf


def test_bad_input_is_refused_by_name():
    good = confirmations(1, np.random.default_rng(7))[0]
    with pytest.raises(InputError, match="confidence"):
        calibrate(COLUMNS, [good], tolerance=0.1, confidence=1.0)
    with pytest.raises(InputError, match="floor"):
        calibrate(COLUMNS, [good], tolerance=0.1, floor=0.0)
    with pytest.raises(InputError, match="'0' has indicators"):
        calibrate(COLUMNS[:1], [good], tolerance=0.1)
    with pytest.raises(InputError, match="not finite, or negative"):
        calibrate(COLUMNS, [replace(good, errors=-good.errors)], tolerance=0.1)
    with pytest.raises(InputError, match="fitted on 2 indicators"):
        calibrate(COLUMNS, [good], tolerance=0.1).estimate(np.zeros((3, 1)), ["C(C)"] * 3)


def test_what_the_larger_fragment_leaves_out_too_counts():
    """What a larger fragment adds and what it lacks as well push an atom in directions of their own. Bounds from the
    differences alone fail against the parent; with the indicators of the larger fragments they hold."""
    rng = np.random.default_rng(12)

    def pairs(n: int) -> tuple[list[Confirmation], list[Confirmation]]:
        seen, true = [], []
        for number in range(n):
            k = int(rng.integers(2, 6))
            x = np.column_stack((rng.uniform(-4.0, -2.0, k), np.zeros(k)))
            size = np.exp(0.3 * rng.normal() + 0.2 * rng.normal(size=k))
            added, lacking = rng.normal(size=(2, k, 3)) * (size * np.exp(x[:, 0]))[:, None]
            lacking *= 0.7
            around, required = ("C(C)",) * k, np.full(k, True)
            farther = x + np.array([np.log(0.7), 0.0])
            seen.append(Confirmation(str(number), x, around, np.linalg.norm(added, axis=1), required, larger=farther))
            true.append(Confirmation(str(number), x, around, np.linalg.norm(added + lacking, axis=1), required))
        return seen, true

    naive, aware, parent = [], [], []
    for _ in range(20):
        seen, true = pairs(60)
        new = pairs(200)[1]
        blind = [replace(c, larger=None) for c in seen]
        for reached, known in ((naive, blind), (aware, seen), (parent, true)):
            reached.append(coverage(calibrate(COLUMNS, known, tolerance=1e3, confidence=0.9), new))
    assert np.mean(naive) < 0.85
    assert 0.88 < np.mean(aware) < 0.99
    assert 0.86 < np.mean(parent) < 0.96


def test_indicators_of_the_larger_fragment_must_fit():
    made = confirmations(1, np.random.default_rng(13))[0]
    for larger in (made.indicators[:-1], np.full_like(made.indicators, np.nan)):
        with pytest.raises(InputError, match="larger fragment"):
            calibrate(COLUMNS, [replace(made, larger=larger)], tolerance=0.1)
