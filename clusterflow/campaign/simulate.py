"""A campaign without its work: the real plan, driven by an event simulation in which tasks only take time.

It answers how long a campaign would take, what would stand idle, and how old the potentials are that ask for labels,
on any number of workers. What tasks find is reduced to what the plan needs: each walk ends sane, each selection finds
as many fragments as it may ask for, a given share of labels fails. Errors and novelty are not predicted: criteria that
look at them never end a simulated campaign, so it runs to its bounds (iterations, labels, core hours).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterflow.campaign.lag import mean_lag, model_lag
from clusterflow.campaign.planner import Planner
from clusterflow.campaign.task_times import Times
from clusterflow.campaign.tasks import Inputs, Plan
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task
from clusterflow.core.frames import digest
from clusterflow.errors import InputError
from clusterflow.state.snapshot import Outcome, Snapshot


@dataclass(frozen=True, slots=True)
class Workforce:
    """``workers`` per lane; ``cores`` of one task per lane (1 where not given) and in all (0: as many as wanted)."""

    workers: Mapping[str, int]
    cores_per_worker: Mapping[str, int] = field(default_factory=dict)
    cores: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """``seconds`` of wall time; ``busy`` lane → fraction of its workers that worked, over the whole run; ``lag`` mean
    model lag in versions (None: no label was trained on after a walk); ``core_hours`` of all tasks; ``ended``: why."""

    seconds: float
    busy: Mapping[str, float]
    labels: int
    iterations: int
    tasks: int
    lag: float | None
    core_hours: float
    ended: str

    @property
    def labels_per_hour(self) -> float:
        return self.labels / self.seconds * 3600.0 if self.seconds else 0.0


def simulate(
    config: Campaign,
    inputs: Inputs,
    workforce: Workforce,
    times: Times,
    *,
    latency: float = 0.0,
    label_failures: float = 0.0,
    seed_frames: int = 0,
    most: int = 5_000_000,
    begun: Snapshot | None = None,
) -> Prediction:
    """Runs the plan of a campaign to its end in simulated time.

    Parameters
    ----------
    times
        Seconds per kind of task.
    latency
        s that every task spends between driver and worker, in addition.
    label_failures
        Share of labels that fail, after the time of one that does not.
    seed_frames
        Frames of the seed dataset, for a campaign that starts from one.
    most
        Tasks after which the simulation is given up.
    begun
        State of a campaign to go on from: then the time is what is left, and tasks under way begin anew.

    Raises
    ------
    InputError
        A lane without workers, or a campaign that does not come to an end.
    """
    run = _Run(config, inputs, _Work(times, _Lanes(workforce), latency, label_failures, seed_frames), begun)
    while not ((plan := run.settled()).finished or plan.failed):
        run.start(plan)
        if not run.ends or len(run.snapshot.outcomes) > most:
            raise InputError(
                f"The simulated campaign does not end: {len(run.snapshot.outcomes)} tasks, stage '{plan.stage}'.",
                where=config.name,
                todo="Give it a bound: `iterations:`, `labels:` or `core_hours:` under `stop:`.",
            )
        run.advance(plan)
    snapshot, lanes, clock = run.snapshot, run.work.lanes, run.clock
    return Prediction(
        seconds=clock,
        busy={n: min(1.0, lanes.busy[n] / (w * clock)) if clock else 0.0 for n, w in workforce.workers.items()},
        labels=sum(o.kind == "label" and o.status == "done" for o in snapshot.outcomes.values()),
        iterations=plan.iteration,
        tasks=len(snapshot.outcomes),
        lag=mean_lag(model_lag(snapshot)),
        core_hours=snapshot.core_hours,
        ended=plan.finished or plan.failed,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """What tasks cost and give."""

    times: Times
    lanes: _Lanes
    latency: float
    label_failures: float
    seed_frames: int


class _Run:
    """A driver in simulated time, as `loop` is one in real time. ``ends``: when what runs will have ended, or (a name)
    when a decision falls due."""

    def __init__(self, config: Campaign, inputs: Inputs, work: _Work, begun: Snapshot | None) -> None:
        self._config, self.work = config, work
        self._planner = Planner(config, inputs)
        self.snapshot = Snapshot()
        if begun is not None:
            self.snapshot.outcomes.update(begun.outcomes)
            self.snapshot.decisions.update(begun.decisions)
        self.clock = 0.0
        self.ends: list[tuple[float, int, Task | str]] = []
        self._order = itertools.count()
        self._flying: set[str] = set()
        self._timer = ""

    def settled(self) -> Plan:
        """The plan, once all its decisions are taken."""
        while True:
            plan, decided = self._planner.plan(self.snapshot), self.snapshot.decisions
            new = {name: v for name, v in plan.decisions.items() if decided.get(name) != v}
            if not (new or plan.retired):
                return plan
            for name in plan.retired:
                decided.pop(name, None)
            decided.update(new)
            self._planner.decided()

    def start(self, plan: Plan) -> None:
        """Sends what is wanted; what has a free worker starts now."""
        lanes = self.work.lanes
        for task in self._planner.take_asked():
            if task.key not in self._flying and task.key not in self.snapshot.outcomes:
                self._flying.add(task.key)
                lanes.submit(task)
        for task in lanes.start():
            seconds = self._seconds(task) + self.work.latency
            lanes.busy[task.lane] += seconds
            self._put(seconds, task)
        if plan.timer is not None and plan.timer[0] != self._timer:
            self._timer = plan.timer[0]
            self._put(plan.timer[1], self._timer)

    def advance(self, plan: Plan) -> None:
        """To the next end."""
        self.clock, _, what = heapq.heappop(self.ends)
        if isinstance(what, Task):
            self._flying.discard(what.key)
            self.work.lanes.free(what)
            self.snapshot.outcomes[what.key] = self._outcome(what)
            self._planner.ended(what.key)
        elif plan.timer is not None and plan.timer[0] == what:
            self.snapshot.decisions[what] = {"after": plan.timer[1]}
            self._planner.decided()

    def _put(self, seconds: float, what: Task | str) -> None:
        heapq.heappush(self.ends, (self.clock + seconds, next(self._order), what))

    def _seconds(self, task: Task) -> float:
        if task.kind == "label" and task.payload["source_kind"] == "start" and self._config.start.kind == "dataset":
            return 0.0  # came with the seed dataset
        return self.work.times[task.kind].seconds(task)

    def _outcome(self, task: Task) -> Outcome:
        """What the plan needs to know of a task's result, and no more."""
        wall, cores = self._seconds(task), self.work.lanes.cores(task)
        if task.kind == "label" and int(digest("fails", task.key)[:8], 16) / 16**8 < self.work.label_failures:
            return Outcome("failed", task.kind, reason="simulated failure", wall_time=wall, cores=cores)
        return Outcome("done", task.kind, _summary(task, self.work.seed_frames), wall_time=wall, cores=cores)


