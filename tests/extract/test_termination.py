"""Caps: their kinds, lengths and geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core.data import Site
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.extract.termination import LENGTHS, Caps, cap_kind, hydrogen, methyl, water
from clusterflow.physics.bonds import bond_graph
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.selection.duplicates import same_fragment
from clusterflow.structures.perturbation import perturb

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
DATA = Path(__file__).parents[1] / "data"
vector = st.tuples(*[st.floats(-3, 3)] * 3).map(np.array).filter(lambda v: np.linalg.norm(v) > 0.5)


@given(vector, st.floats(0.9, 1.6))
def test_hydrogen_is_on_the_bond(bond: np.ndarray, length: float) -> None:
    (h,) = hydrogen(bond, length).vectors
    assert np.linalg.norm(h) == pytest.approx(length)
    assert h @ bond == pytest.approx(length * np.linalg.norm(bond))


@settings(max_examples=50)
@given(vector, vector, st.integers(0, 10**6))
def test_groups_have_their_geometry_and_turn_with_the_bond(bond: np.ndarray, beside: np.ndarray, seed: int) -> None:
    if np.linalg.norm(np.cross(bond, beside)) < 0.3 * np.linalg.norm(bond) * np.linalg.norm(beside):
        beside = np.cross(bond, [0.3, 1.1, -0.7]) + 0.1 * bond
    axis = bond / np.linalg.norm(bond)
    for cap, n, angle, length in (
        (methyl(bond, beside), 3, 109.4712, LENGTHS["C(sp3)"]),
        (water(bond, beside), 2, 104.5, LENGTHS["O"]),
    ):
        arms = cap.vectors[1:] - cap.vectors[0]
        assert len(arms) == n
        np.testing.assert_allclose(np.linalg.norm(arms, axis=1), length)
        np.testing.assert_allclose(np.cross(cap.vectors[0], axis), 0.0, atol=1e-9)
        units = arms / length
        assert np.rad2deg(np.arccos(units[0] @ units[1])) == pytest.approx(angle, abs=1e-3)
        assert (arms @ axis > 0).all()  # away from the atom that carries it
    # Staggered: no hydrogen of the methyl group eclipses the neighbour.
    across = beside - (beside @ axis) * axis
    arms = methyl(bond, beside).vectors[1:] - methyl(bond, beside).vectors[0]
    flat = arms - np.outer(arms @ axis, axis)
    cosine = flat @ across / np.linalg.norm(flat, axis=1) / np.linalg.norm(across)
    assert sorted(cosine) == pytest.approx([-1.0, 0.5, 0.5], abs=1e-6)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    for group in (methyl, water):
        np.testing.assert_allclose(
            group(bond @ rotation, beside @ rotation).vectors, group(bond, beside).vectors @ rotation, atol=1e-9
        )


def test_a_group_without_a_direction_is_refused() -> None:
    with pytest.raises(ExtractionError, match="orientation"):
        methyl(np.array([1.5, 0, 0]), np.array([-1.2, 0, 0]))


@pytest.mark.parametrize(
    ("name", "symbol", "kinds"),
    [
        ("C6H6", "C", {"C(sp2,ring)"}),
        ("C5H5N", "N", {"N(ring)"}),
        ("C2H4", "C", {"C(sp2)"}),
        ("C2H2", "C", {"C(sp)"}),
        ("CH4", "C", {"C(sp3)"}),
        ("HCOOH", "C", {"C(carboxylate)"}),
        ("HCOOH", "O", {"O(carboxyl)"}),
        ("CH3OH", "O", {"O(hydroxyl)"}),
        ("H2O", "O", {"O"}),
        ("NH3", "N", {"N"}),
        ("SiH4", "Si", {"Si"}),
    ],
)
def test_kinds(name: str, symbol: str, kinds: set[str]) -> None:
    atoms = molecule(name)
    graph = bond_graph(atoms)
    chosen = [k for k, s in enumerate(atoms.symbols) if s == symbol]
    assert {cap_kind(atoms.numbers, graph, k) for k in chosen} == kinds
    # Measured gas-phase lengths are within 0.02 Å of the table (geometries: MP2/6-31G(d) of the G2 set).
    for k in chosen:
        for b in range(graph.bonds_of(k).start, graph.bonds_of(k).stop):
            if atoms.numbers[graph.j[b]] == 1:
                assert graph.distance[b] == pytest.approx(LENGTHS[cap_kind(atoms.numbers, graph, k)], abs=0.02)


def test_an_element_that_hydrogen_cannot_close_is_refused() -> None:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    zinc = int(np.flatnonzero(atoms.numbers == 30)[0])
    with pytest.raises(ExtractionError, match="A bond of Zn would be cut"):
        cap_kind(atoms.numbers, bond_graph(atoms), zinc)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"choice": {"metal-O": "OH"}}, "Did you mean 'OH2'"),
        ({"lengths": {"C(sp2, ring)": 1.1}}, "Did you mean 'C(sp2,ring)'"),
        ({"lengths": {"O": 9.6}}, "makes no sense"),
    ],
)
def test_caps_that_do_not_exist(given_: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(InputError) as error:
        Caps(**given_)
    assert message in str(error.value)


def cut(name: str, block: str, caps: Caps, mantle: str = "neighbours", seed: int | None = None) -> object:
    atoms = read(next(f for f in (STRUCTURES / f"{name}.extxyz", DATA / f"{name}.extxyz") if f.exists()))
    if seed is not None:
        atoms = perturb(atoms, displacement=0.05, strain=0.0, rng=np.random.default_rng(seed))
    blocks = find_blocks(atoms)
    site = Site("f", int(blocks.members(blocks.formulas.index(block))[0]))
    return BuildingBlockRule(mantle, caps=caps).extract(atoms, [site], blocks=blocks)


@pytest.mark.parametrize(
    ("name", "block", "rule", "choice", "expected"),
    [
        # Acetates instead of formates; toluene-like rings.
        ("UiO-66_primitive", "C12H4O32Zr6", "carboxylate C-C", "CH3", ("C96H88O32Zr6", 0)),
        ("MOF-5_primitive", "C6H4", "carboxylate C-C", "CH3", ("C28H34O26Zn8", 0)),
        # Zn(H2O)3(mIm)Zn(H2O)3 3+, and the node of water only.
        ("ZIF-8_primitive", "C4H5N2", "metal-N azolate", "OH2", ("C4H17N2O6Zn2", 3)),
        ("ZIF-8_primitive", "C4H5N2", "metal-N azolate", "none", ("C4H5N2Zn2", 3)),
        # Al2(OH)(HCOO)6(OH)2 with three protons: hydroxides cannot be formates and stay.
        ("MIL-53-Al", "HO", "metal-O", "formate", ("C6H12Al2O15", 0)),
        ("MIL-53-Al", "HO", "metal-O", "OH2", ("H21Al2O11", 5)),
    ],
)
def test_the_caps_that_a_user_may_choose(
    name: str, block: str, rule: str, choice: str, expected: tuple[str, int]
) -> None:
    fragment = cut(name, block, Caps({rule: choice}))
    assert (formula(fragment.atoms), fragment.charge) == expected
    assert fragment.spin == 0
    default = cut(name, block, Caps())
    core = fragment.core.sum()
    np.testing.assert_array_equal(fragment.parent[:core], default.parent[:core])
    assert choice in fragment.rule
    assert fragment.rule != default.rule


def test_methyl_does_not_depend_on_the_order_of_atoms() -> None:
    rng = np.random.default_rng(2)
    atoms = perturb(read(STRUCTURES / "MOF-5_primitive.extxyz"), displacement=0.05, strain=0.0, rng=rng)
    order = rng.permutation(len(atoms))
    node = int(np.flatnonzero(atoms.numbers == 30)[0])
    rule = BuildingBlockRule("none", caps=Caps({"carboxylate C-C": "CH3"}))
    first = rule.extract(atoms, [Site("f", node)])
    second = rule.extract(atoms[order], [Site("f", int(np.flatnonzero(order == node)[0]))])
    assert same_fragment(first, second, tolerance=1e-6)


def test_formate_for_something_else_than_a_carboxylate_is_refused() -> None:
    with pytest.raises(ExtractionError, match="takes the place of carboxylates; N"):
        cut("ZIF-8_primitive", "Zn", Caps({"metal-N azolate": "formate"}), "none")


def test_lengths_that_are_given_are_used() -> None:
    fragment = cut("MOF-5_primitive", "C6O13Zn4", Caps(lengths={"C(carboxylate)": 1.1154}), "none")
    graph = bond_graph(fragment.atoms)
    for h in np.flatnonzero(fragment.parent < 0):
        assert graph.distance[graph.bonds_of(int(h))] == pytest.approx([1.1154])
