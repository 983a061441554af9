"""Machine files of kind slurm. ``hpc/slurm.yaml`` is one with comments."""

from __future__ import annotations

from typing import Literal

from clusterflow.config.section import Section
from clusterflow.execution.machines.batch import BatchMachine, ScriptLane, lane_or_name
from clusterflow.execution.machines.words import Word


class SlurmLane(ScriptLane):
    """A lane whose blocks are jobs of Slurm."""

    partition: Word | None = None
    """Not given: the cluster's default."""
    account: Word | None = None
    """What the jobs are charged to."""
    qos: Word | None = None
    """Quality of service."""
    constraint: Word | None = None
    """Features that nodes must have."""
    reservation: Word | None = None
    gpu_type: Word | None = None
    """As in ``--gres=gpu:TYPE:n``, where the cluster has several."""
    exclusive: bool = False
    """Whole nodes, shared with nobody."""


class SlurmLanes(Section):
    """The four lanes; a lane may name another whose blocks it shares (``train: md``)."""

    md: lane_or_name(SlurmLane)  # type: ignore[valid-type]
    """Dynamics with the potential."""
    label: lane_or_name(SlurmLane)  # type: ignore[valid-type]
    """Reference calculations."""
    train: lane_or_name(SlurmLane) = "md"  # type: ignore[valid-type]
    """Training of the potential."""
    local: lane_or_name(SlurmLane) = "label"  # type: ignore[valid-type]
    """Scoring, selection, extraction and evaluation."""


class SlurmMachine(BatchMachine):
    """A cluster with Slurm."""

    kind: Literal["slurm"]
    """Which kind of machine this file describes."""
    lanes: SlurmLanes
    """What each kind of work asks for."""
