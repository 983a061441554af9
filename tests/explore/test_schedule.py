"""Lengths of walks."""

import pytest

from clusterflow.errors import InputError
from clusterflow.explore.schedule import steps_for, steps_from_list


def test_growth_up_to_the_paper_s_length():
    assert [steps_for(i) for i in range(5)] == [200, 400, 800, 1000, 1000]
    assert steps_for(3, first=100, growth=1.5, maximum=10_000) == 338
    assert steps_for(10**9, first=5, growth=1.0, maximum=10) == 5
    assert steps_for(10**9, first=5, growth=1.1, maximum=10**12) == 10**12


def test_list():
    assert [steps_from_list(i, [100, 500]) for i in range(4)] == [100, 500, 500, 500]


@pytest.mark.parametrize(
    "bad",
    [{"iteration": -1}, {"first": 0}, {"growth": 0.5}, {"maximum": 100}, {"growth": float("nan")}],
)
def test_bad_schedule(bad):
    with pytest.raises(InputError, match="schedule"):
        steps_for(**{"iteration": 0, **bad})


@pytest.mark.parametrize(("iteration", "lengths"), [(0, []), (0, [0, 100]), (-1, [100])])
def test_bad_list(iteration, lengths):
    with pytest.raises(InputError, match="walk lengths"):
        steps_from_list(iteration, lengths)
