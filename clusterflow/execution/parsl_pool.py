"""One pool of worker processes, in one life, on Parsl's HighThroughputExecutor. The only file that imports Parsl.

What all pools share: the interchange, and how tasks are sent. Where the workers run is told by its two kinds,
`local_pool` (this computer) and `block_pool` (a job of a scheduler).

Used is the executor alone: no data-flow kernel, so no memoisation, no checkpoints, no retries, no monitoring, no usage
tracking, and no polling strategy that would delay the first task. Everything that may need a change with a new version
of Parsl is in this file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterflow.errors import ClusterflowError, ExecutionError, WorkerLostError
from clusterflow.execution import supervise
from clusterflow.execution.watchdog import Progress
from clusterflow.execution.worker import execute_remotely

LOOPBACK = "127.0.0.1"
WORKER_MODULE = "parsl.executors.high_throughput.process_worker_pool"
_POLL_MS = 200  # Parsl's idle loops; messages wake them at once
_BETWEEN = "\x1f"  # between the words of a command that Parsl fills in, so that spaces in paths are harmless

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OPENMM_CPU_THREADS",
)


@dataclass(frozen=True, slots=True)
class PoolShape:
    """What makes one pool differ from another."""

    name: str
    workers: int
    cores_per_worker: int
    gpus: tuple[str, ...] = ()


class ParslPool(ABC):
    """Workers of one shape. `start` it in a thread that outlives it; a pool that died is not revived but replaced.

    ``folder`` becomes its run folder (logs, certificates, markers of running tasks), private to the user; ``mark``
    finds its processes on this computer.
    """

    def __init__(self, shape: PoolShape, folder: Path, *, run_id: str, mark: str) -> None:
        self.shape, self.folder, self.mark = shape, folder, mark
        self.run_id = run_id
        self._executor: Any = None

    def start(self) -> None:
        """Starts what must run here and asks for the workers; returns before the first of them is up.

        Raises
        ------
        ExecutionError
            They could not be started; with the reason and the logs.
        """
        try:
            self.folder.mkdir(parents=True, mode=0o700)
            self._start()
        except ClusterflowError:
            raise
        except Exception as error:  # Parsl raises plain Exception for a failed interchange
            raise ExecutionError(
                f"The worker pool '{self.shape.name}' could not be started: {type(error).__name__}: {error}",
                where=f"{self.folder}{self._last_words()}",
                todo="`clusterflow doctor` tests the machine. Ports 54000 to 56000 on 127.0.0.1 must be free to use, "
                "and the run folder writable.",
            ) from error

    def submit(self, run: str, task: str, campaign: str, marker: Path) -> Future[str]:
        """Sends a task; the future gives the worker's answer. One thread at a time.

        Raises
        ------
        WorkerLostError
            The pool is dead.
        """
        try:
            future: Future[str] = self._executor.submit(execute_remotely, {}, run, task, campaign, str(marker))
        except Exception as error:  # Parsl's and ZeroMQ's errors have no common base
            raise self.lost(f"it takes no tasks: {type(error).__name__}: {error}") from error
        return future

    def dead(self) -> str:
        """Why this pool can do no more work; "" while it can."""
        code = self._executor.interchange_proc.poll()
        if code is not None:
            return f"its interchange ended with status {code}"
        if self._executor.bad_state_is_set:
            return f"Parsl gave it up: {self._executor.executor_exception}"
        return self._workers_dead()

    def nodes_up(self) -> int:
        """On how many nodes workers have started: each manager has a folder, in which its workers write their logs."""
        return len({log.parent for log in (self.folder / "parsl" / "block-0").glob("*/worker_*.log")})

    def lost(self, why: str) -> WorkerLostError:
        """The error for tasks that were lost with this pool."""
        return WorkerLostError(
            f"The worker pool '{self.shape.name}' was lost: {why}.",
            where=f"{self.folder}{self._last_words()}",
            todo="The task is tried again. If this repeats, look for an out-of-memory kill (`dmesg`) and run "
            "`clusterflow doctor`.",
        )

    def stop(self) -> None:
        """Ends all processes of the pool, whatever state it is in; returns when those on this computer are gone."""
        self._stop_workers()
        if self._executor is not None and self._executor.interchange_proc is not None:
            try:
                self._executor.shutdown(timeout=3.0)
            except Exception:  # whatever Parsl thinks of it, the processes end below
                logging.getLogger("parsl").exception("shutdown of %s", self.shape.name)
        supervise.end_marked(self.mark)

    @abstractmethod
    def end_task(self, progress: Progress) -> None:
        """Has the worker process ended that holds a task, and everything below it."""

    @abstractmethod
    def _start(self) -> None:
        """Starts interchange and workers."""

    @abstractmethod
    def _workers_dead(self) -> str:
        """Why the workers can do no more work; "" while they can."""

    @abstractmethod
    def _stop_workers(self) -> None:
        """Ends the workers."""

    def _start_interchange(
        self, *, address: str, heartbeat: float, silence: float, drain: float | None = None
    ) -> list[str]:
        """Starts the executor with its interchange, bound to ``address``; returns the arguments that Parsl's module
        `WORKER_MODULE` is to be started with. ``heartbeat``, ``silence`` and ``drain`` in s."""
        from parsl.executors import HighThroughputExecutor
        from parsl.executors.high_throughput import interchange
        from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
        from parsl.providers import LocalProvider

        name, _, options = DEFAULT_LAUNCH_CMD.partition(" ")
        if name != "process_worker_pool.py":
            raise RuntimeError(f"this version of Parsl starts its workers by '{name}', which clusterflow does not know")
        log = str(self.folder / "interchange.out")
        spec = self._write_spec("interchange", {"log": log, "environment": self._marks()})
        helper = [sys.executable, "-I", "-S", supervise.__file__, "exec", str(spec), "--"]
        executor = HighThroughputExecutor(
            label="parsl",
            # Workers are started by us: Parsl wants a provider all the same.
            provider=LocalProvider(init_blocks=0, min_blocks=0, max_blocks=1),
            address=address,
            loopback_address=LOOPBACK,
            encrypted=True,
            # The driver counts cores and workers itself; Parsl's own count must not get in the way.
            max_workers_per_node=self.shape.workers,
            cores_per_worker=0.001,
            cpu_affinity="none",
            prefetch_capacity=0,
            heartbeat_period=math.ceil(heartbeat),
            heartbeat_threshold=math.ceil(silence),
            drain_period=None if drain is None else math.ceil(drain),
            poll_period=_POLL_MS,
            block_error_handler=False,
            launch_cmd=_BETWEEN.join(options.replace("{{block_id}}", "0").split()),
            interchange_launch_cmd=[*helper, sys.executable, "-P", interchange.__file__],
        )
        executor.run_dir, executor.run_id = str(self.folder), self.run_id
        (self.folder / "parsl").mkdir(mode=0o700)
        self._executor = executor
        executor.start()
        _never_linger(executor)
        return [word for word in str(executor.launch_cmd).split(_BETWEEN) if word]

    def _marks(self) -> dict[str, str]:
        """Environment of every process of the pool.

        SPT_NOENV: Parsl renames its processes, which would otherwise overwrite the environment that /proc shows.
        """
        return {supervise.MARK: self.mark, "SPT_NOENV": "1", "CLUSTERFLOW_CORES": str(self.shape.cores_per_worker)}

    def _threads(self) -> dict[str, str]:
        """Environment that gives each worker its cores."""
        return dict.fromkeys(_THREADS, str(self.shape.cores_per_worker))

    def _write_spec(self, name: str, spec: Mapping[str, Any]) -> Path:
        """What `supervise` must know to start a process."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        return path

    def _last_words(self) -> str:
        """The last lines that its processes wrote, for an error message."""
        said = []
        for path in (*sorted(self.folder.glob("*.out")),)[:4]:
            with contextlib.suppress(OSError):
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-6:]
                said += [f"{path.name}: {line}" for line in lines]
        return "\n" + "\n".join(said) if said else ""


