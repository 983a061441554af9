"""How long the blocks of a cluster waited in its queue: one small file per block, in its folder below ``parsl/``.

For the eye only: nothing is decided by it, and what cannot be read counts as not there.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

FILE = "queue.json"


@dataclass(frozen=True, slots=True)
class QueueWait:
    """Blocks of a lane that began, and how long they waited between submission and the first worker, in s."""

    lane: str
    blocks: int
    median: float
    longest: float


def note_wait(block_folder: Path, lane: str, job: str, seconds: float) -> None:
    """Notes that a block has begun after so long."""
    with contextlib.suppress(OSError):
        text = json.dumps({"lane": lane, "job": job, "waited": round(seconds, 1)})
        (block_folder / FILE).write_text(text, encoding="utf-8")


def queue_waits(parsl_folder: Path) -> list[QueueWait]:
    """One row per lane of which a block has begun; empty where nothing goes through a queue."""
    waits: dict[str, list[float]] = {}
    for path in sorted(parsl_folder.glob(f"*/{FILE}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(path.read_text(encoding="utf-8"))
            waits.setdefault(str(told["lane"]), []).append(float(told["waited"]))
    return [QueueWait(lane, len(w), statistics.median(w), max(w)) for lane, w in sorted(waits.items())]
