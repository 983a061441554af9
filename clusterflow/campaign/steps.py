"""Plans that go step by step: generators that yield the keys of the tasks they wait for, and go on when all have ended.

A step looks at no outcome that it has not waited for, and writes down what it decides before anything follows from it.
So it makes no difference when it is asked to go on and how often, nor whether it was begun anew from the journal in
between: it asks for the same tasks and decides the same. A campaign that goes on costs what has changed, and one that
is opened again walks once through what is done.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from clusterflow.campaign.desk import Desk
from clusterflow.campaign.tasks import PlanStopped

T = TypeVar("T")
Steps: TypeAlias = Generator[Sequence[str], None, T]
"""Yields keys of tasks; none: it waits for another course, and looks again at the next plan."""


class StepDesk(Desk):
    """A desk for what goes step by step; knows everything that was decided here, and where the campaign stands."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, Mapping[str, Any]] = {}
        """Every decision since the beginning of the campaign."""
        self.stage = "start"
        self.iteration = 0

    def done(self, key: str) -> bool:
        """Whether a task has ended well."""
        found = self.outcome(key)
        return found is not None and found.status == "done"

    def wait(self, keys: Collection[str]) -> Steps[None]:
        """Until all of these have ended."""
        missing = [k for k in keys if self.outcome(k) is None]
        if missing:
            yield missing

    def result(self, key: str, what: str) -> Steps[Mapping[str, Any]]:
        """The summary of a task without which the campaign cannot go on; it raises `PlanStopped` if that failed."""
        yield from self.wait([key])
        found = self.required(key, what)
        assert found is not None
        return found

    def decide(self, name: str, value: Mapping[str, Any]) -> None:
        super().decide(name, value)
        self.taken[name] = value

    def decided(self, name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """What was decided under this name before, else ``value``; either way it is decided now."""
        kept = self.kept(name)
        self.decide(name, value if kept is None else kept)
        return self.taken[name]


class Course:
    """Steps on their way."""

    def __init__(self, steps: Steps[None]) -> None:
        self._steps = steps
        self.over = False
        self.waits_for: Sequence[str] = ()
        """What has to end before it goes on; empty while it is not over: it waits for another course."""

    def go_on(self, desk: Desk) -> None:
        """As far as the outcomes allow.

        Raises
        ------
        PlanStopped
            It cannot go on, now or later.
        """
        while not self.over:
            self.waits_for = [k for k in self.waits_for if desk.outcome(k) is None]
            if self.waits_for:
                return
            try:
                self.waits_for = next(self._steps)
            except StopIteration:
                self.over = True
            except PlanStopped:
                self.over = True
                raise
            else:
                if not self.waits_for:
                    return
