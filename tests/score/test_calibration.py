import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.errors import InputError, ScienceError
from clusterflow.score.calibration import Calibration, calibrate, hierarchical_quantile, structures_needed


def sample(n_groups, per_group, rng, *, element="O", scale=1.0, spread=0.4):
    """Errors that grow with novelty, with an offset of each structure's own: atoms of one are not independent."""
    group = np.repeat(np.arange(n_groups), per_group)
    novelty = rng.normal(0.0, 1.0, n_groups)[group] + rng.gamma(2.0, 4.0, len(group)) - 20.0
    own = np.exp(spread * rng.normal(size=n_groups))[group]
    error = scale * 0.02 * np.sqrt(novelty + 25.0) * own * rng.chisquare(3, len(group)) / 3.0
    return novelty, error, np.full(len(group), element), group


@pytest.mark.parametrize(("n_groups", "per_group"), [(12, 25), (40, 10), (150, 4)])
def test_nominal_90_percent_covers_what_it_says_on_new_structures(n_groups, per_group):
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(16):
        made = calibrate(*sample(n_groups, per_group, rng))
        x, y, names, _ = sample(50, 10, rng)
        covered.append((y <= made.estimate(x, names).bound).mean())
    # A finite number of structures makes the bound wider: up to 1/(K + 1) more than nominal.
    assert 0.88 <= np.mean(covered) <= 0.94 + 1.0 / (n_groups + 1)


def test_each_element_is_covered_though_one_errs_ten_times_more():
    rng = np.random.default_rng(2)
    both = [np.concatenate(p) for p in zip(sample(60, 8, rng), sample(60, 8, rng, element="Zn", scale=10), strict=True)]
    made = calibrate(*both)
    for element, scale in (("O", 1.0), ("Zn", 10.0)):
        x, y, names, _ = sample(200, 10, rng, element=element, scale=scale)
        assert 0.85 <= (y <= made.estimate(x, names).bound).mean() <= 0.95


def test_treating_atoms_as_independent_would_cover_too_little_and_this_does_not():
    """Few structures with much of their own: the quantile over single atoms fails where that over structures holds."""
    rng = np.random.default_rng(3)
    plain, ours = [], []
    for _ in range(300):
        values = np.repeat(rng.normal(size=12), 50) + 0.1 * rng.normal(size=600)
        new = rng.normal(size=200)
        plain.append((new <= np.quantile(values, 0.9)).mean())
        ours.append((new <= hierarchical_quantile(values, np.repeat(np.arange(12), 50), 0.9)).mean())
    assert np.mean(plain) < 0.89
    assert np.mean(ours) >= 0.9


