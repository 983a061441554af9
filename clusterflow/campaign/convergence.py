"""When a campaign is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusterflow.config.stop import Stop


@dataclass(slots=True)
class IterationRecord:
    """What one iteration's model gave: keys of its results and the numbers that stopping looks at.

    ``test_mae_p95`` in meV/Å; ``excess_novelty`` of the most novel atom explored with it, in nats above what 99 % of
    the training atoms of its element stay below (None: not explored, or an element never seen).
    """

    iteration: int
    model: str
    mixture: str
    evaluation: str
    n_training: int
    n_labels: int
    test_mae_p95: float
    acquired: str = ""
    excess_novelty: float | None = None


def stop_reason(stop: Stop, records: Sequence[IterationRecord], *, core_hours: float) -> str:
    """Why to stop now, or "" to go on."""
    last = records[-1]
    if last.iteration >= stop.iterations:
        return f"all {stop.iterations} iterations are done"
    if stop.test_mae_p95 is not None and last.test_mae_p95 <= stop.test_mae_p95 * 1000:
        return f"test force MAE_P95 is {last.test_mae_p95:.1f} meV/Å, below {stop.test_mae_p95 * 1000:g}"
    if stop.labels is not None and last.n_labels >= stop.labels:
        return f"the budget of {stop.labels} labels is spent"
    if stop.core_hours is not None and core_hours >= stop.core_hours:
        return f"the budget of {stop.core_hours:g} core hours is spent ({core_hours:.2f})"
    if stop.novelty is not None:
        seen = [r.excess_novelty for r in records if r.acquired][-stop.novelty_iterations :]
        if len(seen) == stop.novelty_iterations and all(n is not None and n < stop.novelty for n in seen):
            return f"novelty stayed below {stop.novelty:g} nats for {stop.novelty_iterations} iterations"
    return ""
