"""Asks for the plan when it can have changed, and not more often: what a driver, or a simulation of one, calls."""

from __future__ import annotations

from typing import Protocol

from clusterflow.campaign.plan import Cycle
from clusterflow.campaign.streaming import Stream
from clusterflow.campaign.tasks import Inputs, Payloads, Plan
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Snapshot


class Planning(Protocol):
    """What the loop asks: the plan for a snapshot; it is told what has happened since."""

    def plan(self, snapshot: Snapshot) -> Plan: ...
    def take_asked(self) -> list[Task]: ...
    def ended(self, key: str) -> None: ...
    def decided(self) -> None: ...


class Planner:
    """The plan of a campaign while it runs. Say with `ended` and `decided` what has happened; `plan` then gives what
    the pure function would give for the snapshot, but keeps what cannot have changed."""

    def __init__(self, config: Campaign, inputs: Inputs) -> None:
        payloads = Payloads(config, inputs)
        streams = config.loop.kind == "streaming"
        self._loop: Stream | Cycle = Stream(config, payloads) if streams else Cycle(config, payloads)
        self._plan = Plan()
        self._stale = True
        self._ended: list[str] = []
        self._asked: list[Task] = []
        self._waits_for: set[str] = set()

    def plan(self, snapshot: Snapshot) -> Plan:
        """The plan for this snapshot."""
        if self._stale:
            ended, self._ended = self._ended, []
            self._plan = self._loop.plan(snapshot, ended)
            self._asked += self._plan.asked
            self._waits_for = set(self._plan.waits_for)
            self._stale = False
        return self._plan

    def take_asked(self) -> list[Task]:
        """Tasks of the plan that have not been given yet."""
        asked, self._asked = self._asked, []
        return [task for task in asked if task.key in self._plan.open]

    def ended(self, key: str) -> None:
        """A task has ended, well or for good."""
        self._ended.append(key)
        self._waits_for.discard(key)
        self._stale = self._stale or not self._waits_for

    def decided(self) -> None:
        """Decisions were journaled."""
        self._stale = True


def plan_once(config: Campaign, inputs: Inputs, snapshot: Snapshot) -> Plan:
    """The plan for a snapshot, from nothing: a pure function, whichever loop the campaign has."""
    return Planner(config, inputs).plan(snapshot)
