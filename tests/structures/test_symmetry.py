"""Which pairs of linkers are equivalent, against an independent count on the ideal lattice."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations, product

import numpy as np
import pytest
from ase import Atoms

from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.bonds import check_distances
from clusterflow.structures.defects import linker_pairs, missing_linker_pair
from clusterflow.structures.net import find_net
from clusterflow.structures.perturbation import perturb
from clusterflow.structures.substitution import substitute
from clusterflow.structures.symmetry import linker_permutations, pair_orbits


def ideal_orbits() -> list[int]:
    """Sizes of the orbits of pairs of edges of fcu in its cubic cell, by its 192 operations on edge midpoints.

    Coordinates in quarters of the cell: nodes at even places, midpoints of edges mod 4.
    """
    nodes = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]])
    steps = [np.array(v) for v in product((-1, 0, 1), repeat=3) if np.abs(v).sum() == 2]
    middles = sorted({tuple(((node + step) % 4).tolist()) for node in nodes for step in steps})
    place = {m: k for k, m in enumerate(middles)}
    parent = {pair: pair for pair in combinations(range(len(middles)), 2)}

    def root(pair: tuple[int, int]) -> tuple[int, int]:
        while parent[pair] != pair:
            pair = parent[pair]
        return pair

    for order, signs, shift in product(permutations(range(3)), product((1, -1), repeat=3), nodes):
        moved = [place[tuple(((np.array(m)[list(order)] * signs + shift) % 4).tolist())] for m in middles]
        for a, b in list(parent):
            first, second = sorted((moved[a], moved[b]))
            parent[root((a, b))] = root((first, second))
    return sorted(Counter(root(pair) for pair in parent).values())


def test_seven_pairs_in_uio66(uio66: Atoms) -> None:
    pairs = linker_pairs(uio66)
    assert len(pairs) == 7  # Rogge et al. 2016, as cited in Dobbelaere et al. 2025, section 4.4
    assert sorted(len(p.pairs) for p in pairs) == ideal_orbits()
    assert sum(len(p.pairs) for p in pairs) == 24 * 23 // 2
    assert [p.coordination for p in pairs] == [(10, 10, 12, 12)] * 2 + [(10, 11, 11, 12)] * 2 + [(11,) * 4] * 3


def test_the_operations_form_the_group_of_fcu_in_its_cell(uio66: Atoms, uio66_primitive: Atoms) -> None:
    found = linker_permutations(uio66, find_net(uio66))
    assert found.shape == (192, 24)  # m-3m times the four translations; all act differently on the linkers
    rows = {tuple(p) for p in found.tolist()}
    assert tuple(range(24)) in rows
    assert all(tuple(a[b].tolist()) in rows for a in found[::7] for b in found[::5])
    assert all(sorted(p) == list(range(24)) for p in rows)
    # In the primitive cell inversion moves no linker: 24 permutations of 48 operations.
    assert linker_permutations(uio66_primitive, find_net(uio66_primitive)).shape == (24, 6)


@pytest.mark.parametrize(("name", "count"), [("uio67", 7), ("uio66_primitive", 2), ("mof5", 2), ("irmof10", 2)])
def test_pairs_of_other_frameworks(name: str, count: int, request: pytest.FixtureRequest) -> None:
    assert len(linker_pairs(request.getfixturevalue(name))) == count


def test_order_and_place_and_heat_do_not_matter(uio66: Atoms) -> None:
    rng = np.random.default_rng(6)
    other = perturb(uio66[rng.permutation(len(uio66))], displacement=0.1, strain=0.005, rng=rng)
    other.rotate(37.0, (1, 2, 3), rotate_cell=True)
    other.positions += [1.0, -5.0, 9.0]
    other.wrap()
    known, found = linker_pairs(uio66), linker_pairs(other)
    assert [(p.coordination, len(p.pairs)) for p in found] == [(p.coordination, len(p.pairs)) for p in known]
    assert [p.distance for p in found] == pytest.approx([p.distance for p in known], abs=0.2)


def test_a_substituted_node_breaks_the_symmetry(uio66: Atoms) -> None:
    mixed = substitute(uio66, "Zr", "Hf", which=[0], whole_nodes=True)
    assert len(linker_permutations(mixed, find_net(mixed))) == 192 / 4  # no translation is left
    assert len(linker_pairs(mixed)) > 7


def test_tritopic_linkers(honeycomb: Atoms) -> None:
    net = find_net(honeycomb)
    found = linker_permutations(honeycomb, net)
    assert {tuple(sorted(p)) for p in found.tolist()} == {(0, 1, 2, 3)}
    assert len(found) == 24  # the 2 × 2 honeycomb: its four linkers can be permuted at will
    assert len(pair_orbits(found)) == len(linker_pairs(honeycomb)) == 1


def test_missing_pairs(uio66: Atoms) -> None:
    for number, pair in enumerate(linker_pairs(uio66), start=1):
        defect = missing_linker_pair(uio66, number)
        assert formula(defect) == "C180H108O128Zr24"  # 440 atoms
        assert tuple(sorted(find_net(defect).coordination.tolist())) == pair.coordination
        check_distances(defect, factor=0.8)
    drawn = {tuple(missing_linker_pair(uio66, 3, rng=np.random.default_rng(k)).positions[50]) for k in range(6)}
    assert len(drawn) > 1
    assert missing_linker_pair(uio66, 3) == missing_linker_pair(uio66, 3)


@pytest.mark.parametrize("pair", [0, 8, -1])
def test_pairs_that_are_not_there(pair: int, uio66: Atoms) -> None:
    with pytest.raises(StructureError, match=rf"no pair {pair}: this cell has 7 symmetry-distinct pairs") as caught:
        missing_linker_pair(uio66, pair)
    assert "from 1 to 7" in caught.value.todo


def test_structures_whose_symmetry_is_not_searched(uio66: Atoms) -> None:
    with pytest.raises(StructureError, match=r"1 to 200 linkers; this one has 648"):
        linker_pairs(uio66.repeat(3))
    finite = uio66.copy()
    finite.pbc = False
    with pytest.raises(StructureError, match="periodic in three directions"):
        linker_pairs(finite)
