"""The parallel engine: keeps tasks until a worker is free for them, and sends them to pools of workers.

Parsl dispatches; it does not remember and does not decide. What runs when is decided here, in the order of submission;
which pools there are, and which of them has a free worker, is told by the machine's supply (`local_supply` for this
computer, `block_supply` for the jobs of a cluster).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import threading
import time
from concurrent.futures import Future, wait
from pathlib import Path

from clusterflow.core.data import Task, TaskResult
from clusterflow.core.frames import digest
from clusterflow.errors import ClusterflowError, ExecutionError, TimeLimitError
from clusterflow.execution import supervise
from clusterflow.execution.address import driver_address
from clusterflow.execution.block_supply import BlockSupply
from clusterflow.execution.job_script import require_plain
from clusterflow.execution.kubernetes_job import require_mounted
from clusterflow.execution.local_supply import LocalSupply
from clusterflow.execution.machines import LANES, KubernetesMachine, LocalMachine, Machine
from clusterflow.execution.messages import decode_answer, encode_task, name_of
from clusterflow.execution.parsl_pool import ParslPool, log_to_file, to_clusterflow
from clusterflow.execution.schedulers import scheduler_of
from clusterflow.execution.supply import RESUMABLE, Job, Supply
from clusterflow.execution.watchdog import OVERTIME, START_LIMIT, Progress, Watchdog
from clusterflow.execution.worker import RunTask

MAX_CUTS = 20
"""Blocks that may end under one task before it counts as lost."""

log = logging.getLogger(__name__)


class ParslEngine:
    """Runs tasks in worker processes, on this computer or on the nodes of a cluster.

    Parameters
    ----------
    machine
        Lanes and cores.
    folder
        Folder of the campaign; handed to every task. Logs go to ``folder/parsl``.
    run
        Function of a module, importable by a worker: JSON form of a task and folder → JSON form of its result.
    run_id
        Names this run in logs and in the queue of a cluster: campaign and epoch, "uio66:3".

    Raises
    ------
    ConfigError
        A lane does not fit the computer, or nodes could not reach this one.
    InputError
        A scheduler would misread the path of ``folder``.
    ExecutionError
        ``run`` cannot be imported by a worker, or the scheduler does not answer.
    """

    def __init__(self, machine: Machine, folder: str | Path, run: RunTask, *, run_id: str) -> None:
        self._run = _reference(run)
        self._folder = Path(folder).absolute()
        self._run_id = run_id
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
        self._mark = digest(str(self._folder))[:16]
        self._stop_logging = log_to_file(self._place / "driver.log")
        _end_leftovers(self._mark)
        self._lock = threading.RLock()
        self._queue: list[Job] = []
        self._running: list[Job] = []
        self._closed = False
        self._broken: ClusterflowError | None = None
        try:
            self._supply = self._supply_of(machine)
        except BaseException:
            self._stop_logging()
            raise
        self._watchdog = Watchdog(self._look, self._supply.stop)

    def _supply_of(self, machine: Machine) -> Supply:
        def new_folder(name: str) -> Path:
            return _new_folder(self._place, name)

        mark = f"{self._mark}:{os.getpid()}:{supervise.start_ticks(os.getpid())}"
        if isinstance(machine, LocalMachine):
            return LocalSupply(
                machine, self._lock, new_folder=new_folder, run_id=self._run_id, mark=mark, wake=self._wake
            )
        require_plain(self._folder)
        if isinstance(machine, KubernetesMachine):
            require_mounted(machine, self._folder)
        run_id = re.sub(r"[^A-Za-z0-9_.:-]", "_", self._run_id)
        epoch = run_id.rpartition(":")[2]
        supply = BlockSupply(
            machine,
            scheduler_of(machine),
            self._lock,
            address=driver_address(machine.address),
            new_folder=new_folder,
            run_id=run_id,
            job_name=f"cf-{self._mark[:8]}-{epoch}",
            mark=mark,
        )
        supply.cancel_leftovers("of an earlier driver of this campaign")
        return supply

    def _wake(self) -> None:
        self._watchdog.wake()

    def submit(self, task: Task) -> Future[TaskResult]:
        """Takes a task. Its future gives the result, or raises the task's own `ScienceError` or `StateError`, a
        `WorkerLostError` where another attempt may succeed, or an `ExecutionError` where it will not.

        Raises
        ------
        ExecutionError
            The engine is closed, the lane is unknown, or the payload is not JSON data.
        """
        if task.lane not in LANES:
            raise ExecutionError(
                f"Task {name_of(task)} asks for a lane '{task.lane}'.", todo=f"The lanes are {', '.join(LANES)}."
            )
        job = Job(task, encode_task(task))
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
        for job in [j for j in queued if not j.future.cancel()] + running:
            self._settle(job, error=_closing(job))
        self._watchdog.stop()
        self._stop_logging()

    # -- sending ------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Sends every waiting task for which a worker is free."""
        failed: list[tuple[Job, ClusterflowError]] = []
        with self._lock:
            if self._closed:
                return
            for job in list(self._queue):
                try:
                    if self._broken is not None:
                        raise self._broken
                    found = self._supply.claim(job)
                except ClusterflowError as error:
                    self._queue.remove(job)
                    failed.append((job, error))
                    continue
                if found == "hold":
                    break
                if found == "wait":
                    continue
                self._queue.remove(job)
                if job.future.running() or job.future.set_running_or_notify_cancel():
                    self._send(job, found)
                else:
                    self._supply.release(job, None)
        for job, why in failed:
            if job.future.running() or job.future.set_running_or_notify_cancel():
                job.future.set_exception(why)

    def _send(self, job: Job, pool: ParslPool) -> None:
        marker = pool.folder / f"task-{digest(job.task.key)[:16]}.json"
        job.pool, job.progress = pool, Progress.begin(marker, job.task.time_limit)
        self._running.append(job)
        try:
            answer = pool.submit(self._run, job.text, str(self._folder), marker)
        except ClusterflowError as error:
            self._take(job)
            job.future.set_exception(error)
            return
        answer.add_done_callback(lambda f: self._answered(job, f))

    def _take(self, job: Job, seconds: float | None = None) -> bool:
        """Takes a job back from its pool; False if somebody else has already."""
        with self._lock:
            if job not in self._running:
                return False
            self._running.remove(job)
            self._supply.release(job, seconds)
            return True

    def _answered(self, job: Job, answer: Future[str]) -> None:
        """A worker's answer has arrived (or Parsl's news of its death); runs in Parsl's thread."""
        assert job.pool is not None
        assert job.progress is not None
        error = answer.exception()
        if not self._take(job, job.progress.took(time.monotonic()) if error is None else None):
            return  # settled already: overdue, its pool lost, or the engine closed
        if error is None:
            try:
                self._settle(job, result=decode_answer(answer.result()))
            except ClusterflowError as said:
                self._settle(job, error=said)
        else:
            lost = to_clusterflow(error, job.pool)
            lost.what = f"{lost.what} It held task {name_of(job.task)}."
            self._settle(job, error=lost)
        self._dispatch()

    def _settle(self, job: Job, *, result: TaskResult | None = None, error: ClusterflowError | None = None) -> None:
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
            with self._lock:
                waiting = list(self._queue)
            for pool, why in self._supply.look(waiting):
                self._bury(pool, why)
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

    def _bury(self, pool: ParslPool, why: str) -> None:
        """A pool is dead: its tasks fail and its remains are removed."""
        with self._lock:
            lost = [j for j in self._running if j.pool is pool]
            for job in lost:
                self._take(job)
        error = pool.lost(why)
        log.warning("%s", error)
        expected = self._supply.bury(pool, why)
        for job in lost:
            if expected and job.task.kind in RESUMABLE and job.cut < MAX_CUTS:
                self._again(job)
            else:
                self._settle(job, error=pool.lost(why))

    def _again(self, job: Job) -> None:
        """A task whose block ended goes on from its checkpoint in the next one: no failure, so nobody is told."""
        job.pool, job.progress, job.cut = None, None, job.cut + 1
        with self._lock:
            if not self._closed:
                self._queue.insert(0, job)
                return
        job.future.set_exception(_closing(job))

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
            assert job.pool is not None
            self._bury(job.pool, why)
            return  # the list has changed

    def _overdue(self, job: Job, progress: Progress, now: float) -> None:
        if not self._take(job):
            return
        assert job.pool is not None
        job.pool.end_task(progress)
        self._settle(
            job,
            error=TimeLimitError(
                f"Task {name_of(job.task)} had run for {progress.running_for(now):.0f} s and was ended; its limit is "
                f"{job.task.time_limit:.0f} s, and {OVERTIME:.0f} s of grace.",
                where=f"lane '{job.task.lane}', {self._folder}",
                todo="Raise its time limit, or make the task smaller; its scratch folder shows how far it came.",
            ),
        )

    def _give_up(self, error: ExecutionError) -> None:
        with self._lock:
            self._broken = error
            jobs, self._running = self._running, []
        for job in jobs:
            self._settle(job, error=error)


def _closing(job: Job) -> ExecutionError:
    return ExecutionError(f"Task {name_of(job.task)} was cancelled: the engine is closing.")


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
