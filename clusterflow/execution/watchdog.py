"""A thread that looks at what cannot be trusted to report its own death.

Parsl's futures never resolve when its interchange dies (Parsl issue 3374), and no process reports that it hangs. So one
thread looks every second: do the processes live, did a sent task begin, has a running one overrun its limit?

The same thread starts all processes of the engine. This is not a detail: the kernel ends a process that asked to die
with its parent when the *thread* that started it ends, so that thread must live as long as they may.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from clusterflow.execution.supervise import end_tree, start_ticks

START_LIMIT: Final = 300.0
"""Seconds within which a worker must take up a task that was sent (a cold import on a slow disk takes a minute)."""
ANSWER_LIMIT: Final = 60.0
"""Seconds within which the answer of a task that has ended must arrive."""
OVERTIME: Final = 30.0
"""Seconds beyond its own limit after which a task is ended from outside."""

log = logging.getLogger(__name__)

Verdict = Literal["fine", "never started", "answer lost", "overdue"]


class Watchdog:
    """Calls ``look`` every ``period`` s, or at once after `wake`, in a thread of its own, until `stop`; ``look`` must
    not raise. ``finish`` is the last thing that the thread does."""

    def __init__(self, look: Callable[[], None], finish: Callable[[], None], *, period: float = 1.0) -> None:
        self._look, self._finish, self._period = look, finish, period
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine-watchdog", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Has it look now."""
        self._wake.set()

    def stop(self, *, timeout: float = 60.0) -> None:
        """Ends the thread, after ``finish``."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout=timeout)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._wake.clear()
                self._look()
                self._wake.wait(self._period)
        finally:
            self._finish()


@dataclass(slots=True)
class Progress:
    """What is known of a task that was sent: its worker writes ``marker`` when it begins and removes it at the end."""

    marker: Path
    limit: float
    sent: float
    began: float | None = None
    ended: float | None = None

    @classmethod
    def begin(cls, marker: Path, limit: float) -> Progress:
        """Just sent."""
        return cls(marker, limit, time.monotonic())

    def judge(self, now: float) -> Verdict:
        """Looks at the marker, at monotonic time ``now``."""
        there = self.marker.exists()
        if there:
            self.ended = None
            if self.began is None:
                self.began = now
            return "overdue" if now - self.began > self.limit + OVERTIME else "fine"
        if self.began is None:
            return "never started" if now - self.sent > START_LIMIT else "fine"
        if self.ended is None:
            self.ended = now
        return "answer lost" if now - self.ended > ANSWER_LIMIT else "fine"

    def was_taken_up(self) -> bool:
        """Whether a worker has begun it."""
        return self.began is not None or self.marker.exists()

    def running_for(self, now: float) -> float:
        """Seconds since it was first seen at work."""
        return 0.0 if self.began is None else now - self.began

    def took(self, now: float) -> float:
        """Seconds that a task took which has just been answered; the start of its worker included if that was not seen
        apart."""
        return now - (self.sent if self.began is None else self.began)

    def kill(self) -> None:
        """Ends the worker process that holds the task, and everything below it."""
        try:
            data = json.loads(self.marker.read_text())
            if start_ticks(data["pid"]) == data["start"]:
                end_tree(data["pid"], grace=1.0, itself=True)
        except (OSError, ValueError, KeyError) as error:
            log.warning("the worker of %s cannot be ended: %s", self.marker.name, error)
        finally:
            self.marker.unlink(missing_ok=True)
