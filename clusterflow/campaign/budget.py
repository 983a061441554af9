"""What a campaign would cost, stage by stage, in seconds of one core.

Rough, from times measured on one core of a server Xeon (docs/concepts/training.md, docs/reference/performance.md): for
asking for the right allocation, never for a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from clusterflow.campaign.forecast import Forecast
from clusterflow.config.campaign import Campaign
from clusterflow.config.train import NequIP

PRESETS: Final[dict[str, tuple[float, float]]] = {
    "small": (9.1e-5, 3.8e-4),
    "base": (3.2e-4, 1.6e-3),
    "extended": (7.6e-4, 3.8e-3),
}
"""Core-seconds per atom of one force call, and per atom and epoch of training (in batches of 2). `extended` was not
measured: it is `base` times the ratio of their parameters."""
LINEAR: Final[tuple[float, float]] = (9e-5, 3e-3)
"""The same for a linear potential with four elements, per atom and fit (`benchmarks/learners.py`)."""
EPOCHS: Final = 300
"""Epochs of a training whose patience ends it (250 to 350 in the quickstart)."""
LOCAL_SECONDS: Final = 5.0
"""Scoring, selection, extraction and evaluation of one iteration."""


@dataclass(frozen=True, slots=True)
class StageCost:
    """``core_seconds`` of all tasks together, None where nothing is known; ``basis`` says where it comes from."""

    stage: str
    lane: str
    tasks: int
    core_seconds: float | None
    basis: str


def stage_costs(config: Campaign, told: Forecast) -> tuple[StageCost, ...]:
    """The stages of a campaign that runs all its iterations."""
    learner = config.train
    if isinstance(learner, NequIP):
        preset: str = learner.model.preset
        call, epoch = PRESETS[preset]
        epochs = [learner.intermediate.max_epochs or EPOCHS] * config.stop.iterations
        epochs.append(learner.final.max_epochs or EPOCHS)
        told_of = f"{epochs[-1]} epochs, model {preset}"
    else:
        (call, epoch), preset, told_of = LINEAR, "linear", "one fit"
        epochs = [1] * (config.stop.iterations + 1)
    cell = _mean([row[1] for row in told.fragments])
    fragment = _mean([row[6] for row in told.fragments])
    iterations = config.stop.iterations
    trained = [told.labels_start - told.labels_test + i * told.labels_per_iteration for i in range(iterations + 1)]
    potentials = 1 + (len(config.controls.arms) if config.controls else 0)
    potentials *= learner.committee
    training = potentials * sum(n * e * fragment * epoch for n, e in zip(trained, epochs, strict=True))
    mode = "GFN-xTB" if config.label.kind == "xtb" else "GPAW's LCAO mode"
    known = f"a model of {mode}, within a factor of 3"
    return (
        StageCost(
            "labels",
            "label",
            told.labels_total,
            told.label_core_seconds,
            known if told.label_core_seconds is not None else "no model for this level: docs/concepts/labels.md",
        ),
        StageCost(
            "dynamics",
            "md",
            told.walkers * iterations,
            told.md_steps * cell * call,
            f"{told.md_steps} steps of {cell:.0f} atoms, model {preset}",
        ),
        StageCost(
            "training",
            "train",
            learner.committee + potentials * iterations,
            training,
            f"up to {trained[-1]} frames of {fragment:.0f} atoms, {told_of}",
        ),
        StageCost(
            "the rest",
            "local",
            3 * iterations + 1,
            LOCAL_SECONDS * (iterations + 1),
            "scoring, selection, extraction, evaluation",
        ),
    )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(1, len(values))
