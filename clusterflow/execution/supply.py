"""Between the engine and the machine: who has a free worker for a task, and which pools there are.

A supply is called with the engine's lock held, but for `look` and `stop`, which may take long (they start processes
and talk to schedulers) and take the lock themselves where they change what the others read.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from clusterflow.core.data import Task, TaskResult
from clusterflow.execution.parsl_pool import ParslPool
from clusterflow.execution.watchdog import Progress

RESUMABLE: Final = frozenset({"train", "explore", "dynamics"})
"""Kinds of task that go on from a checkpoint of their own."""


@dataclass(slots=True, eq=False)
class Job:
    """A task on its way. ``pool`` has it; None while it waits. ``cut``: how many blocks have ended under it."""

    task: Task
    text: str
    future: Future[TaskResult] = field(default_factory=Future)
    pool: ParslPool | None = None
    progress: Progress | None = None
    cut: int = 0


Later: TypeAlias = Literal["wait", "hold"]
"""No worker is free: let others go first, or (hold) let nobody pass, so that a large task is never starved."""


class Supply(Protocol):
    """Pools of one machine."""

    def claim(self, job: Job) -> ParslPool | Later:
        """A pool with a free worker for it, which counts as taken from now on.

        Raises
        ------
        ExecutionError
            There will never be one.
        """

    def release(self, job: Job, seconds: float | None) -> None:
        """The worker of a job is free again; ``seconds`` it took, None if no answer of its came."""

    def look(self, waiting: Sequence[Job]) -> list[tuple[ParslPool, str]]:
        """Starts what is needed; returns the pools that have died, with the reason."""

    def bury(self, pool: ParslPool, why: str) -> bool:
        """A pool has died: its remains are removed. Whether that was to be expected, its time being over."""

    def stop(self) -> None:
        """Ends everything."""
