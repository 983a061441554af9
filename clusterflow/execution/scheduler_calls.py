"""Calling the commands of a scheduler: lists of arguments, no shell, a time limit on every call."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import Literal, TypeAlias

from clusterflow.errors import ExecutionError

TIME_LIMIT = 60.0
"""Seconds that a command of the scheduler may take."""

Phase: TypeAlias = Literal["waiting", "running", "ended"]


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that the scheduler knows. ``reason``: why it waits or ended; ``hopeless``: it will wait for ever;
    ``began``: Unix time from which its walltime counts, where the scheduler says so (else its workers do)."""

    id: str
    name: str
    phase: Phase
    reason: str = ""
    hopeless: bool = False
    began: float | None = None


def _environment() -> dict[str, str]:
    """Without what would override the script's own directives, or tell of a job that the driver itself runs in."""
    kept = ("SLURM_CONF", "PBS_SERVER", "PBS_EXEC", "PBS_CONF_FILE")
    ours = ("SBATCH_", "SLURM_", "SQUEUE_", "SCANCEL_", "PBS_", "QSUB_")
    return {k: v for k, v in os.environ.items() if k in kept or not k.startswith(ours)}


def call(command: list[str], *, also_fine: tuple[int, ...] = ()) -> str:
    """What a command of a scheduler writes to its standard output. Its status may be 0 or one of ``also_fine``.

    Raises
    ------
    ExecutionError
        It is missing, hangs or fails; with what it wrote to its standard error.
    """
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


def rubbish(program: str, said: str, wanted: str) -> ExecutionError:
    """The error for an answer that is none."""
    return ExecutionError(
        f"{program} answered {said.strip()[:200]!r} where {wanted} was expected.",
        where=program,
        todo="Try the command by hand; a wrapper or a login message may write into its output.",
    )
