"""One external calculation: its own folder, its own session, and nothing of it left when it is over.

MPI launchers put every rank into a process group of its own, so killing one group is not enough: everything that was
born in the session is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusterflow.errors import ExecutionError

_GRACE = 3.0  # s between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Finished:
    """``returncode`` as in subprocess (negative: the signal); ``timed_out`` when the time limit ended it."""

    returncode: int
    timed_out: bool


def run_in_session(
    command: Sequence[str], *, folder: Path, log: Path, environment: Mapping[str, str], time_limit: float
) -> Finished:
    """Runs ``command`` in ``folder`` with output to ``log`` and waits at most ``time_limit`` s.

    Whatever happens here (time limit, KeyboardInterrupt, any error), every process of its session is gone on return.

    Raises
    ------
    ExecutionError
        The command cannot be started, or the log file cannot be written.
    """
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise ExecutionError(
            f"'{command[0]}' cannot be started: {error.strerror or error}",
            where=str(folder),
            todo="Check that the program is installed and on PATH, and that the folder can be written to.",
        ) from error
    try:
        returncode = process.wait(timeout=time_limit)
    except subprocess.TimeoutExpired:
        kill_session(process.pid)
        return Finished(process.wait(), timed_out=True)
    except BaseException:
        kill_session(process.pid)
        process.wait()
        raise
    kill_session(process.pid)  # stragglers of a crashed launcher
    return Finished(returncode, timed_out=False)


def kill_session(session: int) -> None:
    """SIGTERM, then SIGKILL, to every process of the session and its descendants."""
    import psutil

    members = _members(session)
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(members, timeout=_GRACE)
    for process in {*alive, *_members(session)}:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(_members(session), timeout=_GRACE)


def _members(session: int) -> list[psutil.Process]:  # type: ignore[name-defined]  # noqa: F821
    import psutil

    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
                for child in process.children(recursive=True):
                    found[child.pid] = child
    return list(found.values())
