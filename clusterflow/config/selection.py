"""`select:` — which environments get a label (Dobbelaere 2025, SI 5, Core selection)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from clusterflow.config.cbad import CBAD
from clusterflow.config.mistakes import PlacedError
from clusterflow.config.quantities import Duration
from clusterflow.config.section import Section


class Select(Section):
    """Ranks building blocks by the novelty of their atoms."""

    kind: Literal["novelty"] = "novelty"
    ranking: Literal["least_likely_atom", "sum_below_threshold", "mean_without_h", "per_cost", "coverage"] = (
        "least_likely_atom"
    )
    """`least_likely_atom` is the paper's; the next three are the alternatives that it names. `coverage` chooses a whole
    batch that covers the most novelty per predicted second of labelling (docs/concepts/selection.md)."""
    threshold: float | None = None
    """Novelty (nats) above which an atom counts, for `sum_below_threshold`."""
    fragments: int = Field(20, ge=1)
    """Fragments to label per iteration."""
    per_frame: int | None = Field(None, ge=1)
    """At most this many from one frame (not with `coverage`, which does not repeat itself)."""
    core_seconds: Duration | None = None
    """With `coverage`: most predicted core time of the labels of one iteration (of a selection in the streaming loop:
    the part that goes with its fragments); default: `fragments` times the median."""
    share: Literal["weight", "need"] | None = None
    """Labels of an iteration per system: by the weights under `systems:`, or in proportion to its novelty above what
    the training data reach, summed over the atoms explored; default: one ranking for all systems."""
    share_floor: float = Field(0.2, ge=0, le=1)
    """With `share`: the least that a system gets, as a part of an equal share."""

    @model_validator(mode="after")
    def _threshold(self) -> Select:
        if self.ranking == "sum_below_threshold" and self.threshold is None:
            raise PlacedError("ranking sum_below_threshold needs `threshold:` (novelty in nats)", "ranking")
        if self.ranking == "coverage" and self.per_frame is not None:
            raise PlacedError(
                "`per_frame:` has no meaning with `ranking: coverage`, which spreads its choice by itself", "per_frame"
            )
        if self.ranking != "coverage" and self.core_seconds is not None:
            raise PlacedError("`core_seconds:` needs `ranking: coverage`", "core_seconds")
        return self

    def build(self) -> Any:
        from clusterflow.selection.cores import BlockSelector

        return BlockSelector(ranking=self.ranking, threshold=self.threshold, per_frame=self.per_frame)


Selection = Annotated[Select | CBAD, Field(discriminator="kind")]
