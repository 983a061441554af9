"""When so much fails that going on would only burn the allocation."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from clusterflow.config.failures import Failures


@dataclass(frozen=True, slots=True)
class TooMany:
    """``failed`` of the last ``of`` tasks of a ``kind``, most often (``times``) for this ``reason``."""

    kind: str
    failed: int
    of: int
    reason: str
    times: int

    def __str__(self) -> str:
        often = f"{self.times} times" if self.times > 1 else "for example"
        return f"{self.failed} of the last {self.of} {self.kind} tasks failed, {often}: {self.reason}"


@dataclass(slots=True)
class FailureRate:
    """The latest outcomes of each kind of task. It begins empty with each run: to resume is to try again."""

    limits: Failures
    _latest: dict[str, deque[str]] = field(default_factory=dict)

    def saw(self, kind: str, reason: str = "") -> None:
        """One more task has ended, well (no reason) or not."""
        self._latest.setdefault(kind, deque(maxlen=self.limits.window)).append(reason)

    def too_many(self) -> TooMany | None:
        """The kind that fails too often, if there is one. Nothing is said before a window is full."""
        for kind, reasons in self._latest.items():
            failed = [r for r in reasons if r]
            if len(reasons) == self.limits.window and len(failed) > self.limits.share * self.limits.window:
                reason, times = Counter(failed).most_common(1)[0]
                return TooMany(kind, len(failed), len(reasons), reason, times)
        return None
