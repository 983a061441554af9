"""Machine files of kind pbs: PBS Pro and OpenPBS. ``hpc/pbs.yaml`` is one with comments."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from clusterflow.config.section import Section
from clusterflow.execution.machines.batch import BatchMachine, ScriptLane, lane_or_name
from clusterflow.execution.machines.words import Word


class PBSLane(ScriptLane):
    """A lane whose blocks are jobs of PBS."""

    queue: Word | None = None
    """Not given: the cluster's default."""
    account: Word | None = None
    """Account (``-A``)."""
    project: Word | None = None
    """Project (``-P``)."""
    place: Word | None = None
    """As in ``-l place=…``, e.g. excl; blocks of several nodes have each on a host of its own (scatter) anyway."""

    @model_validator(mode="after")
    def _scattered(self) -> PBSLane:
        wrong = {"free", "pack", "vscatter"} & set((self.place or "").split(":"))
        if self.nodes > 1 and wrong:
            raise ValueError(
                f"place is {self.place}, but each of the {self.nodes} nodes of a block must be a host of its own: "
                f"leave out {wrong.pop()}"
            )
        return self

    @property
    def placement(self) -> str | None:
        """The ``place`` to ask for."""
        if self.nodes == 1 or "scatter" in (self.place or "").split(":"):
            return self.place
        return f"scatter:{self.place}" if self.place else "scatter"


class PBSLanes(Section):
    """The four lanes; a lane may name another whose blocks it shares (``train: md``)."""

    md: lane_or_name(PBSLane)  # type: ignore[valid-type]
    """Dynamics with the potential."""
    label: lane_or_name(PBSLane)  # type: ignore[valid-type]
    """Reference calculations."""
    train: lane_or_name(PBSLane) = "md"  # type: ignore[valid-type]
    """Training of the potential."""
    local: lane_or_name(PBSLane) = "label"  # type: ignore[valid-type]
    """Scoring, selection, extraction and evaluation."""


class PBSMachine(BatchMachine):
    """A cluster with PBS Pro or OpenPBS."""

    kind: Literal["pbs"]
    """Which kind of machine this file describes."""
    lanes: PBSLanes
    """What each kind of work asks for."""
