"""One fragment from chosen block images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from clusterflow.core.data import Site
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError
from clusterflow.extract.candidates import acid_ends
from clusterflow.extract.cut import HOME, Frame
from clusterflow.extract.fragment import build_fragment, close
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.selection.duplicates import same_fragment

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
DATA = Path(__file__).parents[1] / "data"


def test_the_rule_builds_the_same_fragment() -> None:
    atoms = read(DATA / "ZIF-8_primitive.extxyz")
    frame = Frame.of(atoms)
    linker = frame.blocks.kinds.index("linker")
    members = frame.blocks.members(linker).tolist()
    images = [(linker, HOME), *((other, image) for _, _, other, image in frame.blocks.links[linker])]
    built = build_fragment(frame, members, images, sites=[Site("f", members[0])], rule="by hand")
    ruled = BuildingBlockRule().extract(atoms, [Site("f", members[0])])
    assert same_fragment(built, ruled, tolerance=1e-9)
    assert (built.rule, built.kind, built.sites) == ("by hand", "linker:C4H5N2", (Site("f", members[0]),))
    # Regions in order, and the metal of either side has its four linkers.
    region = np.where(built.core, 0, np.where(built.parent >= 0, 1, 2))
    assert np.array_equal(region, np.sort(region))
    assert formula(built.atoms) == "C28H41N14Zn2"


def test_closure_adds_what_a_metal_needs_and_no_more() -> None:
    frame = Frame.of(read(DATA / "ZIF-8_primitive.extxyz"))
    node, linker = frame.blocks.kinds.index("node"), frame.blocks.kinds.index("linker")
    images, formates = close(frame, [(node, HOME)])
    assert len(images) == 5
    assert formates == []
    assert images[0] == (node, HOME)
    assert close(frame, images)[0] == images
    assert close(frame, [(linker, HOME)])[0] == [(linker, HOME)]


def test_groups_of_nodes_that_are_present_are_dropped() -> None:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    frame = Frame.of(atoms)
    linker = frame.blocks.kinds.index("linker")
    members = frame.blocks.members(linker).tolist()
    nodes = [(other, image) for _, _, other, image in frame.blocks.links[linker]]
    groups = acid_ends(frame, [(linker, HOME)])
    assert len(groups) == 2
    sites = [Site("f", members[0])]
    acid = build_fragment(frame, members, [(linker, HOME)], sites=sites, rule="r", groups=groups)
    half = build_fragment(frame, members, [(linker, HOME), nodes[0]], sites=sites, rule="r", groups=groups)
    full = build_fragment(frame, members, [(linker, HOME), *nodes], sites=sites, rule="r", groups=groups)
    assert formula(acid.atoms) == "C8H6O4"
    assert formula(half.atoms) == "C13H10O15Zn4"
    assert formula(full.atoms) == "C18H14O26Zn8"


def test_bonds_that_may_not_be_cut_without_end() -> None:
    """MIL-53 with a user's table in which no end may be left: the rod leads to its own images."""
    frame = Frame.of(read(DATA / "MIL-53-Al.extxyz"))
    rules = tuple(replace(rule, first="keep", second="keep") for rule in frame.blocks.cut_rules)
    closed = Frame.of(frame.atoms, replace(frame.blocks, cut_rules=rules))
    node = frame.blocks.formulas.index("Al")
    core = frame.blocks.members(node).tolist()
    with pytest.raises(ExtractionError, match=r"lead from .* to its own images") as error:
        build_fragment(closed, core, [(node, HOME)], sites=[Site("f", core[0])], rule="r")
    assert "kind: whole" in error.value.todo
    assert "core node Al" in error.value.where


def test_a_core_atom_outside_is_refused() -> None:
    frame = Frame.of(read(STRUCTURES / "MOF-5_primitive.extxyz"))
    node = frame.blocks.kinds.index("node")
    outside = int(frame.blocks.members(frame.blocks.kinds.index("linker"))[0])
    with pytest.raises(ExtractionError, match=f"Core atom {outside} is in none"):
        build_fragment(frame, [outside], [(node, HOME)], sites=[Site("f", outside)], rule="r")
