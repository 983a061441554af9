"""The box of a finite fragment: exact spacing, enough vacuum, the same place on the grid for every fragment."""

import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.label.box import extended_points, fragment_box


@settings(max_examples=50, deadline=None)
@given(
    shift=st.floats(-30, 30), vacuum=st.floats(1, 9), h=st.sampled_from([0.15, 0.175, 0.2, 0.25]),
    multiple=st.sampled_from([4, 8, 16]),
)  # fmt: skip
def test_spacing_is_exact_and_vacuum_enough(shift, vacuum, h, multiple):
    atoms = molecule("CH3OH")
    atoms.positions += shift
    box = fragment_box(atoms, vacuum, h, multiple)
    edges = box.atoms.cell.lengths()
    assert box.gpts is not None
    assert edges == pytest.approx(np.array(box.gpts) * h)
    assert all(n % multiple == 0 for n in box.gpts)
    assert not box.atoms.pbc.any()
    gaps = np.concatenate([box.atoms.positions.min(axis=0), edges - box.atoms.positions.max(axis=0)])
    assert gaps.min() >= vacuum - 1e-9
    assert gaps.max() <= vacuum + multiple * h / 2 + 1e-9
    moved = np.diff(box.atoms.positions - atoms.positions, axis=0)
    assert np.abs(moved).max() < 1e-12 * (1 + abs(shift)) * 1e3  # a pure translation


def test_same_place_on_the_grid_whatever_the_vacuum():
    atoms = molecule("CH3OH")
    small, large = fragment_box(atoms, 3.0, 0.2).atoms, fragment_box(atoms, 6.0, 0.2).atoms
    offset = (large.positions - small.positions) / 0.2
    assert offset == pytest.approx(np.rint(offset), abs=1e-9)


def test_without_a_grid():
    box = fragment_box(molecule("H2O"), 5.0, None)
    assert box.gpts is None
    assert box.atoms.cell.lengths()[1] == pytest.approx(10.0 + np.ptp(molecule("H2O").positions[:, 1]))


def test_extended_points_reach_the_poisson_vacuum():
    points = extended_points((48, 56, 64), 8.0, 0.175)
    for small, large in zip((48, 56, 64), points, strict=True):
        extra = large - 2 * small
        assert extra % 8 == 0
        assert extra * 0.175 / 2 / 2 >= 8.0
