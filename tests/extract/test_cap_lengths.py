"""Relaxed lengths of caps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from clusterflow.core.data import FloatArray, Fragment, Site
from clusterflow.errors import ExtractionError
from clusterflow.extract.cap_lengths import relax_caps
from clusterflow.extract.rules import BuildingBlockRule, WholeStructure
from clusterflow.extract.termination import Caps
from clusterflow.physics.bonds import bond_graph

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def node(lengths: dict[str, float] | None = None) -> Fragment:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    zinc = int(np.flatnonzero(atoms.numbers == 30)[0])
    return BuildingBlockRule("none", caps=Caps(lengths=lengths or {})).extract(atoms, [Site("f", zinc)])


def morse(length: float) -> object:
    """Forces of a Morse bond of ``length`` between every hydrogen and its partner: anharmonic, with a known minimum."""

    def forces(atoms: Atoms) -> FloatArray:
        graph = bond_graph(atoms)
        out = np.zeros((len(atoms), 3))
        for h in np.flatnonzero(atoms.numbers == 1):
            partner = int(graph.neighbours(int(h))[0])
            vector = atoms.positions[h] - atoms.positions[partner]
            r = np.linalg.norm(vector)
            e = np.exp(-1.8 * (r - length))
            pull = -2.0 * 4.5 * 1.8 * (1 - e) * e * vector / r
            out[h] += pull
            out[partner] -= pull
        return out

    return forces


@pytest.mark.parametrize("length", [1.02, 1.10, 1.21])
def test_the_minimum_is_found_from_either_side(length: float) -> None:
    assert relax_caps(node(), morse(length)) == {"C(carboxylate)": pytest.approx(length, abs=1e-3)}


def test_at_gfn1_a_formate_is_a_little_longer_and_stays_there() -> None:
    from tblite.ase import TBLite

    def forces(atoms: Atoms) -> FloatArray:
        copy = atoms.copy()
        copy.calc = TBLite(method="GFN1-xTB", verbosity=0)
        return np.asarray(copy.get_forces())

    found = relax_caps(node(), forces, tolerance=0.03)
    assert 1.09 < found["C(carboxylate)"] < 1.14
    relaxed = node(found)
    carbon = np.flatnonzero(relaxed.parent < 0)
    graph = bond_graph(relaxed.atoms)
    for h in carbon:
        partner = int(graph.neighbours(int(h))[0])
        axis = relaxed.atoms.positions[h] - relaxed.atoms.positions[partner]
        assert abs(forces(relaxed.atoms)[h] @ axis / np.linalg.norm(axis)) < 0.1
        break


def test_what_cannot_be_relaxed() -> None:
    whole = WholeStructure().extract(molecule("C6H6"), [Site("f", 0)])
    with pytest.raises(ExtractionError, match="no terminating hydrogen"):
        relax_caps(whole, morse(1.1))

    def constant(atoms: Atoms) -> FloatArray:
        return np.where(atoms.numbers == 1, 1.0, 0.0)[:, None] * np.ones(3)

    with pytest.raises(ExtractionError, match="not settled after 12 evaluations"):
        relax_caps(node(), constant)
