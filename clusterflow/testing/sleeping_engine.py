"""A campaign whose tasks only sleep, in the real worker processes of a real engine. For benchmarks of the machinery."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Protocol

from clusterflow.core.data import Task, TaskResult
from clusterflow.core.protocols import Engine
from clusterflow.testing.toy_campaign import toy_result


class Seconds(Protocol):
    """How long a task takes."""

    def seconds(self, task: Task) -> float: ...


class SleepingEngine:
    """Sends every task to a worker of ``engine`` (which must run `fakes.run_toy`) that sleeps as long as ``times`` says
    for its kind; what it finds is a toy's. ``busy`` counts s of work per lane."""

    def __init__(self, engine: Engine, times: Mapping[str, Seconds]) -> None:
        self._engine, self._times = engine, times
        self.busy: dict[str, float] = {}

    def submit(self, task: Task) -> Future[TaskResult]:
        seconds = self._times[task.kind].seconds(task)
        answer: Future[TaskResult] = Future()

        def ended(slept: Future[TaskResult]) -> None:
            if slept.cancelled():
                answer.cancel()
                return
            error = slept.exception()
            if error is not None:
                answer.set_exception(error)
                return
            wall = slept.result().wall_time
            self.busy[task.lane] = self.busy.get(task.lane, 0.0) + wall
            answer.set_result(replace(toy_result(task), wall_time=wall))

        payload = {"do": "sleep", "seconds": seconds}
        self._engine.submit(replace(task, payload=payload)).add_done_callback(ended)
        return answer

    def close(self, *, cancel: bool = False) -> None:
        self._engine.close(cancel=cancel)


def warm_up(engine: Engine, workers: Mapping[str, int]) -> None:
    """Returns when as many worker processes have answered as there are workers.

    Raises
    ------
    RuntimeError
        Some never did.
    """
    pids: set[int] = set()
    for turn in range(20):
        tasks = [
            Task("toy", f"warm-{turn}-{lane}-{n}", lane, {"do": "sleep", "seconds": 0.5})
            for lane, count in workers.items()
            for n in range(count)
        ]
        futures = [engine.submit(t) for t in tasks]
        wait(futures)
        pids |= {int(f.result().summary["pid"]) for f in futures}
        if len(pids) >= sum(workers.values()):
            return
    raise RuntimeError(f"only {len(pids)} workers came up")
