"""The only place that waits: sends what the plan wants, journals what comes back, until the plan is finished."""

from __future__ import annotations

import concurrent.futures
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from clusterflow.campaign.plan import Inputs, Plan, plan
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task, TaskResult
from clusterflow.core.protocols import Engine
from clusterflow.errors import (
    ClusterflowError,
    ExecutionError,
    InputError,
    ScienceError,
    StateError,
    WorkerLostError,
)
from clusterflow.state.journal import Event, Journal
from clusterflow.state.snapshot import Snapshot

MAX_ATTEMPTS = 3
"""How often a task is sent when the machinery, not the work, fails."""
MAX_LOST = 3
"""How many labels or walkers in a row may be given up because of that before the machine is taken to be broken."""
_POLL = 0.5  # s


class Interrupted(Exception):  # noqa: N818
    """The user or the scheduler asked to stop; the campaign resumes with the next `clusterflow run`."""


@dataclass(slots=True)
class Loop:
    """One driver's run of a campaign.

    ``published`` looks for a result that a worker has left behind (it may raise `ScienceError` for a failure on
    record); ``watch`` is called with every new event and after each wait; ``stop`` says whether to stop now.
    """

    config: Campaign
    inputs: Inputs
    snapshot: Snapshot
    journal: Journal
    engine: Engine
    published: Callable[[Task], TaskResult | None]
    watch: Callable[[Event | None, Plan, int], None]
    stop: Callable[[], bool]
    _flight: dict[Future[TaskResult], Task] = field(default_factory=dict)
    _lost_in_a_row: int = 0
    _plan: Plan = field(default_factory=Plan)

    def run(self) -> Plan:
        """Until the plan has finished or failed.

        Raises
        ------
        Interrupted
            ``stop`` said so; what was in flight is lost, what was published is not.
        StateError, InputError, ExecutionError
            Something that no other task can work around.
        """
        while True:
            if self.stop():
                raise Interrupted
            self._plan = plan(self.config, self.inputs, self.snapshot)
            if self._decide():
                continue
            if (self._plan.finished or self._plan.failed) and not self._flight:
                return self._plan
            if self._plan.failed:
                self._collect()
                continue
            if not self._send():
                self._collect()

    def _decide(self) -> bool:
        """Journals what the plan decided. True if a decision changed (another configuration): then what had followed
        from the old one is retired, and the plan is made again without it."""
        decided, plan = self.snapshot.decisions, self._plan.decisions
        changed = [iteration_of(name) for name, value in plan.items() if decided.get(name, value) != value]
        if changed:
            stale = [n for n in decided if n not in plan and iteration_of(n) >= min(changed)]
            if stale:
                self._write("retired", names=stale)
        for name, value in plan.items():
            if decided.get(name) != value:
                self._write("decision", name=name, value=dict(value))
        return bool(changed)

    def _send(self) -> bool:
        """Sends what is not in flight; True if something ended at once (a published result), so plan again."""
        flying = {t.key for t in self._flight.values()}
        ended = False
        for task in self._plan.tasks:
            if task.key in flying or task.key in self.snapshot.outcomes:
                continue
            try:
                found = self.published(task)
            except ScienceError as error:
                self._failed(task, error, final=True)
                ended = True
                continue
            if found is not None:
                self._done(task, found, cached=task.key not in self.snapshot.sent)
                ended = True
                continue
            self._write("sent", key=task.key, task=task.kind, lane=task.lane, what=describe(task))
            self._flight[self.engine.submit(task)] = task
        return ended

    def _collect(self) -> None:
        """Waits for something to end, or for a moment."""
        if not self._flight:
            time.sleep(_POLL)
            return
        done, _ = concurrent.futures.wait(self._flight, timeout=_POLL, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in [f for f in self._flight if f in done]:  # in the order sent, whatever the order of the set
            task = self._flight.pop(future)
            error = future.exception()
            if error is None:
                self._done(task, future.result())
            elif isinstance(error, ScienceError):
                self._failed(task, error, final=True)
            elif isinstance(error, (StateError, InputError)):
                self._failed(task, error, final=False)
                raise error
            elif isinstance(error, Exception):
                self._machinery(task, error)
            else:
                raise error
        self.watch(None, self._plan, len(self._flight))

    def _machinery(self, task: Task, error: Exception) -> None:
        attempts = self.snapshot.attempts.get(task.key, 0) + 1
        given_up = attempts >= MAX_ATTEMPTS
        # One label that kills its workers (too big for the memory, say) is a failed label; several in a row with
        # nothing done in between are a broken machine.
        self._lost_in_a_row += given_up
        spare = task.kind in ("label", "explore") and self._lost_in_a_row < MAX_LOST
        self._failed(task, error, final=given_up and spare)
        if given_up and not spare:
            # "It is tried again" is not true any more; what else an error advises is.
            own = error.todo + " " if isinstance(error, ExecutionError) and type(error) is not WorkerLostError else ""
            raise ExecutionError(
                f"The {task.kind} task {task.key[:16]} was sent {attempts} times; each time the machinery failed: "
                f"{getattr(error, 'what', error)}",
                where=getattr(error, "where", ""),
                todo=f"{own}`clusterflow doctor` tests the machine; then `clusterflow run` again: nothing published is "
                "lost.",
            )

    def _done(self, task: Task, result: TaskResult, *, cached: bool = False) -> None:
        self._lost_in_a_row = 0
        self._write(
            "done",
            key=task.key,
            task=task.kind,
            summary=dict(result.summary),
            wall_time=result.wall_time,
            cores=result.cores,
            peak_memory_MB=result.peak_memory_MB,
            cached=cached,
        )

    def _failed(self, task: Task, error: BaseException, *, final: bool) -> None:
        reason = error.what if isinstance(error, ClusterflowError) else f"{type(error).__name__}: {error}"
        where = error.where if isinstance(error, ClusterflowError) else ""
        self._write(
            "failed",
            key=task.key,
            task=task.kind,
            what=describe(task),
            error=type(error).__name__,
            reason=reason,
            where=where,
            final=final,
            wall_time=getattr(error, "core_seconds", 0.0),
            cores=1,
        )

    def _write(self, kind: str, **data: Any) -> None:
        event = self.journal.append(kind, **data)
        self.snapshot.apply(event)
        self.watch(event, self._plan, len(self._flight))


def iteration_of(decision: str) -> int:
    """Which iteration a decision belongs to; the one to stop comes after all others."""
    part = decision.split("/")[1] if "/" in decision else ""
    return int(part) if part.isdigit() else sys.maxsize


def describe(task: Task) -> dict[str, Any]:
    """The few words about a task that a person wants to read in the journal."""
    wanted = ("system", "temperature_K", "pressure_GPa", "steps", "final", "index")
    return {k: task.payload[k] for k in wanted if k in task.payload}
