"""Slurm and PBS by their own commands: submit, look, cancel. Lists of arguments, no shell, a time limit on every call.

What a scheduler says is checked before it is believed. One that fails, hangs or answers something else raises; nothing
is concluded from it, since a job may have been accepted all the same. Such a job is found by its name later.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from clusterflow.errors import ExecutionError
from clusterflow.execution.machines import BatchMachine, PBSMachine, SlurmMachine

TIME_LIMIT = 60.0
"""Seconds that a command of the scheduler may take."""

_HOPELESS = {
    "AccountNotAllowed",
    "AssocMaxWallDurationPerJobLimit",
    "BadConstraints",
    "DependencyNeverSatisfied",
    "InvalidAccount",
    "InvalidQOS",
    "JobHeldAdmin",
    "PartitionConfig",
    "PartitionDown",
    "PartitionInactive",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSMaxWallDurationPerJobLimit",
    "QOSNotAllowed",
    "ReservationDeleted",
}
"""Reasons for which Slurm lets a job wait that waiting does not mend."""

Phase: TypeAlias = Literal["waiting", "running"]


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that the scheduler knows. ``reason``: why it waits; ``hopeless``: it will wait for ever."""

    id: str
    name: str
    phase: Phase
    reason: str = ""
    hopeless: bool = False


class Scheduler(Protocol):
    """A batch system. Every method raises `ExecutionError` if it does not get a sensible answer."""

    def submit(self, script: Path) -> str: ...
    def jobs(self) -> list[QueuedJob]: ...
    def cancel(self, ids: Sequence[str]) -> None: ...


def scheduler_of(machine: BatchMachine) -> Scheduler:
    """The scheduler of a machine."""
    if isinstance(machine, SlurmMachine):
        return Slurm()
    if isinstance(machine, PBSMachine):
        return PBS()
    raise TypeError(f"no scheduler is known for a {type(machine).__name__}")


class Slurm:
    """By sbatch, squeue and scancel; without sacct, which not every cluster has."""

    def submit(self, script: Path) -> str:
        """Submits a script; returns the job's number."""
        said = _call(["sbatch", "--parsable", str(script)])
        number = said.strip().splitlines()[-1] if said.strip() else ""
        if not re.fullmatch(r"\d+(;[A-Za-z0-9_.-]+)?", number):
            raise _rubbish("sbatch", said, "the number of a job")
        return number.partition(";")[0]

    def jobs(self) -> list[QueuedJob]:
        """All jobs of this user that wait or run."""
        said = _call(["squeue", "--noheader", f"--user={os.getuid()}", "--format=%A|%j|%T|%r"])
        found = []
        for line in said.splitlines():
            fields = line.strip().split("|", 3)
            if len(fields) != 4 or not fields[0].isdigit():
                raise _rubbish("squeue", line, "lines of number|name|state|reason")
            number, name, state, reason = fields
            waits = state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED")
            hopeless = waits and (reason in _HOPELESS or "launch failed" in reason)
            found.append(QueuedJob(number, name, "waiting" if waits else "running", reason, hopeless))
        return found

    def cancel(self, ids: Sequence[str]) -> None:
        """Ends jobs; those that have ended already are no error."""
        if ids:
            _call(["scancel", "--quiet", *ids])


class PBS:
    """By qsub, qselect, qstat and qdel of PBS Pro or OpenPBS. Tested against stubs of these commands only."""

    def submit(self, script: Path) -> str:
        """Submits a script; returns the job's identifier."""
        said = _call(["qsub", str(script)])
        name = said.strip()
        if not re.fullmatch(r"\d+(\.[A-Za-z0-9_.-]+)?", name):
            raise _rubbish("qsub", said, "the identifier of a job")
        return name

    def jobs(self) -> list[QueuedJob]:
        """All jobs of this user that wait or run."""
        ids = _call(["qselect", "-u", _user()]).split()
        if not ids:
            return []
        # 35 and 153: some of them ended in between; the others are told all the same.
        said = _call(["qstat", "-f", "-F", "json", *ids], also_fine=(35, 153))
        try:
            jobs = json.loads(said).get("Jobs", {})
            return [self._job(name, told) for name, told in jobs.items() if told["job_state"] not in ("F", "X")]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _rubbish("qstat", said, "JSON with the state of each job") from None

    @staticmethod
    def _job(name: str, told: dict[str, str]) -> QueuedJob:
        waits = told["job_state"] in ("Q", "H", "W", "T", "S", "U", "M")
        comment = str(told.get("comment", ""))
        hopeless = waits and "can never run" in comment.lower()
        return QueuedJob(name, told["Job_Name"], "waiting" if waits else "running", comment, hopeless)

    def cancel(self, ids: Sequence[str]) -> None:
        """Ends jobs; those that have ended already are no error."""
        if ids:
            _call(["qdel", *ids], also_fine=(35, 153))


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _environment() -> dict[str, str]:
    """Without what would override the script's own directives, or tell of a job that the driver itself runs in."""
    kept = ("SLURM_CONF", "PBS_SERVER", "PBS_EXEC", "PBS_CONF_FILE")
    ours = ("SBATCH_", "SLURM_", "SQUEUE_", "SCANCEL_", "PBS_", "QSUB_")
    return {k: v for k, v in os.environ.items() if k in kept or not k.startswith(ours)}


def _call(command: list[str], *, also_fine: tuple[int, ...] = ()) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        raise ExecutionError(
            f"{command[0]} did not answer within {TIME_LIMIT:.0f} s.",
            where=" ".join(command),
            todo="The scheduler may be overloaded or down: try the command by hand.",
        ) from None
    except OSError as error:
        raise ExecutionError(
            f"{command[0]} cannot be started: {error.strerror}.",
            where=" ".join(command),
            todo="Run clusterflow where the scheduler's commands work: a login node, or inside a job.",
        ) from None
    if done.returncode != 0 and done.returncode not in also_fine:
        words = " ".join((done.stderr.strip() or done.stdout.strip() or "no message").split())[:500]
        raise ExecutionError(
            f"{command[0]} failed with status {done.returncode}: {words}",
            where=" ".join(command)[:500],
            todo="Correct the machine file if it is about an account, a partition or a limit; else try it by hand.",
        )
    return done.stdout


def _rubbish(program: str, said: str, wanted: str) -> ExecutionError:
    return ExecutionError(
        f"{program} answered {said.strip()[:200]!r} where {wanted} was expected.",
        where=program,
        todo="Try the command by hand; a wrapper or a login message may write into its output.",
    )
