"""`failures:` — when a campaign pauses because too much fails."""

from __future__ import annotations

from pydantic import Field

from clusterflow.config.section import Section


class Failures(Section):
    """A campaign pauses (exit 75, resumed by the next `clusterflow run`) when a kind of task (labels, walks, …) fails
    too often, instead of spending its allocation on what will fail too."""

    window: int = Field(10, ge=10)
    """It looks at so many of the latest outcomes of each kind since the run began …"""
    share: float = Field(0.5, gt=0, le=1)
    """… and pauses when more than this share of them failed; 1: never."""
