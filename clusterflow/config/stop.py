"""`stop:` — when the campaign is done. The first criterion that holds ends it; then the final model is trained."""

from __future__ import annotations

from pydantic import Field

from clusterflow.config.quantities import Force
from clusterflow.config.section import Section


class Stop(Section):
    """Bounds and criteria."""

    iterations: int = Field(10, ge=0)
    """At most this many (0: only the starting model)."""
    labels: int | None = Field(None, ge=1)
    """At most this many labels, test set included."""
    core_hours: float | None = Field(None, gt=0)
    """At most this many core hours of labels, dynamics and training together."""
    test_mae_p95: Force | None = None
    """Done when the force MAE_P95 (Dobbelaere 2025, eq. 6) on the test set is below this."""
    noise_floor: bool = False
    """Done when the potential is as good as its labels: its own force error on the test set has come down to their
    noise (`train: {label_noise: …}`), that is RMSE ≤ √2 · noise."""
    novelty: float | None = None
    """Done when no atom of the new frames is more novel than this (nats, or the unit of `score:`, above what 99 % of
    the training atoms of its element stay below: the level alone shifts with every retraining) …"""
    novelty_iterations: int = Field(2, ge=1)
    """… for this many iterations in a row."""
