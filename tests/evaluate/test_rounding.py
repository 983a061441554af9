"""Values with uncertainties: two digits of the one, the other to the same place."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterflow.evaluate.property_page import shown
from clusterflow.evaluate.property_result import Quantity
from clusterflow.evaluate.rounding import rounded


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (134.4614, 0.0524, "134.461 ± 0.052"),
        (134.4614, 0.13, "134.46 ± 0.13"),
        (134.4614, 12.7, "134 ± 13"),
        (1234.5, 123.0, "1230 ± 120"),
        (0.5, 0.0996, "0.50 ± 0.10"),
        (9.96, 0.996, "10.0 ± 1.0"),
        (-0.001, 0.5, "0.00 ± 0.50"),
        (3.2, 45.0, "3 ± 45"),
        (-1.2345e-9, 1.2e-10, "(-1.23 ± 0.12)e-09"),
        (0.0, 1.5e-9, "(0.0 ± 1.5)e-09"),
        (2.5e9, 1.23e8, "(2.50 ± 0.12)e+09"),
        (-6719.090631, 1e-13, "-6719.09063100000 ± 1.0e-13"),
        (134.4614, None, "134.46"),
        (42.0, None, "42"),
        (1e-7, None, "1e-07"),
        (1.5, 0.0, "1.5 ± 0"),
        (1.5, math.inf, "1.5 ± unknown"),
        (math.nan, 0.1, "nan"),
    ],
)
def test_examples(value: float, uncertainty: float | None, text: str) -> None:
    assert rounded(value, uncertainty) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_nothing_that_matters_is_lost(value: float, uncertainty: float) -> None:
    text = rounded(value, uncertainty)
    head, _, power = text.partition(")e")
    first, second = (float(t) * 10.0 ** int(power or 0) for t in head.lstrip("(").split(" ± "))
    assert second == pytest.approx(uncertainty, rel=0.051)
    assert abs(first - value) <= 0.051 * uncertainty + 1e-9 * abs(value)
    digits = head.lstrip("(").split(" ± ")
    assert len(digits[0].partition(".")[2]) == len(digits[1].partition(".")[2])


def test_quantities_of_tables_and_pages() -> None:
    assert shown(Quantity(134.4614, "GPa", 0.0524)) == "134.461 ± 0.052 GPa"
    assert shown(Quantity(3.0, "")) == "3"
