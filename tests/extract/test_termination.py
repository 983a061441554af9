"""Hydrogen on cut bonds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterflow.errors import ExtractionError
from clusterflow.extract.termination import HYDROGEN_LENGTHS, cap

point = st.tuples(*[st.floats(-50, 50)] * 3).map(np.array)


@given(st.sampled_from(sorted(HYDROGEN_LENGTHS)), point, point)
def test_hydrogen_is_on_the_bond_at_the_length_of_the_element(
    number: int, position: np.ndarray, bond: np.ndarray
) -> None:
    if np.linalg.norm(bond) < 0.5:
        bond = np.array([1.5, 0.0, 0.0])
    hydrogen = cap(number, position, position + bond)
    assert np.linalg.norm(hydrogen - position) == pytest.approx(HYDROGEN_LENGTHS[number], abs=1e-9)
    np.testing.assert_allclose(np.cross(hydrogen - position, bond), 0.0, atol=1e-9 * np.linalg.norm(bond) + 1e-9)
    assert (hydrogen - position) @ bond > 0


def test_lengths_of_the_common_elements() -> None:
    assert (HYDROGEN_LENGTHS[6], HYDROGEN_LENGTHS[7], HYDROGEN_LENGTHS[8]) == (1.09, 1.01, 0.97)


def test_an_element_without_a_length_is_refused() -> None:
    with pytest.raises(ExtractionError, match="A bond of Zn would be cut"):
        cap(30, np.zeros(3), np.ones(3))
