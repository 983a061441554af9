"""Where plans ask for tasks and take decisions, so that both are asked for and taken once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterflow.campaign.tasks import WEEK, Plan, PlanStopped, task_key
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot


class Desk:
    """Open tasks, outcomes and decisions. Decisions of the plan in the making count as taken."""

    def __init__(self) -> None:
        self.open: dict[str, Task] = {}
        """Tasks that are wanted and have not ended, in the order in which they were asked for."""
        self.out = Plan()
        self.snapshot = Snapshot()
        self._ended: list[str] = []

    def begin(self, snapshot: Snapshot, ended: Sequence[str] = ()) -> Plan:
        """A new plan for this snapshot; ``ended``: keys of the tasks that have ended since the last one."""
        self.snapshot, self.out = snapshot, Plan(open=self.open)
        self._ended += ended
        return self.out

    def take_ended(self) -> list[tuple[Task, Outcome]]:
        """Open tasks that have ended since this was asked last; they are open no more."""
        ended, self._ended = self._ended, []
        tasks = [self.open.pop(key) for key in ended if key in self.open]
        return [(task, self.snapshot.outcomes[task.key]) for task in tasks]

    def ask(self, kind: str, lane: str, payload: Mapping[str, Any], *, key: str = "", limit: float = WEEK) -> str:
        """Wants a task, unless it has ended; returns its key."""
        key = key or task_key(kind, payload)
        if key not in self.snapshot.outcomes and key not in self.open:
            self.open[key] = Task(kind, key, lane, payload, time_limit=limit)
            self.out.asked.append(self.open[key])
        return key

    def outcome(self, key: str) -> Outcome | None:
        """How a task has ended; None: not yet."""
        return self.snapshot.outcomes.get(key)

    def required(self, key: str, what: str) -> Mapping[str, Any] | None:
        """The summary of a task without which the campaign cannot go on; None: not yet.

        Raises
        ------
        PlanStopped
            It failed.
        """
        found = self.outcome(key)
        if found is not None and found.status == "failed":
            raise PlanStopped(f"{what} failed: {found.reason}")
        return found.summary if found else None

    def kept(self, name: str) -> Mapping[str, Any] | None:
        """What was decided under this name, if anything was."""
        if name in self.out.retired:
            return None
        return self.out.decisions.get(name, self.snapshot.decisions.get(name))

    def decide(self, name: str, value: Mapping[str, Any]) -> None:
        """Decides, to be journaled if it is new or other than before."""
        if self.kept(name) != value:
            self.out.decisions[name] = value

    def withdraw(self, name: str) -> None:
        """A decision that no longer holds."""
        self.out.decisions.pop(name, None)
        if name in self.snapshot.decisions:
            self.out.retired.append(name)
