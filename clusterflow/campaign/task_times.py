"""How long tasks take: given, or measured in the journal of a run. For simulations of a campaign."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clusterflow.config.quantities import parse_quantity
from clusterflow.core.data import Task
from clusterflow.errors import InputError
from clusterflow.state.snapshot import Outcome, Snapshot

KINDS: Mapping[str, tuple[str, ...]] = {
    "md": ("explore",),
    "label": ("label",),
    "train": ("train", "export"),
    "local": ("start", "novelty", "evaluate", "calibrate", "acquire", "control"),
}
"""Lane → kinds of task that run in it."""
ASSUMED: Mapping[str, float] = {
    "start": 10.0, "novelty": 5.0, "evaluate": 5.0, "calibrate": 5.0, "acquire": 10.0, "control": 10.0, "export": 30.0,
}  # fmt: skip
"""s; kinds that hardly count, where nothing else is known."""
NEEDED = ("explore", "label", "train")
"""Kinds whose times must be given or measured."""
HEAVY = 1.0
"""Standard deviation over mean of times that are called heavy-tailed: one task in 60 takes four times the mean."""

_FORM = re.compile(r"^\s*(?P<mean>[^±]+?)\s*(?:±\s*(?P<spread>heavy|[0-9.]+\s*%))?\s*$")


@dataclass(frozen=True, slots=True)
class Given:
    """Log-normal times: ``mean`` in s, ``spread`` = standard deviation over mean (0: always the mean)."""

    mean: float
    spread: float = 0.0

    def seconds(self, task: Task) -> float:
        """Of one task; the same whenever it is asked for."""
        if not self.spread or not self.mean:
            return self.mean
        sigma = math.sqrt(math.log1p(self.spread**2))
        return float(self.mean * np.exp(_dice(task).normal(-0.5 * sigma**2, sigma)))

    def __str__(self) -> str:
        return f"{self.mean:g} s" + (f" ± {100 * self.spread:g} %" if self.spread else "")


@dataclass(frozen=True, slots=True)
class Measured:
    """Times drawn from measured ones: ``values`` in s, or in s per MD step or per label trained on (``per``)."""

    values: tuple[float, ...]
    per: str = ""

    def seconds(self, task: Task) -> float:
        """Of one task; the same whenever it is asked for."""
        drawn = self.values[int(_dice(task).integers(len(self.values)))]
        return drawn * _amount(self.per, task.payload)

    def __str__(self) -> str:
        mean = sum(self.values) / len(self.values)
        return f"{mean:.3g} s{f' per {self.per}' if self.per else ''} (mean of {len(self.values)} measured)"


Times = Mapping[str, Given | Measured]
"""Kind of task → how long it takes."""


def assumed_times() -> dict[str, Given | Measured]:
    """For what hardly counts."""
    return {kind: Given(mean) for kind, mean in ASSUMED.items()}


def parse_times(given: Mapping[str, Any], where: str) -> dict[str, Given | Measured]:
    """Times as a user writes them: lane or kind of task → ``10 min``, ``10 min ± 50 %``, ``10 min ± heavy`` (or +-).

    Raises
    ------
    InputError
        An unknown name, or a time that cannot be read.
    """
    times: dict[str, Given | Measured] = {}
    kinds = {kind for members in KINDS.values() for kind in members}
    for name, text in given.items():
        if name not in KINDS and name not in kinds:
            raise InputError(
                f"There is no lane and no kind of task '{name}'.",
                where=where,
                todo=f"Lanes are {', '.join(KINDS)}; kinds are {', '.join(sorted(kinds))}.",
            )
        found = _FORM.match(str(text).replace("+-", "±"))
        try:
            if found is None:
                raise ValueError(f"'{text}' is not a time")
            mean = parse_quantity(found["mean"], "duration")
            spread = HEAVY if found["spread"] == "heavy" else float((found["spread"] or "0").rstrip("% ")) / 100.0
            if mean < 0:
                raise ValueError(f"'{text}' is negative")
        except ValueError as error:
            raise InputError(
                f"The time of {name} cannot be read: {error}.",
                where=where,
                todo="Write a mean and perhaps a spread: `label=10min`, `label=10min±50%`, `label=10min±heavy`.",
            ) from None
        which = (name,) if name in kinds else KINDS[name]
        times.update(dict.fromkeys((k for k in which if k != "export"), Given(mean, spread)))
    return times


def measured_times(snapshot: Snapshot) -> dict[str, Given | Measured]:
    """What tasks of a run took, per MD step for walks and per label for trainings; cached results do not count."""
    values: dict[str, list[float]] = {}
    for outcome in snapshot.outcomes.values():
        amount = _amount_done(outcome)
        if outcome.status == "done" and not outcome.cached and amount > 0:
            values.setdefault(outcome.kind, []).append(outcome.wall_time / amount)
    per = {"explore": "step", "train": "label"}
    return {kind: Measured(tuple(v), per.get(kind, "")) for kind, v in values.items()}


def failure_rate(snapshot: Snapshot, kind: str = "label") -> float:
    """Share of the tasks of a kind that failed for good; 0 where there are none."""
    ended = [o.status for o in snapshot.outcomes.values() if o.kind == kind]
    return ended.count("failed") / len(ended) if ended else 0.0


def require(times: Times, where: str) -> None:
    """Refuses times that lack one that matters.

    Raises
    ------
    InputError
        Which are missing.
    """
    missing = [kind for kind in NEEDED if kind not in times]
    if missing:
        names = {"explore": "md"}
        raise InputError(
            f"It is not known how long these take: {', '.join(missing)}.",
            where=where,
            todo="Give them, `--times "
            + ",".join(f"{names.get(k, k)}=10min" for k in missing)
            + "`, or take them from a run: `--from RUN_FOLDER`.",
        )


def _amount(per: str, payload: Mapping[str, Any]) -> float:
    if per == "step":
        return float(payload["steps"])
    if per == "label":
        return float(len(payload["training"]) + len(payload["validation"]))
    return 1.0


def _amount_done(outcome: Outcome) -> float:
    if outcome.kind == "explore":
        return float(outcome.summary.get("steps_done", 0))
    if outcome.kind == "train":
        return float(outcome.summary.get("n_training", 0) + outcome.summary.get("n_validation", 0))
    return 1.0


def _dice(task: Task) -> np.random.Generator:
    return np.random.default_rng(int(task.key[:16], 16))


def split_pairs(text: str, what: str) -> dict[str, str]:
    """``a=1,b=2`` → {a: 1, b: 2}.

    Raises
    ------
    InputError
        Not of this form.
    """
    pairs: dict[str, str] = {}
    items: Sequence[str] = [p for p in text.split(",") if p.strip()]
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(
                f"'{item.strip()}' is not of the form name=value.",
                where=what,
                todo=f"Write {what} name=value,name=value.",
            )
        pairs[name.strip()] = value.strip()
    return pairs