def test_bounds_hold_for_a_new_walk_where_fragments_of_one_go_wrong_together():
    """Ten walks with twelve fragments each. Taking each fragment for itself promises too much of a new walk."""
    rng = np.random.default_rng(11)
    fragments, walks = [], []
    for _ in range(25):
        x, y, names, walk = sample(10, 60, rng, spread=1.2)
        new_x, new_y, new_names, _ = sample(60, 20, rng, spread=1.2)
        for groups, covered in ((np.arange(len(x)) // 5, fragments), (walk, walks)):
            bound = calibrate(x, y, names, groups).estimate(new_x, new_names).bound
            covered.append((new_y <= bound).mean())
    assert np.mean(fragments) < 0.88
    assert np.mean(walks) >= 0.9
    assert np.mean(np.array(walks) < 0.85) < 0.5 * np.mean(np.array(fragments) < 0.85)


@given(seed=st.integers(0, 10_000), n_groups=st.integers(2, 30), per_group=st.integers(10, 20))
@settings(max_examples=25, deadline=None)
def test_expectation_and_bound_never_fall_with_novelty(seed, n_groups, per_group):
    rng = np.random.default_rng(seed)
    x, _, names, groups = sample(n_groups, per_group, rng)
    made = calibrate(x, rng.exponential(0.1, len(x)), names, groups)  # errors that do not follow novelty at all
    grid = np.concatenate([np.linspace(x.min() - 50, x.max() + 500, 400), [np.inf]])
    found = made.estimate(grid, np.full(len(grid), "O"))
    assert (np.diff(found.error[:-1]) >= -1e-12).all()
    assert np.isposinf(found.error[-1])
    assert (found.bound >= found.error).all() or np.isfinite(found.bound[0])
    assert not found.extrapolated[0]
    assert found.extrapolated[-2]


def test_too_few_structures_have_no_finite_bound():
    rng = np.random.default_rng(4)
    assert structures_needed(0.9) == 9
    assert structures_needed(0.95) == 19
    few, enough = calibrate(*sample(8, 30, rng)), calibrate(*sample(9, 30, rng))
    assert np.isposinf(few.estimate([-10.0], ["O"]).bound).all()
    assert np.isfinite(few.estimate([-10.0], ["O"]).error).all()
    assert np.isfinite(enough.estimate([-10.0], ["O"]).bound).all()


@pytest.mark.parametrize(("n_groups", "per_group"), [(1, 500), (3, 4), (0, 0)])
def test_too_little_data_is_refused_with_what_it_takes(n_groups, per_group):
    with pytest.raises(ScienceError, match=r"(?s)cannot calibrate .*9 for a bound"):
        calibrate(*sample(n_groups, per_group, np.random.default_rng(0)))


def test_a_rare_element_shares_the_pooled_curve_over_its_own_level():
    rng = np.random.default_rng(5)
    many = sample(30, 10, rng)
    rare = sample(4, 2, rng, element="Zr")
    joined = [np.concatenate(p) for p in zip(many, (rare[0] + 100.0, *rare[1:]), strict=True)]
    made = calibrate(*joined, levels={"O": -12.0, "Zr": 88.0})
    assert set(made.curves) == {"O"}
    here, there = made.estimate([-8.0], ["O"]), made.estimate([92.0], ["Zr"])
    assert there.error == pytest.approx(here.error, rel=0.25)
    assert np.isfinite(there.bound).all()


def test_an_element_never_seen_and_atoms_without_a_label():
    rng = np.random.default_rng(6)
    x, y, names, groups = sample(20, 10, rng)
    x[0], y[1] = np.inf, np.nan
    made = calibrate(x, y, names, groups)
    assert made.curves["O"].n_atoms == 198
    found = made.estimate([np.inf, -10.0], ["O", "O"])
    assert np.isposinf([found.error[0], found.bound[0]]).all()
    assert list(found.extrapolated) == [True, False]


def test_json_round_trip_also_without_a_bound():
    rng = np.random.default_rng(7)
    for n in (5, 20):
        made = calibrate(*sample(n, 10, rng), unit="eV/Å")
        back = Calibration.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False)))
        grid = np.linspace(-20, 40, 50)
        a, b = made.estimate(grid, ["O"] * 50), back.estimate(grid, ["O"] * 50)
        np.testing.assert_array_equal(a.error, b.error)
        np.testing.assert_array_equal(a.bound, b.bound)
        assert back.unit == "eV/Å"


def test_forces_without_error_and_novelties_that_do_not_vary():
    flat = calibrate(np.zeros(200), np.zeros(200), ["C"] * 200, np.arange(200) // 10)
    assert flat.estimate([0.0, 5.0], ["C", "C"]).error == pytest.approx(0.0)
    one = calibrate(np.zeros(200), np.full(200, 0.1), ["C"] * 200, np.arange(200) // 10)
    assert one.estimate([-1.0, 0.0, 9.0], ["C"] * 3).error == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [({0: [np.nan] * 4}, "4 NaN"), ({1: [0.1]}, "1 force errors"), ({2: ["O"]}, "1 elements")],
)
def test_arrays_that_do_not_belong_together(change, words):
    given = [[0.0] * 4, [0.1] * 4, ["O"] * 4, [0, 0, 1, 1]]
    for at, value in change.items():
        given[at] = value
    with pytest.raises(InputError, match=words):
        calibrate(*given)
    with pytest.raises(InputError, match="confidence"):
        calibrate([0.0], [0.1], ["O"], [0], confidence=1.0)
