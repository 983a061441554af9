"""Walks of a streaming campaign, one after the other, and the selections from those that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from clusterflow.campaign.split import shares
from clusterflow.campaign.tasks import Payloads
from clusterflow.config.systems import NPT
from clusterflow.explore.schedule import steps_for
from clusterflow.explore.walkers import WalkerConditions, draw_conditions


@dataclass(slots=True)
class Walk:
    """One walk: with which version, in which place of which round of the walkers, how long; its task."""

    number: int
    version: int
    round: int
    walker: int
    steps: int
    task: str = ""
    ended: bool = False
    sane: bool = False
    """It has a frame."""

    def to_json(self) -> dict[str, Any]:
        """The decision to journal."""
        return {
            "task": self.task,
            "version": self.version,
            "round": self.round,
            "walker": self.walker,
            "steps": self.steps,
        }

    @classmethod
    def from_json(cls, number: int, data: Mapping[str, Any]) -> Walk:
        """The inverse of `to_json`."""
        version, round_, walker, steps = (int(data[k]) for k in ("version", "round", "walker", "steps"))
        return cls(number, version, round_, walker, steps, task=str(data["task"]))


@dataclass(slots=True)
class Acquisition:
    """One selection: the walks it looks at, the version it scores with, how many fragments it may ask for.

    ``rest`` is the part of a fragment that the walks' shares add up to beyond ``budget``; ``splits`` and
    ``labels_left`` are what certified fragments learn from, and ``failed`` the labels that had failed by then.
    """

    number: int
    version: int
    walks: tuple[int, ...]
    budget: int
    rest: Fraction
    pool: str
    splits: int
    labels_left: int | None
    failed: tuple[str, ...] = ()
    task: str = ""
    found: int | None = None
    """Fragments that it found; None: not ended."""

    def to_json(self) -> dict[str, Any]:
        """The decision to journal."""
        return {
            "task": self.task,
            "version": self.version,
            "walks": list(self.walks),
            "budget": self.budget,
            "rest": [self.rest.numerator, self.rest.denominator],
            "pool": self.pool,
            "splits": self.splits,
            "labels_left": self.labels_left,
            **({"failed": list(self.failed)} if self.failed else {}),
        }

    @classmethod
    def from_json(cls, number: int, data: Mapping[str, Any]) -> Acquisition:
        """The inverse of `to_json`."""
        left = data["labels_left"]
        return cls(
            number,
            version=int(data["version"]),
            walks=tuple(int(w) for w in data["walks"]),
            budget=int(data["budget"]),
            rest=Fraction(*data["rest"]),
            pool=str(data["pool"]),
            splits=int(data["splits"]),
            labels_left=None if left is None else int(left),
            failed=tuple(data.get("failed", ())),
            task=str(data["task"]),
        )


class WalkDraw:
    """What each walk gets. Walker p of round r has the conditions of walker p of iteration r in the synchronous loop,
    and with version v the length of iteration v + 1 there."""

    def __init__(self, payloads: Payloads) -> None:
        self._payloads, config = payloads, payloads.config
        self._counts = shares([s.weight for s in config.systems], config.explore.walkers)
        self.width = sum(self._counts)
        """Walkers at once."""
        self._drawn: dict[tuple[int, int], list[WalkerConditions]] = {}

    def next(self, before: Walk | None, version: int) -> Walk:
        """The walk after this one."""
        number = before.number + 1 if before else 1
        wraps = before is None or before.walker + 1 >= self.width
        schedule = self._payloads.config.explore.steps
        return Walk(
            number,
            version=version,
            round=(before.round if before else 0) + wraps,
            walker=0 if before is None or wraps else before.walker + 1,
            steps=steps_for(version, first=schedule.first, growth=schedule.growth, maximum=schedule.maximum),
        )

    def payload(self, walk: Walk, model: str) -> dict[str, Any]:
        """Payload of its task."""
        place, system = walk.walker % self.width, 0
        while place >= self._counts[system]:
            place -= self._counts[system]
            system += 1
        known = self._payloads.inputs.systems[system]
        return self._payloads.walk(model, known, self._conditions(walk.round, system)[place], walk.steps)

    def _conditions(self, number: int, system: int) -> list[WalkerConditions]:
        if (number, system) not in self._drawn:
            for old in [k for k in self._drawn if k[0] < number - 1]:
                del self._drawn[old]
            section, known = self._payloads.config.systems[system], self._payloads.inputs.systems[system]
            ensemble = section.resolved_ensemble(periodic=known.periodic)
            self._drawn[number, system] = draw_conditions(
                self._counts[system],
                temperature_K=ensemble.temperature,
                pressure_GPa=ensemble.pressure if isinstance(ensemble, NPT) else None,
                campaign_seed=self._payloads.config.seed,
                iteration=number,
                system=section.name,
            )
        return self._drawn[number, system]
