"""The text of a job script: a pure function of the lane, the machine and the workers' command.

Every value comes from an allow-listed field, a path that has been checked, or this file; the command is quoted word by
word. The one piece of shell from a file is the machine's ``worker_setup``, which is meant to be that.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clusterflow.errors import InputError
from clusterflow.execution.machines import PBSLane, ScriptLane, SlurmLane
from clusterflow.execution.machines.words import hours_minutes_seconds

NODE_SCRIPT = "node.sh"
"""Name of the script of each node, in the block's folder."""
_SAFE_PATH = re.compile(r"/[A-Za-z0-9_./:,@=+-]*\Z")


@dataclass(frozen=True, slots=True)
class BlockJob:
    """One block to submit. ``name`` finds it again in the queue; ``comment`` is for people; ``command`` starts the
    workers of one node; the job's own output goes to ``folder``."""

    name: str
    comment: str
    folder: Path
    command: tuple[str, ...]
    setup: str = ""


def job_script(lane: ScriptLane, job: BlockJob) -> str:
    """The script that the scheduler of this lane is given.

    Raises
    ------
    InputError
        The folder's path holds characters that a scheduler would read as its own.
    """
    require_plain(job.folder)
    if isinstance(lane, SlurmLane):
        head, launcher = _slurm(lane, job)
    elif isinstance(lane, PBSLane):
        head, launcher = _pbs(lane, job)
    else:
        raise TypeError(f"no scheduler is known for a {type(lane).__name__}")
    lines = ["#!/bin/bash -l", *head, ""]
    if has_node_script(lane):
        lines.append(f"exec {shlex.join(launcher)}")
    else:
        lines += _work(lane, job, launcher)
    return "\n".join(lines) + "\n"


def has_node_script(lane: ScriptLane) -> bool:
    """Whether the nodes of a block need a script of their own: pbsdsh starts programs without the environment that the
    job script has set up."""
    return isinstance(lane, PBSLane) and lane.nodes > 1


def node_script(lane: ScriptLane, job: BlockJob) -> str:
    """What each node of a block runs, where the job script only starts it (`has_node_script`)."""
    return "\n".join(["#!/bin/bash -l", *_work(lane, job, [])]) + "\n"


def _work(lane: ScriptLane, job: BlockJob, launcher: Sequence[str]) -> list[str]:
    """Modules, setup and the command."""
    modules = [f"module load {' '.join(map(shlex.quote, lane.modules))} || exit 1"] if lane.modules else []
    return [*modules, *_setup(job), f"exec {shlex.join([*launcher, *lane.container, *job.command])}"]


def pod_script(job: BlockJob) -> str:
    """The script that a pod of Kubernetes runs. No login shell: its profile would undo the PATH of the image.

    Raises
    ------
    InputError
        The folder's path holds characters that are not plain.
    """
    require_plain(job.folder)
    lines = ["#!/bin/bash", f"exec >>{job.folder}/job.out 2>&1", *_setup(job)]
    return "\n".join([*lines, f"exec {shlex.join(job.command)}"]) + "\n"


def _setup(job: BlockJob) -> list[str]:
    return ["# worker_setup of the machine file", job.setup.strip("\n")] if job.setup.strip() else []


def require_plain(folder: Path) -> None:
    """Refuses a path that a scheduler would not take for just that.

    Raises
    ------
    InputError
        It holds other characters than letters, digits and a few signs.
    """
    if not _SAFE_PATH.match(str(folder)):
        raise InputError(
            "On a cluster the run folder's path may hold letters, digits and _ . / : , @ = + - only.",
            where=str(folder),
            todo="Use another path, without spaces (`folder:` of the campaign, or --folder).",
        )


def _slurm(lane: SlurmLane, job: BlockJob) -> tuple[list[str], list[str]]:
    """Directives, and what starts the command on every node."""
    gpus = f"gpu:{lane.gpu_type}:{lane.gpus_per_node}" if lane.gpu_type else f"gpu:{lane.gpus_per_node}"
    wanted: Sequence[tuple[str, object]] = (
        ("job-name", job.name),
        ("comment", job.comment),
        ("partition", lane.partition),
        ("account", lane.account),
        ("qos", lane.qos),
        ("constraint", lane.constraint),
        ("reservation", lane.reservation),
        ("time", lane.time),
        ("nodes", lane.nodes),
        ("ntasks-per-node", 1),
        ("cpus-per-task", lane.cores_per_node),
        ("gres", gpus if lane.gpus_per_node else None),
        ("mem", f"{lane.memory_per_node}G" if lane.memory_per_node else None),
        ("output", f"{job.folder}/job.out"),
        ("open-mode", "append"),
        ("export", "NONE"),
    )
    head = [f"#SBATCH --{name}={value}" for name, value in wanted if value is not None]
    head += ["#SBATCH --exclusive"] if lane.exclusive else []
    head.append("#SBATCH --no-requeue")
    if lane.nodes == 1:
        return head, []
    # --export: the job was submitted with NONE, which its steps would inherit and so lose worker_setup.
    step = ["srun", "--export=ALL", f"--nodes={lane.nodes}", "--ntasks-per-node=1"]
    return head, [*step, f"--cpus-per-task={lane.cores_per_node}", "--kill-on-bad-exit=1"]


def _pbs(lane: PBSLane, job: BlockJob) -> tuple[list[str], list[str]]:
    chunk = f"select={lane.nodes}:ncpus={lane.cores_per_node}"
    chunk += ":mpiprocs=1" if lane.nodes > 1 else ""  # so that pbsdsh starts one program on each
    chunk += f":ngpus={lane.gpus_per_node}" if lane.gpus_per_node else ""
    chunk += f":mem={lane.memory_per_node}gb" if lane.memory_per_node else ""
    wanted: Sequence[tuple[str, object]] = (
        ("-N", job.name),
        ("-q", lane.queue),
        ("-A", lane.account),
        ("-P", lane.project),
        ("-l", chunk),
        ("-l", f"place={lane.placement}" if lane.placement else None),
        ("-l", f"walltime={hours_minutes_seconds(lane.walltime)}"),
        ("-o", f"{job.folder}/job.out"),
        ("-j", "oe"),
        ("-r", "n"),
        ("-S", "/bin/bash"),
    )
    head = [f"#PBS {name} {value}" for name, value in wanted if value is not None]
    return head, ["pbsdsh", "--", "/bin/bash", "-l", f"{job.folder}/{NODE_SCRIPT}"] if lane.nodes > 1 else []
