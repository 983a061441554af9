"""Walks and selections of a streaming campaign: which there were, what runs, what they lead to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from clusterflow.campaign.convergence import IterationRecord
from clusterflow.campaign.desk import Desk
from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.stream_walks import Acquisition, Walk, WalkDraw
from clusterflow.campaign.tasks import Payloads, PlanStopped
from clusterflow.campaign.versions import Versions
from clusterflow.config.extract import Certified
from clusterflow.state.snapshot import Outcome

Label = Callable[[str, str, Sequence[Mapping[str, Any]], int], None]
"""Asks for the labels of (kind of source, its key, fragments, number of the selection)."""


class Exploration:
    """All walks and selections; what they find is handed to ``label``."""

    def __init__(self, desk: Desk, payloads: Payloads, pool: LabelPool, versions: Versions, label: Label) -> None:
        self._desk, self._payloads, self._pool, self._versions, self._label = desk, payloads, pool, versions, label
        self._config = payloads.config
        self._draw = WalkDraw(payloads)
        self.share = Fraction(self._config.select.fragments, self._draw.width)
        """Fragments that one walk may ask for, on average."""
        self._walks: list[Walk] = []
        self._running: dict[str, int] = {}
        """Task → number of a walk that has not ended."""
        self._unseen: set[int] = set()
        """Numbers of the walks that have ended with a frame and that no selection has looked at."""
        self._acquired: list[Acquisition] = []
        self._tally: dict[int, list[int]] = {}
        """Version → walks with it that ended with a frame, without one, and that were searched in vain one after the
        other."""
        self._novelty: dict[int, list[float | None]] = {}

    # -- where it stands ----------------------------------------------------------------------------------------

    @property
    def selecting(self) -> bool:
        """Whether a selection runs."""
        return bool(self._acquired) and self._acquired[-1].found is None

    @property
    def busy(self) -> bool:
        """Whether a walk or a selection runs."""
        return bool(self._running) or self.selecting

    @property
    def at_hand(self) -> Fraction:
        """Fragments that are to come of the selection that runs and of walks that have ended."""
        budget = self._acquired[-1].budget if self.selecting else 0
        return budget + len(self._unseen) * self.share

    @property
    def expected(self) -> Fraction:
        """The same, and those of walks that run."""
        return self.at_hand + len(self._running) * self.share

    def explored(self, record: IterationRecord) -> IterationRecord:
        """The record with the largest excess novelty that was found with its version, once there is a newer one."""
        found = self._novelty.get(record.iteration, [])
        if found and record.iteration < self._versions.newest.number:
            record.acquired = self._acquired[-1].task
            record.excess_novelty = None if None in found else max(x for x in found if x is not None)
        return record

    @property
    def last_summary(self) -> Mapping[str, Any]:
        """What the last selection that has ended has told; nothing if none has."""
        ended = [o for a in self._acquired[::-1] if (o := self._desk.outcome(a.task)) is not None]
        return ended[0].summary if ended else {}

    def in_vain(self, version: int) -> int:
        """How many walks in a row were searched with this version without a new fragment."""
        return self._tally.get(version, [0, 0, 0])[2]

    def check_walks(self, version: int) -> None:
        """Refuses a version with which no walk has come to a frame.

        Raises
        ------
        PlanStopped
            With the reasons.
        """
        sane, blown, _ = self._tally.get(version, (0, 0, 0))
        if sane == 0 and blown:
            ended = [self._desk.outcome(w.task) for w in self._walks if w.version == version]
            reasons = sorted({o.reason or str(o.summary.get("stop_reason", "")) for o in ended if o})
            raise PlanStopped(
                f"all {blown} walks of iteration {version + 1} failed before their first frame: "
                + "; ".join(reasons)[:500]
            )

    # -- what was decided, what has ended -----------------------------------------------------------------------

    def adopt(self, ending: Mapping[str, Any] | None) -> None:
        """Takes over what the journal holds; at the end of a campaign, what still ran is not asked for again."""
        desk = self._desk
        while (kept := desk.kept(f"walk/{len(self._walks) + 1}")) is not None:
            self._walk(Walk.from_json(len(self._walks) + 1, kept), give_up=ending is not None)
        last = int(ending["acquisitions"]) if ending else -1
        while (kept := desk.kept(f"acquire/{len(self._acquired) + 1}")) is not None and len(self._acquired) != last:
            self._acquire(Acquisition.from_json(len(self._acquired) + 1, kept))

    def walk_ended(self, task: str, found: Outcome) -> None:
        """Takes note of a walk that has ended."""
        if task in self._running:
            self._walk_ended(self._walks[self._running[task] - 1], found)

    def look(self) -> None:
        """Takes note of the selection that runs, if it has ended."""
        if self.selecting:
            self._look_at(self._acquired[-1])

    def give_up(self) -> int:
        """Wants nothing more of what runs; returns the number of selections that count."""
        if self.selecting:
            self._desk.open.pop(self._acquired.pop().task, None)
        for task in self._running:
            self._desk.open.pop(task, None)
        self._running.clear()
        return len(self._acquired)

    def _walk_ended(self, walk: Walk, found: Outcome) -> None:
        self._running.pop(walk.task, None)
        walk.ended = True
        walk.sane = found.status == "done" and bool(found.summary["n_frames"])
        self._tally.setdefault(walk.version, [0, 0, 0])[0 if walk.sane else 1] += 1
        if walk.sane:
            self._unseen.add(walk.number)

    def _look_at(self, acquired: Acquisition) -> None:
        summary = self._desk.required(acquired.task, f"Selecting fragments (selection {acquired.number})")
        if summary is None:
            return
        fragments = list(summary["fragments"])
        acquired.found = len(fragments)
        tally = self._tally.setdefault(acquired.version, [0, 0, 0])
        tally[2] = 0 if fragments else tally[2] + len(acquired.walks)
        self._novelty.setdefault(acquired.version, []).append(summary["novelty"]["excess"])
        self._label("acquire", acquired.task, fragments, acquired.number)

    # -- what to begin ------------------------------------------------------------------------------------------

    def select(self, wanted: int, *, labels_left: int | None, at_least: int = 0) -> bool:
        """One selection at a time, of all walks since the last one began; for at most ``wanted`` labels."""
        scoring = self._versions.scoring
        if scoring is None or self.selecting or not self._unseen:
            return False
        owed = len(self._unseen) * self.share + (self._acquired[-1].rest if self._acquired else 0)
        budget = min(max(math.floor(owed), at_least), wanted)
        if budget < 1:
            return False
        self._acquire(
            Acquisition(
                len(self._acquired) + 1,
                version=scoring.number,
                walks=tuple(sorted(self._unseen)),
                budget=budget,
                rest=owed - math.floor(owed),
                pool=self._config.explore.pool,
                splits=len(self._versions.all),
                labels_left=labels_left,
                failed=self._payloads.failed(self._desk.snapshot.outcomes, self._pool.asked),
            )
        )
        return True

    def _acquire(self, acquired: Acquisition) -> None:
        self._unseen.difference_update(acquired.walks)
        if not acquired.task or self._desk.outcome(acquired.task) is None:
            version, certified = self._versions.all[acquired.version], dict[str, Any]()
            if isinstance(self._config.extract, Certified):
                seen = self._versions.all[acquired.splits - 1]
                trained = [*self._pool.train[: seen.n_train], *self._pool.validation[: seen.n_validation]]
                certified = {"labelled": [*trained, *self._pool.test], "labels_left": acquired.labels_left}
            if getattr(self._config.select, "core_seconds", None) is not None:
                certified["of_iteration"] = self._config.select.fragments
            payload = self._payloads.acquire(
                acquired.number,
                version.model,
                version.mixture,
                [self._walks[n - 1].task for n in acquired.walks],
                known=list(self._pool.asked),
                budget=acquired.budget,
                pool=acquired.pool,
                held_out=self._pool.held_out.labels,
                certified=certified,
                failed=acquired.failed,
            )
            acquired.task = self._desk.ask("acquire", "local", payload)
        self._acquired.append(acquired)
        self._desk.decide(f"acquire/{acquired.number}", acquired.to_json())
        self._look_at(acquired)

    def start_walk(self, room: Callable[[], bool]) -> bool:
        """The next walk, with the newest potential, if there is room for what it will find."""
        version = self._versions.trained
        if version is None or len(self._running) >= self._draw.width:
            return False
        if len(self._versions.all) > self._config.stop.iterations:
            return False  # the last one
        sane, blown, vain = self._tally.get(version.number, (0, 0, 0))
        if (sane == 0 and blown >= self._draw.width) or vain >= self._draw.width:
            return False  # this version leads nowhere: the next one may
        if not room():
            return False
        self._walk(self._draw.next(self._walks[-1] if self._walks else None, version.number))
        return True

    def _walk(self, walk: Walk, *, give_up: bool = False) -> None:
        self._walks.append(walk)
        found = self._desk.outcome(walk.task) if walk.task else None
        if found is None and not give_up:
            payload = self._draw.payload(walk, self._versions.all[walk.version].model)
            walk.task = self._desk.ask("explore", "md", payload)
            self._desk.decide(f"walk/{walk.number}", walk.to_json())
            self._running[walk.task] = walk.number
            found = self._desk.outcome(walk.task)
        if found is not None:
            self._walk_ended(walk, found)
