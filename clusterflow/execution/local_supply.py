"""Pools on this computer: lanes that need the same kind of worker share one, and all share the cores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clusterflow.errors import ClusterflowError, ExecutionError
from clusterflow.execution.local_pool import LocalPool
from clusterflow.execution.machines import LANES, LocalMachine, ResolvedLane
from clusterflow.execution.parsl_pool import ParslPool, PoolShape
from clusterflow.execution.supply import Job, Later

MAX_LIVES = 3
"""Pools of one shape that may die one after the other without having finished a single task."""


@dataclass(slots=True)
class _Life:
    """A pool's present and past."""

    shape: PoolShape
    pool: LocalPool | None = None
    wanted: bool = False
    deaths: int = 0
    broken: ClusterflowError | None = None
    held: list[Job] = field(default_factory=list)


class LocalSupply:
    """Starts a pool when its first task comes, replaces it when it has died, and gives up after `MAX_LIVES`."""

    def __init__(
        self,
        machine: LocalMachine,
        lock: threading.RLock,
        *,
        new_folder: Callable[[str], Path],
        run_id: str,
        mark: str,
        wake: Callable[[], None],
    ) -> None:
        self._lock, self._wake = lock, wake
        self._new_folder, self._run_id, self._mark = new_folder, run_id, mark
        self._cores = machine.total_cores()
        self._lanes = {name: machine.resolved(name) for name in LANES}
        self._lives = {shape.name: _Life(shape) for shape in pool_shapes(self._lanes, self._cores)}

    def claim(self, job: Job) -> ParslPool | Later:
        lane = self._lanes[job.task.lane]
        life = self._lives[pool_name(lane)]
        if life.broken is not None:
            raise life.broken
        if sum(j.task.lane == lane.name for j in life.held) >= lane.workers or len(life.held) >= life.shape.workers:
            return "wait"
        if lane.cores_per_worker > self._cores - self._busy():
            return "hold"
        if life.pool is None:
            life.wanted = True
            self._wake()
            return "wait"
        life.held.append(job)
        return life.pool

    def _busy(self) -> int:
        return sum(self._lanes[j.task.lane].cores_per_worker for life in self._lives.values() for j in life.held)

    def release(self, job: Job, seconds: float | None) -> None:
        life = self._lives[pool_name(self._lanes[job.task.lane])]
        if job in life.held:
            life.held.remove(job)
        if seconds is not None:
            life.deaths = 0

    def look(self, waiting: Sequence[Job]) -> list[tuple[ParslPool, str]]:  # noqa: ARG002 - claims have told
        died: list[tuple[ParslPool, str]] = []
        for life in self._lives.values():
            if life.pool is not None and (why := life.pool.dead()):
                died.append((life.pool, why))
            elif life.wanted and life.pool is None and life.broken is None:
                self._start(life)
        return died

    def _start(self, life: _Life) -> None:
        folder = self._new_folder(life.shape.name)
        pool = LocalPool(life.shape, folder, run_id=self._run_id, mark=f"{self._mark}:{life.shape.name}")
        try:
            pool.start()
        except ClusterflowError as error:
            pool.stop()
            self._count_death(life, error)
            return
        with self._lock:
            life.pool, life.wanted = pool, False

    def bury(self, pool: ParslPool, why: str) -> bool:
        life = self._lives[pool.shape.name]
        with self._lock:
            if life.pool is not pool:
                return False
            life.pool = None
        error = pool.lost(why)
        pool.stop()
        self._count_death(life, error)
        return False

    def _count_death(self, life: _Life, error: ClusterflowError) -> None:
        with self._lock:
            life.deaths += 1
            if life.deaths >= MAX_LIVES:
                life.broken = ExecutionError(
                    f"The worker pool '{life.shape.name}' was started {life.deaths} times and never finished a task. "
                    f"Last: {error.what}",
                    where=error.where,
                    todo="Run `clusterflow doctor`; `engine: serial` (or --engine serial) does without worker pools.",
                )

    def stop(self) -> None:
        for life in self._lives.values():
            if life.pool is not None:
                life.pool.stop()
                life.pool = None


def pool_name(lane: ResolvedLane) -> str:
    """Lanes without GPUs and with equal cores share workers; a lane with GPUs has its own, each pinned to one."""
    return lane.name if lane.gpus else f"cpu{lane.cores_per_worker}"


def pool_shapes(lanes: dict[str, ResolvedLane], cores: int) -> list[PoolShape]:
    """The pools that these lanes need, with no more workers than the cores can feed."""
    wanted: dict[str, list[ResolvedLane]] = {}
    for lane in lanes.values():
        wanted.setdefault(pool_name(lane), []).append(lane)
    shapes = []
    for name, members in wanted.items():
        each = members[0].cores_per_worker
        workers = min(sum(m.workers for m in members), max(1, cores // each))
        shapes.append(PoolShape(name, workers, each, members[0].gpus))
    return shapes
