from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from ase.neighborlist import neighbor_list

from clusterflow.core.data import FloatArray, Fragment
from clusterflow.errors import InputError
from clusterflow.extract.force_matching import (
    aggregate,
    atom_errors,
    blueprint,
    default_regions,
    extrapolate,
    force_deviation,
    match_extrapolated,
    match_forces,
)
from clusterflow.extract.functional_groups import grouped, growth
from clusterflow.extract.group_cut import cut_groups
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.structures.defects import missing_linker
from clusterflow.structures.perturbation import perturb

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
REACH = 3.5  # Å


def short_ranged(atoms: Atoms, _charge: int = 0, _spin: int = 0) -> FloatArray:
    """Forces of E = Σ √(z_a z_b) (REACH − r)⁴/4 over pairs closer than REACH, periodic or not."""
    i, j, d, vector = neighbor_list("ijdD", atoms, REACH)
    z = np.sqrt(atoms.numbers[i] * atoms.numbers[j])
    pull = -(z * (REACH - d) ** 3 / d)[:, None] * vector
    out = np.zeros((len(atoms), 3))
    np.add.at(out, i, pull)
    return out


@pytest.fixture(scope="module")
def mof5() -> list[Atoms]:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    return [perturb(atoms, displacement=0.05, strain=0.0, rng=np.random.default_rng(k)) for k in range(3)]


@pytest.fixture(scope="module")
def node(mof5: list[Atoms]) -> int:
    return int(np.flatnonzero(mof5[0].numbers == 30)[0])


def test_core_forces_of_a_short_ranged_potential_match_once_the_mantle_is_wide_enough(
    mof5: list[Atoms], node: int
) -> None:
    mantles = {m: blueprint(BuildingBlockRule(mantle=m), node) for m in ("none", "neighbours")}
    regions = default_regions(find_blocks(mof5[0]), mof5[0])
    bare, padded = match_forces(mof5, mantles, {"toy": short_ranged}, regions=regions)
    assert (bare.blueprint, bare.n_atoms, padded.n_atoms) == ("none", 29, 89)
    assert padded.regions["core"].largest < 1e-9
    assert padded.regions["mantle"].rmse > 0.1  # next to the caps
    assert bare.regions["core"].rmse > 0.1
    assert bare.regions["core"].rmse == pytest.approx(bare.regions["fragment"].rmse)
    assert "mantle" not in bare.regions
    assert "formate" not in bare.regions
    assert bare.regions["metals"].n_atoms == 4
    assert bare.regions["metals"].rmse < bare.regions["core"].rmse
    assert len(bare.deviations) == 3


def test_known_parent_forces_are_not_computed_again(mof5: list[Atoms], node: int) -> None:
    seen = []

    def counted(atoms: Atoms, charge: int, spin: int) -> FloatArray:
        seen.append(len(atoms))
        return short_ranged(atoms, charge, spin)

    cut = {"none": blueprint(BuildingBlockRule(mantle="none"), node)}
    plain = match_forces(mof5[:1], cut, {"toy": counted})
    assert seen == [106, 29]
    known = {"toy": [short_ranged(mof5[0])]}
    again = match_forces(mof5[:1], cut, {"toy": counted}, parent_forces=known)
    assert seen == [106, 29, 29]
    assert again[0].regions["core"].rmse == plain[0].regions["core"].rmse


def test_deviations_follow_atoms_and_leave_termination_out() -> None:
    atoms = Atoms("COH", [[0, 0, 0], [1.2, 0, 0], [-1, 0, 0]])
    fragment = Fragment(atoms, np.array([True, False, False]), np.array([4, 2, -1]), (), "", 0, 0)
    parent = np.arange(15.0).reshape(5, 3)
    found = force_deviation(fragment, np.ones((3, 3)), parent)
    assert found.parent.tolist() == [4, 2]
    assert found.core.tolist() == [True, False]
    assert np.allclose(found.vectors, [1 - parent[4], 1 - parent[2]])


