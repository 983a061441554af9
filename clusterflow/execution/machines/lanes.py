"""Lanes: the four kinds of work that a machine file gives places to."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import Field

from clusterflow.config.section import Section

LANES: Final = ("md", "label", "train", "local")
"""Dynamics; reference calculations; training; scoring, selection, extraction and evaluation."""

Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10_000)]


class ResolvedLane(Section):
    """A lane in numbers. ``gpus`` are names for CUDA_VISIBLE_DEVICES; on a cluster the scheduler names them and this
    stays empty."""

    name: str
    workers: int
    cores_per_worker: int
    gpus: tuple[str, ...] = ()
