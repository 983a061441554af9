"""Which sites of explored frames are cut, as `select:` says: by rank or by coverage, shared among systems or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.config.selection import Select
from clusterflow.core import keys
from clusterflow.core.data import FloatArray, Site
from clusterflow.core.protocols import Featurizer, Selector
from clusterflow.execution.certifying import cost_model
from clusterflow.execution.cutting import Purse, groups_of
from clusterflow.execution.workplace import Workplace
from clusterflow.extract.rules import WholeStructure
from clusterflow.extract.sphere import SphericalCut
from clusterflow.label.cost import CostModel
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.physics.electrons import valence_electrons
from clusterflow.selection.atoms import AtomSelector
from clusterflow.selection.coverage import CoverageSelector, excess
from clusterflow.selection.frames import FrameSelector
from clusterflow.selection.sharing import share_labels


@dataclass(frozen=True)
class Chosen:
    """``sites``, best first, of which at most ``budget`` are to be cut; ``limits``: how many of each system (None: as
    they come); ``purse``: what they may cost (None: whatever they do); ``told``: for the journal."""

    sites: list[Site]
    budget: int
    limits: Mapping[str, int] | None = None
    purse: Purse | None = None
    told: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explored:
    """Frames with their ``scores`` (n,) and ``features`` (n, d), and up to which score an atom of each element (by its
    number) is known."""

    frames: Sequence[Atoms]
    scores: Sequence[FloatArray]
    features: Sequence[FloatArray]
    floor: Mapping[int, float]

    def of(self, system: str) -> Explored:
        """Those of one system."""
        own = [i for i, a in enumerate(self.frames) if a.info[keys.SYSTEM] == system]
        scores, features = [self.scores[i] for i in own], [self.features[i] for i in own]
        return Explored([self.frames[i] for i in own], scores, features, self.floor)


@dataclass(frozen=True)
class Choosing:
    """What a choice needs besides the frames: payload of the task, ``select:``, the fragment rule, the blocks along the
    walks, the potential whose features count, and where labels are."""

    payload: Mapping[str, Any]
    settings: Select
    rule: Any
    along: BlocksAlong
    potential: Featurizer
    place: Workplace
    rng: np.random.Generator

    @property
    def seconds(self) -> float | None:
        """Of `select.core_seconds`, which is for an iteration, the part of this selection; None: there is no limit."""
        budget = int(self.payload["budget"])
        whole = int(self.payload.get("of_iteration", budget))  # a selection of the streaming loop is a part of one
        return _part(self.settings.core_seconds, min(budget, whole), whole)

    def sites(self, explored: Explored) -> Chosen:
        """More sites than the budget, since some fragments will be duplicates or cannot be cut."""
        budget, settings = int(self.payload["budget"]), self.settings
        if settings.share is None:
            sites, costs, told = self._of(explored, budget)
            most = budget if self.seconds is None else int(told["fragments"])
            return Chosen(sites, most, None, self._purse(costs, {}), {"coverage": told} if told else {})
        limits = self._limits(explored, budget)
        sites, costs, covered, given = [], {}, {}, dict(limits)
        for system, limit in given.items():
            if limit:
                found, its_costs, told = self._of(explored.of(system), limit)
                sites += found
                costs |= its_costs
                if told:
                    covered[system] = told
                    limits[system] = limit if self.seconds is None else int(told["fragments"])
        told_all = {"shares": given, **({"coverage": covered} if covered else {})}
        return Chosen(sites, sum(limits.values()), limits, self._purse(costs, given), told_all)

    def _purse(self, costs: Mapping[Site, float], given: Mapping[str, int]) -> Purse | None:
        """A limit in seconds, and its parts that go with the labels ``given`` to each system."""
        limit, budget = self.seconds, int(self.payload["budget"])
        own = {s: _part(limit, n, budget) or 0.0 for s, n in given.items()}
        return None if limit is None else Purse(costs, limit, own)

    def _limits(self, explored: Explored, budget: int) -> dict[str, int]:
        """Labels of each system."""
        there = sorted({str(a.info[keys.SYSTEM]) for a in explored.frames})
        floor = self.settings.share_floor
        if self.settings.share == "weight":
            return share_labels({s: float(self.payload["weights"][s]) for s in there}, budget, floor=floor)
        over = excess(explored.frames, explored.scores, explored.floor)
        needs = dict.fromkeys(there, 0.0)
        for atoms, own in zip(explored.frames, over, strict=True):
            needs[str(atoms.info[keys.SYSTEM])] += float(own.sum())
        return share_labels(needs, budget, floor=floor)

    def _of(self, explored: Explored, budget: int) -> tuple[list[Site], dict[Site, float], dict[str, float]]:
        """Sites for so many labels, best first; of a batch by coverage their predicted s, and what is known of it.

        ``cheapest`` and ``limit`` are told where no site costs as little as the limit.
        """
        wanted = 4 * budget + 8
        if self.settings.ranking == "coverage":
            selector = self._coverage(explored, budget)
            found = selector.choose(explored.frames, explored.scores, wanted)
            best, limit = found.covers, selector.budget_seconds
            told = {
                "covers": best.value,
                "at_least": best.value / best.bound if best.bound > 0 else 1.0,
                "core_seconds": found.seconds,
                "fragments": found.n_batch,
            }
            if limit is not None and limit < found.cheapest < np.inf:
                told |= {"cheapest": found.cheapest, "limit": limit}
            return found.sites, dict(zip(found.sites, found.costs, strict=True)), told
        by_rank: Selector = FrameSelector()
        if isinstance(self.rule, SphericalCut):
            by_rank = AtomSelector(per_frame=self.settings.per_frame)
        elif not isinstance(self.rule, WholeStructure):
            by_rank = replace(self.settings.build(), along=self.along)
        return by_rank.select(explored.frames, explored.scores, budget=wanted, rng=self.rng), {}, {}

    def _coverage(self, explored: Explored, batch: int) -> CoverageSelector:
        payload = self.payload
        known = self.place.annotated(learned_from(payload))
        cost, electrons = cost_model(payload["known"], self.place), _Electrons.of(known)
        return CoverageSelector(
            features=explored.features,
            groups=[groups_of(a, self.rule, self.along) for a in explored.frames],
            known_features=np.concatenate([self.potential.features(a) for a in known]),
            known_numbers=np.concatenate([a.numbers for a in known]).astype(np.int64),
            seconds=lambda cores: _seconds(cost, electrons.of_fragments(cores)),
            batch=batch,
            budget_seconds=_part(self.seconds, batch, int(payload["budget"])),
            floor=explored.floor,
        )


def learned_from(payload: Mapping[str, Any]) -> list[str]:
    """Labels that a potential learns from, now or once they are there: a fragment whose label failed teaches nothing,
    and what is like it is as little known as before."""
    without = {*payload["held_out"], *payload.get("failed", ())}
    return [k for k in payload["known"] if k not in without]


def _part(seconds: float | None, batch: int, budget: int) -> float | None:
    """The part of an iteration's core time that goes with a part of its labels."""
    return None if seconds is None else seconds * batch / max(budget, 1)


def _seconds(cost: CostModel, electrons: FloatArray) -> FloatArray:
    return np.asarray(cost.prefactor * np.maximum(electrons, 1.0) ** cost.exponent, dtype=np.float64)


@dataclass(frozen=True)
class _Electrons:
    """Valence electrons of a fragment from those of its core, before it is cut: the median of the fragments so far with
    as many in the core, or else the median of what mantle and termination add."""

    known: Mapping[int, float]
    added: float

    @classmethod
    def of(cls, fragments: Sequence[Atoms]) -> _Electrons:
        totals: dict[int, list[float]] = {}
        for a in fragments:
            own = valence_electrons(np.asarray(a.numbers, dtype=np.int64))
            region = a.arrays.get(keys.REGION)
            core = own if region is None else own[np.asarray(region).astype(str) == "core"]
            totals.setdefault(int(core.sum()), []).append(float(own.sum()))
        added = [t - core for core, own in totals.items() for t in own]
        return cls({c: float(np.median(t)) for c, t in totals.items()}, float(np.median(added)) if added else 0.0)

    def of_fragments(self, cores: FloatArray) -> FloatArray:
        return np.array([self.known.get(round(c), c + self.added) for c in cores.tolist()])
