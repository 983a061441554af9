"""Labels per system."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterflow.selection.sharing import share_labels


@pytest.mark.parametrize(
    ("needs", "total", "floor", "shares"),
    [
        ({"a": 3.0, "b": 1.0}, 8, 0.0, {"a": 6, "b": 2}),
        ({"a": 1.0, "b": 0.0}, 10, 0.2, {"a": 9, "b": 1}),
        ({"a": 1.0, "b": 0.0}, 10, 1.0, {"a": 5, "b": 5}),
        ({"b": 0.0, "a": 0.0}, 3, 0.2, {"a": 2, "b": 1}),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, 2, 0.2, {"a": 1, "b": 1, "c": 0}),
        ({}, 5, 0.2, {}),
    ],
)
def test_shares(needs: dict[str, float], total: int, floor: float, shares: dict[str, int]) -> None:
    assert share_labels(needs, total, floor=floor) == shares


@given(
    needs=st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0, 1e6), min_size=1, max_size=6),
    total=st.integers(0, 60),
    floor=st.floats(0, 1),
)
def test_all_labels_are_given_out_and_more_need_is_never_fewer_labels(
    needs: dict[str, float], total: int, floor: float
) -> None:
    shares = share_labels(needs, total, floor=floor)
    assert sum(shares.values()) == total
    assert min(shares.values()) >= int(floor * total / len(needs))
    assert all(shares[a] >= shares[b] for a in needs for b in needs if needs[a] > needs[b])
