"""Solids without finite blocks: each is refused for its own reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule

from clusterflow.errors import StructureError
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.testing import structures


def sheet() -> Atoms:
    atoms = graphene("C2", a=2.46, size=(2, 2, 1), vacuum=8)
    atoms.pbc = True
    return atoms


def brucite() -> Atoms:
    """Mg(OH)2: layers of edge-sharing octahedra; cell and heights as in Catti et al. 1995, doi:10.1007/BF00202300."""
    return Atoms(
        "MgO2H2",
        scaled_positions=[
            [0, 0, 0],
            [1 / 3, 2 / 3, 0.22],
            [2 / 3, 1 / 3, 0.78],
            [1 / 3, 2 / 3, 0.413],
            [2 / 3, 1 / 3, 0.587],
        ],
        cell=[3.15, 3.15, 4.77, 90, 90, 120],
        pbc=True,
    )


@pytest.mark.parametrize(
    ("build", "what", "todo"),
    [
        (lambda: bulk("MgO", "rocksalt", 4.21), r"metals and O of MgO \(Mg0, O1\) are an endless ionic solid", "whole"),
        (lambda: bulk("NaCl", "rocksalt", 5.64, cubic=True), "metals and Cl of .* endless ionic solid", "whole"),
        (brucite, "endless layer", "whole"),
        (lambda: bulk("Si"), r"Si2 \(Si0, Si1\) is endless .* lies in a ring", "sphere"),
        (lambda: bulk("C", "diamond", 3.567, cubic=True), "C8 .* lies in a ring", "sphere"),
        (sheet, "lies in a ring", "sphere"),
        (lambda: bulk("Cu"), "Cu is metallic", "whole"),
        (lambda: bulk("CuZn", "cesiumchloride", 2.95), "CuZn is metallic", "whole"),
    ],
)
def test_dense_solids_are_refused_and_told_what_else_to_do(build: Callable[[], Atoms], what: str, todo: str) -> None:
    with pytest.raises(StructureError, match=what) as error:
        find_blocks(build())
    assert f"kind: {todo}" in error.value.todo


def test_no_table_of_cuts_opens_a_ring() -> None:
    with pytest.raises(StructureError, match="lies in a ring"):
        find_blocks(sheet(), max_cost=1000.0)


def test_a_crystal_of_metal_complexes_is_no_broken_framework() -> None:
    """Periodic, with metals, nothing bonded across the cell, and nothing torn."""
    atoms = structures.porphine("Zn")
    atoms.set_cell([18, 18, 6])
    atoms.pbc = True
    blocks = find_blocks(atoms + Atoms("Ar", positions=[[9, 9, 3]]))
    assert blocks.kinds == ("molecule", "molecule")


def test_a_torn_framework_names_its_atoms() -> None:
    atoms = structures.hkust1()
    atoms.set_cell(atoms.cell.array * 1.4)
    with pytest.raises(StructureError, match=r"no bonds across the cell.*bonds are missing at Cu\d+, ") as error:
        find_blocks(atoms)
    assert "pbc to false" in error.value.todo


def test_a_lone_metal_beside_molecules_is_named() -> None:
    atoms = molecule("C6H6") + Atoms("Zn", positions=[[6.0, 6.0, 6.0]])
    atoms.set_cell([12, 12, 12])
    atoms.pbc = True
    with pytest.raises(StructureError, match="Zn12"):
        find_blocks(atoms)
    assert np.isfinite(atoms.positions).all()
