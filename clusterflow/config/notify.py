"""`notify:` — a command of yours that is run when the campaign ends, stops or needs you."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from clusterflow.config.quantities import Duration
from clusterflow.config.section import Section

Moment = Literal["finished", "failed", "paused", "stopped"]
Word = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00\n\r]+$")]


class Notify(Section):
    """The command gets the news on its standard input and in CLUSTERFLOW_STATE, CLUSTERFLOW_CAMPAIGN,
    CLUSTERFLOW_REASON and CLUSTERFLOW_FOLDER. No shell reads it, and its failure never stops a campaign."""

    command: tuple[Word, ...] = Field(min_length=1)
    """Program and arguments as a list, e.g. `[mail, -s, campaign, me@example.org]`."""
    on: tuple[Moment, ...] = ("finished", "failed", "paused")
    """When: `finished`, `failed`, `paused` (by a rising failure rate), `stopped` (Ctrl-C, SIGTERM)."""
    time_limit: Duration = 30.0
    """After this it is ended."""
