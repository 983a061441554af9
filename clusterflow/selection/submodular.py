"""Choosing a batch that covers the most, within a number of items and a budget: lazy greedy facility location.

value(S) = Σ_t w_t · max(base_t, max over c in S of s_ct) − Σ_t w_t · base_t, with weights w ≥ 0 and similarities s in
[0, 1]. It is monotone and submodular: what an item adds can only shrink as the batch grows. Hence

- with a limit on the number alone, greedy choice reaches 1 − 1/e of the optimum: G. L. Nemhauser, L. A. Wolsey,
  M. L. Fisher, Math. Program. 14, 265 (1978), doi:10.1007/BF01588971;
- with a budget, the better one of the greedy choice by gain per cost and the best single item reaches 0.405 of it:
  J. Tang, X. Tang, A. Lim, K. Han, C. Li, J. Yuan, Proc. ACM Meas. Anal. Comput. Syst. 5, 8 (2021),
  doi:10.1145/3447386; after S. Khuller, A. Moss, J. Naor, Inf. Process. Lett. 70, 39 (1999),
  doi:10.1016/S0020-0190(99)00031-9;
- an upper limit on the optimum follows from the gains that are left, for each instance: J. Leskovec et al., KDD 2007,
  section 3.2, doi:10.1145/1281192.1281239. Gains are only computed anew when an item comes to the top (lazy greedy:
  M. Minoux 1978, doi:10.1007/BFb0006528).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from clusterflow.core.data import BoolArray, FloatArray
from clusterflow.errors import InputError

_NOTHING = 1e-12
"""Of the largest gain: less than this is rounding, not a gain."""


@dataclass(frozen=True, slots=True)
class Batch:
    """``items`` in the order in which they were chosen; ``value`` that they cover; ``cost`` of all; ``bound``: no batch
    within the same limits covers more than this."""

    items: tuple[int, ...]
    value: float
    cost: float
    bound: float


class Coverage:
    """The function that is maximised.

    Parameters
    ----------
    similarity
        (items, targets), between 0 and 1: how much of a target an item covers. Sparse; what is not stored is 0.
    weights
        (targets,), not negative.
    base
        (targets,): how much of each target is covered already; default nothing.

    Raises
    ------
    InputError
        Shapes that do not fit, or values out of range.
    """

    def __init__(self, similarity: csr_matrix, weights: FloatArray, base: FloatArray | None = None) -> None:
        self._s = csr_matrix(similarity)
        self.weights = np.asarray(weights, dtype=np.float64)
        n = self._s.shape[1]
        self.base = np.zeros(n) if base is None else np.asarray(base, dtype=np.float64)
        for name, values in (("similarity", self._s.data), ("base", self.base)):
            if not ((values >= 0.0) & (values <= 1.0)).all():
                raise InputError(f"Coverage needs {name} between 0 and 1.")
        usable = np.isfinite(self.weights).all() and (self.weights >= 0.0).all()
        if self.weights.shape != (n,) or self.base.shape != (n,) or not usable:
            raise InputError(f"Coverage of {n} targets needs as many finite weights ≥ 0, and as many base values.")

    @property
    def n_items(self) -> int:
        return int(self._s.shape[0])

    def gain(self, item: int, covered: FloatArray) -> float:
        """What an item adds where ``covered`` (targets,) is covered already."""
        begin, end = self._s.indptr[item], self._s.indptr[item + 1]
        targets = self._s.indices[begin:end]
        more = self._s.data[begin:end] - covered[targets]
        return float(self.weights[targets] @ np.maximum(more, 0.0))

    def gains(self, covered: FloatArray) -> FloatArray:
        """`gain` of every item."""
        more = np.maximum(self._s.data - covered[self._s.indices], 0.0) * self.weights[self._s.indices]
        rows = csr_matrix((more, self._s.indices, self._s.indptr), shape=self._s.shape)
        return np.asarray(rows.sum(axis=1), dtype=np.float64).ravel()

    def cover(self, item: int, covered: FloatArray) -> None:
        """Counts an item in."""
        begin, end = self._s.indptr[item], self._s.indptr[item + 1]
        targets = self._s.indices[begin:end]
        covered[targets] = np.maximum(covered[targets], self._s.data[begin:end])

    def value(self, items: Sequence[int]) -> float:
        """What a set of items covers beyond the base."""
        covered = self.base.copy()
        for item in items:
            self.cover(item, covered)
        return float(self.weights @ (covered - self.base))


def choose(function: Coverage, costs: FloatArray, *, count: int, budget: float = np.inf) -> Batch:
    """The best batch found of at most ``count`` items that cost at most ``budget`` together.

    The best of greedy by gain per cost, greedy by gain, and the best single item. Ties fall to the item of lower
    number, so whoever wants a result that does not depend on the order must number the items by what they are.

    Raises
    ------
    InputError
        Costs that are not positive and finite, one for each item.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape != (function.n_items,) or not (np.isfinite(costs) & (costs > 0)).all():
        raise InputError(f"{function.n_items} items need as many positive costs.")
    if count < 1 or not function.n_items:
        return Batch((), 0.0, 0.0, 0.0)
    tries = [_greedy(function, costs, count, budget, by_cost=False)]
    if np.isfinite(budget):
        tries.append(_greedy(function, costs, count, budget, by_cost=True))
        alone = np.where(costs <= budget, function.gains(function.base), -1.0)
        tries.append([int(np.argmax(alone))] if alone.max() > 0 else [])
    values = [function.value(items) for items in tries]
    best = int(np.argmax(values))
    bounds = [_bound(function, costs, items, count, budget) for items in tries]
    items = tries[best]
    return Batch(tuple(items), values[best], float(costs[items].sum()), float(min(bounds)))


