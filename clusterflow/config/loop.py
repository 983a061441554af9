"""`loop:` — when walkers walk, labels enter and training begins."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clusterflow.config.quantities import Duration
from clusterflow.config.section import Section


class Synchronous(Section):
    """One stage after the other, as in the paper: all walks, then all labels, then training."""

    kind: Literal["synchronous"] = "synchronous"


class Streaming(Section):
    """Everything at once: walkers restart with the newest potential, each label counts as soon as it is there, and
    training begins when enough are new. An iteration is then one training (docs/concepts/streaming.md)."""

    kind: Literal["streaming"] = "streaming"
    retrain_after: int | None = Field(None, ge=1)
    """New labels after which the next training begins; default: `select.fragments`."""
    retrain_interval: Duration | None = None
    """It begins earlier if a new label has waited for it this long."""
    max_model_lag: int = Field(2, ge=0)
    """A walk starts only if its labels are expected to be trained on at most this many versions after the potential
    that walked."""
    max_open_labels: int | None = Field(None, ge=1)
    """Walks pause while so many labels wait, run or are expected of walks; default: the lag alone decides."""


Loop = Annotated[Synchronous | Streaming, Field(discriminator="kind")]
