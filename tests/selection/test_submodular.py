"""The optimiser against brute force, and the properties that its guarantees rest on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from clusterflow.errors import InputError
from clusterflow.selection.submodular import Coverage, choose, further

SEEDS = st.integers(0, 2**31)


def instance(seed: int, items: int = 9, targets: int = 12) -> tuple[Coverage, np.ndarray]:
    rng = np.random.default_rng(seed)
    similarity = rng.random((items, targets)) * (rng.random((items, targets)) < rng.uniform(0.1, 0.7))
    if seed % 2:
        similarity = (similarity > 0).astype(float)  # plain maximum coverage
    base = rng.random(targets) * (rng.random(targets) < 0.3)
    function = Coverage(csr_matrix(similarity), rng.exponential(size=targets), base)
    return function, rng.uniform(1.0, 6.0, size=items)


def best(function: Coverage, costs: np.ndarray, count: int, budget: float = math.inf) -> float:
    return max(
        function.value(chosen)
        for n in range(count + 1)
        for chosen in itertools.combinations(range(function.n_items), n)
        if costs[list(chosen)].sum() <= budget
    )


@given(seed=SEEDS, count=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_by_number_it_reaches_its_guarantee(seed: int, count: int) -> None:
    function, costs = instance(seed)
    found, optimum = choose(function, costs, count=count), best(function, costs, count)
    assert len(found.items) <= count
    assert found.value == pytest.approx(function.value(found.items))
    assert found.value >= (1 - 1 / math.e) * optimum - 1e-9
    assert optimum - 1e-9 <= found.bound <= found.value / (1 - 1 / math.e) + 1e-9


@given(seed=SEEDS, count=st.integers(2, 9), budget=st.floats(2.0, 20.0))
@settings(max_examples=60, deadline=None)
def test_with_a_budget_too(seed: int, count: int, budget: float) -> None:
    function, costs = instance(seed)
    found, optimum = choose(function, costs, count=count, budget=budget), best(function, costs, count, budget)
    assert costs[list(found.items)].sum() == pytest.approx(found.cost)
    assert found.cost <= budget + 1e-9
    assert len(found.items) <= count
    assert found.bound >= optimum - 1e-9
    if count == 9:  # the number does not matter: the theorem holds
        assert found.value >= 0.405 * optimum - 1e-9


def test_in_practice_it_is_close_to_the_optimum() -> None:
    """Above 1 − 1/e in each of these, with a budget as well, where the theorem promises less."""
    ratios = []
    for seed in range(60):
        function, costs = instance(seed)
        optimum = best(function, costs, 4, 12.0)
        ratios.append(choose(function, costs, count=4, budget=12.0).value / optimum if optimum else 1.0)
    assert min(ratios) >= 1 - 1 / math.e
    assert np.mean(ratios) > 0.97


@given(seed=SEEDS, data=st.data())
@settings(max_examples=60, deadline=None)
def test_monotone_and_submodular(seed: int, data: st.DataObject) -> None:
    function, _ = instance(seed)
    numbers = st.sets(st.integers(0, 8), max_size=6)
    small = data.draw(numbers)
    large = small | data.draw(numbers)
    item = data.draw(st.integers(0, 8))
    assert function.value(sorted(small)) <= function.value(sorted(large)) + 1e-12

    def adds(to: set[int]) -> float:
        return function.value([*sorted(to), item]) - function.value(sorted(to))

    assert adds(small) >= adds(large) - 1e-12
    covered = function.base.copy()
    for i in small:
        function.cover(i, covered)
    assert function.gain(item, covered) == pytest.approx(adds(small), abs=1e-12)
    assert function.gains(covered)[item] == pytest.approx(adds(small), abs=1e-12)


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_lazy_is_greedy(seed: int) -> None:
    """Not computing a gain anew may not change what is chosen."""
    function, costs = instance(seed, items=14)
    covered, found = function.base.copy(), choose(function, costs, count=5)
    for item in found.items:
        gains = function.gains(covered)
        assert gains[item] == pytest.approx(gains.max())
        function.cover(item, covered)
    assert len(found.items) == 5 or function.gains(covered).max() <= 1e-9


def test_ties_fall_to_the_lower_number_and_nothing_is_chosen_in_vain() -> None:
    function = Coverage(csr_matrix(np.array([[0, 1], [1, 0], [1, 0], [0, 1]])), np.ones(2))
    found = choose(function, np.ones(4), count=4)
    assert found.items == (0, 1)
    assert found.value == found.bound == 2.0
    assert further(function, np.ones(4), found.items, count=3) == [2, 3]  # a second look at what is covered
    assert further(function, np.ones(4), found.items, count=3, budget=1.0) == [2]
    assert choose(Coverage(csr_matrix((0, 0)), np.empty(0)), np.empty(0), count=3).items == ()


def test_a_cheap_item_that_covers_nearly_as_much_is_preferred_within_a_budget() -> None:
    similarity = np.zeros((3, 4))
    similarity[0, :2] = 1.0  # the most, but it takes the whole budget
    similarity[1, 2] = similarity[2, 3] = 1.0
    function = Coverage(csr_matrix(similarity), np.array([1.0, 0.2, 0.9, 0.9]))
    assert choose(function, np.array([10.0, 5.0, 5.0]), count=2, budget=10.0).items == (1, 2)
    assert choose(function, np.array([10.0, 5.0, 5.0]), count=2, budget=15.0).items == (0, 1)


@pytest.mark.parametrize(
    ("similarity", "weights", "costs", "said"),
    [
        ([[1.5]], [1.0], [1.0], "between 0 and 1"),
        ([[0.5]], [-1.0], [1.0], "weights"),
        ([[0.5]], [np.nan], [1.0], "weights"),
        ([[0.5]], [1.0], [0.0], "positive costs"),
        ([[0.5]], [1.0], [1.0, 2.0], "positive costs"),
    ],
)
def test_unusable_input(similarity: list[list[float]], weights: list[float], costs: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose(Coverage(csr_matrix(similarity), np.array(weights)), np.array(costs), count=1)
