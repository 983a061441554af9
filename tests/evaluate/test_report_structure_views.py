import numpy as np
import pytest
from ase.build import bulk, molecule

from clusterflow.core import keys
from clusterflow.evaluate.report.structure_views import FORCE_ERROR, around, structure_view


def test_a_fragment(node):
    node.info[keys.ITERATION] = np.int64(1)
    node.set_array(keys.NOVELTY, np.full(len(node), np.inf))
    v = structure_view(node, status="labelled")
    assert len(v.symbols) == len(v.positions) == len(v.regions) == 89
    assert v.formula == "C42H30O13Zn4"
    assert v.iteration == 1
    assert v.novelty is None
    assert v.cell == ()
    degree = np.bincount(np.array(v.bonds).ravel(), minlength=89)
    assert set(degree[node.numbers == 1]) == {1}
    assert set(degree[node.numbers == 6]) == {3}
    assert set(degree[node.numbers == 30]) == {4}
    bare = structure_view(molecule("C6H6"))
    assert bare.regions == ()
    assert bare.scalars == {}
    assert len(bare.bonds) == 12
    assert structure_view(molecule("H2O"), bonds=[(0, 1)]).bonds == ((0, 1),)


def test_values_of_atoms(node):
    """Novelty of termination atoms is not known: they are not of the material."""
    node.set_array(keys.NOVELTY, np.arange(len(node), dtype=float))
    v = structure_view(node, scalars={FORCE_ERROR: np.append(np.nan, np.ones(len(node) - 1))}, marked=np.array([3]))
    assert v.scalars[FORCE_ERROR][:2] == (None, 1.0)
    termination = [k for k, r in enumerate(v.regions) if r == "termination"]
    assert {v.scalars["novelty [nats]"][k] for k in termination} == {None}
    assert v.novelty == max(k for k in range(len(node)) if k not in termination)
    assert v.marked == (3,)


def test_a_large_crystal_is_drawn_around_one_atom():
    """Nearest images, as they stand in space, and no cell."""
    crystal = bulk("Cu", cubic=True).repeat(6)
    part, which = around(crystal, 0, limit=55)
    assert len(part) == len(which) == 55
    assert not part.pbc.any()
    here = int(np.flatnonzero(which == 0)[0])
    away = np.sort(np.linalg.norm(part.positions - part.positions[here], axis=1))
    near = 3.61 / np.sqrt(2)  # twelve nearest neighbours of fcc, six at a, 24 at √(3/2) a, 12 at √2 a
    assert away[1:13] == pytest.approx(near, abs=1e-6)
    assert away[54] == pytest.approx(2 * near, abs=1e-6)
    whole, everything = around(crystal, 0)
    small, same = around(bulk("Cu"), 0)
    assert (len(whole), len(everything)) == (600, 600)
    assert (small.pbc.all(), same.tolist()) == (True, [0])
    assert len(structure_view(small).cell) == 3
