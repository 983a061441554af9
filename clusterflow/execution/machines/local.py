"""The computer on which the driver itself runs.

The lanes share its cores: a lane's ``workers`` says how many of its tasks may run at once at most, and no task starts
before its cores are free. ``hpc/local.yaml`` is the default with comments.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from clusterflow.config.mistakes import PlacedError
from clusterflow.config.section import Section
from clusterflow.errors import ConfigError
from clusterflow.execution.machines.lanes import LANES, Count, ResolvedLane

Auto: TypeAlias = Literal["auto"]


class Lane(Section):
    """What one kind of work may use of the machine."""

    workers: Count | Auto = "auto"
    """Tasks of this lane at once, at most; ``auto``: as many as the cores allow."""
    cores_per_worker: Count = 1
    """Cores of one task: its threads, or the MPI ranks of a label."""
    gpus: Annotated[int, Field(strict=True, ge=0, le=1024)] | Auto = 0
    """GPUs that the workers of this lane share, each pinned to one; ``auto``: all that are found."""


class Lanes(Section):
    """The four lanes."""

    md: Lane = Lane(gpus="auto")
    """Dynamics with the potential."""
    label: Lane = Lane()
    """Reference calculations."""
    train: Lane = Lane(workers=1, gpus="auto")
    """Training of the potential."""
    local: Lane = Lane(workers=1)
    """Scoring, selection, extraction and evaluation."""


class LocalMachine(Section):
    """The computer on which the driver itself runs."""

    kind: Literal["local"] = "local"
    """Which kind of machine this file describes."""
    cores: Count | Auto = "auto"
    """Cores that all lanes share; ``auto``: those this process may use (affinity and container limits count)."""
    lanes: Lanes = Lanes()
    """What each kind of work may use."""

    @model_validator(mode="after")
    def _fits(self) -> LocalMachine:
        for name in LANES:
            lane: Lane = getattr(self.lanes, name)
            if isinstance(self.cores, int) and lane.cores_per_worker > self.cores:
                what = f"lane '{name}' wants {lane.cores_per_worker} cores per worker, the machine has {self.cores}"
                raise PlacedError(what, "lanes", name, "cores_per_worker")
        return self

    def for_ranks(self, ranks: int) -> LocalMachine:
        """This machine with as many cores for each label as it has MPI ranks.

        Raises
        ------
        ConfigError
            More ranks than cores.
        """
        if ranks > self.total_cores():
            raise ConfigError(
                f"label.ranks is {ranks}, but this machine offers {self.total_cores()} cores.",
                where="campaign file, label.ranks",
                todo="Lower it, or give `cores:` in the machine file if you mean to share cores.",
            )
        label = self.lanes.label
        if ranks <= label.cores_per_worker:
            return self
        wider = label.model_copy(update={"cores_per_worker": ranks})
        return self.model_copy(update={"lanes": self.lanes.model_copy(update={"label": wider})})

    def total_cores(self) -> int:
        """Cores that all lanes share."""
        return available_cores() if self.cores == "auto" else self.cores

    @property
    def label_cores(self) -> int:
        """Cores that labels can keep busy at once."""
        lane = self.resolved("label")
        return min(lane.workers * lane.cores_per_worker, self.total_cores())

    def resolved(self, name: str) -> ResolvedLane:
        """A lane with every ``auto`` replaced by a number.

        Raises
        ------
        ConfigError
            No such lane, or it wants more cores per worker than this computer has.
        """
        if name not in LANES:
            raise ConfigError(f"There is no lane '{name}'.", todo=f"The lanes are {', '.join(LANES)}.")
        lane: Lane = getattr(self.lanes, name)
        total = self.total_cores()
        if lane.cores_per_worker > total:
            raise ConfigError(
                f"Lane '{name}' wants {lane.cores_per_worker} cores per worker; this computer offers {total}.",
                where="machine file, lanes." + name,
                todo=f"Set cores_per_worker to {total} or less, or give `cores:` if you mean to share cores.",
            )
        gpus = available_gpus()
        chosen = gpus if lane.gpus == "auto" else gpus[: lane.gpus]
        if lane.gpus != "auto" and len(chosen) < lane.gpus:
            raise ConfigError(
                f"Lane '{name}' wants {lane.gpus} GPUs; this computer shows {len(gpus)}.",
                where="machine file, lanes." + name,
                todo="Write `gpus: auto` to use those there are; `nvidia-smi -L` and CUDA_VISIBLE_DEVICES show which.",
            )
        workers = lane.workers
        if workers == "auto":
            workers = max(1, total // lane.cores_per_worker)
            if chosen:
                workers = min(workers, len(chosen))
        return ResolvedLane(name=name, workers=workers, cores_per_worker=lane.cores_per_worker, gpus=tuple(chosen))


def available_cores() -> int:
    """Cores that this process may use: affinity, and the limit of its container (cgroup v1 or v2), rounded down."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _cgroup_cores(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return max(1, min(cores, int(limit)) if limit else cores)


def _cgroup_cores(root: Path, own: Path) -> float:
    """The CPU limit of the cgroup in cores; 0 where there is none."""
    limits = []
    folders = [root]
    try:
        place = own.read_text().strip().rpartition(":")[2].lstrip("/")
        here = root / place
        while place and here != root and root in here.parents:
            folders.append(here)
            here = here.parent
    except OSError:
        pass
    for folder in folders:
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                limits.append(int(quota) / int(period))
        except (OSError, ValueError):
            pass
    try:
        quota_us = int((root / "cpu/cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            limits.append(quota_us / int((root / "cpu/cpu.cfs_period_us").read_text()))
    except (OSError, ValueError):
        pass
    return min(limits, default=0.0)


def available_gpus(environment: dict[str, str] | None = None, proc: Path = Path("/proc")) -> list[str]:
    """Names of the NVIDIA GPUs this process may use: CUDA_VISIBLE_DEVICES if set, else all that the driver lists."""
    env: Any = os.environ if environment is None else environment
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [g.strip() for g in visible.split(",") if g.strip() and g.strip() != "-1"]
    try:
        return [str(i) for i in range(len(list((proc / "driver/nvidia/gpus").iterdir())))]
    except OSError:
        return []
