"""``events.log``: the journal for people and for log collectors, one line of ``name=value`` pairs per event.

Nothing reads it back, so it may be deleted, rotated or lost; the journal is the truth.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterflow.state.journal import Event

_BARE = re.compile(r"^[A-Za-z0-9_.:/+-]+$")
_WANTED = (
    "task",
    "lane",
    "key",
    "name",
    "reason",
    "error",
    "where",
    "final",
    "cached",
    "wall_time",
    "cores",
    "version",
)


def log_event(path: Path, event: Event) -> None:
    """Appends one line. A disk that refuses it stops nothing here: the journal will say so."""
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(event_text(event) + "\n")


def event_text(event: Event) -> str:
    """The line of an event, without the newline."""
    pairs: dict[str, Any] = {"time": event.time, "epoch": event.epoch, "seq": event.seq, "event": event.kind}
    pairs.update({k: event.data[k] for k in _WANTED if event.data.get(k) not in (None, "")})
    if isinstance(event.data.get("what"), Mapping):
        pairs.update(event.data["what"])
    summary = event.data.get("summary")
    if isinstance(summary, Mapping) and summary.get("alarms"):
        pairs["warning"] = "; ".join(str(a) for a in summary["alarms"])
    return " ".join(f"{name}={_value(value)}" for name, value in pairs.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if _BARE.match(text) else json.dumps(text, ensure_ascii=False)
