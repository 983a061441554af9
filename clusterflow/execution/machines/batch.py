"""What machines with a batch system have in common: lanes made of blocks.

A **block** is one job of the scheduler: some nodes for some time, on which workers take one task after another. A lane
says how large its blocks are and how many there may be; blocks come when tasks wait and go when nothing is left to do.
"""

from __future__ import annotations

import ipaddress
import sys
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from clusterflow.config.mistakes import PlacedError
from clusterflow.config.quantities import Duration
from clusterflow.config.section import Section
from clusterflow.errors import ConfigError
from clusterflow.execution.machines.lanes import LANES, Count, ResolvedLane
from clusterflow.execution.machines.words import (
    Command,
    FileWord,
    Shell,
    VariableName,
    Walltime,
    Word,
    as_list,
    hours_minutes_seconds,
)

LaneName: TypeAlias = Literal["md", "label", "train", "local"]
RESERVED = ("CLUSTERFLOW_", "SLURM_", "SBATCH_", "PBS_", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES")


class Blocks(Section):
    """How many jobs of a lane there may be, waiting and running together."""

    min: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    """Kept even when no task waits."""
    max: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    """Never more."""

    @model_validator(mode="after")
    def _ordered(self) -> Blocks:
        if self.min > self.max:
            raise PlacedError(f"min is {self.min}, above max, which is {self.max}", "min")
        return self


class BatchLane(Section):
    """What one kind of work asks of the scheduler."""

    walltime: Walltime
    """How long a block may run, queue time not counted."""
    blocks: Blocks = Blocks()
    """How many jobs."""
    nodes: Count = 1
    """Nodes of one block. A task stays on one node."""
    cores_per_node: Count
    """Cores to ask for on each node."""
    gpus_per_node: Annotated[int, Field(strict=True, ge=0, le=64)] = 0
    """GPUs to ask for on each node; each worker is pinned to one."""
    memory_per_node: Count | None = None
    """Memory to ask for on each node in GB; not given: what the scheduler's own rules say."""
    workers_per_node: Count | Literal["auto"] = "auto"
    """Tasks at once on a node; ``auto``: one per GPU, else as many as cores (or MPI ranks of a label) allow."""
    mpi: Command = ()
    """What starts the MPI ranks of a label, word by word; default: mpirun -np {ranks}."""

    _words = field_validator("mpi", mode="before")(as_list)

    @model_validator(mode="after")
    def _fits(self) -> BatchLane:
        if isinstance(self.workers_per_node, int) and self.workers_per_node > self.cores_per_node:
            what = f"{self.workers_per_node} workers on {self.cores_per_node} cores: each needs at least one"
            raise PlacedError(what, "workers_per_node")
        return self

    @property
    def workers(self) -> int:
        """Workers on each node."""
        if self.workers_per_node != "auto":
            return self.workers_per_node
        return min(self.gpus_per_node, self.cores_per_node) or self.cores_per_node

    @property
    def cores_per_worker(self) -> int:
        return self.cores_per_node // self.workers

    @property
    def time(self) -> str:
        """The walltime, as HH:MM:SS."""
        return hours_minutes_seconds(self.walltime)


class ScriptLane(BatchLane):
    """A lane whose blocks are job scripts of a cluster with modules and, maybe, containers."""

    container: Command = ()
    """Put before the workers' command, word by word, e.g. [apptainer, exec, --nv, /apps/clusterflow.sif]."""
    modules: tuple[FileWord, ...] = ()
    """Loaded by ``module load`` before the workers start."""

    _script_words = field_validator("container", "modules", mode="before")(as_list)


def lane_or_name(lane: Any) -> Any:
    """A type: this kind of lane, or the name of another one whose blocks are shared."""
    return Annotated[
        Annotated[lane, Tag("lane")] | Annotated[LaneName, Tag("shared")],
        Discriminator(lambda given: "shared" if isinstance(given, str) else "lane"),
    ]


class Submission(Section):
    """How often jobs may be submitted, and when a lane is given up."""

    per_hour: Annotated[int, Field(strict=True, ge=1, le=3600)] = 60
    """Jobs of the whole campaign in any hour, at most."""
    failures: Annotated[int, Field(strict=True, ge=1, le=100)] = 5
    """Blocks of a lane in a row that cannot start before the lane is given up with their message."""
    first_wait: Duration = 10.0
    """Wait after the first such block; doubled by each further one."""
    longest_wait: Duration = 600.0
    """Never wait longer than this."""


def _address(value: str) -> str:
    if value == "auto" or not any(c in value for c in ".:"):  # an interface has neither
        return value
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{value!r} is neither an IP address, nor an interface such as ib0, nor auto") from None


class BatchMachine(Section):
    """A cluster whose jobs are submitted from the computer where the driver runs."""

    address: Annotated[Word, AfterValidator(_address)] = "auto"
    """Where nodes reach the driver: an IP address, an interface such as ib0, or ``auto``: this host's address."""
    python: FileWord | Literal["auto"] = "auto"
    """Python with clusterflow on the nodes; ``auto``: the driver's own, on a file system that nodes share."""
    worker_setup: Shell = ""
    """Lines of shell that run before the workers of a block start (with Slurm on its first node, with PBS on each); the
    only shell in this file."""
    environment: dict[VariableName, FileWord] = Field(default_factory=dict)
    """Variables of the jobs; nothing else of the driver's environment goes with them."""
    submit: Submission = Submission()
    """Limits on submissions."""
    heartbeat: Annotated[Duration, Field(ge=5)] = 60.0
    """Silence after which driver and workers take each other for dead."""
    poll: Annotated[Duration, Field(ge=1)] = 10.0
    """Between two looks at the queue."""
    idle: Duration = 120.0
    """A block without work for so long is given back."""
    end_margin: Duration = 60.0
    """Part of the walltime, at its end, in which no task may still run."""

    @field_validator("environment")
    @classmethod
    def _not_ours(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name.startswith(RESERVED):
                raise ValueError(f"{name} is set by the scheduler or by clusterflow itself")
        return value

    @model_validator(mode="after")
    def _lanes_make_sense(self) -> BatchMachine:
        for name in LANES:
            self.block_lane(name)
            lane = self.lane(name)
            if self.end_margin >= lane.walltime / 2:
                what = f"end_margin is {self.end_margin:g} s, too much of the walltime of lane '{name}' ({lane.time})"
                raise PlacedError(
                    what, *(("end_margin",) if "end_margin" in self.model_fields_set else ("lanes", name))
                )
        return self

    @property
    def interpreter(self) -> str:
        """Path of Python on the nodes."""
        return sys.executable if self.python == "auto" else self.python

    def given(self, name: str) -> Any:
        """The lane as the file has it: a `BatchLane` or the name of another."""
        return getattr(self.lanes, name)  # type: ignore[attr-defined]

    def block_lane(self, name: str) -> str:
        """The lane whose blocks a lane uses: itself, or the one that it names.

        Raises
        ------
        ValueError
            It shares with a lane that shares itself.
        """
        given = self.given(name)
        if not isinstance(given, str):
            return name
        if isinstance(self.given(given), str):
            what = f"lane '{name}' shares the blocks of '{given}', which has none of its own"
            raise PlacedError(what, "lanes", name)
        return given

    def lane(self, name: str) -> BatchLane:
        """What the blocks that a lane uses are like."""
        found: BatchLane = self.given(self.block_lane(name))
        return found

    def block_lanes(self) -> tuple[str, ...]:
        """The lanes that have blocks of their own."""
        return tuple(name for name in LANES if self.block_lane(name) == name)

    def resolved(self, name: str) -> ResolvedLane:
        """A lane in numbers.

        Raises
        ------
        ConfigError
            No such lane.
        """
        if name not in LANES:
            raise ConfigError(f"There is no lane '{name}'.", todo=f"The lanes are {', '.join(LANES)}.")
        lane = self.lane(name)
        return ResolvedLane(
            name=name,
            workers=lane.blocks.max * lane.nodes * lane.workers,
            cores_per_worker=lane.cores_per_worker,
        )

    @property
    def label_cores(self) -> int:
        """Cores that labels can keep busy at once."""
        lane = self.lane("label")
        return lane.blocks.max * lane.nodes * lane.workers * lane.cores_per_worker

    def total_cores(self) -> int:
        """Cores of all blocks together, when each lane has as many as it may."""
        lanes = [self.lane(name) for name in self.block_lanes()]
        return sum(lane.blocks.max * lane.nodes * lane.cores_per_node for lane in lanes)

    def for_ranks(self, ranks: int) -> Any:
        """This machine with as many cores for each label as it has MPI ranks.

        Raises
        ------
        ConfigError
            More ranks than the cores of a node, or than ``workers_per_node`` leaves each worker.
        """
        name = self.block_lane("label")
        lane = self.lane("label")
        if ranks <= lane.cores_per_worker:
            return self
        if ranks > lane.cores_per_node or lane.workers_per_node != "auto" or lane.gpus_per_node:
            raise ConfigError(
                f"label.ranks is {ranks}, but a worker of lane '{name}' has {lane.cores_per_worker} of the "
                f"{lane.cores_per_node} cores of a node.",
                where=f"campaign file, label.ranks; machine file, lanes.{name}",
                todo=f"Set workers_per_node to {max(1, lane.cores_per_node // ranks)} there, or lower label.ranks "
                "(a label stays on one node).",
            )
        wider = lane.model_copy(update={"workers_per_node": lane.cores_per_node // ranks})
        lanes = self.lanes.model_copy(update={name: wider})  # type: ignore[attr-defined]
        return self.model_copy(update={"lanes": lanes})