def to_clusterflow(error: BaseException, pool: ParslPool) -> ClusterflowError:
    """What an exception of a Parsl future means for us."""
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

    if isinstance(error, ClusterflowError):
        return error
    if isinstance(error, WorkerLost):
        return WorkerLostError(
            f"A worker process of pool '{pool.shape.name}' died with its task.",
            where=str(pool.folder),
            todo="The task is tried again. If this repeats, look for an out-of-memory kill (`dmesg`).",
        )
    if isinstance(error, ManagerLost):
        return pool.lost("it has not answered for a while")
    return ExecutionError(
        f"Parsl could not run the task: {type(error).__name__}: {error}",
        where=str(pool.folder),
        todo="`clusterflow doctor` tests the machine.",
    )


def log_to_file(log_file: Path) -> Callable[[], None]:
    """Sends what Parsl and the engine log in this process to a file instead of the terminal; call the result to undo
    it."""
    handler = logging.FileHandler(log_file, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("parsl", "clusterflow.execution")]
    before = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.WARNING if logger.name == "parsl" else logging.INFO)

    def undo() -> None:
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            if not logger.handlers:
                logger.propagate = propagate
                logger.setLevel(level)
        handler.close()

    return undo


def _never_linger(executor: Any) -> None:
    """Without this a shutdown waits for ever to deliver messages to an interchange that is dead."""
    import zmq

    executor.outgoing_q.zmq_socket.setsockopt(zmq.LINGER, 0)
    executor.incoming_q.results_receiver.setsockopt(zmq.LINGER, 0)
