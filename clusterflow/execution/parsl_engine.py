"""The parallel engine: keeps tasks until their lane and their cores are free, and sends them to pools of workers.

Parsl dispatches; it does not remember and does not decide. What runs when is decided here: a task starts when its lane
has a free worker and the machine has that many free cores, in the order of submission; a task that waits for cores
holds back later ones, so that a large one is never starved. Lanes that need the same kind of worker share one pool, so
that a small computer runs few processes.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from clusterflow.core.data import Task, TaskResult
from clusterflow.core.frames import digest
from clusterflow.errors import ClusterflowError, ExecutionError, TimeLimitError
from clusterflow.execution import supervise
from clusterflow.execution.machines import LANES, Machine, ResolvedLane
from clusterflow.execution.messages import decode_answer, encode_task, name_of
from clusterflow.execution.parsl_pool import ParslPool, PoolShape, log_to_file, to_clusterflow
from clusterflow.execution.watchdog import OVERTIME, START_LIMIT, Progress, Watchdog
from clusterflow.execution.worker import RunTask

MAX_LIVES = 3
"""Pools of one shape that may die one after the other without having finished a single task."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Job:
    task: Task
    lane: ResolvedLane
    pool: str
    text: str
    future: Future[TaskResult] = field(default_factory=Future)
    host: ParslPool | None = None
    """The pool that has it; None while it waits."""
    progress: Progress | None = None


@dataclass(slots=True)
class _Life:
    """A pool's present and past."""

    shape: PoolShape
    pool: ParslPool | None = None
    wanted: bool = False
    deaths: int = 0
    broken: ClusterflowError | None = None