def test_errors_by_atom_pool_frames_and_images() -> None:
    class_a = force_deviation(
        Fragment(Atoms("H3"), np.ones(3, bool), np.array([0, 1, 0]), (), "", 0, 0),
        np.array([[3.0, 0, 0], [0, 0, 0], [0, 0, 3.0]]),
        np.zeros((2, 3)),
    )
    assert atom_errors([class_a, class_a]) == pytest.approx({0: np.sqrt(3.0), 1: 0.0})


def test_aggregate_is_the_rmse_of_components_with_its_standard_error() -> None:
    frames = [np.full((2, 3), 1.0), np.full((2, 3), 3.0)]
    found = aggregate(frames)
    assert found.rmse == pytest.approx(np.sqrt(5.0))
    # mean squares 1 and 9: standard error of their mean 4, and of its root 4/(2√5)
    assert found.error == pytest.approx(4.0 / (2.0 * np.sqrt(5.0)))
    assert (found.largest, found.n_atoms) == (3.0, 2)
    assert np.isnan(aggregate(frames[:1]).error)


def test_standard_error_is_that_of_many_repetitions() -> None:
    rng = np.random.default_rng(3)
    found = [aggregate([rng.normal(0.0, 1.0, (20, 3)) for _ in range(8)]) for _ in range(300)]
    spread = np.std([f.rmse for f in found])
    assert np.mean([f.error for f in found]) == pytest.approx(spread, rel=0.15)


def test_regions_of_a_missing_linker() -> None:
    atoms = missing_linker(read(STRUCTURES / "UiO-66_primitive.extxyz"))
    regions = default_regions(find_blocks(atoms), atoms)
    assert set(atoms.numbers[regions["metals"](atoms)]) == {40}
    formate = regions["formate"](atoms)
    assert sorted(atoms.numbers[formate].tolist()) == [1, 1, 6, 6, 8, 8, 8, 8]
    distances = atoms.get_all_distances(mic=True)
    hydrogen, carbon = formate[atoms.numbers[formate] == 1], formate[atoms.numbers[formate] == 6]
    assert distances[np.ix_(hydrogen, carbon)].min(axis=1) == pytest.approx([1.10, 1.10])


# -- extrapolation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.5, 0.2, -0.4])
def test_a_geometric_sequence_is_extrapolated_to_its_limit(ratio: float) -> None:
    rng = np.random.default_rng(5)
    limit, first = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    found = extrapolate([limit + first * ratio**k for k in range(4)])
    assert np.allclose(found.forces, limit)
    assert found.ratio == pytest.approx(ratio)
    assert (found.error > 0.0).all()  # a model is never that sure
    assert found.error.max() < 0.3


def test_error_bars_cover_the_truth_where_the_model_is_only_nearly_right() -> None:
    """Power-law, noisy and mixed decays: no geometric sequence, but the limit must lie within the bars."""
    rng = np.random.default_rng(7)
    covered: list[float] = []
    for _ in range(300):
        amplitude, limit = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
        kind = rng.integers(3)
        decay = {
            0: lambda k: (k + 1.0) ** -3,
            1: lambda k: 0.5 * 0.5**k + 0.5 * 0.2**k,
            2: lambda k: 0.4**k,
        }[int(kind)]
        noise = 0.3 if kind == 2 else 0.0
        sequence = [limit + decay(k) * (amplitude + noise * rng.normal(size=(12, 3))) for k in range(4)]
        found = extrapolate(sequence)
        covered += (np.abs(found.forces - limit) / found.error[:, None]).ravel().tolist()
    assert np.mean(np.array(covered) < 1.0) > 0.68
    assert np.mean(np.array(covered) < 2.0) > 0.95
    assert np.median(covered) > 0.05  # nor are they so wide that they say nothing


