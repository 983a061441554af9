"""The only place that waits: sends what the plan wants, journals what comes back, until the plan is finished."""

from __future__ import annotations

import heapq
import itertools
import math
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from clusterflow.campaign.failures import FailureRate
from clusterflow.campaign.planner import Planner, Planning
from clusterflow.campaign.property_graph import PropertyInputs
from clusterflow.campaign.tasks import ORDER, SPARE, Inputs, Plan
from clusterflow.config.campaign import Campaign
from clusterflow.config.properties import PropertyRun
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
_OF_PROPERTIES = ("property", "structure", "freedom", "ratio", "repeat", "atoms")
_Place = tuple[float, int, int]
"""Where a task stands among those that wait to be sent."""


class Interrupted(Exception):  # noqa: N818
    """The user or the scheduler asked to stop; the campaign resumes with the next `clusterflow run`."""


class Paused(Interrupted):
    """Too much failed (`failures:`); the message says what. Journaled; resumes with the next `clusterflow run`."""


@dataclass(slots=True)
class Loop:
    """One driver's run of a campaign.

    Results are taken one by one, and after each the plan is asked again, so what is decided follows from the order of
    the results in the journal and from nothing else. After a death, results that are there but not in the journal come
    in the order in which their tasks were sent: with workers that end in that order, a campaign that was killed at any
    moment decides the same as one that was not.

    ``published`` looks for a result that a worker has left behind (it may raise `ScienceError` for a failure on
    record); ``watch`` is called with every new event and after each wait; ``stop`` says whether to stop now.
    """

    config: Campaign | PropertyRun
    inputs: Inputs | PropertyInputs
    snapshot: Snapshot
    journal: Journal
    engine: Engine
    published: Callable[[Task], TaskResult | None]
    watch: Callable[[Event | None, Plan, int], None]
    stop: Callable[[], bool]
    planner: Planning | None = None
    """Another plan than a campaign's, for what else runs in this way."""
    _flight: dict[str, tuple[Future[TaskResult], Task]] = field(default_factory=dict)
    _ended: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    """Keys of tasks whose futures have ended; filled by the engine's threads."""
    _waiting: list[tuple[_Place, Task]] = field(default_factory=list)
    """A heap: wanted, and not looked for yet."""
    _ready: dict[str, tuple[_Place, Task, Future[TaskResult] | None]] = field(default_factory=dict)
    """Wanted and looked for; with a future if a result was there already."""
    _count: Iterator[int] = field(default_factory=itertools.count)
    _lost_in_a_row: int = 0
    _plan: Plan = field(default_factory=Plan)
    _rate: FailureRate = field(init=False)
    _planner: Planning = field(init=False)
    _timer: tuple[str, float] = ("", 0.0)
    """The decision that waits for its time, and since when (s, monotonic)."""

    def __post_init__(self) -> None:
        self._rate = FailureRate(self.config.failures)
        if self.planner is not None:
            self._planner = self.planner
        elif isinstance(self.config, Campaign) and isinstance(self.inputs, Inputs):
            self._planner = Planner(self.config, self.inputs)
        else:
            raise TypeError("what is not a campaign needs a planner")

    def run(self) -> Plan:
        """Until the plan has finished or failed.

        Raises
        ------
        Interrupted
            ``stop`` said so, or (`Paused`) too much failed; what was in flight is lost, what was published is not.
        StateError, InputError, ExecutionError
            Something that no other task can work around.
        """
        while True:
            if self.stop():
                raise Interrupted
            self._plan = self._planner.plan(self.snapshot)
            for task in self._planner.take_asked():
                if not self._on_its_way(task.key):
                    self._want(task)
            if self._decide():
                continue
            if self._plan.finished or (self._plan.failed and not self._labels_in_flight()):
                return self._plan
            if self._plan.failed or not self._send():
                self._collect()

    @property
    def in_flight(self) -> int:
        """Tasks that have been sent and have not come back; after the end, those that nobody waits for."""
        return len(self._flight)

    def _labels_in_flight(self) -> bool:
        """What is worth waiting for when a campaign cannot go on: labels are kept for whatever comes next."""
        return any(task.kind == "label" for _, task in self._flight.values())

    def _decide(self) -> bool:
        """Journals what the plan decided, and first that what had followed from another configuration is retired.
        True if anything was journaled: then the plan is made again, for what it has become."""
        decided = self.snapshot.decisions
        retired = [name for name in self._plan.retired if name in decided]
        new = {name: v for name, v in self._plan.decisions.items() if decided.get(name) != v}
        due = self._due()
        if not (retired or new or due):
            return False
        with self.journal.batch():
            if retired:
                self._write("retired", names=retired)
            for name, value in new.items():
                self._write("decision", name=name, value=dict(value))
            if due and not new:
                self._write("decision", name=due, value={"after": self._plan.timer[1] if self._plan.timer else 0.0})
        self._planner.decided()
        return True

    def _due(self) -> str:
        """The decision whose time has come. The clock starts anew with each driver."""
        name, seconds = self._plan.timer or ("", 0.0)
        now = time.monotonic()
        if name != self._timer[0]:
            self._timer = (name, now)
        return name if name and now - self._timer[1] >= seconds else ""

    def _want(self, task: Task) -> None:
        """Puts a task in line: what was sent before in that order, then what the others wait for, then as asked."""
        sent = self.snapshot.sent.get(task.key)
        place = (sent.first if sent else math.inf, ORDER.index(task.kind), next(self._count))
        heapq.heappush(self._waiting, (place, task))

    def _send(self) -> bool:
        """Sends what is wanted and not in flight; True if something had ended before it was ever sent (a label of
        another campaign): then the plan comes first, as if it had been there from the beginning."""
        self._pause_if_failing()
        while self._waiting:
            place, task = heapq.heappop(self._waiting)
            if self._on_its_way(task.key) or task.key not in self._plan.open:
                continue
            found, error = self._look_for(task)
            if (found or error) and task.key not in self.snapshot.sent:
                if error is not None:
                    self._failed(task, error, final=True)
                elif found is not None:
                    self._done(task, found, cached=True)
                return True
            self._ready[task.key] = (place, task, _ended_future(found, error) if found or error else None)
        ready = [r for r in sorted(self._ready.values(), key=lambda r: r[0]) if r[1].key in self._plan.open]
        self._ready.clear()
        with self.journal.batch():  # on the disk before the first of them is sent
            for _, task, there in ready:
                if there is None:
                    self._write("sent", key=task.key, task=task.kind, lane=task.lane, what=describe(task))
        for _, task, there in ready:
            future = there or self.engine.submit(task)
            self._flight[task.key] = (future, task)
            future.add_done_callback(lambda _, key=task.key: self._ended.put(key))  # type: ignore[misc]
        return False

    def _on_its_way(self, key: str) -> bool:
        return key in self._flight or key in self._ready or key in self.snapshot.outcomes

    def _look_for(self, task: Task) -> tuple[TaskResult | None, ScienceError | None]:
        """The result that is published for this task, or the failure that is on record."""
        try:
            return self.published(task), None
        except ScienceError as error:
            return None, error

    def _pause_if_failing(self) -> None:
        found = self._rate.too_many()
        if found is not None:
            self._write("paused", reason=str(found), task=found.kind, failed=found.failed, of=found.of)
            raise Paused(str(found))

    def _collect(self) -> None:
        """Waits for something to end, or for a moment; takes the first that has ended."""
        try:
            key = self._ended.get(timeout=_POLL)
        except queue.Empty:
            self.watch(None, self._plan, len(self._flight))
            return
        future, task = self._flight.pop(key)
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

    def _machinery(self, task: Task, error: Exception) -> None:
        attempts = self.snapshot.attempts.get(task.key, 0) + 1
        given_up = attempts >= MAX_ATTEMPTS
        # One label that kills its workers (too big for the memory, say) is a failed label; several in a row with
        # nothing done in between are a broken machine.
        self._lost_in_a_row += given_up
        spare = task.kind in SPARE and self._lost_in_a_row < MAX_LOST
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
        if not given_up:
            self._want(task)

    def _done(self, task: Task, result: TaskResult, *, cached: bool = False) -> None:
        self._lost_in_a_row = 0
        if not cached:
            self._rate.saw(task.kind)
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
        self._planner.ended(task.key)

    def _failed(self, task: Task, error: BaseException, *, final: bool) -> None:
        reason = error.what if isinstance(error, ClusterflowError) else f"{type(error).__name__}: {error}"
        where = error.where if isinstance(error, ClusterflowError) else ""
        if final and task.key in self.snapshot.sent:  # what another campaign put on record cost nothing here
            self._rate.saw(task.kind, reason)
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
        if final:
            self._planner.ended(task.key)

    def _write(self, kind: str, **data: Any) -> None:
        event = self.journal.append(kind, **data)
        self.snapshot.apply(event)
        self.watch(event, self._plan, len(self._flight))


def _ended_future(result: TaskResult | None, error: ScienceError | None) -> Future[TaskResult]:
    future: Future[TaskResult] = Future()
    if error is not None:
        future.set_exception(error)
    elif result is not None:
        future.set_result(result)
    return future


def describe(task: Task) -> dict[str, Any]:
    """The few words about a task that a person wants to read in the journal."""
    wanted = ("system", "temperature_K", "pressure_GPa", "steps", "final", "index", *_OF_PROPERTIES)
    return {k: task.payload[k] for k in wanted if k in task.payload}