class ParslEngine:
    """Runs tasks in worker processes of this computer.

    Parameters
    ----------
    machine
        Lanes and cores.
    folder
        Folder of the campaign; handed to every task. Logs go to ``folder/parsl``.
    run
        Function of a module, importable by a worker: JSON form of a task and folder → JSON form of its result.
    run_id
        Names this run in logs.

    Raises
    ------
    ConfigError
        A lane does not fit the computer.
    ExecutionError
        ``run`` cannot be imported by a worker.
    """

    def __init__(self, machine: Machine, folder: str | Path, run: RunTask, *, run_id: str) -> None:
        self._run = _reference(run)
        self._folder = Path(folder).absolute()
        self._run_id = run_id
        self._cores = machine.total_cores()
        self._lanes = {name: machine.resolved(name) for name in LANES}
        self._pools = {shape.name: _Life(shape) for shape in pool_shapes(self._lanes, self._cores)}
        self._place = self._folder / "parsl"
        try:
            self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._place.chmod(0o700)
        except OSError as error:
            raise ExecutionError(
                f"The folder for logs of workers cannot be made: {error.strerror}.",
                where=str(self._place),
                todo="Give yourself write access to the run folder, or choose another.",
            ) from error
        self._me = f"{os.getpid()}:{supervise.start_ticks(os.getpid())}"
        self._mark = digest(str(self._folder))[:16]
        self._stop_logging = log_to_file(self._place / "driver.log")
        _end_leftovers(self._mark)
        self._lock = threading.RLock()
        self._queue: list[_Job] = []
        self._running: list[_Job] = []
        self._closed = False
        self._watchdog = Watchdog(self._look, self._stop_pools)

    def submit(self, task: Task) -> Future[TaskResult]:
        """Takes a task. Its future gives the result, or raises the task's own `ScienceError` or `StateError`, a
        `WorkerLostError` where another attempt may succeed, or an `ExecutionError` where it will not.

        Raises
        ------
        ExecutionError
            The engine is closed, the lane is unknown, or the payload is not JSON data.
        """
        if task.lane not in self._lanes:
            raise ExecutionError(
                f"Task {name_of(task)} asks for a lane '{task.lane}'.", todo=f"The lanes are {', '.join(LANES)}."
            )
        lane = self._lanes[task.lane]
        job = _Job(task, lane, pool_name(lane), encode_task(task))
        with self._lock:
            if self._closed:
                raise ExecutionError("The engine has been closed; it takes no more tasks.", where=f"task {task.key}")
            self._queue.append(job)
        self._dispatch()
        return job.future

    def close(self, *, cancel: bool = False) -> None:
        """Ends all workers and returns when they are gone.

        Without ``cancel`` it waits for everything that was submitted; with it, waiting tasks are cancelled and running
        ones fail. Either way no task is accepted any more.
        """
        with self._lock:
            if self._closed:
                return
            pending = [j.future for j in (*self._queue, *self._running)]
        if not cancel:
            wait(pending)
        with self._lock:
            self._closed = True
            queued, self._queue = self._queue, []
            running, self._running = self._running, []
        for job in queued:
            job.future.cancel()
        for job in running:
            self._settle(job, error=ExecutionError(f"Task {name_of(job.task)} was cancelled: the engine is closing."))
        self._watchdog.stop()
        self._stop_logging()

    # -- sending ------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Sends every waiting task whose lane, cores and pool are free."""
        failed: list[tuple[_Job, ClusterflowError]] = []
        with self._lock:
            if self._closed:
                return
            free = self._cores - sum(j.lane.cores_per_worker for j in self._running)
            for job in list(self._queue):
                life = self._pools[job.pool]
                if life.broken is not None:
                    self._queue.remove(job)
                    failed.append((job, life.broken))
                    continue
                if sum(j.lane is job.lane for j in self._running) >= job.lane.workers:
                    continue
                if sum(j.pool == job.pool for j in self._running) >= life.shape.workers:
                    continue
                if job.lane.cores_per_worker > free:
                    break
                if life.pool is None:
                    life.wanted = True
                    self._watchdog.wake()
                    continue
                self._queue.remove(job)
                if job.future.set_running_or_notify_cancel():
                    free -= job.lane.cores_per_worker
                    self._send(job, life.pool)
        for job, error in failed:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(error)

    def _send(self, job: _Job, pool: ParslPool) -> None:
        marker = pool.folder / f"task-{digest(job.task.key)[:16]}.json"
        job.host, job.progress = pool, Progress.begin(marker, job.task.time_limit)
        self._running.append(job)
        try:
            answer = pool.submit(self._run, job.text, str(self._folder), marker)
        except ClusterflowError as error:
            self._running.remove(job)
            job.future.set_exception(error)
            return
        answer.add_done_callback(lambda f: self._answered(job, f))

    def _answered(self, job: _Job, answer: Future[str]) -> None:
        """A worker's answer has arrived (or Parsl's news of its death); runs in Parsl's thread."""
        with self._lock:
            if job not in self._running:
                return  # settled already: overdue, its pool lost, or the engine closed
            self._running.remove(job)
            life = self._pools[job.pool]
        error = answer.exception()
        if error is None:
            life.deaths = 0
            try:
                self._settle(job, result=decode_answer(answer.result()))
            except ClusterflowError as said:
                self._settle(job, error=said)
        else:
            assert job.host is not None
            lost = to_clusterflow(error, job.host)
            lost.what = f"{lost.what} It held task {name_of(job.task)}."
            self._settle(job, error=lost)
        self._dispatch()

    def _settle(self, job: _Job, *, result: TaskResult | None = None, error: ClusterflowError | None = None) -> None:
        if job.progress is not None:
            with contextlib.suppress(OSError):
                job.progress.marker.unlink(missing_ok=True)
        if error is not None:
            job.future.set_exception(error)
        elif result is not None:
            job.future.set_result(result)

    # -- watching (in the watchdog's thread) --------------------------------------------------------------------

    def _look(self) -> None:
        try:
            for life in self._pools.values():
                if life.pool is not None and (why := life.pool.dead()):
                    self._bury(life, why)
                if life.wanted and life.pool is None and life.broken is None:
                    self._start_pool(life)
            self._look_at_tasks()
        except Exception as error:  # the last line of defence: tasks must never wait for a watchdog that is gone
            log.exception("the watchdog of the engine failed")
            self._give_up(
                ExecutionError(
                    f"The engine's watchdog failed: {type(error).__name__}: {error}",
                    where=str(self._place / "driver.log"),
                    todo="Run the same command again: it resumes. Please report this with the log.",
                )
            )
        self._dispatch()

    def _start_pool(self, life: _Life) -> None:
        pool = ParslPool(
            life.shape,
            _new_folder(self._place, life.shape.name),
            run_id=self._run_id,
            mark=f"{self._mark}:{self._me}:{life.shape.name}",
        )
        try:
            pool.start()
        except ClusterflowError as error:
            pool.stop()
            life.deaths += 1
            if life.deaths >= MAX_LIVES:
                self._break(life, error)
            return
        with self._lock:
            life.pool, life.wanted = pool, False
        if self._closed:
            return
        self._dispatch()

    def _bury(self, life: _Life, why: str) -> None:
        """A pool is dead: its tasks fail, its remains are removed, and the next task gets a new one."""
        with self._lock:
            pool, life.pool = life.pool, None
            life.deaths += 1
            lost = [j for j in self._running if j.host is pool]
            self._running = [j for j in self._running if j.host is not pool]
        assert pool is not None
        error = pool.lost(why)
        log.warning("%s", error)
        pool.stop()
        if life.deaths >= MAX_LIVES:
            self._break(life, error)
        for job in lost:
            self._settle(job, error=pool.lost(why))

    def _break(self, life: _Life, error: ClusterflowError) -> None:
        with self._lock:
            life.broken = ExecutionError(
                f"The worker pool '{life.shape.name}' was started {life.deaths} times and never finished a task. Last: "
                f"{error.what}",
                where=error.where,
                todo="Run `clusterflow doctor`; `engine: serial` (or --engine serial) does without worker pools.",
            )

    def _look_at_tasks(self) -> None:
        now = time.monotonic()
        with self._lock:
            jobs = list(self._running)
        for job in jobs:
            assert job.progress is not None
            verdict = job.progress.judge(now)
            if verdict == "fine":
                continue
            if verdict == "overdue":
                self._overdue(job, job.progress, now)
                continue
            why = (
                f"no worker took up task {name_of(job.task)} within {START_LIMIT:.0f} s"
                if verdict == "never started"
                else f"the answer of task {name_of(job.task)} never arrived"
            )
            life = self._pools[job.pool]
            if life.pool is job.host:
                self._bury(life, why)
            return  # the list has changed

    def _overdue(self, job: _Job, progress: Progress, now: float) -> None:
        with self._lock:
            if job not in self._running:
                return
            self._running.remove(job)
        progress.kill()
        self._settle(
            job,
            error=TimeLimitError(
                f"Task {name_of(job.task)} had run for {progress.running_for(now):.0f} s and was ended; its limit is "
                f"{job.task.time_limit:.0f} s, and {OVERTIME:.0f} s of grace.",
                where=f"lane '{job.lane.name}', {self._folder}",
                todo="Raise its time limit, or make the task smaller; its scratch folder shows how far it came.",
            ),
        )

    def _give_up(self, error: ExecutionError) -> None:
        with self._lock:
            for life in self._pools.values():
                life.broken = error
            jobs, self._running = self._running, []
        for job in jobs:
            self._settle(job, error=error)

    def _stop_pools(self) -> None:
        for life in self._pools.values():
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


def _reference(run: RunTask) -> str:
    """ "module:function" of a function that a fresh process can import."""
    module, name = getattr(run, "__module__", ""), getattr(run, "__qualname__", "")
    with contextlib.suppress(ImportError):
        if module != "__main__" and getattr(importlib.import_module(module), name, None) is run:
            return f"{module}:{name}"
    raise ExecutionError(
        f"Workers cannot import '{module}.{name}'.",
        todo="Give the engine a function that is defined at the top level of an installed module.",
    )


def _new_folder(place: Path, name: str) -> Path:
    """Path of the next run folder; the pool creates it."""
    taken = [int(p.name[:4]) for p in place.glob("[0-9][0-9][0-9][0-9]-*")]
    return place / f"{max(taken, default=-1) + 1:04d}-{name}"


def _end_leftovers(mark: str) -> None:
    """Ends processes that an earlier driver of this campaign left behind, so that they do not do the same work."""
    for value in set(supervise.marked(f"{mark}:").values()):
        _, pid, start, *_ = value.split(":")
        if supervise.start_ticks(int(pid)) != start:
            count = supervise.end_marked(value)
            log.warning("ended %d processes that driver %s had left behind", count, pid)
