"""Central atoms of fragments, against Tables 1 and 2 of Herbold and Behler 2023 (doi:10.1039/d2cp05976b)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from clusterflow.errors import InputError
from clusterflow.extract.completeness import complete_within
from clusterflow.extract.group_cut import reference_piece

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"
RC = 4.359


@pytest.mark.parametrize(
    ("site", "radius", "n_atoms", "n_central"),
    [(0, RC, 59, 17), (44, RC, 42, 11), (0, 2 * RC, 98, 8), (44, 2 * RC, 146, 12)],
    ids=["I1-As", "I1-Bs", "I1-A", "I1-B"],
)
def test_the_fragments_of_the_paper_have_as_many_central_atoms(
    site: int, radius: float, n_atoms: int, n_central: int
) -> None:
    """Around Zn and the carbon next to the carboxylate: sizes and central atoms as published."""
    frame = read(MOF5)
    piece, _ = reference_piece(frame, site, radius)
    complete = complete_within(piece.atoms, piece.parent, frame, 9.0)
    assert len(piece.atoms) == n_atoms
    assert int((complete > radius).sum()) == n_central
    assert not complete[piece.parent < 0].any()


def test_the_distance_is_that_to_what_is_missing() -> None:
    """Of a chain at 0, 1, 2, 3 Å the first three atoms: the last one is 3, 2 and 1 Å away."""
    chain = Atoms("C4", [[x, 0.0, 0.0] for x in range(4)])
    found = complete_within(chain[:3], np.arange(3), chain, 2.5)
    assert found == pytest.approx([2.5, 2.0, 1.0])


def test_images_of_a_small_cell_count_one_by_one() -> None:
    """One atom per cell of 2 Å: its images are missing at 2 Å though their index is there."""
    cell = Atoms("Cu", cell=[2.0, 2.0, 2.0], pbc=True)
    assert complete_within(Atoms("Cu", [[0.0, 0.0, 0.0]]), np.array([0]), cell, 5.0) == pytest.approx([2.0])


def test_a_fragment_that_was_turned_is_refused() -> None:
    """Its atoms have none of the neighbours of their parents."""
    chain = Atoms("C4", [[x, 0.0, 0.0] for x in range(4)])
    turned = chain[:3]
    turned.rotate(90, "z")
    with pytest.raises(InputError, match="not turned"):
        complete_within(turned, np.arange(3), chain, 2.5)


@pytest.mark.parametrize("reach", [0.0, -1.0, float("nan")])
def test_a_reach_without_atoms_is_refused(reach: float) -> None:
    chain = Atoms("C2", [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    with pytest.raises(InputError, match="hold no atoms"):
        complete_within(chain, np.arange(2), chain, reach)
