"""A circuit breaker for job submissions: waits longer after each block that could not start, and stops in the end.

Without one, a wrong account makes an engine submit for ever (Parsl issue 2851), or give up after the first bad node.
Times are given by the caller, in s of any clock that only goes forward.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from clusterflow.execution.machines.batch import Submission


@dataclass(slots=True)
class HourlyLimit:
    """Submissions of the last hour, for all lanes together."""

    per_hour: int
    _times: deque[float] = field(default_factory=deque)

    def allows(self, now: float) -> bool:
        """Whether one more is within the limit."""
        while self._times and now - self._times[0] >= 3600.0:
            self._times.popleft()
        return len(self._times) < self.per_hour

    def count(self, now: float) -> None:
        """One was made (or tried: a scheduler that refuses is asked as much work as one that accepts)."""
        self._times.append(now)


@dataclass(slots=True)
class Breaker:
    """Failures of one lane in a row."""

    settings: Submission
    failures: int = 0
    reason: str = ""
    where: str = ""
    _not_before: float = float("-inf")

    @property
    def open(self) -> bool:
        """The lane is given up."""
        return self.failures >= self.settings.failures

    def allows(self, now: float) -> bool:
        """Whether a block may be submitted now."""
        return not self.open and now >= self._not_before

    def wait(self, now: float) -> float:
        """Seconds until the next one may be."""
        return max(0.0, self._not_before - now)

    def failed(self, now: float, reason: str, where: str) -> None:
        """A block could not be submitted, or ended before any of its workers took up a task."""
        self.failures += 1
        self.reason, self.where = reason, where
        doubled = self.settings.first_wait * 2.0 ** min(self.failures - 1, 60)
        self._not_before = now + min(doubled, self.settings.longest_wait)

    def worked(self) -> None:
        """A block has done a task."""
        self.failures = 0
        self._not_before = float("-inf")