def further(
    function: Coverage, costs: FloatArray, chosen: Sequence[int], *, count: int, budget: float = np.inf
) -> list[int]:
    """Up to ``count`` more items within a budget of their own, by gain per cost. When all is covered, all counts as
    uncovered again: a second look at what there is most of."""
    costs = np.asarray(costs, dtype=np.float64)
    items: list[int] = []
    covering = list(chosen)
    while len(items) < count:
        left = budget - float(costs[items].sum())
        wanted = count - len(items)
        more = _greedy(function, costs, wanted, left, by_cost=True, covering=covering, without=[*chosen, *items])
        if not more and not covering:
            break
        items += more
        covering = []
    return items


def _greedy(
    function: Coverage,
    costs: FloatArray,
    count: int,
    budget: float,
    *,
    by_cost: bool,
    covering: Sequence[int] = (),
    without: Sequence[int] = (),
) -> list[int]:
    """Items in the order of choice, none of ``without``; what ``covering`` covers is covered from the beginning."""
    covered = function.base.copy()
    for item in covering:
        function.cover(item, covered)
    scale = costs if by_cost else np.ones_like(costs)
    gains = function.gains(covered) / scale
    least = _NOTHING * float(gains.max(initial=0.0))
    heap = [(-float(gains[i]), int(i)) for i in np.setdiff1d(np.flatnonzero(gains > least), without)]
    heapq.heapify(heap)
    items: list[int] = []
    left = budget
    while heap and len(items) < count:
        _, item = heapq.heappop(heap)
        if costs[item] > left:
            continue
        now = function.gain(item, covered) / scale[item]
        if now <= least:
            continue
        if heap and (-now, item) > heap[0]:
            heapq.heappush(heap, (-now, item))
            continue
        items.append(item)
        left -= costs[item]
        function.cover(item, covered)
    return items


def _bound(function: Coverage, costs: FloatArray, items: Sequence[int], count: int, budget: float) -> float:
    """What no batch within the limits can exceed: the least of the limits that follow from the gains left before and
    after each item. For a greedy choice by gain without a budget it is at most value / (1 − 1/e), as in the proof."""
    covered, found = function.base.copy(), np.inf
    for item in [*items, -1]:
        reached = float(function.weights @ (covered - function.base))
        found = min(found, reached + _most(function.gains(covered), costs, count, budget))
        if item >= 0:
            function.cover(item, covered)
    return float(found)


def _most(gains: FloatArray, costs: FloatArray, count: int, budget: float) -> float:
    """The largest sum of gains within the limits; a part of one item may be bought, which nobody can."""
    affordable: BoolArray = costs <= budget
    gains, costs = gains[affordable], costs[affordable]
    by_number = float(np.sort(gains)[::-1][:count].sum())
    if not np.isfinite(budget):
        return by_number
    order = np.argsort(-gains / costs, kind="stable")
    spent = np.cumsum(costs[order])
    whole = int(np.searchsorted(spent, budget, side="right"))
    by_cost = float(gains[order][:whole].sum())
    if whole < len(order):
        before = spent[whole - 1] if whole else 0.0
        by_cost += float(gains[order][whole] * (budget - before) / costs[order][whole])
    return min(by_number, by_cost)
