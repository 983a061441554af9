"""The choices that novelty has to beat."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core.frames import content_hash
from clusterflow.selection.farthest_point import FarthestPointSelector
from clusterflow.selection.random_sites import RandomSelector


def frames(n: int, atoms: int, seed: int = 0) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    return [Atoms(rng.choice(["C", "H"], size=atoms), positions=rng.uniform(0, 9, (atoms, 3))) for _ in range(n)]


def test_every_atom_is_as_likely_and_none_comes_twice() -> None:
    pool = frames(2, 4) + frames(1, 12, seed=1)
    scores = [np.zeros(len(a)) for a in pool]
    counts = {content_hash(a): 0 for a in pool}
    for seed in range(400):
        sites = RandomSelector().select(pool, scores, budget=5, rng=np.random.default_rng(seed))
        assert len(set(sites)) == 5
        for site in sites:
            counts[site.frame_id] += 1
    share = counts[content_hash(pool[2])] / 2000
    assert share == pytest.approx(12 / 20, abs=0.04)


def test_what_is_drawn_does_not_depend_on_the_order_of_frames() -> None:
    pool = frames(5, 6)
    scores = [np.zeros(6)] * 5
    for one in (False, True):
        a = RandomSelector(one).select(pool, scores, budget=4, rng=np.random.default_rng(3))
        b = RandomSelector(one).select(pool[::-1], scores, budget=4, rng=np.random.default_rng(3))
        assert a == b
    assert len(RandomSelector(True).select(pool, scores, budget=99, rng=np.random.default_rng(3))) == 5
    assert RandomSelector().select([], [], budget=3, rng=np.random.default_rng(3)) == []


def selector(pool: list[Atoms], features: list[np.ndarray], known: np.ndarray) -> FarthestPointSelector:
    numbers = np.full(len(known), 6, dtype=np.int64)
    return FarthestPointSelector(features, known, numbers, [np.arange(len(a)) for a in pool])


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_each_choice_is_the_farthest_from_all_before(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = [Atoms("C6", positions=rng.normal(size=(6, 3))) for _ in range(3)]
    features = [rng.normal(size=(6, 4)) for _ in pool]
    known = rng.normal(size=(5, 4))
    sites = selector(pool, features, known).select(pool, [], budget=6, rng=rng)
    by_id = {content_hash(a): f for a, f in zip(pool, features, strict=True)}
    scale = known.std(axis=0)
    reached = list(known / scale)
    everything = np.concatenate(features) / scale
    for site in sites:
        distance = np.min(np.linalg.norm(everything[:, None] - np.array(reached)[None], axis=2), axis=1)
        chosen = by_id[site.frame_id][site.index] / scale
        assert np.min(np.linalg.norm(chosen - np.array(reached), axis=1)) == pytest.approx(distance.max())
        reached.append(chosen)


def test_unknown_elements_first_and_one_site_per_block() -> None:
    pool = [Atoms("C4Hf", positions=np.eye(5, 3))]
    features = [np.array([[0.0], [0.1], [5.0], [5.2], [0.0]])]
    groups = [np.array([0, 0, 1, 1, 2])]
    made = FarthestPointSelector(features, np.array([[0.0], [1.0]]), np.array([6, 6]), groups)
    assert [s.index for s in made.select(pool, [], budget=9, rng=np.random.default_rng(0))] == [4, 3, 1]
    none = FarthestPointSelector(features, np.array([[0.0], [1.0]]), np.array([6, 6]), [np.full(5, -1)])
    assert none.select(pool, [], budget=9, rng=np.random.default_rng(0)) == []
