"""Random defects at given fractions."""

from __future__ import annotations

import time
from collections import Counter
from typing import Literal

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.extract.electrons import count_electrons, unsaturated
from clusterflow.physics.bonds import bond_graph, check_distances
from clusterflow.structures.net import centres, find_net, finite_pieces
from clusterflow.structures.supercell import RandomDefects, random_defects

ZR_HF = ("Zr", "Hf", 0.2)


def assert_sound(made: RandomDefects) -> None:
    """What holds for any UiO-66 with missing blocks, whatever was drawn."""
    atoms = made.atoms
    net = find_net(atoms)
    nodes, linkers = len(net.nodes), len(net.linkers)
    assert nodes == made.nodes_before - made.nodes_drawn - made.nodes_discarded
    assert linkers == made.linkers_before - made.linkers_drawn - made.linkers_with_nodes - made.linkers_discarded
    assert linkers == round((1 - made.c_linker) * made.linkers_before)
    assert nodes == round((1 - made.c_node) * made.nodes_before)
    # Zr6O4(OH)4(CO2)12 is 54 atoms, C6H4 is 10; each of the 12 carboxylates holds half of a linker or one H.
    assert len(atoms) == 54 * nodes + 10 * linkers + (12 * nodes - 2 * linkers)
    counts = Counter(atoms.get_chemical_symbols())
    assert counts["Zr"] + counts["Hf"] == 6 * nodes
    assert counts["O"] == 32 * nodes
    assert counts["C"] == 12 * nodes + 6 * linkers
    graph = bond_graph(atoms)
    assert count_electrons(atoms, graph) == (0, 0)
    assert unsaturated(atoms, graph) == []
    assert set(np.diff(graph.first)[np.isin(atoms.numbers, (40, 72))].tolist()) == {8}
    assert (finite_pieces(net.blocks) < 0).all()
    assert net.coordination.min() >= 1


@given(
    linkers=st.floats(0.0, 0.5),
    nodes=st.floats(0.0, 0.2),
    hafnium=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=30, deadline=None)
def test_any_fractions_give_a_sound_structure(
    linkers: float, nodes: float, hafnium: float, seed: int, uio66_primitive: Atoms
) -> None:
    cell = uio66_primitive.repeat(2)
    made = random_defects(
        cell, linkers=linkers, nodes=nodes, metal=("Zr", "Hf", hafnium), rng=np.random.default_rng(seed)
    )
    assert_sound(made)
    assert made.linkers_drawn == np.floor(linkers * 48 + 0.5)
    assert made.nodes_drawn == np.floor(nodes * 8 + 0.5)


def test_the_published_supercell(uio66: Atoms) -> None:
    """Dobbelaere et al. 2025, section 4.3: 20 % of linkers, 20 % of Zr, 10 % of nodes of 4 × 4 × 4 cells."""
    cell = uio66.repeat(4)
    assert len(cell) == 29_184
    began = time.perf_counter()
    made = random_defects(cell, linkers=0.2, nodes=0.1, metal=ZR_HF, rng=np.random.default_rng(1))
    assert time.perf_counter() - began < 30.0  # under 1 s on an idle core
    assert_sound(made)
    assert (made.nodes_drawn, made.linkers_drawn) == (26, 307)
    # A linker is left if it was not drawn and neither of its nodes was.
    expected = 0.8 * (230 / 256) * (229 / 255)
    assert 1 - made.c_linker == pytest.approx(expected, abs=0.02)
    assert made.c_metal == pytest.approx(0.2, abs=0.02)
    check_distances(made.atoms, factor=0.8)


