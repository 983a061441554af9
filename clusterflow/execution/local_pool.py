"""A pool of workers on this computer: one supervisor, Parsl's manager and its workers below it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from clusterflow.execution import supervise
from clusterflow.execution.parsl_pool import LOOPBACK, WORKER_MODULE, ParslPool
from clusterflow.execution.watchdog import Progress

HEARTBEAT = 2.0  # s: how often Parsl looks for dead workers
SILENCE = 1e6  # s. Deaths on this computer are seen at once by other means; and a laptop that slept must not find all
# its workers declared dead because the time of day has jumped.
_APPEAR = 60.0  # s until the supervisor must have shown itself


class LocalPool(ParslPool):
    """Workers on this computer, ended with the driver whatever becomes of it."""

    _process: subprocess.Popen[bytes] | None = None
    _began = 0.0

    def end_task(self, progress: Progress) -> None:
        progress.kill()

    def _start(self) -> None:
        options = self._start_interchange(address=LOOPBACK, heartbeat=HEARTBEAT, silence=SILENCE)
        spec = self._write_spec(
            "workers",
            {
                "log": str(self.folder / "workers.out"),
                "environment": {**self._marks(), **self._threads(), supervise.GPUS: ",".join(self.shape.gpus)},
                "driver": f"{os.getpid()}:{supervise.start_ticks(os.getpid())}",
                "status": str(self.folder / "supervisor.json"),
            },
        )
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervise.__file__, "watch", str(spec), "--", *worker_command(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "supervisor.out").open("wb"),
            start_new_session=True,
        )

    def _workers_dead(self) -> str:
        supervisor = self._supervisor()
        if "why" in supervisor:
            return str(supervisor["why"])
        if "exit_code" in supervisor:
            return f"its workers ended with status {supervisor['exit_code']}"
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            return f"the process that watches over its workers was killed (status {status})"
        if not supervisor and time.monotonic() - self._began > _APPEAR:
            return f"its workers did not start within {_APPEAR:.0f} s"
        return ""

    def _supervisor(self) -> Mapping[str, Any]:
        try:
            data: dict[str, Any] = json.loads((self.folder / "supervisor.json").read_text(encoding="utf-8"))
            return data
        except (OSError, ValueError):
            return {}

    def _stop_workers(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=supervise.GRACE + 3.0)
        except subprocess.TimeoutExpired:
            supervise.end_tree(self._process.pid, grace=0.0, itself=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10.0)


def worker_command(options: list[str]) -> list[str]:
    """Parsl's manager of workers, by absolute path: nothing depends on PATH."""
    return [sys.executable, "-P", "-m", WORKER_MODULE, *options]
