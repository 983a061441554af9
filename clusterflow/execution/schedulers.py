"""Slurm and PBS by their own commands: submit, look, cancel; and which scheduler a machine has.

What a scheduler says is checked before it is believed. One that fails, hangs or answers something else raises; nothing
is concluded from it, since a job may have been accepted all the same. Such a job is found by its name later.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from clusterflow.execution.kubernetes import Kubernetes
from clusterflow.execution.machines import BatchMachine, KubernetesMachine, PBSMachine, SlurmMachine
from clusterflow.execution.scheduler_calls import QueuedJob, call, rubbish

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
    if isinstance(machine, KubernetesMachine):
        return Kubernetes(machine)
    raise TypeError(f"no scheduler is known for a {type(machine).__name__}")


class Slurm:
    """By sbatch, squeue and scancel; without sacct, which not every cluster has."""

    def submit(self, script: Path) -> str:
        """Submits a script; returns the job's number."""
        said = call(["sbatch", "--parsable", str(script)])
        number = said.strip().splitlines()[-1] if said.strip() else ""
        if not re.fullmatch(r"\d+(;[A-Za-z0-9_.-]+)?", number):
            raise rubbish("sbatch", said, "the number of a job")
        return number.partition(";")[0]

    def jobs(self) -> list[QueuedJob]:
        """All jobs of this user that wait or run."""
        said = call(["squeue", "--noheader", f"--user={os.getuid()}", "--format=%A|%j|%T|%r"])
        found = []
        for line in said.splitlines():
            fields = line.strip().split("|", 3)
            if len(fields) != 4 or not fields[0].isdigit():
                raise rubbish("squeue", line, "lines of number|name|state|reason")
            number, name, state, reason = fields
            waits = state in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED")
            hopeless = waits and (reason in _HOPELESS or "launch failed" in reason)
            found.append(QueuedJob(number, name, "waiting" if waits else "running", reason, hopeless))
        return found

    def cancel(self, ids: Sequence[str]) -> None:
        """Ends jobs; those that have ended already are no error."""
        if ids:
            call(["scancel", "--quiet", *ids])


class PBS:
    """By qsub, qselect, qstat and qdel of PBS Pro or OpenPBS. Tested against stubs of these commands only."""

    def submit(self, script: Path) -> str:
        """Submits a script; returns the job's identifier."""
        said = call(["qsub", str(script)])
        name = said.strip()
        if not re.fullmatch(r"\d+(\.[A-Za-z0-9_.-]+)?", name):
            raise rubbish("qsub", said, "the identifier of a job")
        return name

    def jobs(self) -> list[QueuedJob]:
        """All jobs of this user that wait or run."""
        ids = call(["qselect", "-u", _user()]).split()
        if not ids:
            return []
        # 35 and 153: some of them ended in between; the others are told all the same.
        said = call(["qstat", "-f", "-F", "json", *ids], also_fine=(35, 153))
        try:
            jobs = json.loads(said).get("Jobs", {})
            return [self._job(name, told) for name, told in jobs.items() if told["job_state"] not in ("F", "X")]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise rubbish("qstat", said, "JSON with the state of each job") from None

    @staticmethod
    def _job(name: str, told: dict[str, str]) -> QueuedJob:
        waits = told["job_state"] in ("Q", "H", "W", "T", "S", "U", "M")
        comment = str(told.get("comment", ""))
        hopeless = waits and "can never run" in comment.lower()
        return QueuedJob(name, told["Job_Name"], "waiting" if waits else "running", comment, hopeless)

    def cancel(self, ids: Sequence[str]) -> None:
        """Ends jobs; those that have ended already are no error."""
        if ids:
            call(["qdel", *ids], also_fine=(35, 153))


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