def test_without_a_trend_the_last_fragment_and_its_last_step_stand() -> None:
    f = np.zeros((3, 3))
    growing = extrapolate([f, f + 0.1, f + 0.3, f + 0.7])
    assert np.isnan(growing.ratio)
    assert np.allclose(growing.forces, 0.7)
    assert np.allclose(growing.error, 0.4)
    two = extrapolate([f, f + 0.1])
    assert np.isnan(two.ratio)
    assert np.allclose(two.error, 0.1)
    still = extrapolate([f, f, f])
    assert np.allclose(still.error, 0.0)
    with pytest.raises(InputError, match="have no limit"):
        extrapolate([f])
    with pytest.raises(InputError, match="have no limit"):
        extrapolate([f, np.zeros((2, 3))])


def test_extrapolation_finds_the_force_in_a_long_polyene() -> None:
    """A real sequence with a known answer: carbon at the end of C16H18, from pieces of 4 to 10 carbons, GFN1-xTB."""
    from clusterflow.label.xtb import XTBReference

    reference = XTBReference()
    piece = grouped(read(STRUCTURES / "molecules" / "hexadecaoctaene.extxyz"))
    end = piece.groups[0]
    sequence = []
    for kept in growth(piece, 0)[1:5]:
        fragment, _ = cut_groups(piece, kept, 0)
        forces = reference.label(fragment.atoms).prediction.forces
        sequence.append(forces[[int(np.flatnonzero(fragment.parent == a)[0]) for a in end]])
    truth = reference.label(piece.atoms).prediction.forces[end]
    found = extrapolate(sequence)
    assert 0.2 < found.ratio < 0.7
    assert np.linalg.norm(found.forces - truth) < 0.5 * np.linalg.norm(sequence[-1] - truth)
    assert (np.abs(found.forces - truth) < 2.0 * found.error[:, None]).all()


def test_matching_against_the_limit_agrees_with_matching_against_the_parent(mof5: list[Atoms], node: int) -> None:
    mantles = {m: blueprint(BuildingBlockRule(mantle=m), node) for m in ("none", "neighbours", 2)}
    named = {str(m): cut for m, cut in mantles.items()}
    limit = match_extrapolated(mof5[:2], named, {"toy": short_ranged})
    true = match_forces(mof5[:2], named, {"toy": short_ranged})
    for a, b in zip(limit, true, strict=True):
        assert set(a.regions) == {"core"}
        assert a.regions["core"].rmse == pytest.approx(
            b.regions["core"].rmse, abs=2 * a.regions["core"].uncertainty + 1e-9
        )
    with pytest.raises(InputError, match="show no trend"):
        match_extrapolated(mof5[:1], dict(list(named.items())[:2]), {"toy": short_ranged})
    with pytest.raises(InputError, match="do not grow"):
        match_extrapolated(mof5[:1], dict(reversed(named.items())), {"toy": short_ranged})


def test_nothing_to_match_is_refused(mof5: list[Atoms]) -> None:
    with pytest.raises(InputError, match="needs a blueprint"):
        match_forces(mof5, {}, {"toy": short_ranged})
    with pytest.raises(InputError, match="needs a frame"):
        match_forces([], {"a": lambda frame: frame}, {"toy": short_ranged})


def test_region_figure_shows_levels_side_by_side(mof5: list[Atoms], node: int, tmp_path: Path) -> None:
    from matplotlib.image import imread

    from clusterflow.extract.force_matching_figures import region_figure

    cut = {"small": blueprint(BuildingBlockRule(mantle="none"), node)}
    matches = match_forces(mof5[:2], cut, {"a": short_ranged, "b": short_ranged})
    region_figure(matches, tmp_path / "two.png")
    region_figure(matches, tmp_path / "three.png", beside={"paper": {"small": {"core": 100.0}}})
    two, three = imread(tmp_path / "two.png"), imread(tmp_path / "three.png")
    assert three.shape[1] > two.shape[1]
