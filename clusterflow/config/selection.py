"""`select:` — which environments get a label (Dobbelaere 2025, SI 5, Core selection)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from clusterflow.config.cbad import CBAD
from clusterflow.config.section import Section


class Select(Section):
    """Ranks building blocks by the novelty of their atoms."""

    kind: Literal["novelty"] = "novelty"
    ranking: Literal["least_likely_atom", "sum_below_threshold", "mean_without_h", "per_cost"] = "least_likely_atom"
    """`least_likely_atom` is the paper's; the others are the alternatives that it names."""
    threshold: float | None = None
    """Novelty (nats) above which an atom counts, for `sum_below_threshold`."""
    fragments: int = Field(20, ge=1)
    """Fragments to label per iteration."""
    per_frame: int | None = Field(None, ge=1)
    """At most this many from one frame."""

    @model_validator(mode="after")
    def _threshold(self) -> Select:
        if self.ranking == "sum_below_threshold" and self.threshold is None:
            raise ValueError("ranking sum_below_threshold needs `threshold:` (novelty in nats)")
        return self

    def build(self) -> Any:
        from clusterflow.selection.cores import BlockSelector

        return BlockSelector(ranking=self.ranking, threshold=self.threshold, per_frame=self.per_frame)


Selection = Annotated[Select | CBAD, Field(discriminator="kind")]
