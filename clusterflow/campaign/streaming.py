"""The streaming loop: what to do next while walks, labels and trainings run side by side.

The plan is a function of the configuration, the inputs and the state, as in `plan`: whatever depends on which task
happened to end first (which potential a walk starts from, which walks are looked at together, which labels a training
sees) is a decision in the journal, taken once. docs/concepts/streaming.md has the rules. A `Stream` keeps what it has
worked out, so that a plan costs as much as what changed since the last one; one that begins anew from any snapshot goes
on exactly where this one is, which the tests check at every event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from clusterflow.campaign.convergence import IterationRecord, stop_reason
from clusterflow.campaign.desk import Desk
from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.stream_walks import Acquisition, Walk, WalkDraw
from clusterflow.campaign.tasks import GRACE, Inputs, Payloads, Plan, PlanStopped
from clusterflow.campaign.versions import Versions
from clusterflow.config.campaign import Campaign
from clusterflow.config.extract import Certified
from clusterflow.config.loop import Streaming
from clusterflow.config.section import to_json
from clusterflow.state.snapshot import Outcome, Snapshot


class Stream:
    """The plan of one streaming campaign, from one snapshot of its state to the next."""

    def __init__(self, config: Campaign, inputs: Inputs) -> None:
        assert isinstance(config.loop, Streaming)
        self._config, self._loop = config, config.loop
        self._payloads = Payloads(config, inputs)
        self._desk = Desk()
        self._pool = LabelPool(fraction=config.train.validation_fraction, seed=self._payloads.seed("split"))
        free = config.start.kind == "dataset"
        self._versions = Versions(self._desk, self._payloads, self._pool)
        self._draw = WalkDraw(self._payloads)
        self._share = Fraction(config.select.fragments, self._draw.width)
        self._batch = self._loop.retrain_after or config.select.fragments
        self._free_start = free
        self._bought = 0
        self._source = ""
        self._walks: list[Walk] = []
        self._running: set[int] = set()
        self._unseen: set[int] = set()
        """Numbers of the walks that have ended with a frame and that no selection has looked at."""
        self._acquired: list[Acquisition] = []
        self._tally: dict[int, list[int]] = {}
        """Version → walks with it that ended with a frame, without one, and that were searched in vain one after the
        other."""
        self._novelty: dict[int, list[float | None]] = {}
        self._failed_before = 0
        self._core_hours = 0.0
        self._adopted = False
        self._ending: Mapping[str, Any] | None = None

    def plan(self, snapshot: Snapshot) -> Plan:
        """What to do next; the snapshot is that of the last call, or a later one of the same driver."""
        out = self._desk.begin(snapshot)
        try:
            if self._started():
                self._adopt()
                self._harvest()
                self._core_hours = snapshot.core_hours if self._config.stop.core_hours is not None else 0.0
                while self._rule():
                    pass
        except PlanStopped as stop:
            out.failed = str(stop)
        out.tasks = list(self._desk.open.values())
        out.iteration = max(0, len(self._versions.all) - 1)
        out.labels = self._pool.asked
        out.records = [v.record for v in self._versions.all if v.record is not None]
        return out

    # -- the beginning ------------------------------------------------------------------------------------------

    def _started(self) -> bool:
        """Whether the first split is there: starting fragments and all their labels, as in the synchronous loop."""
        if self._versions.all:
            return True
        desk, out = self._desk, self._desk.out
        kept = desk.kept("split/0")
        if not self._source:
            source = str(kept["source"]) if kept and kept["source"] in desk.snapshot.outcomes else ""
            self._source = source or desk.ask("start", "local", self._payloads.start())
        told = desk.required(self._source, "Making the starting fragments")
        if told is None:
            return False
        if not self._pool.asked:
            desk.open.pop(self._source, None)
            self._label("start", self._source, told["fragments"], number=0)
        if kept is None:
            out.stage = "label"
            self._harvest()
            if self._pool.open:
                return False
            split = self._pool.begin()
            sizes = [len(split[name]) for name in ("train", "validation", "test")]
            if not all(sizes):
                raise PlanStopped(
                    f"of the starting labels only {sum(sizes)} succeeded ({sizes[0]} for training, {sizes[1]} for "
                    f"validation, {sizes[2]} for the test set); each set needs one"
                )
            kept = {"source": self._source, **split, "failed": len(self._pool.failed)}
            desk.decide("split/0", kept)
        self._begin_version(kept, final=self._config.stop.iterations == 0)
        return True

    def _label(self, kind: str, source: str, fragments: list[Mapping[str, Any]], *, number: int) -> None:
        """Asks for labels that nobody has asked for, and takes note of those that are there."""
        for index, told in enumerate(fragments):
            key = str(told["label_key"])
            if not self._pool.register(told, source_kind=kind, source=source, index=index, acquisition=number):
                continue
            self._bought += not (self._free_start and kind == "start")
            found = self._desk.outcome(key)
            if found is not None:
                self._pool.settle(key, found)
            else:
                limit = self._config.label.time_limit + GRACE
                self._desk.ask("label", "label", self._payloads.label(kind, source, index), key=key, limit=limit)

    def _begin_version(self, split: Mapping[str, Any], *, final: bool) -> None:
        self._pool.enter(split)
        self._failed_before = int(split["failed"])
        self._versions.begin(final=final)

    # -- what was decided before, by this driver or another -----------------------------------------------------

    def _adopt(self) -> None:
        if self._adopted:
            return
        self._adopted = True
        desk = self._desk
        while (kept := desk.kept(f"split/{len(self._versions.all)}")) is not None:
            self._judge_newest(len(self._versions.all), kept)
            self._begin_version(kept, final=bool(kept["final"]))
        while self._versions.advance():
            pass
        self._ending = self._kept_ending()
        while (kept := desk.kept(f"walk/{len(self._walks) + 1}")) is not None:
            self._walk(Walk.from_json(len(self._walks) + 1, kept))
        last = int(self._ending["acquisitions"]) if self._ending else None
        while (kept := desk.kept(f"acquire/{len(self._acquired) + 1}")) is not None:
            if last is not None and len(self._acquired) == last:
                break
            self._acquire(Acquisition.from_json(len(self._acquired) + 1, kept))

    def _kept_ending(self) -> Mapping[str, Any] | None:
        """The decision to end, unless the criteria have changed since: then they are judged anew."""
        kept = self._desk.kept("ending")
        if kept is None or kept["stop"] == to_json(self._config.stop):
            return kept
        for name in ("ending", "stop"):
            self._desk.withdraw(name)
        return None

    # -- what has ended -----------------------------------------------------------------------------------------

    def _harvest(self) -> None:
        """Takes note of open tasks that have ended."""
        desk = self._desk
        for key in [k for k in desk.open if k in desk.snapshot.outcomes]:
            task = desk.open.pop(key)
            if task.kind == "label":
                self._pool.settle(key, desk.snapshot.outcomes[key])
        for number in [n for n in self._running if self._walks[n - 1].task in desk.snapshot.outcomes]:
            self._walk_ended(self._walks[number - 1], desk.snapshot.outcomes[self._walks[number - 1].task])
        if self._acquired and self._acquired[-1].found is None:
            self._look_at(self._acquired[-1])

    def _walk_ended(self, walk: Walk, found: Outcome) -> None:
        self._running.discard(walk.number)
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
        self._label("acquire", acquired.task, fragments, number=acquired.number)

    # -- rules: the first that applies decides, then all are asked again ----------------------------------------

    def _rule(self) -> bool:
        if self._versions.advance():
            return True
        if self._ending is not None:
            return self._finish()
        return self._end() or self._retrain() or self._select() or self._start_walk() or self._idle()

    def _end(self) -> bool:
        """Whether a criterion of `stop:` holds; it is judged when a version has been evaluated."""
        if self._versions.newest.record is None:
            return False
        self._versions.newest.record.n_labels = self._bought
        records = [self._versions.newest.record]
        if self._config.stop.novelty is not None:
            records = [self._explored(v.record) for v in self._versions.all if v.record is not None]
        reason = stop_reason(self._config.stop, records, core_hours=self._core_hours)
        return bool(reason) and self._decide_to_end(reason)

    def _explored(self, record: IterationRecord) -> IterationRecord:
        """With the largest novelty that was found with this version, once there is a newer one."""
        found = self._novelty.get(record.iteration, [])
        if found and record.iteration < self._versions.newest.number:
            record.acquired = "yes"
            record.excess_novelty = None if None in found else max(x for x in found if x is not None)
        return record

    def _decide_to_end(self, reason: str) -> bool:
        """No new walks and selections; what runs of them is given up. Labels that were asked for are waited for."""
        newest, desk = self._versions.newest, self._desk
        last = newest.final and not self._pool.fresh and not self._pool.open
        if self._acquired and self._acquired[-1].found is None:
            desk.open.pop(self._acquired.pop().task, None)
        for number in self._running:
            desk.open.pop(self._walks[number - 1].task, None)
        self._running.clear()
        self._ending = {
            "reason": reason,
            "stop": to_json(self._config.stop),
            "acquisitions": len(self._acquired),
            "final": newest.number if last else newest.number + 1,
        }
        desk.decide("ending", self._ending)
        return True

    def _finish(self) -> bool:
        """The last training, of all labels, and the package."""
        assert self._ending is not None
        newest, desk, out = self._versions.newest, self._desk, self._desk.out
        out.stage = "train"
        if newest.record is None:
            return False
        if newest.number < int(self._ending["final"]):
            if not self._pool.open:
                self._split(final=True)
                return True
            out.stage = "label"
            return False
        out.stage = "export"
        reason = str(self._ending["reason"])
        desk.decide("stop", {"reason": reason, "iteration": newest.number, "model": newest.model})
        key = desk.ask("export", "train", self._payloads.export(newest.model, self._pool.test))
        if desk.required(key, "Packaging the final model") is not None and not desk.open:
            out.stage, out.finished = "finished", reason
        return False

    def _retrain(self) -> bool:
        """Whether the next training begins: enough labels are new, or one has waited long enough."""
        following = len(self._versions.all)
        if self._versions.newest.record is None:
            return False
        if not self._pool.fresh:
            failed = len(self._pool.failed) - self._failed_before
            if failed >= self._batch and not self._pool.open:
                raise PlanStopped(f"none of the last {failed} labels succeeded")
            return False
        ready = len(self._pool.entering()) if self._pool.fresh >= self._batch else 0
        due = self._desk.kept(f"due/{following}") is not None
        if ready >= self._batch or (due and self._pool.entering()):
            return self._next_version()
        if self._loop.retrain_interval is not None and not due:
            self._desk.out.timer = (f"due/{following}", self._loop.retrain_interval)
        return False

    def _next_version(self) -> bool:
        limit = self._config.stop.iterations
        if len(self._versions.all) >= limit:
            return self._decide_to_end(f"all {limit} iterations are done")
        self._split(final=False)
        return True

    def _split(self, *, final: bool) -> None:
        """Everything that is labelled by now enters, in the order of asking."""
        number = len(self._versions.all)
        divided = self._pool.divide(self._pool.entering())
        split = {"source": "", **divided, "failed": len(self._pool.failed), "final": final}
        self._desk.decide(f"split/{number}", split)
        self._judge_newest(number, split)
        self._begin_version(split, final=final)

    def _judge_newest(self, number: int, split: Mapping[str, Any]) -> None:
        """Errors of the newest version on the labels that the next one is trained on. Nothing waits for it."""
        name, before = f"new_labels/{number}", self._versions.newest
        kept = self._desk.kept(name)
        if (kept and self._desk.outcome(str(kept["evaluation"]))) or not before.mixture:
            return
        if keys := [*split["train"], *split["validation"]]:
            payload = self._payloads.evaluation(before.model, before.mixture, keys)
            self._desk.decide(name, {"evaluation": self._desk.ask("evaluate", "local", payload)})

    def _select(self, at_least: int = 0) -> bool:
        """One selection at a time, of everything that was walked since the last one began."""
        scoring = self._versions.scoring
        busy = bool(self._acquired) and self._acquired[-1].found is None
        if scoring is None or busy or not self._unseen:
            return False
        owed = len(self._unseen) * self._share + (self._acquired[-1].rest if self._acquired else 0)
        left = None if self._config.stop.labels is None else self._config.stop.labels - self._bought
        budget = max(math.floor(owed), at_least)
        if left is not None:
            budget = min(budget, left)
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
                labels_left=left,
            )
        )
        return True

    def _acquire(self, acquired: Acquisition) -> None:
        self._unseen.difference_update(acquired.walks)
        if not acquired.task or self._desk.outcome(acquired.task) is None:
            version, certified = self._versions.all[acquired.version], {}
            if isinstance(self._config.extract, Certified):
                seen = self._versions.all[acquired.splits - 1]
                trained = [*self._pool.train[: seen.n_train], *self._pool.validation[: seen.n_validation]]
                certified = {"labelled": [*trained, *self._pool.test], "labels_left": acquired.labels_left}
            payload = self._payloads.acquire(
                acquired.number,
                version.model,
                version.mixture,
                [self._walks[n - 1].task for n in acquired.walks],
                known=list(self._pool.asked),
                budget=acquired.budget,
                pool=acquired.pool,
                certified=certified,
            )
            acquired.task = self._desk.ask("acquire", "local", payload)
        self._acquired.append(acquired)
        self._desk.decide(f"acquire/{acquired.number}", acquired.to_json())
        self._look_at(acquired)

    def _start_walk(self) -> bool:
        """The next walk, with the newest potential, if there is room for what it will find."""
        version = self._versions.trained
        if version is None or len(self._running) >= self._draw.width:
            return False
        if len(self._versions.all) > self._config.stop.iterations:
            return False  # the last one
        sane, blown, vain = self._tally.get(version.number, (0, 0, 0))
        if (sane == 0 and blown >= self._draw.width) or vain >= self._draw.width:
            return False  # this version leads nowhere: the next one may
        if not self._room():
            return False
        self._walk(self._draw.next(self._walks[-1] if self._walks else None, version.number))
        return True

    def _room(self) -> bool:
        """Back-pressure: whether the labels of one more walk will be wanted, and trained on soon enough."""
        selecting = self._acquired[-1].budget if self._acquired and self._acquired[-1].found is None else 0
        walked = (len(self._running) + len(self._unseen)) * self._share
        if self._config.stop.labels is not None and self._bought + selecting + walked >= self._config.stop.labels:
            return False
        under_way = len(self._pool.open) + selecting + walked
        training = not self._versions.newest.model
        if not (under_way or training or self._pool.fresh):
            return True  # however much a walk may find: somebody must begin
        limit = self._loop.max_open_labels
        if limit is not None and under_way + self._share > limit:
            return False
        # All labels that are there when a training begins enter it, so a slow training takes more at once.
        each = max(self._batch, self._pool.fresh)
        trainings = max(1, math.ceil((self._pool.fresh + under_way + self._share) / each))
        return training + trainings - 1 <= self._loop.max_model_lag

    def _walk(self, walk: Walk) -> None:
        self._walks.append(walk)
        found = self._desk.outcome(walk.task) if walk.task else None
        if found is None and self._ending is None:
            payload = self._draw.payload(walk, self._versions.all[walk.version].model)
            walk.task = self._desk.ask("explore", "md", payload)
            self._desk.decide(f"walk/{walk.number}", walk.to_json())
            self._running.add(walk.number)
            found = self._desk.outcome(walk.task)
        if found is not None:
            self._walk_ended(walk, found)

    def _idle(self) -> bool:
        """Nothing runs and no rule applied: makes do with what is there, or ends."""
        selecting = bool(self._acquired) and self._acquired[-1].found is None
        if self._versions.newest.record is None or self._running or selecting or self._pool.open:
            return False
        if self._select(at_least=1):
            return True
        if self._pool.entering():
            return self._next_version()
        version = self._versions.newest.number
        sane, blown, vain = self._tally.get(version, (0, 0, 0))
        if sane == 0 and blown:
            ended = [self._desk.outcome(w.task) for w in self._walks if w.version == version]
            reasons = sorted({o.reason or str(o.summary.get("stop_reason", "")) for o in ended if o})
            raise PlanStopped(
                f"all {blown} walks of iteration {version + 1} failed before their first frame: "
                + "; ".join(reasons)[:500]
            )
        return self._decide_to_end(f"the last {vain} walks found no fragment that is not labelled already")
