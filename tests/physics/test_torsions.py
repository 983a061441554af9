"""Torsions: which exist, and images that make them whole."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.errors import StructureError
from clusterflow.physics.torsions import Wall, check_torsions, positions_of_groups, torsion_angle
from clusterflow.testing.torsion_chain import TorsionChain, chain


@pytest.mark.parametrize("phi", [-2.5, -0.4, 0.0, 1.0, 3.0])
def test_the_angle_is_that_of_ase_with_a_sign(phi: float) -> None:
    atoms = chain(TorsionChain(), phi)
    assert torsion_angle(atoms.positions, (0, 1, 2, 3)) == pytest.approx(phi)
    assert torsion_angle(atoms.positions, (3, 2, 1, 0)) == pytest.approx(phi)
    assert np.radians(atoms.get_dihedral(0, 1, 2, 3)) % (2 * np.pi) == pytest.approx(phi % (2 * np.pi))


def test_groups_are_made_whole_across_the_boundary() -> None:
    atoms = chain(TorsionChain(), 1.0)
    atoms.set_cell([[7.0, 0, 0], [1.0, 6.0, 0], [0, 2.0, 8.0]])
    atoms.pbc = True
    whole = atoms.copy()
    atoms.positions += [6.2, 0.3, 7.0]
    atoms.wrap()
    assert np.abs(np.diff(atoms.positions, axis=0)).max() > 4.0  # it was torn
    check_torsions(atoms, [(0, 1, 2, 3)])
    found = positions_of_groups(atoms, [(0, 1, 2, 3)])
    assert np.diff(found, axis=0) == pytest.approx(np.diff(whole.positions, axis=0))
    assert torsion_angle(found, (0, 1, 2, 3)) == pytest.approx(1.0)


def test_groups_around_the_cell_are_refused() -> None:
    ring = Atoms("C4", [[0, 0, 0], [1.5, 0, 0], [3.0, 0, 0], [4.5, 0, 0]], cell=[6, 9, 9], pbc=True)
    assert positions_of_groups(ring, [(0, 1, 2, 3)])[3, 0] == 4.5
    with pytest.raises(StructureError, match="go around the cell") as error:
        positions_of_groups(ring, [(0, 1, 2, 3), (3, 0)])
    assert "supercell" in error.value.todo


def test_what_is_no_torsion_is_refused_with_what_is_there() -> None:
    methanol = molecule("CH3OH")  # C O H H H H: the second hydrogen is that of the hydroxyl
    check_torsions(methanol, [(2, 0, 1, 3)])
    cases = {
        (2, 0, 1, 6): "There is no atom 6",
        (-1, 0, 1, 3): "There is no atom -1",
        (2, 0, 2, 3): "names an atom twice",
        (2, 1, 0, 3): "H2 and O1 of the torsion .* are not bonded .H2 is bonded to C0",
    }
    for torsion, match in cases.items():
        with pytest.raises(StructureError, match=match) as error:
            check_torsions(methanol, [torsion])
        assert error.value.todo
    with pytest.raises(StructureError, match="There is no atom 17"):
        check_torsions(methanol, [(2, 0, 1, 3)], [(0, 17)])
    straight = molecule("C2H2")  # C C H H
    with pytest.raises(StructureError, match="lie in a line"):
        check_torsions(straight, [(2, 1, 0, 3)] if straight.get_distance(2, 1) < 1.2 else [(2, 0, 1, 3)])


def test_walls_survive_json() -> None:
    wall = Wall((1, 2), None, 2.4, 25.0)
    assert Wall.from_json(wall.to_json()) == wall
