"""When a campaign is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterflow.config.stop import Stop


@dataclass(slots=True)
class IterationRecord:
    """What one iteration's model gave: keys of its results and the numbers that stopping looks at.

    ``test_mae_p95``, ``test_rmse`` and ``noise_floor`` (RMSE that the noise of the labels causes, None: not known) in
    meV/Å; ``excess_novelty`` of the most novel atom explored with it, in nats above what 99 % of the training atoms of
    its element stay below (None: not explored, or an element never seen).
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
    test_rmse: float | None = None
    noise_floor: float | None = None
    at_noise_floor: bool = False


def noise_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the summary of an evaluation says of the labels' noise, for an `IterationRecord`."""
    if "noise_floor" not in summary:
        return {}
    floor = {k: summary[k] for k in ("noise_floor", "at_noise_floor")}
    return {"test_rmse": float(summary["rmse"]), **floor}


def stop_reason(stop: Stop, records: Sequence[IterationRecord], *, core_hours: float, unit: str = "nats") -> str:
    """Why to stop now, or "" to go on; ``unit`` of the novelty."""
    last = records[-1]
    if last.iteration >= stop.iterations:
        return f"all {stop.iterations} iterations are done"
    if stop.test_mae_p95 is not None and last.test_mae_p95 <= stop.test_mae_p95 * 1000:
        return f"test force MAE_P95 is {last.test_mae_p95:.1f} meV/Å, below {stop.test_mae_p95 * 1000:g}"
    if stop.noise_floor and last.at_noise_floor and last.noise_floor is not None:
        return (
            f"the potential is as good as its labels: test force RMSE {last.test_rmse or 0.0:.1f} meV/Å, of which "
            f"{last.noise_floor:.1f} is their noise"
        )
    if stop.labels is not None and last.n_labels >= stop.labels:
        return f"the budget of {stop.labels} labels is spent"
    if stop.core_hours is not None and core_hours >= stop.core_hours:
        return f"the budget of {stop.core_hours:g} core hours is spent"  # how many by now would change with each task
    if stop.novelty is not None:
        seen = [r.excess_novelty for r in records if r.acquired][-stop.novelty_iterations :]
        if len(seen) == stop.novelty_iterations and all(n is not None and n < stop.novelty for n in seen):
            return f"novelty stayed below {stop.novelty:g} {unit} for {stop.novelty_iterations} iterations"
    return ""