def test_the_size_of_the_published_supercell(uio66: Atoms) -> None:
    """Its 22,052 atoms and (0.21 – 0.13 – 0.40) leave one solution in whole numbers: 222 nodes and 925 linkers."""
    solutions = {
        (n, linkers)
        for n in range(257)
        for linkers in range(1537)
        if 66 * n + 8 * linkers == 22_052 and round(1 - n / 256, 2) == 0.13 and round(1 - linkers / 1536, 2) == 0.40
    }
    assert solutions == {(222, 925)}
    made = random_defects(
        uio66.repeat(4),
        linkers=1 - 925 / 1536,
        nodes=1 - 222 / 256,
        metal=("Zr", "Hf", 0.21),
        fractions="final",
        rng=np.random.default_rng(1),
    )
    assert_sound(made)
    assert made.nodes_discarded == made.linkers_discarded == 0
    assert len(made.atoms) == 22_052
    assert made.c_metal == pytest.approx(0.21, abs=0.001)
    assert find_net(made.atoms).coordination.mean() == pytest.approx(8.3, abs=0.05)  # as stated there


@pytest.mark.parametrize("fractions", ["drawn", "final"])
def test_same_seed_same_structure(fractions: Literal["drawn", "final"], uio66: Atoms) -> None:
    first, again, other = (
        random_defects(
            uio66.repeat((2, 2, 1)),
            linkers=0.3,
            nodes=0.06,
            metal=ZR_HF,
            fractions=fractions,
            rng=np.random.default_rng(s),
        )
        for s in (4, 4, 5)
    )
    assert first.atoms == again.atoms
    assert first.atoms != other.atoms
    assert_sound(first)


def test_what_is_cut_off_is_dropped(uio66_primitive: Atoms) -> None:
    """At 85 % missing linkers some of the 27 nodes lose all of theirs, in almost every draw."""
    cell = uio66_primitive.repeat(3)
    dropped = 0
    for seed in range(5):
        made = random_defects(cell, linkers=0.75, rng=np.random.default_rng(seed))
        assert_sound(made)
        dropped += made.nodes_discarded
    assert dropped > 0


def test_nothing_asked_nothing_done(uio66: Atoms) -> None:
    made = random_defects(uio66, rng=np.random.default_rng(0))
    assert made.atoms == uio66
    assert made.c_linker == made.c_node == made.c_metal == 0.0


@pytest.mark.parametrize(("name", "per_node"), [("mof5", 6), ("irmof10", 6), ("honeycomb", 3)])
def test_other_frameworks(name: str, per_node: int, request: pytest.FixtureRequest) -> None:
    cell = request.getfixturevalue(name).repeat((3, 3, 1) if name == "honeycomb" else 3)
    made = random_defects(cell, linkers=0.1, nodes=0.06, rng=np.random.default_rng(2))
    net = find_net(made.atoms)
    graph = bond_graph(made.atoms)
    assert made.nodes_drawn > 0
    assert net.coordination.max() <= per_node
    assert len(net.linkers) == round((1 - made.c_linker) * made.linkers_before)
    assert count_electrons(made.atoms, graph) == (0, 0)
    assert (finite_pieces(net.blocks) < 0).all()


def test_free_molecules_stay(uio66: Atoms) -> None:
    water = Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    nodes, _ = centres(uio66, find_net(uio66))
    water.positions += (nodes[0] + 0.5) @ uio66.cell.array  # the middle of an octahedral cage
    made = random_defects(uio66 + water, linkers=0.2, rng=np.random.default_rng(1))
    net = find_net(made.atoms)
    assert net.blocks.kinds.count("molecule") == 1
    assert formula(made.atoms[net.blocks.members(net.blocks.kinds.index("molecule"))]) == "H2O"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"linkers": 1.5}, "1.5 is no fraction of linkers"),
        ({"nodes": -0.1}, "-0.1 is no fraction of nodes"),
        ({"metal": ("Zr", "Hf", 2.0)}, "2 is no fraction of Zr atoms"),
        ({"metal": ("Zn", "Hf", 0.1)}, "no Zn in the structure"),
        ({"linkers": 0.9}, "goes on through the crystal"),
        ({"nodes": 1.0}, "goes on through the crystal"),
        ({"nodes": 0.25, "linkers": 0.1, "fractions": "final"}, "take 12 linkers along, more than the 2"),
    ],
)
def test_mistakes(options: dict[str, object], words: str, uio66: Atoms) -> None:
    with pytest.raises(StructureError, match=words):
        random_defects(uio66, rng=np.random.default_rng(0), **options)  # type: ignore[arg-type]