class _Lanes:
    """Which task starts when: the engine's rule. A task starts when its lane has a free worker and the machine its
    cores, in the order of submission; one that waits for cores holds back later ones."""

    def __init__(self, force: Workforce) -> None:
        for name, workers in force.workers.items():
            if workers < 1:
                raise InputError(f"Lane '{name}' has {workers} workers.", todo="Give each lane one or more.")
        self.force = force
        self.busy = dict.fromkeys(force.workers, 0.0)
        self._free = dict(force.workers)
        self._cores: float = force.cores or math.inf
        self._queues: dict[str, deque[tuple[int, Task]]] = {name: deque() for name in force.workers}
        self._count = itertools.count()

    def cores(self, task: Task) -> int:
        return self.force.cores_per_worker.get(task.lane, 1)

    def submit(self, task: Task) -> None:
        self._queues[task.lane].append((next(self._count), task))

    def start(self) -> list[Task]:
        """The tasks that start now."""
        started = []
        while heads := [(q[0][0], name) for name, q in self._queues.items() if q and self._free[name]]:
            task = self._queues[min(heads)[1]][0][1]
            if self.cores(task) > self._cores:
                break
            self._queues[task.lane].popleft()
            self._free[task.lane] -= 1
            self._cores -= self.cores(task)
            started.append(task)
        return started

    def free(self, task: Task) -> None:
        self._free[task.lane] += 1
        self._cores += self.cores(task)


def _summary(task: Task, seed_frames: int) -> dict[str, Any]:
    p = task.payload
    if task.kind == "start":
        s = p["start"]
        if s["kind"] == "dataset":
            test = max(1, round(s["test_fraction"] * seed_frames))
            sets = ["test"] * test + ["train"] * (seed_frames - test)
        else:
            sets = ["test"] * s["test_fragments"] + ["train"] * s["fragments"]
        return {"fragments": [_fragment(task, i, which) for i, which in enumerate(sets)]}
    if task.kind in ("acquire", "control"):
        found = [_fragment(task, i, "train") for i in range(p["budget"])]
        return {"fragments": found, "novelty": {"excess": None}}
    if task.kind == "explore":
        return {"n_frames": 1, "model": p["model"], "steps_done": p["steps"]}
    if task.kind == "train":
        return {"model_id": task.key}
    if task.kind == "evaluate":
        return {"mae_p95": math.inf}
    return {}


def _fragment(task: Task, index: int, which: str) -> dict[str, Any]:
    return {"label_key": digest(task.key, str(index)), "set": which}
