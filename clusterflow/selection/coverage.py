"""Which fragments cover the most novelty per predicted second of DFT, without saying the same thing twice.

A fragment covers the atoms of its core, and with them whatever else of their element looks like them: fully within a
radius in the potential's features, not at all from twice that on, linearly between. So fragments of one batch spread
out, copies of one environment in many frames count as one thing to learn that is worth more, and what is like a
labelled environment, of whichever system and iteration, counts as known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from clusterflow.core.data import BoolArray, FloatArray, IntArray, Site
from clusterflow.core.frames import content_hash
from clusterflow.errors import InputError
from clusterflow.physics.electrons import valence_electrons
from clusterflow.selection.submodular import Batch, Coverage, choose, further

MAX_ITEMS = 4000
"""Fragments that are looked at closely: so many of the most novel, and so many of the most novel per second."""
MAX_TARGETS = 20_000
"""Atoms per element that are to be covered: the most novel ones."""
_NEIGHBOURS = 32
"""Of an atom, so many of the nearest groups of targets are covered by it."""
_SAMPLE = 2000
_FEWEST = 2


@dataclass(frozen=True, slots=True)
class Chosen:
    """``sites``, of which the first ``n_batch`` are the batch, the others spares; ``costs``: predicted s of each;
    ``covers``: the part of the batch that was chosen before all was covered, with value and bound; ``cheapest``: least
    predicted s of all that could be chosen, infinite if nothing could."""

    sites: list[Site]
    n_batch: int
    costs: tuple[float, ...]
    covers: Batch
    cheapest: float

    @property
    def seconds(self) -> float:
        """Predicted s of the batch."""
        return sum(self.costs[: self.n_batch])


@dataclass(frozen=True)
class CoverageSelector:
    """Chooses a batch of groups of atoms (building blocks); implements `core.protocols.Selector`.

    Parameters
    ----------
    features
        (n, d) of every frame.
    groups
        (n,) of every frame: atoms that one fragment has in its core; −1: none can have them.
    known_features, known_numbers
        (m, d) and (m,): atoms that have labels. Features are taken in units of their standard deviation over the known
        atoms of the element.
    seconds
        Valence electrons (k,) of groups → predicted core-seconds (k,) of their labels.
    batch
        At most so many groups are chosen together; further ones that `select` returns are spares.
    budget_seconds
        Most that the batch may cost together, in predicted core-seconds; None: ``batch`` times the median over the
        groups looked at.
    floor
        Element number → score up to which an atom is known; 0 for elements that are not named. A score above it,
        calibrated or not, is what there is to cover.
    """

    features: Sequence[FloatArray]
    groups: Sequence[IntArray]
    known_features: FloatArray
    known_numbers: IntArray
    seconds: Callable[[FloatArray], FloatArray]
    batch: int
    budget_seconds: float | None = None
    floor: Mapping[int, float] = field(default_factory=dict)

    def select(
        self, frames: Sequence[Atoms], scores: Sequence[FloatArray], *, budget: int, rng: np.random.Generator
    ) -> list[Site]:
        """Up to ``budget`` sites, the batch first; each the most novel atom of its group."""
        del rng  # part of the protocol; nothing here is random
        return self.choose(frames, scores, budget).sites

    def choose(self, frames: Sequence[Atoms], scores: Sequence[FloatArray], budget: int) -> Chosen:
        """As `select`, with what is known of the batch.

        What is chosen depends on what the frames and atoms are, not on their order; in a perfect tie the frame of lower
        content hash and the atom of lower index come first.

        Raises
        ------
        InputError
            Frames, scores, features and groups that do not belong together.
        """
        self._check(frames, scores)
        atoms = _Pool.of(frames, scores, self.features, self.groups, self.floor, self.seconds)
        if not atoms.n_items:
            return Chosen([], 0, (), Batch((), 0.0, 0.0, 0.0), np.inf)
        function = self._coverage(atoms)
        limit = self.budget_seconds
        if limit is None:
            limit = self.batch * float(np.median(atoms.costs))
        count = min(self.batch, budget)
        best = choose(function, atoms.costs, count=count, budget=limit)
        batch = [*best.items]
        batch += further(function, atoms.costs, batch, count=count - len(batch), budget=limit - best.cost)
        # What alone exceeds a limit that was set is no spare: at an infinite cost it is never worth it.
        costs = atoms.costs if self.budget_seconds is None else np.where(atoms.costs <= limit, atoms.costs, np.inf)
        spares = further(function, costs, batch, count=budget - len(batch))
        places = atoms.site[[*batch, *spares]]
        ids = {f: content_hash(frames[f]) for f in np.unique(atoms.frame[places]).tolist()}
        sites = [Site(ids[int(atoms.frame[k])], int(atoms.index[k])) for k in places]
        told = tuple(atoms.costs[[*batch, *spares]].tolist())
        return Chosen(sites, len(batch), told, best, float(atoms.costs.min()))

    def _check(self, frames: Sequence[Atoms], scores: Sequence[FloatArray]) -> None:
        lengths = [len(a) for a in frames]
        for name, given in (("scores", scores), ("features", self.features), ("groups", self.groups)):
            if [len(x) for x in given] != lengths:
                raise InputError(
                    f"{len(frames)} frames and {len(given)} arrays of {name} do not belong together.",
                    todo=f"Give one row of {name} per atom of every frame.",
                )

    def _coverage(self, atoms: _Pool) -> Coverage:
        """The function to maximise: targets are groups of like atoms of one element."""
        rows, columns, values, weights, base = [], [], [], [], []
        n_targets = 0
        for z in np.unique(atoms.numbers):
            own = np.flatnonzero((atoms.numbers == z) & (atoms.weights > 0))[:MAX_TARGETS]  # heaviest first
            if not len(own):
                continue
            known = self.known_features[self.known_numbers == z]
            scale = _scale(known, atoms.features[own])
            points = atoms.features[own] / scale
            radius = _radius(points, self.batch)
            leaders, member = _leaders(points, 0.5 * radius)
            near = min(_NEIGHBOURS, len(leaders))
            distance, which = cKDTree(points[leaders]).query(points, k=near, distance_upper_bound=2.0 * radius)
            distance, which = distance.reshape(len(own), near), which.reshape(len(own), near)
            atom, place = np.nonzero(np.isfinite(distance))
            rows.append(atoms.item[own[atom]])
            columns.append(which[atom, place] + n_targets)
            values.append(_likeness(distance[atom, place], radius))
            weights.append(np.bincount(member, weights=atoms.weights[own], minlength=len(leaders)))
            base.append(_known_already(points[leaders], known / scale))
            n_targets += len(leaders)
        shape = (atoms.n_items, n_targets)
        if not rows:
            return Coverage(csr_matrix(shape), np.zeros(n_targets))
        similarity = _largest(np.concatenate(rows), np.concatenate(columns), np.concatenate(values), shape)
        return Coverage(similarity, np.concatenate(weights), np.concatenate(base))


@dataclass(frozen=True)
class _Pool:
    """The atoms of all groups that are looked at, the most novel first: (n,) ``frame``, ``index`` in it, ``numbers``,
    ``weights`` (what there is to cover), ``item`` (their group), and (n, d) ``features``; per group its ``costs`` in s
    and its ``site``, the place here of its most novel atom."""

    frame: IntArray
    index: IntArray
    numbers: IntArray
    weights: FloatArray
    item: IntArray
    features: FloatArray
    costs: FloatArray
    site: IntArray

    @property
    def n_items(self) -> int:
        return len(self.costs)

    @classmethod
    def of(
        cls,
        frames: Sequence[Atoms],
        scores: Sequence[FloatArray],
        features: Sequence[FloatArray],
        groups: Sequence[IntArray],
        floor: Mapping[int, float],
        seconds: Callable[[FloatArray], FloatArray],
    ) -> _Pool:
        over_floor = excess(frames, scores, floor)
        rows = []
        for f, (atoms, over, own) in enumerate(zip(frames, over_floor, groups, strict=True)):
            inside = own >= 0
            if not inside.any():
                continue
            names, place = np.unique(own[inside], return_inverse=True)
            total = np.bincount(place, weights=over[inside])
            electrons = np.bincount(place, weights=valence_electrons(np.asarray(atoms.numbers, dtype=np.int64))[inside])
            rows.append(np.column_stack((np.full(len(names), f), names, total, electrons)))
        table = np.concatenate(rows) if rows else np.empty((0, 4))
        table = table[table[:, 2] > 0]
        costs = np.asarray(seconds(table[:, 3]), dtype=np.float64)
        kept = _top(table[:, 2], MAX_ITEMS) | _top(table[:, 2] / np.where(costs > 0, costs, 1.0), MAX_ITEMS)
        return cls._gathered(table[kept], costs[kept], frames, over_floor, features, groups)

    @classmethod
    def _gathered(
        cls,
        table: FloatArray,
        costs: FloatArray,
        frames: Sequence[Atoms],
        over_floor: Sequence[FloatArray],
        features: Sequence[FloatArray],
        groups: Sequence[IntArray],
    ) -> _Pool:
        """The atoms of the groups in the table, and both in an order that depends on nothing but what they are."""
        parts: list[tuple[IntArray, ...]] = []
        vectors = [np.empty((0, features[0].shape[1] if len(features) else 0))]
        for f in np.unique(table[:, 0]).astype(int):
            mine = np.flatnonzero(table[:, 0] == f)
            where = np.full(int(groups[f].max()) + 1, -1, dtype=np.int64)
            where[table[mine, 1].astype(int)] = mine
            item = np.where(groups[f] >= 0, where[np.maximum(groups[f], 0)], -1)
            index = np.flatnonzero(item >= 0)
            parts.append(
                (np.full(len(index), f), index, np.asarray(frames[f].numbers)[index], over_floor[f][index], item[index])
            )
            vectors.append(np.asarray(features[f], dtype=np.float64)[index])
        if not parts:
            nothing = np.empty(0, dtype=np.int64)
            return cls(nothing, nothing, nothing, np.empty(0), nothing, vectors[0], np.empty(0), nothing)
        frame, index, numbers, weights, item = (np.concatenate(p) for p in zip(*parts, strict=True))
        points = np.concatenate(vectors)
        ids = np.unique([content_hash(frames[f]) for f in np.unique(frame)], return_inverse=True)[1]
        rank = np.zeros(len(frames), dtype=np.int64)
        rank[np.unique(frame)] = ids
        order = np.lexsort((index, rank[frame], *points.T[::-1], numbers, -weights))
        first = np.full(len(costs), len(order), dtype=np.int64)
        np.minimum.at(first, item[order], np.arange(len(order)))
        by_place = np.argsort(first, kind="stable")  # groups in the order of their most novel atoms
        number = np.empty_like(by_place)
        number[by_place] = np.arange(len(by_place))
        return cls(
            frame[order], index[order], numbers[order], weights[order], number[item[order]], points[order],
            costs[by_place], first[by_place],
        )  # fmt: skip


def excess(frames: Sequence[Atoms], scores: Sequence[FloatArray], floor: Mapping[int, float]) -> list[FloatArray]:
    """What there is to cover of every atom, ≥ 0: its score above the floor of its element. NaN and infinity (an element
    that was never seen) count twice the largest finite value. If nothing is above the floors, the lowest score is the
    floor, and if all are equal each counts the same: something is always the least known."""
    levels = np.zeros(130)
    for z, value in floor.items():
        levels[z] = value if np.isfinite(value) else 0.0
    over = [np.asarray(s, dtype=np.float64) - levels[a.numbers] for a, s in zip(frames, scores, strict=True)]
    finite = [o[np.isfinite(o)] for o in over]
    top = max((float(o.max()) for o in finite if len(o)), default=0.0)
    unseen = any(len(f) < len(o) for f, o in zip(finite, over, strict=True))
    if top <= 0.0 and not unseen:
        low = min((float(o.min()) for o in finite if len(o)), default=0.0)
        return [o - low if low < top else np.ones(len(o)) for o in over]
    infinite = 2.0 * top if top > 0 else 1.0
    return [np.where(np.isfinite(o), np.maximum(o, 0.0), np.where(o == -np.inf, 0.0, infinite)) for o in over]


def _top(values: FloatArray, count: int) -> BoolArray:
    """Mask of the ``count`` largest; of values equal to the smallest of them, all."""
    if len(values) <= count:
        return np.ones(len(values), dtype=bool)
    return np.asarray(values >= np.partition(values, len(values) - count)[len(values) - count])


def _scale(known: FloatArray, points: FloatArray) -> FloatArray:
    spread = (known if len(known) > 1 else points).std(axis=0)
    return np.asarray(np.where(spread > 0, spread, 1.0), dtype=np.float64)


def _thinned(points: FloatArray) -> FloatArray:
    step = max(1, -(-len(points) // _SAMPLE))
    return points[::step]


def _likeness(distance: FloatArray, radius: float) -> FloatArray:
    """1 up to the radius, 0 from twice the radius on."""
    return np.asarray(np.clip(2.0 - distance / radius, 0.0, 1.0), dtype=np.float64)


def _radius(points: FloatArray, batch: int) -> float:
    """How far an atom speaks for others: so far that about as many atoms as there are groups to choose could cover all.
    The median distance to the (n / batch)-th neighbour, as if for `_FEWEST` groups where fewer are to be chosen."""
    sample = _thinned(points)
    wanted = min(len(sample) - 1, max(1, len(sample) // max(batch, _FEWEST)))
    if wanted < 1:
        return 1.0
    distance = cKDTree(sample).query(sample, k=[wanted + 1])[0][:, 0]
    return max(float(np.median(distance)), 1e-6)


def _leaders(points: FloatArray, radius: float) -> tuple[IntArray, IntArray]:
    """Groups of like points: (leaders, member of which). Each leader takes what is left within the radius."""
    tree = cKDTree(points)
    member = np.full(len(points), -1, dtype=np.int64)
    leaders: list[int] = []
    for k in range(len(points)):
        if member[k] >= 0:
            continue
        inside = np.asarray(tree.query_ball_point(points[k], radius), dtype=np.int64)
        member[inside[member[inside] < 0]] = len(leaders)
        member[k] = len(leaders)
        leaders.append(k)
    return np.asarray(leaders, dtype=np.int64), member


def _known_already(points: FloatArray, known: FloatArray) -> FloatArray:
    """How far points (n, d) are covered by labelled atoms: these speak for others as far as they lie apart themselves
    (nine in ten are nearer to their neighbour)."""
    if len(known) < 2:
        return np.zeros(len(points))
    tree = cKDTree(known)
    apart = float(np.quantile(tree.query(_thinned(known), k=2)[0][:, 1], 0.9))
    return _likeness(np.asarray(tree.query(points)[0], dtype=np.float64), max(apart, 1e-9))


def _largest(rows: IntArray, columns: IntArray, values: FloatArray, shape: tuple[int, int]) -> csr_matrix:
    """Sparse matrix of the largest value for each pair."""
    order = np.lexsort((values, columns, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    last = np.ones(len(rows), dtype=bool)
    last[:-1] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    return csr_matrix((np.clip(values[last], 0.0, 1.0), (rows[last], columns[last])), shape=shape)
