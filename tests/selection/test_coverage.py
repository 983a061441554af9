"""A batch covers different things, cheaply, and nothing that is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core.frames import content_hash
from clusterflow.errors import InputError
from clusterflow.selection.coverage import CoverageSelector

BLOCK = 4


def pool(seed: int, n_frames: int = 3, blocks: int = 5) -> tuple[list[Atoms], list[Any], list[Any], list[Any]]:
    """Frames, scores, features and groups: blocks of four atoms, C and H."""
    rng = np.random.default_rng(seed)
    n = blocks * BLOCK
    frames = [Atoms(rng.choice(["C", "H"], n), positions=rng.uniform(0, 9, (n, 3))) for _ in range(n_frames)]
    scores = [rng.exponential(3.0, n) for _ in frames]
    features = [rng.normal(size=(n, 3)) for _ in frames]
    groups = [np.repeat(np.arange(blocks), BLOCK) for _ in frames]
    return frames, scores, features, groups


def selector(features: list[Any], groups: list[Any], **changes: Any) -> CoverageSelector:
    given: dict[str, Any] = {
        "known_features": np.empty((0, features[0].shape[1])),
        "known_numbers": np.empty(0, dtype=np.int64),
        "seconds": lambda electrons: np.ones(len(electrons)),
        "batch": 3,
        **changes,
    }
    return CoverageSelector(features, groups, **given)


def pick(made: CoverageSelector, frames: list[Atoms], scores: list[Any], budget: int = 3) -> list[Any]:
    return made.select(frames, scores, budget=budget, rng=np.random.default_rng(0))


@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_neither_the_order_of_frames_nor_that_of_atoms_matters(seed: int) -> None:
    frames, scores, features, groups = pool(seed)
    first = pick(selector(features, groups), frames, scores, 8)
    turned = pick(selector(features[::-1], groups[::-1]), frames[::-1], scores[::-1], 8)
    assert first == turned

    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(a)) for a in frames]
    mixed = [a[o] for a, o in zip(frames, orders, strict=True)]
    names = [rng.permutation(5)[g[o]] for g, o in zip(groups, orders, strict=True)]
    again = pick(
        selector([f[o] for f, o in zip(features, orders, strict=True)], names),
        mixed,
        [s[o] for s, o in zip(scores, orders, strict=True)],
        8,
    )
    back = {content_hash(m): (content_hash(a), o) for a, m, o in zip(frames, mixed, orders, strict=True)}
    assert [(back[s.frame_id][0], int(back[s.frame_id][1][s.index])) for s in again] == [
        (s.frame_id, s.index) for s in first
    ]


def test_each_site_is_the_most_novel_atom_of_a_block_of_its_own() -> None:
    frames, scores, features, groups = pool(1)
    sites = pick(selector(features, groups), frames, scores, 15)
    by_id = {content_hash(a): k for k, a in enumerate(frames)}
    blocks = [(s.frame_id, s.index // BLOCK) for s in sites]
    assert len(set(blocks)) == len(blocks)
    for s in sites:
        own = scores[by_id[s.frame_id]][s.index // BLOCK * BLOCK :][:BLOCK]
        assert scores[by_id[s.frame_id]][s.index] == own.max()


def two_kinds() -> tuple[list[Atoms], list[Any], list[Any], list[Any]]:
    """Ten frames with one block each: nine of nearly the same, very novel environment, one of another, less novel."""
    rng = np.random.default_rng(3)
    frames = [Atoms("C4", positions=rng.uniform(0, 5, (4, 3))) for _ in range(10)]
    features = [rng.normal([0.0, 0.0] if k < 9 else [8.0, 8.0], 0.01, (4, 2)) for k in range(10)]
    scores = [np.full(4, 10.0 if k < 9 else 6.0) for k in range(10)]
    return frames, scores, features, [np.zeros(4, dtype=np.int64)] * 10


def test_a_batch_is_diverse() -> None:
    frames, scores, features, groups = two_kinds()
    sites = pick(selector(features, groups, batch=2), frames, scores, 2)
    assert content_hash(frames[9]) in {s.frame_id for s in sites}


def test_what_is_labelled_in_another_system_is_not_asked_for_again() -> None:
    frames, scores, features, groups = two_kinds()
    rng = np.random.default_rng(4)
    known = rng.normal([0.0, 0.0], 0.02, (50, 2))
    made = selector(features, groups, batch=1, known_features=known, known_numbers=np.full(50, 6))
    (site,) = pick(made, frames, scores, 1)
    assert site.frame_id == content_hash(frames[9])


def test_a_cheap_block_wins_over_a_dear_one_that_says_as_much() -> None:
    frames, scores, features, groups = pool(5, n_frames=1, blocks=2)
    frames[0].numbers[:] = 6
    frames[0].numbers[:BLOCK] = 40  # zirconium: three times the electrons
    scores[0][:] = 5.0
    features[0][:] = np.repeat([[0.0], [9.0]], BLOCK, axis=0)

    def seconds(electrons: np.ndarray) -> np.ndarray:
        return electrons**2

    made = selector(features, groups, batch=1, budget_seconds=16.0**2, seconds=seconds)
    found = made.choose(frames, scores, 2)
    assert found.sites[0].index // BLOCK == 1
    assert (found.n_batch, found.seconds) == (1, 16.0**2)
    assert len(found.sites) == 1  # the other one alone costs more than there is: no spare
    assert found.cheapest == 16.0**2
    spare = selector(features, groups, batch=1, budget_seconds=3e3, seconds=seconds).choose(frames, scores, 2)
    assert (spare.n_batch, len(spare.sites)) == (1, 2)
    nothing = selector(features, groups, batch=1, budget_seconds=10.0, seconds=seconds).choose(frames, scores, 2)
    assert (nothing.sites, nothing.seconds, nothing.cheapest) == ([], 0.0, 16.0**2)
    both = selector(features, groups, batch=2, budget_seconds=1e9, seconds=seconds).choose(frames, scores, 2).covers
    assert len(both.items) == 2
    assert both.value == both.bound == pytest.approx(2 * BLOCK * 5.0)


def test_elements_that_were_never_seen_come_first_and_floors_count() -> None:
    frames, scores, features, groups = pool(6, n_frames=1, blocks=3)
    frames[0].numbers[:] = 6
    frames[0].numbers[9] = 72
    scores[0][9] = np.inf
    assert pick(selector(features, groups, batch=1), frames, scores, 1)[0].index == 9
    scores[0][:] = [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    frames[0].numbers[8:] = 1
    (site,) = pick(selector(features, groups, batch=1, floor={1: 2.9, 6: 0.5}), frames, scores, 1)
    assert site.index // BLOCK == 1


def test_the_batch_is_full_even_where_little_covers_all() -> None:
    frames, scores, features, groups = two_kinds()
    features = [f.round() for f in features]  # exactly two environments
    found = selector(features, groups, batch=5).choose(frames, scores, 9)
    assert len(found.covers.items) == 2
    assert found.n_batch == 5
    assert len({s.frame_id for s in found.sites}) == 9


def test_something_is_chosen_even_if_nothing_is_novel_and_nothing_where_nothing_can_be_cut() -> None:
    frames, scores, features, groups = pool(7)
    assert pick(selector(features, groups, floor={1: 1e3, 6: 1e3}), frames, scores)
    flat = [np.full(20, 0.5)] * 3
    assert len(pick(selector(features, groups, floor={1: 1e3, 6: 1e3}), frames, flat)) == 3
    assert pick(selector(features, [np.full(20, -1)] * 3), frames, scores) == []
    assert pick(CoverageSelector([], [], np.empty((0, 2)), np.empty(0, dtype=np.int64), lambda e: e, 3), [], []) == []


def test_arrays_that_do_not_belong_together() -> None:
    frames, scores, features, groups = pool(8)
    with pytest.raises(InputError, match="features do not belong"):
        pick(selector([f[1:] for f in features], groups), frames, scores)
