"""One pool of worker processes, in one life, on Parsl's HighThroughputExecutor. The only file that imports Parsl.

Used is the executor alone: no data-flow kernel, so no memoisation, no checkpoints, no retries, no monitoring, no usage
tracking, and no polling strategy that would delay the first task. Everything that may need a change with a new version
of Parsl is in this file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterflow.errors import ClusterflowError, ExecutionError, WorkerLostError
from clusterflow.execution import supervise
from clusterflow.execution.worker import GPUS, execute_remotely

ADDRESS = "127.0.0.1"
HEARTBEAT = 2  # s: how often Parsl looks for dead workers
HEARTBEAT_THRESHOLD = 1_000_000  # s of silence. Deaths on this computer are seen at once by other means; and a laptop
# that slept must not find all its workers declared dead because the time of day has jumped.
_POLL_MS = 200  # Parsl's idle loops; messages wake them at once
_APPEAR = 60.0  # s until the supervisor of a pool must have shown itself
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+=@%,:-")

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


class ParslPool:
    """Workers of one shape. `start` it in a thread that outlives it; a pool that died is not revived but replaced.

    ``folder`` becomes its run folder (logs, certificates), private to the user.
    """

    def __init__(self, shape: PoolShape, folder: Path, *, run_id: str, mark: str) -> None:
        self.shape, self.folder, self.mark = shape, folder, mark
        self._run_id = run_id
        self._executor: Any = None
        self._began = 0.0
        self._status = folder / "supervisor.json"
        self._link: Path | None = None

    def start(self) -> None:
        """Starts interchange and workers; returns when tasks can be sent, before the first worker is up.

        Raises
        ------
        ExecutionError
            They could not be started; with the reason and the logs.
        """
        try:
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
        supervisor = self._supervisor()
        if "exit_code" in supervisor:
            return f"its workers ended with status {supervisor['exit_code']}"
        if supervisor:
            alive = supervise.start_ticks(supervisor["pid"]) == supervisor["start"]
            return "" if alive else "the process that watches over its workers was killed"
        for ended in (self.folder / "block").glob("*.ec"):  # written by Parsl's script when the block has ended
            if (status := ended.read_text().strip()) not in ("", "-"):
                return f"its workers could not be started (status {status})"
        if time.monotonic() - self._began > _APPEAR:
            return f"its workers did not start within {_APPEAR:.0f} s"
        return ""

    def lost(self, why: str) -> WorkerLostError:
        """The error for tasks that were lost with this pool."""
        return WorkerLostError(
            f"The worker pool '{self.shape.name}' was lost: {why}.",
            where=f"{self.folder}{self._last_words()}",
            todo="The task is tried again. If this repeats, look for an out-of-memory kill (`dmesg`) and run "
            "`clusterflow doctor`.",
        )

    def stop(self) -> None:
        """Ends all processes of the pool, whatever state it is in; returns when they are gone."""
        supervisor = self._supervisor()
        if "pid" in supervisor:
            self._end_supervisor(supervisor)
        if self._executor is not None and self._executor.interchange_proc is not None:
            try:
                self._executor.shutdown(timeout=3.0)
            except Exception:  # whatever Parsl thinks of it, the processes end below
                logging.getLogger("parsl").exception("shutdown of %s", self.shape.name)
        supervise.end_marked(self.mark)
        if self._link is not None:
            self._link.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._link.parent.rmdir()
            self._link = None

    def _start(self) -> None:
        from parsl.executors import HighThroughputExecutor
        from parsl.executors.high_throughput import interchange
        from parsl.launchers import SimpleLauncher
        from parsl.providers import LocalProvider

        self.folder.mkdir(parents=True, mode=0o700)
        place = self._shell_safe(self.folder)
        spec = self._write_specs()
        provider = LocalProvider(init_blocks=1, min_blocks=0, max_blocks=1, launcher=SimpleLauncher())
        script_folder = place / "block"
        script_folder.mkdir(mode=0o700)
        provider.script_dir = str(script_folder)
        helper = [sys.executable, "-I", "-S", supervise.__file__]
        executor = HighThroughputExecutor(
            label="parsl",
            provider=provider,
            address=ADDRESS,
            loopback_address=ADDRESS,
            encrypted=True,
            # The driver counts cores and workers itself; Parsl's own count must not get in the way.
            max_workers_per_node=self.shape.workers,
            cores_per_worker=0.001,
            cpu_affinity="none",
            prefetch_capacity=0,
            heartbeat_period=HEARTBEAT,
            heartbeat_threshold=HEARTBEAT_THRESHOLD,
            poll_period=_POLL_MS,
            block_error_handler=False,
            interchange_launch_cmd=[
                *helper,
                "exec",
                str(spec["interchange"]),
                "--",
                sys.executable,
                "-P",
                interchange.__file__,
            ],
            launch_cmd=_pool_command(helper, self._shell_safe(spec["workers"])),
        )
        executor.run_dir, executor.run_id = str(place), self._run_id
        (place / "parsl").mkdir(mode=0o700)
        self._executor = executor
        executor.start()
        _never_linger(executor)
        self._began = time.monotonic()
        if not executor.scale_out_facade(1):
            status = next(iter(executor.status_facade.values()), None)
            raise RuntimeError(getattr(status, "message", None) or "the block of workers was not accepted")

    def _write_specs(self) -> Mapping[str, Path]:
        """What `supervise` must know to start the two kinds of process."""
        # SPT_NOENV: Parsl renames its processes, which would otherwise overwrite the environment that /proc shows.
        environment = {
            supervise.MARK: self.mark,
            "SPT_NOENV": "1",
            "CLUSTERFLOW_CORES": str(self.shape.cores_per_worker),
        }
        threads = dict.fromkeys(_THREADS, str(self.shape.cores_per_worker))
        gpus = {GPUS: ",".join(self.shape.gpus)}
        me = f"{os.getpid()}:{supervise.start_ticks(os.getpid())}"
        specs: dict[str, dict[str, Any]] = {
            "interchange": {"log": str(self.folder / "interchange.out"), "environment": environment},
            "workers": {
                "log": str(self.folder / "workers.out"),
                "environment": {**environment, **threads, **gpus},
                "driver": me,
                "status": str(self._status),
            },
        }
        paths = {}
        for name, spec in specs.items():
            paths[name] = self.folder / f"{name}.json"
            paths[name].write_text(json.dumps(spec), encoding="utf-8")
        return paths

    def _shell_safe(self, path: Path) -> Path:
        """A spelling of the path that Parsl may put into a shell command unquoted, by a link if need be."""
        if set(str(path)) <= _SAFE:
            return path
        if self._link is None:
            self._link = Path(tempfile.mkdtemp(prefix="clusterflow-")) / "pool"
            self._link.symlink_to(self.folder, target_is_directory=True)
        return self._link / path.relative_to(self.folder)

    def _supervisor(self) -> dict[str, Any]:
        try:
            data: dict[str, Any] = json.loads(self._status.read_text(encoding="utf-8"))
            return data
        except (OSError, ValueError):
            return {}

    def _end_supervisor(self, supervisor: Mapping[str, Any]) -> None:
        def alive() -> bool:
            return supervise.start_ticks(supervisor["pid"]) == str(supervisor["start"])

        with contextlib.suppress(ProcessLookupError):
            if alive():
                os.kill(supervisor["pid"], signal.SIGTERM)
        deadline = time.monotonic() + supervise.GRACE + 3.0
        while alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        if alive():
            supervise.end_tree(supervisor["pid"], grace=0.0, itself=True)

    def _last_words(self) -> str:
        """The last lines that its processes wrote, for an error message."""
        said = []
        for name in ("interchange.out", "workers.out"):
            with contextlib.suppress(OSError):
                lines = (self.folder / name).read_text(encoding="utf-8", errors="replace").splitlines()[-6:]
                said += [f"{name}: {line}" for line in lines]
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
        logger.setLevel(logging.WARNING)

    def undo() -> None:
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            if not logger.handlers:
                logger.propagate = propagate
                logger.setLevel(level)
        handler.close()

    return undo


def _pool_command(helper: list[str], spec: Path) -> str:
    """Parsl's own command for a worker pool, under our supervisor and with absolute paths: nothing depends on PATH."""
    from parsl.executors.high_throughput import process_worker_pool
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    name, _, options = DEFAULT_LAUNCH_CMD.partition(" ")
    if name != "process_worker_pool.py":
        raise RuntimeError(f"this version of Parsl starts its workers by '{name}', which clusterflow does not know")
    words = [*helper, "watch", str(spec), "--", sys.executable, "-P", process_worker_pool.__file__]
    # Parsl fills in {placeholders} twice; braces of our own must survive that.
    prefix = shlex.join(words).replace("{", "{{{{").replace("}", "}}}}")
    return f"exec {prefix} {options}"


def _never_linger(executor: Any) -> None:
    """Without this a shutdown waits for ever to deliver messages to an interchange that is dead."""
    import zmq

    executor.outgoing_q.zmq_socket.setsockopt(zmq.LINGER, 0)
    executor.incoming_q.results_receiver.setsockopt(zmq.LINGER, 0)
