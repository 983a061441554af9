"""Spheres of dense covalent solids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene
from ase.io import read
from ase.spacegroup import crystal
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core.data import Site
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.sphere import SphericalCut
from clusterflow.extract.termination import Caps
from clusterflow.physics.bonds import bond_graph
from clusterflow.selection.duplicates import same_fragment
from clusterflow.structures.perturbation import perturb
from clusterflow.testing.structures import moved

QUARTZ = crystal(
    ["Si", "O"],
    [(0.4697, 0, 1 / 3), (0.4135, 0.2669, 0.2142)],
    spacegroup=152,
    cellpar=[4.916, 4.916, 5.405, 90, 90, 120],
)
SILICON = bulk("Si", "diamond", a=5.43)
DIAMOND = bulk("C", "diamond", a=3.567)


@pytest.mark.parametrize(
    ("atoms", "site", "radius", "expected"),
    [
        # Shells of the diamond lattice: 1, 4, 12, 12, 6 atoms; clusters known from the literature.
        (SILICON, 0, 2.4, "H12Si5"),
        (SILICON, 0, 4.0, "H36Si17"),
        (SILICON, 0, 5.0, "H36Si29"),
        (SILICON, 0, 5.5, "H36Si35"),
        # Hydrogens on either side of a missing carbon would touch, so the six carbons of the next shell are kept.
        (DIAMOND, 0, 3.3, "C35H36"),
        (QUARTZ, 0, 3.0, "H4O4Si"),
        (QUARTZ, 5, 3.0, "H6O7Si2"),
        (QUARTZ, 0, 4.0, "H12O16Si5"),
    ],
)
def test_closed_clusters(atoms: Atoms, site: int, radius: float, expected: str) -> None:
    fragment = SphericalCut(radius).extract(atoms, [Site("f", site)])
    assert formula(fragment.atoms) == expected
    assert (fragment.charge, fragment.spin) == (0, 0)
    assert fragment.core.tolist() == [True] + [False] * (len(fragment.atoms) - 1)
    assert fragment.parent[0] == site
    assert not fragment.atoms.pbc.any()
    caps = np.flatnonzero(fragment.parent < 0)
    assert set(fragment.atoms.numbers[caps]) == {1}
    # Found anew from the geometry: every atom has its valence.
    own, parent = bond_graph(fragment.atoms), bond_graph(atoms)
    for k in np.flatnonzero(fragment.parent >= 0):
        assert len(own.neighbours(int(k))) == len(parent.neighbours(int(fragment.parent[k])))
    # What is within the radius is in it, whatever the size of the cell.
    if set(atoms.numbers) == {14}:
        real = fragment.atoms[fragment.parent >= 0]
        distances = np.linalg.norm(real.positions - real.positions[0], axis=1)
        large = atoms * (5, 5, 5)
        around = large.get_distances(0, range(len(large)), mic=True)
        assert int((distances <= radius).sum()) == int((around <= radius).sum())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_orientation_order_and_cell_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = perturb(QUARTZ, displacement=0.05, strain=0.02, rng=rng)
    rule = SphericalCut(4.5)
    first = rule.extract(atoms, [Site("f", 2)])
    other, order = moved(atoms, rng)
    assert same_fragment(first, rule.extract(other, [Site("g", int(np.flatnonzero(order == 2)[0]))]), tolerance=1e-6)
    assert same_fragment(first, rule.extract(atoms * (2, 1, 2), [Site("h", 2)]), tolerance=1e-6)


def test_several_sites_and_a_core_radius() -> None:
    large = SILICON * (3, 3, 3)
    second = int(bond_graph(large).neighbours(0)[0])
    fragment = SphericalCut(4.0, core_radius=2.4).extract(large, [Site("f", 0), Site("f", second)])
    assert fragment.core.sum() == 8
    assert fragment.atoms.get_distance(*np.flatnonzero(np.isin(fragment.parent, [0, second]))) < 2.4
    many = SphericalCut(4.0).extract_many(large, [[Site("f", 0)], [Site("f", second)], [Site("f", 1000)]])
    assert same_fragment(many[0], many[1], tolerance=1e-6)
    assert isinstance(many[2], ExtractionError)


def test_molecules_in_the_sphere_stay_whole() -> None:
    water = read(Path(__file__).parents[1] / "data" / "water_32.extxyz")
    fragment = SphericalCut(4.0).extract(water, [Site("f", 0)])
    assert (fragment.parent >= 0).all()
    assert fragment.atoms.symbols.count("H") == 2 * fragment.atoms.symbols.count("O")
    assert len(fragment.atoms) > 6


def test_what_a_sphere_cannot_cut() -> None:
    sheet = graphene(size=(6, 6, 1), vacuum=8.0)
    sheet.pbc = True
    with pytest.raises(ExtractionError, match="dangling valence") as error:
        SphericalCut(3.0).extract(sheet, [Site("f", 0)])
    assert "sphere around C0" in error.value.where
    with pytest.raises(ExtractionError, match="more than max_atoms = 20"):
        SphericalCut(5.0, max_atoms=20).extract(SILICON, [Site("f", 0)])
    for bad in ({"radius": 0.0}, {"radius": 3.0, "core_radius": 4.0}, {"radius": float("nan")}):
        with pytest.raises(InputError, match="makes no sense"):
            SphericalCut(**bad)


def test_names_tell_settings_apart() -> None:
    rules = [
        SphericalCut(5),
        SphericalCut(4.0),
        SphericalCut(5.0, core_radius=1.0),
        SphericalCut(5.0, max_atoms=90),
        SphericalCut(5.0, caps=Caps(lengths={"Si": 1.5})),
    ]
    assert len({rule.name for rule in rules}) == len(rules)
    assert SphericalCut(5).name == SphericalCut(5.0).name
