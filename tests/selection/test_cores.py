"""Ranking building blocks and choosing sites."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from clusterflow.core.data import Site
from clusterflow.core.frames import content_hash
from clusterflow.errors import InputError, StructureError
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.selection.cores import RANKINGS, BlockSelector, block_cost

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
RNG = np.random.default_rng(0)


@cache
def frames() -> list[Atoms]:
    first = read(STRUCTURES / "MOF-5_primitive.extxyz")
    second = first.copy()
    second.positions[0] += 0.01
    return [first, second]


def scores(seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(2, 106)))


def blocks_of(sites: list[Site]) -> list[tuple[str, int]]:
    labels = {content_hash(a): find_blocks(a).labels for a in frames()}
    return [(s.frame_id, int(labels[s.frame_id][s.index])) for s in sites]


@pytest.mark.parametrize("ranking", sorted(RANKINGS))
def test_no_block_twice_the_budget_kept_and_the_most_novel_atom_named(ranking: str) -> None:
    selector = BlockSelector(ranking, threshold=0.5)
    sites = selector.select(frames(), scores(), budget=9, rng=RNG)
    assert len(sites) == 9
    assert len(set(blocks_of(sites))) == 9
    by_id = {content_hash(a): s for a, s in zip(frames(), scores(), strict=True)}
    for site, (frame_id, block) in zip(sites, blocks_of(sites), strict=True):
        members = find_blocks(frames()[0]).members(block)
        assert by_id[frame_id][site.index] == by_id[frame_id][members].max()
    assert len(selector.select(frames(), scores(), budget=100, rng=RNG)) == 16  # every block of two frames
    assert selector.select(frames(), scores(), budget=0, rng=RNG) == []


def test_the_default_starts_with_the_least_likely_atom_of_all() -> None:
    novelty = scores()
    novelty[1][40] = 9.0
    novelty[0][7] = 8.0
    sites = BlockSelector().select(frames(), novelty, budget=2, rng=RNG)
    assert sites == [Site(content_hash(frames()[1]), 40), Site(content_hash(frames()[0]), 7)]


def test_order_of_the_best_blocks_follows_each_ranking() -> None:
    """Compared with the definition, computed here block by block."""
    atoms, novelty = frames()[0], scores(4)[0]
    blocks = find_blocks(atoms)
    definition = {
        "least_likely_atom": lambda s, z: s.max(),
        "sum_below_threshold": lambda s, z: (s[s > 0.3] - 0.3).sum(),
        "mean_without_h": lambda s, z: s[z != 1].mean(),
        "per_cost": lambda s, z: (s[s > 0.3] - 0.3).sum() / block_cost(z),
    }
    assert definition.keys() == RANKINGS.keys()
    for ranking, value in definition.items():
        values = [value(novelty[blocks.members(b)], atoms.numbers[blocks.members(b)]) for b in range(8)]
        sites = BlockSelector(ranking, threshold=0.3).select([atoms], [novelty], budget=8, rng=RNG)
        assert [b for _, b in blocks_of(sites)] == np.argsort(values)[::-1].tolist(), ranking


def test_elements_never_seen_come_first_and_nan_counts_as_unknown() -> None:
    novelty = scores()
    novelty[0][frames()[0].numbers == 30] = np.inf
    novelty[1][50] = np.nan
    sites = BlockSelector().select(frames(), novelty, budget=3, rng=RNG)
    kinds = find_blocks(frames()[0]).kinds
    assert [kinds[b] for _, b in blocks_of(sites)[:2]] == ["node", "node"]
    assert sites[2] == Site(content_hash(frames()[1]), 50)
    for ranking in RANKINGS:
        assert len(BlockSelector(ranking, threshold=0.0).select(frames(), novelty, budget=5, rng=RNG)) == 5


def test_per_frame_limit_spreads_the_choice() -> None:
    novelty = [scores()[0] + 100.0, scores()[1]]
    best = BlockSelector().select(frames(), novelty, budget=6, rng=RNG)
    assert {s.frame_id for s in best} == {content_hash(frames()[0])}
    spread = BlockSelector(per_frame=3).select(frames(), novelty, budget=6, rng=RNG)
    assert [s.frame_id for s in spread] == [content_hash(a) for a in frames() for _ in range(3)]


def test_ties_and_order_of_frames_change_nothing() -> None:
    flat = [np.zeros(106), np.zeros(106)]
    chosen = BlockSelector(per_frame=4).select(frames(), flat, budget=8, rng=np.random.default_rng(1))
    again = BlockSelector(per_frame=4).select(frames()[::-1], flat, budget=8, rng=np.random.default_rng(2))
    assert chosen == again
    twice = BlockSelector().select([*frames(), frames()[0]], [*flat, flat[0]], budget=99, rng=RNG)
    assert len(twice) == 16


def test_cost_grows_with_valence_electrons() -> None:
    assert block_cost(np.array([1])) == 1.0
    assert block_cost(np.array([6, 1, 1, 1, 1])) == pytest.approx(8**2.5)
    assert block_cost(np.array([30, 8])) == pytest.approx(18**2.5)
    assert block_cost(np.array([40])) == block_cost(np.array([72])) == pytest.approx(12**2.5)


def test_frames_without_blocks_are_passed_over_unless_all_are() -> None:
    broken = frames()[0].copy()
    broken.set_cell(broken.cell.array * 1.5)
    sites = BlockSelector().select([broken, frames()[1]], scores(), budget=3, rng=RNG)
    assert {s.frame_id for s in sites} == {content_hash(frames()[1])}
    with pytest.raises(StructureError, match="no bonds across the cell"):
        BlockSelector().select([broken], scores()[:1], budget=3, rng=RNG)


def test_a_molecule_is_one_site() -> None:
    assert BlockSelector().select([molecule("C6H6")], [np.arange(12.0)], budget=5, rng=RNG) == [
        Site(content_hash(molecule("C6H6")), 11)
    ]
    assert BlockSelector().select([], [], budget=5, rng=RNG) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranking": "best"}, "not a ranking"),
        ({"ranking": "sum_below_threshold"}, "needs a threshold"),
        ({"threshold": float("inf")}, "not a number"),
        ({"per_frame": 0}, "allows no block"),
    ],
)
def test_impossible_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BlockSelector(**settings)


def test_scores_must_fit_the_frames() -> None:
    with pytest.raises(InputError, match=r"2 frames with \[106, 106\] atoms, but 1 arrays"):
        BlockSelector().select(frames(), scores()[:1], budget=1, rng=RNG)
    with pytest.raises(InputError, match="one score per atom"):
        BlockSelector().select(frames(), [np.zeros(3), np.zeros(3)], budget=1, rng=RNG)
