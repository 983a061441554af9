"""Fragments of UiO-66 and MOF-5: composition, charge, saturation, and what they may not depend on."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core.data import Fragment, Site
from clusterflow.core.frames import content_hash, formula, fragment_from_atoms, fragment_to_atoms
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.electrons import count_electrons, unsaturated
from clusterflow.extract.rules import BuildingBlockRule, WholeStructure
from clusterflow.extract.termination import Caps
from clusterflow.physics.bonds import bond_graph
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.selection.duplicates import fingerprint, same_fragment
from clusterflow.structures.defects import missing_linker
from clusterflow.structures.perturbation import perturb
from clusterflow.testing.structures import moved

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
QUICK = {"node": "none", "linker": "anchors"}


@cache
def structure(name: str) -> Atoms:
    atoms = read(STRUCTURES / f"{name.removesuffix('-defect')}.extxyz")
    return missing_linker(atoms) if name.endswith("-defect") else atoms


def cut_all(atoms: Atoms, rule: BuildingBlockRule) -> list[Fragment]:
    """One fragment per block; every one must succeed."""
    blocks = find_blocks(atoms)
    frame_id = content_hash(atoms)
    groups = [[Site(frame_id, int(blocks.members(b)[-1]))] for b in range(len(blocks.kinds))]
    done = rule.extract_many(atoms, groups)
    errors = [r for r in done if isinstance(r, ExtractionError)]
    assert not errors, str(errors[0])
    return done


def check(fragment: Fragment, atoms: Atoms) -> None:
    """What holds for every fragment."""
    piece = fragment.atoms
    assert not piece.pbc.any()
    assert not piece.cell.array.any()
    assert (fragment.charge, fragment.spin) == (0, 0)
    fresh = bond_graph(piece)
    assert unsaturated(piece, fresh) == []
    assert count_electrons(piece, fresh) == (0, 0)
    real = fragment.parent >= 0
    assert np.array_equal(piece.numbers[real], atoms.numbers[fragment.parent[real]])
    assert set(piece.numbers[~real]) <= {1}
    # Core, mantle, termination, in this order.
    region = np.where(fragment.core, 0, np.where(real, 1, 2))
    assert np.array_equal(region, np.sort(region))
    assert fragment.core[:1].all()
    # Every atom sits on an image of its parent.
    shift = (piece.positions[real] - atoms.positions[fragment.parent[real]]) @ np.linalg.inv(atoms.cell.array)
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-8)
    # One piece.
    assert len(set(fresh.components())) == 1
    aromatic = sum(z == 6 and 8 not in piece.numbers[fresh.neighbours(k)] for k, z in enumerate(piece.numbers))
    assert six_rings(piece) == aromatic // 6
    assert aromatic % 6 == 0


def six_rings(atoms: Atoms) -> int:
    """Number of rings of six carbons: bonds minus atoms plus components among ring carbons (three neighbours, no O)."""
    graph = bond_graph(atoms)
    carbon = np.array([z == 6 and 8 not in atoms.numbers[graph.neighbours(k)] for k, z in enumerate(atoms.numbers)])
    inside = carbon[graph.i] & carbon[graph.j]
    components = len(set(graph.components(inside)[carbon].tolist()))
    return int(inside.sum()) // 2 - int(carbon.sum()) + components


@pytest.mark.parametrize("hot", [False, True], ids=["cold", "hot"])
@pytest.mark.parametrize("name", ["UiO-66_primitive", "UiO-66_conventional"])
def test_uio66_first_neighbours(name: str, hot: bool) -> None:
    for seed in range(3 if hot else 1):
        atoms = structure(name)
        if hot:
            atoms = perturb(atoms, displacement=0.08, strain=0.03, rng=np.random.default_rng(seed))
        fragments = cut_all(atoms, BuildingBlockRule("neighbours"))
        kinds = {f.kind for f in fragments}
        assert kinds == {"node:C12H4O32Zr6", "linker:C6H4"}
        for fragment in fragments:
            check_uio66(fragment, atoms)


def check_uio66(fragment: Fragment, atoms: Atoms) -> None:
    core, termination = fragment.core, fragment.parent < 0
    if fragment.kind.startswith("node"):
        assert formula(fragment.atoms[core]) == "C12H4O32Zr6"  # Zr6O4(OH)4(CO2)12
        assert formula(fragment.atoms[~core & ~termination]) == "C72H48"  # 12 rings
        assert int(termination.sum()) == 12
        assert len(fragment.atoms) == 186
        assert six_rings(fragment.atoms) == 12
    else:
        assert formula(fragment.atoms[core]) == "C6H4"
        assert formula(fragment.atoms[~core & ~termination]) == "C24H8O64Zr12"  # 2 nodes
        assert int(termination.sum()) == 22
        assert len(fragment.atoms) == 140
        assert six_rings(fragment.atoms) == 1
    check(fragment, atoms)


@pytest.mark.parametrize("hot", [False, True], ids=["cold", "hot"])
@pytest.mark.parametrize("name", ["MOF-5_primitive", "MOF-5_primitive-defect"])
def test_mof5_small_fragments(name: str, hot: bool) -> None:
    for seed in range(6 if hot else 1):
        atoms = structure(name)
        if hot:
            atoms = perturb(atoms, displacement=0.08, strain=0.03, rng=np.random.default_rng(seed))
        fragments = cut_all(atoms, BuildingBlockRule(QUICK))
        sizes = {f.kind: (len(f.atoms), formula(f.atoms)) for f in fragments}
        node = "node:C6HO13Zn4" if name.endswith("defect") else "node:C6O13Zn4"
        assert sizes == {node: (29, "C6H6O13Zn4"), "linker:C6H4": (18, "C8H6O4")}
        for fragment in fragments:
            check(fragment, atoms)
            if fragment.kind == "linker:C6H4":
                check_acid(fragment)
            elif name.endswith("defect"):
                assert int((fragment.parent < 0).sum()) == 5


def check_acid(fragment: Fragment) -> None:
    """Terephthalic acid with one proton per carboxylate, at 0.97 Å."""
    atoms = fragment.atoms
    graph = bond_graph(atoms)
    acidic = [k for k in np.flatnonzero(atoms.numbers == 1) if atoms.numbers[graph.neighbours(k)[0]] == 8]
    assert len(acidic) == 2
    assert all(fragment.parent[k] < 0 for k in acidic)
    assert {int(c) for k in acidic for o in graph.neighbours(k) for c in graph.neighbours(o) if c not in acidic} == {
        int(c) for c in np.flatnonzero(atoms.numbers == 6) if 8 in atoms.numbers[graph.neighbours(c)]
    }
    for k in acidic:
        assert graph.distance[graph.bonds_of(k)] == pytest.approx([0.97], abs=1e-9)


def test_the_proton_goes_to_the_oxygen_with_the_shorter_metal_bond() -> None:
    atoms = perturb(structure("MOF-5_primitive"), displacement=0.05, strain=0.0, rng=np.random.default_rng(2))
    graph = bond_graph(atoms)
    metal = atoms.numbers == 30
    for fragment in cut_all(atoms, BuildingBlockRule(QUICK)):
        if fragment.kind != "linker:C6H4":
            continue
        piece = bond_graph(fragment.atoms)
        for k in np.flatnonzero(fragment.parent < 0):
            oxygen = int(piece.neighbours(k)[0])
            carbon = next(int(c) for c in piece.neighbours(oxygen) if fragment.atoms.numbers[c] == 6)
            lengths = {}
            for o in piece.neighbours(carbon):
                if fragment.atoms.numbers[o] == 8:
                    own = int(fragment.parent[o])
                    to = graph.bonds_of(own)
                    lengths[int(o)] = graph.distance[to][metal[graph.j[to]]].min()
            assert oxygen == min(lengths, key=lengths.get)


@pytest.mark.parametrize(
    ("mantle", "node", "linker"),
    [("none", 29, 12), (0, 29, 12), ("neighbours", 89, 66), (1, 89, 66), (2, 251, 166), (1.6, 89, 66), (1.2, 29, 12)],
)
def test_mantles_of_mof5(mantle: str | int | float, node: int, linker: int) -> None:
    """Shells, and radii just beyond and just short of the cut bond. A block met by two images is there twice."""
    sizes = {f.kind: len(f.atoms) for f in cut_all(structure("MOF-5_primitive"), BuildingBlockRule(mantle))}
    assert sizes == {"node:C6O13Zn4": node, "linker:C6H4": linker}


def test_small_and_large_cells_give_the_same_fragments() -> None:
    atoms = structure("UiO-66_primitive")
    large = atoms * (2, 2, 1)
    for mantle in ("neighbours", "anchors", 4.0):
        rule = BuildingBlockRule(mantle)
        small = {f.kind: [g for g in cut_all(atoms, rule) if g.kind == f.kind] for f in cut_all(atoms, rule)}
        for fragment in cut_all(large, rule):
            assert any(same_fragment(fragment, other, tolerance=1e-6) for other in small[fragment.kind])


def test_a_radius_reaches_unbonded_blocks() -> None:
    first, second = molecule("H2O"), molecule("H2O")
    second.positions += [3.0, 0, 0]
    pair = first + second
    pair.set_cell([30, 30, 30])
    pair.pbc = True
    pair.positions -= [1.5, 0, 0]  # one of them across the boundary
    pair.wrap()
    site = [Site("f", 0)]
    assert len(BuildingBlockRule(2.0).extract(pair, site).atoms) == 3
    near = BuildingBlockRule(3.5).extract(pair, site)
    assert near.kind == "molecule:H2O"
    assert near.parent.tolist() == [0, 1, 2, 3, 4, 5]
    assert near.atoms.get_distance(0, 3) == pytest.approx(3.0)


def test_neighbouring_sites_share_one_core() -> None:
    atoms = structure("MOF-5_primitive")
    blocks = find_blocks(atoms)
    node, linker = blocks.kinds.index("node"), blocks.kinds.index("linker")
    sites = [Site("f", int(blocks.members(linker)[0])), Site("f", int(blocks.members(node)[0]))]
    sites.append(Site("f", int(blocks.members(node)[3])))
    fragment = BuildingBlockRule(QUICK).extract(atoms, sites)
    assert fragment.kind == "node+linker:C12H4O13Zn4"
    # Node with five other arms capped, ring, and one carboxylic acid at its far end.
    assert formula(fragment.atoms) == "C13H10O15Zn4"
    assert fragment.sites == tuple(sites)
    assert set(bond_graph(fragment.atoms).components()) == {0}
    assert same_fragment(fragment, BuildingBlockRule(QUICK).extract(atoms, sites[::-1]))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), mantle=st.sampled_from(["neighbours", "anchors", 3.5]))
def test_fragments_do_not_depend_on_orientation_order_or_images(seed: int, mantle: str | float) -> None:
    rng = np.random.default_rng(seed)
    atoms = perturb(structure("MOF-5_primitive"), displacement=0.05, strain=0.02, rng=rng)
    index = int(rng.integers(len(atoms)))
    rule = BuildingBlockRule(mantle)
    reference = rule.extract(atoms, [Site("f", index)])

    other, order = moved(atoms, rng)
    changed = rule.extract(other, [Site("f", int(np.flatnonzero(order == index)[0]))])
    assert same_fragment(reference, changed, tolerance=1e-6)
    assert sorted(order[changed.parent[changed.core]]) == sorted(reference.parent[reference.core])
    assert changed.kind == reference.kind


def test_extraction_is_deterministic_and_survives_a_file() -> None:
    atoms = structure("UiO-66_primitive")
    rule = BuildingBlockRule()
    first, second = (rule.extract(atoms, [Site(content_hash(atoms), 7)]) for _ in range(2))
    assert np.array_equal(first.atoms.positions, second.atoms.positions)
    back = fragment_from_atoms(fragment_to_atoms(first))
    assert same_fragment(first, back)
    assert (back.kind, back.rule, back.sites) == (first.kind, rule.name, first.sites)
    known = rule.extract(atoms, [Site(content_hash(atoms), 7)], blocks=find_blocks(atoms))
    assert np.array_equal(first.atoms.positions, known.atoms.positions)


def test_names_are_complete_and_equal_for_equal_settings() -> None:
    assert BuildingBlockRule().name == BuildingBlockRule(1).name == BuildingBlockRule({"node": "neighbours"}).name
    different = [
        BuildingBlockRule(),
        BuildingBlockRule("none"),
        BuildingBlockRule(QUICK),
        BuildingBlockRule(2),
        BuildingBlockRule(2.0),
        BuildingBlockRule(max_atoms=200),
        BuildingBlockRule(min_distance_factor=0.6),
        BuildingBlockRule("linkers"),
        BuildingBlockRule(core="sites"),
        BuildingBlockRule(open_shell="flag"),
        BuildingBlockRule(caps=Caps({"carboxylate C-C": "CH3"})),
        BuildingBlockRule(caps=Caps(lengths={"C(sp3)": 1.1})),
        WholeStructure(),
        WholeStructure(open_shell="flag"),
    ]
    assert len({rule.name for rule in different}) == len(different)
    assert pickle.loads(pickle.dumps(BuildingBlockRule(QUICK))).name == BuildingBlockRule(QUICK).name  # noqa: S301


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"mantle": "neighbors"}, "Did you mean 'neighbours'"),
        ({"mantle": {"lnker": "none"}}, "Did you mean 'linker'"),
        ({"mantle": -1}, "makes no sense"),
        ({"mantle": True}, "makes no sense"),
        ({"mantle": float("inf")}, "makes no sense"),
        ({"min_distance_factor": 0.0}, "not between 0 and 1"),
        ({"max_atoms": 0}, "allows no fragment"),
        ({"core": "blocks"}, "Did you mean 'block'"),
        ({"open_shell": "flags"}, "Did you mean 'flag'"),
    ],
)
def test_impossible_settings(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        BuildingBlockRule(**settings_)
    assert message in str(error.value)


@pytest.mark.parametrize("sites", [[], [Site("f", 106)], [Site("f", -1)], [Site("f", 0), Site("g", 1)]])
def test_sites_that_are_not_in_the_frame(sites: list[Site]) -> None:
    for rule in (BuildingBlockRule(), WholeStructure()):
        with pytest.raises(ExtractionError, match="sites of one frame with indices from 0 to 105"):
            rule.extract(structure("MOF-5_primitive"), sites)


def test_too_large_a_fragment() -> None:
    with pytest.raises(ExtractionError, match="has 89 atoms, more than max_atoms = 50") as error:
        BuildingBlockRule(max_atoms=50).extract(structure("MOF-5_primitive"), [Site("f", 0)])
    assert "core node C6O13Zn4" in error.value.where


def test_atoms_too_close_are_named_and_do_not_stop_the_others() -> None:
    atoms = structure("MOF-5_primitive").copy()
    blocks = find_blocks(atoms)
    linker = blocks.kinds.index("linker")
    carbon, hydrogen = (int(blocks.members(linker)[atoms.numbers[blocks.members(linker)] == z][0]) for z in (6, 1))
    graph = bond_graph(atoms)
    partner = int(graph.neighbours(hydrogen)[0])
    vector = atoms.get_distance(partner, hydrogen, mic=True, vector=True)
    atoms.positions[hydrogen] = atoms.positions[partner] + 0.4 * vector
    groups = [[Site("f", carbon)], [Site("f", int(np.flatnonzero(atoms.numbers == 30)[0]))]]
    failed, fine = BuildingBlockRule(QUICK).extract_many(atoms, groups)
    assert isinstance(failed, ExtractionError)
    assert f"H{hydrogen}" in str(failed)
    assert f"C{partner}" in str(failed)
    assert "limit 0.589 Å" in str(failed)
    assert isinstance(fine, Fragment)


def test_a_missing_hydrogen_is_refused() -> None:
    atoms = structure("MOF-5_primitive").copy()
    hydrogen = int(np.flatnonzero(atoms.numbers == 1)[0])
    carbon = int(bond_graph(atoms).neighbours(hydrogen)[0])
    del atoms[hydrogen]
    with pytest.raises(ExtractionError, match="dangling valence"):
        BuildingBlockRule(QUICK).extract(atoms, [Site("f", carbon - (hydrogen < carbon))])


def test_open_shells_are_refused() -> None:
    atoms = structure("MOF-5_primitive").copy()
    atoms.numbers[atoms.numbers == 30] = 27
    with pytest.raises(ExtractionError, match="spin state of Co"):
        BuildingBlockRule("none").extract(atoms, [Site("f", 0)])


def test_open_shells_are_flagged_where_the_user_says_so() -> None:
    atoms = structure("MOF-5_primitive").copy()
    atoms.numbers[atoms.numbers == 30] = 27
    fragment = BuildingBlockRule("none", open_shell="flag").extract(atoms, [Site("f", 0)])
    assert (fragment.charge, fragment.spin) == (0, 12)
    assert fragment.spins_to_try == (0, 2, 4, 6, 8, 10, 12)
    back = fragment_from_atoms(fragment_to_atoms(fragment))
    assert back.spins_to_try == fragment.spins_to_try
    closed = BuildingBlockRule("none").extract(structure("MOF-5_primitive"), [Site("f", 0)])
    assert closed.spins_to_try == (0,)
    whole = WholeStructure(open_shell="flag").extract(atoms, [Site("f", 0)])
    assert (whole.spin, whole.spins_to_try[-1]) == (24, 24)
    with pytest.raises(ExtractionError, match="open_shell: flag"):
        WholeStructure().extract(atoms, [Site("f", 0)])


def test_sites_alone_can_be_the_core() -> None:
    atoms = structure("UiO-66_primitive")
    zirconium = np.flatnonzero(atoms.numbers == 40)[:2].tolist()
    sites = [Site("f", int(k)) for k in zirconium]
    fragment = BuildingBlockRule("none", core="sites").extract(atoms, sites)
    block = BuildingBlockRule("none").extract(atoms, sites)
    assert fragment.parent[fragment.core].tolist() == zirconium
    assert fragment.core.tolist() == [True, True] + [False] * 64
    assert fragment.kind == block.kind
    assert fingerprint(fragment.atoms).matches(fingerprint(block.atoms), tolerance=1e-9)


def test_linkers_of_a_node_end_in_acids() -> None:
    """Twelve C6H4–COOH on the node of UiO-66: each has one proton, and the inner part is that of "neighbours"."""
    atoms = perturb(structure("UiO-66_primitive"), displacement=0.05, strain=0.0, rng=np.random.default_rng(4))
    zirconium = int(np.flatnonzero(atoms.numbers == 40)[0])
    rings, linkers = (BuildingBlockRule(m).extract(atoms, [Site("f", zirconium)]) for m in ("neighbours", "linkers"))
    assert formula(linkers.atoms) == "C96H64O56Zr6"
    check(linkers, atoms)
    inner = rings.parent >= 0
    np.testing.assert_allclose(linkers.atoms.positions[: inner.sum()], rings.atoms.positions[inner], atol=1e-9)
    graph = bond_graph(linkers.atoms)
    acidic = [h for h in np.flatnonzero(linkers.parent < 0) if linkers.atoms.numbers[graph.neighbours(int(h))] == [8]]
    assert len(acidic) == 12
    # A linker as the core has nodes around it, which end in formates with either mantle.
    ring = int(find_blocks(atoms).members(find_blocks(atoms).kinds.index("linker"))[0])
    both = [BuildingBlockRule(m).extract(atoms, [Site("f", ring)]) for m in ("neighbours", "linkers")]
    assert same_fragment(*both, tolerance=1e-9)


def test_a_frame_that_fell_apart_is_one_failed_extraction() -> None:
    atoms = structure("MOF-5_primitive").copy()
    atoms.set_cell(atoms.cell.array * 1.5)
    with pytest.raises(ExtractionError, match="no bonds across the cell"):
        BuildingBlockRule().extract(atoms, [Site("f", 0)])


def test_a_molecule_is_its_own_fragment() -> None:
    benzene = molecule("C6H6")
    fragment = BuildingBlockRule().extract(benzene, [Site("f", 3)])
    assert fragment.kind == "molecule:C6H6"
    assert fragment.core.all()
    assert same_fragment(fragment, WholeStructure().extract(benzene, [Site("f", 3)]))


def test_cutting_a_fragment_again_gives_the_same() -> None:
    """A fragment is a valid input: its blocks are those of the framework."""
    first = BuildingBlockRule().extract(structure("MOF-5_primitive"), [Site("f", 0)])
    again = BuildingBlockRule().extract(first.atoms, [Site("g", 0)])
    assert fingerprint(first.atoms).matches(fingerprint(again.atoms), tolerance=1e-6)


def test_a_metal_is_whole_or_nothing() -> None:
    from ase.build import bulk

    copper = WholeStructure().extract(bulk("Cu", cubic=True), [Site("f", 0)])
    assert (copper.charge, copper.spin, copper.kind) == (0, 0, "periodic:Cu4")
    with pytest.raises(ExtractionError, match="spin state of Fe"):
        WholeStructure().extract(bulk("Fe", cubic=True), [Site("f", 0)])


def test_whole_structures_keep_cell_and_charge() -> None:
    atoms = structure("MOF-5_primitive-defect")
    fragment = WholeStructure().extract(atoms, [Site("f", 0)])
    assert fragment.atoms == atoms
    assert fragment.core.all()
    assert np.array_equal(fragment.parent, np.arange(98))
    assert (fragment.charge, fragment.spin, fragment.kind) == (0, 0, f"periodic:{formula(atoms)}")
    assert WholeStructure().extract(molecule("O2"), [Site("f", 0)]).spin == 2
    with pytest.raises(ExtractionError, match="overlap"):
        WholeStructure().extract(Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.1]]), [Site("f", 0)])
    with pytest.raises(ExtractionError, match="dangling"):
        WholeStructure().extract(molecule("CH3"), [Site("f", 0)])
