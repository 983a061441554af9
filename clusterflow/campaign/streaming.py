"""The streaming loop: what to do next while walks, labels and trainings run side by side.

A function of configuration, inputs and state, as in `plan`: whatever depends on which task ended first (which potential
a walk starts from, which labels a training sees) is a decision in the journal, taken once: docs/concepts/streaming.md.
A `Stream` keeps what it has worked out, so that a plan costs what has changed; one that begins anew from any snapshot
goes on exactly where this one is, which the tests check at every event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clusterflow.campaign.convergence import stop_reason
from clusterflow.campaign.desk import Desk
from clusterflow.campaign.exploration import Exploration
from clusterflow.campaign.held_out import DECISION, TestSet
from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.nothing_found import nothing
from clusterflow.campaign.tasks import GRACE, Payloads, Plan, PlanStopped
from clusterflow.campaign.versions import Versions
from clusterflow.config.campaign import Campaign
from clusterflow.config.loop import Streaming
from clusterflow.config.section import to_json
from clusterflow.state.snapshot import Snapshot


class Stream:
    """The plan of one streaming campaign, from one snapshot of its state to the next."""

    def __init__(self, config: Campaign, payloads: Payloads) -> None:
        assert isinstance(config.loop, Streaming)
        self._config, self._loop = config, config.loop
        self._payloads = payloads
        self._desk = Desk()
        self._pool = LabelPool(fraction=config.train.validation_fraction, seed=self._payloads.seed("split"))
        self._versions = Versions(self._desk, self._payloads, self._pool)
        self._exploration = Exploration(self._desk, self._payloads, self._pool, self._versions, self._label)
        self._batch = self._loop.retrain_after or config.select.fragments
        self._free_start = config.start.kind == "dataset"
        self._bought = 0
        self._source = ""
        self._failed_before = 0
        self._core_hours = 0.0
        self._adopted = False
        self._ending: Mapping[str, Any] | None = None

    def plan(self, snapshot: Snapshot, ended: Sequence[str] = ()) -> Plan:
        """What to do next. The snapshot is that of the last call, grown by the outcomes of ``ended`` and decisions."""
        out = self._desk.begin(snapshot, ended)
        self._core_hours = snapshot.core_hours if self._config.stop.core_hours is not None else 0.0
        try:
            if self._started():
                out.stage = "streaming"
                self._adopt()
                self._harvest()
                while self._rule():
                    pass
        except PlanStopped as stop:
            out.failed = str(stop)
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
            self._pool.held_out = TestSet(told["fragments"])
            desk.decide(DECISION, self._pool.held_out.to_json())  # in the journal before the first label is sent
            self._label("start", self._source, told["fragments"], 0)
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

    def _label(self, kind: str, source: str, fragments: Sequence[Mapping[str, Any]], number: int) -> None:
        """Asks for labels that nobody has asked for, and takes note of those that are there."""
        trainable = {f["label_key"] for f in self._pool.held_out.trainable(fragments)}
        for index, told in enumerate(fragments):
            key = str(told["label_key"])
            if told["set"] != "test" and key not in trainable:
                continue  # nothing of the test set is ever trained on
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
        self._exploration.adopt(self._ending)

    def _kept_ending(self) -> Mapping[str, Any] | None:
        """The decision to end, unless the criteria have changed since: then they are judged anew."""
        kept = self._desk.kept("ending")
        if kept is None or kept["stop"] == self._criteria():
            return kept
        for name in ("ending", "stop"):
            self._desk.withdraw(name)
        return None

    def _criteria(self) -> dict[str, Any]:
        """`stop:` as the decision to end keeps it; without what is switched off and older versions did not know."""
        told = to_json(self._config.stop)
        return {k: v for k, v in told.items() if k != "noise_floor" or v}

    # -- what has ended -----------------------------------------------------------------------------------------

    def _harvest(self) -> None:
        """Takes note of open tasks that have ended."""
        for task, outcome in self._desk.take_ended():
            if task.kind == "label":
                self._pool.settle(task.key, outcome)
            elif task.kind == "explore":
                self._exploration.walk_ended(task.key, outcome)
        self._exploration.look()

    # -- rules: the first that applies decides, then all are asked again ----------------------------------------

    def _rule(self) -> bool:
        if self._versions.advance():
            return True
        if self._ending is not None:
            return self._finish()
        exploration = self._exploration
        return (
            self._end()
            or self._retrain()
            or exploration.select(self._wanted, labels_left=self._labels_left)
            or exploration.start_walk(self._room)
            or self._idle()
        )

    @property
    def _wanted(self) -> int:
        """Labels that may still be asked for: what the trainings that are left, and the budget, have room for."""
        trainings = self._config.stop.iterations - self._versions.newest.number
        wanted = trainings * self._batch - self._pool.fresh - len(self._pool.open)
        return max(0, wanted if self._labels_left is None else min(wanted, self._labels_left))

    @property
    def _labels_left(self) -> int | None:
        """Of the budget; None: there is none."""
        return None if self._config.stop.labels is None else self._config.stop.labels - self._bought

    def _end(self) -> bool:
        """Whether a criterion of `stop:` holds; it is judged when a version has been evaluated."""
        if self._versions.newest.record is None:
            return False
        self._versions.newest.record.n_labels = self._bought
        records = [self._versions.newest.record]
        if self._config.stop.novelty is not None:
            records = [self._exploration.explored(v.record) for v in self._versions.all if v.record is not None]
        unit = self._config.score.unit
        reason = stop_reason(self._config.stop, records, core_hours=self._core_hours, unit=unit)
        return bool(reason) and self._decide_to_end(reason)

    def _decide_to_end(self, reason: str) -> bool:
        """No new walks and selections; what runs of them is given up. Labels that were asked for are waited for."""
        newest = self._versions.newest
        last = newest.final and not self._pool.fresh and not self._pool.open
        self._ending = {
            "reason": reason,
            "stop": self._criteria(),
            "acquisitions": self._exploration.give_up(),
            "final": newest.number if last else newest.number + 1,
        }
        self._desk.decide("ending", self._ending)
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
        keys = [*split["train"], *split["validation"]]
        if keys and before.mixture:
            self._versions.calibrate(before, number, keys, new=True)
        if (kept and self._desk.outcome(str(kept["evaluation"]))) or not before.mixture:
            return
        if keys:
            payload = self._payloads.evaluation(before.model, before.mixture, keys)
            self._desk.decide(name, {"evaluation": self._desk.ask("evaluate", "local", payload)})

    def _room(self) -> bool:
        """Back-pressure: whether the labels of one more walk will be wanted, and trained on soon enough."""
        newest, share, fresh = self._versions.newest, self._exploration.share, self._pool.fresh
        # Walks that run do not count here: a slow one must not hold up the end, where it is given up.
        if self._exploration.at_hand >= self._wanted:
            return False
        under_way = len(self._pool.open) + self._exploration.expected
        training = not newest.model
        if not (under_way or training or fresh):
            return True  # however much a walk may find: somebody must begin
        limit = self._loop.max_open_labels
        if limit is not None and under_way + share > limit:
            return False
        trainings = max(1, math.ceil((fresh + under_way + share) / self._batch))
        return training + trainings - 1 <= self._loop.max_model_lag

    def _idle(self) -> bool:
        """Nothing runs, no rule applied: makes do with what is there, or ends."""
        if self._versions.newest.record is None or self._exploration.busy or self._pool.open:
            return False
        if self._exploration.select(self._wanted, labels_left=self._labels_left, at_least=1):
            return True
        if self._pool.entering():
            return self._next_version()
        version = self._versions.newest.number
        self._exploration.check_walks(version)
        vain = self._exploration.in_vain(version)
        told = nothing(self._exploration.last_summary, then="begin a new campaign with the same `labels_folder:`")
        return self._decide_to_end(f"the last {vain} walks found {told}")
