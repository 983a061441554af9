"""What to do next: a pure function of the configuration, the inputs and the state.

The plan walks the campaign from its beginning every time. Each stage asks for its task; the task's key is the hash of
what it needs (configuration, keys of earlier results, a derived seed), so a task that is done is recognised wherever it
was done, and the first stage that still waits for something ends the walk. Nothing here reads a clock, a file or an
environment variable: the same state always gives the same plan, and a campaign can be replayed from its journal.

The cycle is that of Dobbelaere 2025 (arXiv:2504.03881), section 2.2 and SI 4: explore, score, select, extract, label,
train, again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from clusterflow.campaign.arms import follow_arms, is_of_arm
from clusterflow.campaign.convergence import IterationRecord, noise_of, stop_reason
from clusterflow.campaign.held_out import DECISION, TestSet
from clusterflow.campaign.nothing_found import nothing
from clusterflow.campaign.ramp import judge, temperature_after
from clusterflow.campaign.split import shares, split_validation
from clusterflow.campaign.tasks import (
    DAMPING,
    GRACE,
    WEEK,
    Inputs,
    Payloads,
    Plan,
    PlanStopped,
    task_key,
)
from clusterflow.config.campaign import Campaign
from clusterflow.config.extract import Certified
from clusterflow.config.systems import NPT
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot


class _Wait(Exception):  # noqa: N818 - not an error: the walk ends here until a task does
    """A stage needs results that are not there yet: ``keys``, all of them."""

    def __init__(self, *keys: str) -> None:
        super().__init__(*keys)
        self.keys = keys


def plan(config: Campaign, inputs: Inputs, snapshot: Snapshot) -> Plan:
    """The tasks that are wanted now and the decisions that follow from what is done."""
    walk = _Walk(config, inputs, snapshot)
    try:
        walk.campaign()
    except _Wait as wait:
        walk.out.waits_for = wait.keys
    except PlanStopped as stop:
        walk.out.failed = str(stop)
    follow_arms(walk)
    walk.out.asked = walk.out.tasks
    walk.out.retired += _stale(walk.out.decisions, snapshot.decisions)
    return walk.out


def _stale(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Decisions that followed from one that has changed (another configuration); none follows from a control arm's
    but its own."""
    changed = {n for n, value in now.items() if before.get(n, value) != value}
    first = min((iteration_of(n) for n in changed if not is_of_arm(n)), default=sys.maxsize + 1)
    of_arms = min((iteration_of(n) for n in changed), default=sys.maxsize + 1)
    return [n for n in before if n not in now and iteration_of(n) >= (of_arms if is_of_arm(n) else first)]


def iteration_of(decision: str) -> int:
    """Which iteration a decision belongs to; the one to stop comes after all others."""
    part = decision.split("/")[1] if "/" in decision else ""
    return int(part) if part.isdigit() else sys.maxsize


class _Walk:
    """One pass over the campaign; collects tasks and decisions in ``out``."""

    def __init__(self, config: Campaign, inputs: Inputs, snapshot: Snapshot) -> None:
        self.config, self.inputs, self.snapshot = config, inputs, snapshot
        self.payloads = Payloads(config, inputs)
        self.out = Plan()
        self.labels: dict[str, Mapping[str, Any]] = {}
        self.out.labels = self.labels
        self.train: list[str] = []
        self.validation: list[str] = []
        self.test: list[str] = []
        self.held_out = TestSet(())
        self.late: list[str] = []
        self.ramp: list[dict[str, Any]] = []
        """What each iteration of a temperature ramp has told."""
        self.acquired: list[str] = []
        self.validated: dict[str, list[str]] = {}
        """Model → the validation split that it was trained beside."""
        self.pools: list[tuple[int, list[str], str]] = []
        """(iteration, walks that gave frames, which of their frames count): what control arms choose from, too."""
        self.label_limit = config.label_limits[0]
        self.stop = config.stop.model_copy(update={"labels": self.label_limit})
        self.others: list[str] = []
        """Keys of the newest potentials of the committee beside the first."""

    # -- asking for tasks ---------------------------------------------------------------------------------------

    def ask(self, kind: str, lane: str, payload: Mapping[str, Any], *, key: str = "", limit: float = 0.0) -> str:
        """Puts the task on the list unless it has ended; returns its key."""
        key = key or task_key(kind, payload)
        if key not in self.snapshot.outcomes and key not in self.out.open:
            self.out.open[key] = Task(kind, key, lane, payload, time_limit=limit or WEEK)
        return key

    def outcome(self, key: str) -> Outcome | None:
        return self.snapshot.outcomes.get(key)

    def result(self, key: str) -> Outcome:
        """The outcome, or the end of the walk if it is not there yet."""
        found = self.outcome(key)
        if found is None:
            raise _Wait(key)
        return found

    def required(self, key: str, what: str) -> Mapping[str, Any]:
        """The summary of a task without which the campaign cannot go on."""
        found = self.result(key)
        if found.status == "failed":
            raise PlanStopped(f"{what} failed: {found.reason}")
        return found.summary

    def decided(self, name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """What was decided under this name before, else ``value``; either way it is decided now."""
        kept = self.snapshot.decisions.get(name, value)
        self.out.decisions[name] = kept
        return kept

    def bought(self) -> int:
        """Labels that this campaign has asked for; frames of a seed dataset cost nothing."""
        free = self.config.start.kind == "dataset"
        return sum(not (free and v["source_kind"] == "start") for v in self.labels.values())

    # -- the campaign -------------------------------------------------------------------------------------------

    def campaign(self) -> None:
        source = self.start()
        fragments = self.required(source, "Making the starting fragments")["fragments"]
        self.held_out = TestSet(fragments)
        self.out.decisions[DECISION] = self.held_out.to_json()  # in the journal before the first label is sent
        self.label("start", source, fragments, iteration=0)
        self.check_split()
        limit = self.config.stop.iterations
        model = self.fit(0, None, final=limit == 0)
        iteration = 0
        while True:
            record = self.evaluate(iteration, model)
            # What was once decided stays: costs grow later, and a longer campaign must not undo its past.
            if f"continue/{iteration}" not in self.snapshot.decisions:
                reason = self.ramp_ended() or stop_reason(
                    self.stop, self.out.records, core_hours=self.snapshot.core_hours, unit=self.config.score.unit
                )
                if reason:
                    break
            self.out.decisions[f"continue/{iteration}"] = {}
            iteration += 1
            self.out.iteration = iteration
            new = self.acquire(iteration, model, record.mixture)
            if not new and self.config.explore.temperature is not None:
                continue  # nothing new at this temperature; the next one may have
            if not new:
                reason = self.nothing_found(iteration)
                break
            before = len(self.train) + len(self.validation)
            self.label("acquire", *new, iteration=iteration)
            if len(self.train) + len(self.validation) == before:
                if self.config.explore.temperature is not None:
                    continue  # hotter, with the potential that there is
                raise PlanStopped(f"none of the {len(new[1])} labels of iteration {iteration} succeeded")
            self.evaluate_new(iteration, model, record.mixture)
            model = self.fit(iteration, model, final=iteration == limit)
        if not self.is_final(model):
            model = self.fit(iteration, model, final=True, extra=True)
            self.evaluate(iteration, model, extra=True)
        self.out.decisions["stop"] = {"reason": reason, "iteration": iteration, "model": model}
        self.finish(model, reason)

    def is_final(self, model: str) -> bool:
        """Whether this model was trained with the relaxed stopping of the last one."""
        return any(v["key"] == model and v["final"] for k, v in self.out.decisions.items() if k.startswith("model/"))

    def start(self) -> str:
        """Starting fragments, training and test."""
        self.out.stage = "start"
        return self.ask("start", "local", self.payloads.start())

    def label(self, kind: str, source: str, fragments: Sequence[Mapping[str, Any]], *, iteration: int) -> None:
        """Asks for all labels of a source, waits for them, and splits the good ones."""
        self.out.stage, self.out.iteration = "label", iteration
        waiting: list[str] = []
        good: list[str] = []
        trainable = {f["label_key"] for f in self.held_out.trainable(fragments)}
        for index, fragment in enumerate(fragments):
            key = fragment["label_key"]
            if fragment["set"] != "test" and key not in trainable:
                continue  # nothing of the test set is ever trained on
            self.labels.setdefault(
                key, {**fragment, "source_kind": kind, "source": source, "index": index, "iteration": iteration}
            )
            payload = self.payloads.label(kind, source, index)
            self.ask("label", "label", payload, key=key, limit=self.config.label.time_limit + GRACE)
            found = self.outcome(key)
            if found is None:
                waiting.append(key)
            elif found.status == "done" and key not in good:
                if fragment["set"] == "test":
                    if key not in self.test:
                        self.test.append(key)
                elif key not in self.train and key not in self.validation:
                    good.append(key)
        if waiting:
            raise _Wait(*waiting)
        kept = self.snapshot.decisions.get(f"split/{iteration}")
        if kept is not None and kept["source"] == source and self.all_done(kept):
            # Labels that failed then and succeeded since join the next split: what was trained stays as it was.
            train, validation = list(kept["train"]), list(kept["validation"])
            self.late += [k for k in good if k not in train and k not in validation]
            self.test = list(kept["test"]) if iteration == 0 else self.test
        else:
            # A larger fragment goes where the one goes that it confirms: they hold the same atoms.
            partner = {f["label_key"]: f["confirms"] for f in fragments if f.get("confirms") in good}
            alone = [k for k in [*self.late, *good] if k not in partner]
            train, validation = split_validation(
                alone,
                fraction=self.config.train.validation_fraction,
                seed=self.payloads.seed("split"),
                already=(len(self.train), len(self.validation)),
            )
            for larger, smaller in partner.items():
                if larger in good:
                    (validation if smaller in validation else train).append(larger)
            self.late = []
        self.train += train
        self.validation += validation
        self.out.decisions[f"split/{iteration}"] = {
            "source": source,
            "train": train,
            "validation": validation,
            "test": list(self.test) if iteration == 0 else [],
        }

    def all_done(self, split: Mapping[str, Any]) -> bool:
        """Whether every label of a recorded split is there."""
        keys = [*split["train"], *split["validation"], *split["test"]]
        return all((o := self.outcome(k)) is not None and o.status == "done" for k in keys)

    def check_split(self) -> None:
        if not self.train or not self.validation or not self.test:
            done = len(self.train) + len(self.validation) + len(self.test)
            raise PlanStopped(
                f"of the starting labels only {done} succeeded ({len(self.train)} for training, "
                f"{len(self.validation)} for validation, {len(self.test)} for the test set); each set needs one"
            )

    def fit(self, iteration: int, start: str | None, *, final: bool, extra: bool = False) -> str:
        """The potential of this iteration, and the others of its committee at the same time."""
        self.out.stage = "train"
        name = f"model/{iteration}" + ("/final" if extra else "")
        if name in self.snapshot.decisions:  # a campaign that is made longer keeps the models that it has
            final = bool(self.snapshot.decisions[name]["final"])
        fresh: list[str | None] = [None] * (self.config.train.committee - 1)
        starts = [start, *(self.others or fresh)]
        asked = [self.member(k, iteration, s, final=final, extra=extra) for k, s in enumerate(starts)]
        waiting = [key for key, done in asked if not done]
        if waiting:
            raise _Wait(*waiting)
        key, *self.others = [key for key, _ in asked]
        told = {"key": key, "final": final, "model_id": self.result(key).summary["model_id"]}
        self.out.decisions[name] = {**told, **({"others": list(self.others)} if self.others else {})}
        return key

    def member(self, number: int, iteration: int, start: str | None, *, final: bool, extra: bool) -> tuple[str, bool]:
        """Key of one training, and whether it is done; a diverged one gets one more try, from scratch and gentler."""
        reason = ""
        for attempt in range(len(DAMPING)):
            payload = self.payloads.train(
                iteration,
                self.train,
                self.validation,
                start=start,
                final=final,
                attempt=attempt,
                extra=extra,
                member=number,
            )
            key = self.ask("train", "train", payload)
            found = self.outcome(key)
            if found is None or found.status == "done":
                return key, found is not None
            reason = found.reason
        raise PlanStopped(f"training of iteration {iteration} failed twice, the second time gentler: {reason}")

    def evaluate(self, iteration: int, model: str, *, extra: bool = False) -> IterationRecord:
        """Feature density of the training split, and the errors on the test set."""
        self.out.stage = "evaluate"
        mixture = self.ask("novelty", "local", self.payloads.novelty(iteration, model, self.train, others=self.others))
        self.required(mixture, f"Fitting the feature density of iteration {iteration}")
        key = self.ask("evaluate", "local", self.payloads.evaluation(model, mixture, self.test))
        self.validated[model] = list(self.validation)
        self.calibrate(iteration, model, mixture, self.test, new=False)
        summary = self.required(key, f"Evaluating the model of iteration {iteration}")
        record = IterationRecord(
            iteration=iteration,
            model=model,
            mixture=mixture,
            evaluation=key,
            n_training=len(self.train) + len(self.validation),
            n_labels=self.bought(),
            test_mae_p95=float(summary["mae_p95"]),
            **noise_of(summary),
        )
        self.out.records.append(record)
        self.out.decisions[f"evaluated/{iteration}" + ("/final" if extra else "")] = {
            "iteration": iteration,
            "model": model,
            "mixture": mixture,
            "evaluation": key,
            "n_training": record.n_training,
        }
        return record

    def evaluate_new(self, iteration: int, model: str, mixture: str) -> None:
        """Errors of the model that asked for the new labels, on them: what novelty was worth. Nothing waits for it."""
        keys = [k for k, v in self.labels.items() if v["iteration"] == iteration]
        good = [k for k in keys if (o := self.outcome(k)) is not None and o.status == "done"]
        key = self.ask("evaluate", "local", self.payloads.evaluation(model, mixture, good))
        self.out.decisions[f"new_labels/{iteration}"] = {"evaluation": key}
        self.calibrate(iteration, model, mixture, good, new=True)

    def calibrate(self, iteration: int, model: str, mixture: str, labels: Sequence[str], *, new: bool) -> None:
        """What novelty means in eV/Å, and whether that holds on these labels. Nothing waits for it."""
        told = self.payloads.calibration(iteration, model, mixture, self.validated[model], labels, new=new)
        self.ask("calibrate", "local", told)

    def acquire(self, iteration: int, model: str, mixture: str) -> tuple[str, list[Mapping[str, Any]]] | None:
        """Walks, scores, selects and cuts; None if nothing new was found."""
        self.out.stage = "explore"
        walkers = [self.ask("explore", "md", p, limit=WEEK) for p in self.walks(iteration, model)]
        ended = [self.outcome(k) for k in walkers]
        missing = [k for k, o in zip(walkers, ended, strict=True) if o is None]
        if missing:
            raise _Wait(*missing)
        sane = [k for k, o in zip(walkers, ended, strict=True) if o and o.status == "done" and o.summary["n_frames"]]
        self.judge_ramp(iteration, [o for o in ended if o])
        if not sane and self.ramp and iteration > 1:
            return None  # the ramp ends here, with the potential that there is
        if not sane:
            reasons = sorted({o.reason or str(o.summary.get("stop_reason", "")) for o in ended if o})
            raise PlanStopped(
                f"all {len(walkers)} walkers of iteration {iteration} failed before their first frame: "
                + "; ".join(reasons)[:500]
            )
        self.out.stage = "select"
        budget = self.config.fragments_selected
        if self.label_limit is not None:
            budget = max(0, min(budget, self.label_limit - self.bought()))
        limits: dict[str, Any] = {"fragments": budget, "pool": self.config.explore.pool}
        if isinstance(self.config.extract, Certified) and self.label_limit is not None:
            limits["labels_left"] = self.label_limit - self.bought()
        if failed := self.payloads.failed(self.snapshot.outcomes, self.labels):
            limits["failed"] = list(failed)  # as it is now: one that succeeds later does not repeat this choice
        told = self.decided(f"budget/{iteration}", limits)
        self.pools.append((iteration, sane, str(told["pool"])))
        more: dict[str, Any] = {}
        if isinstance(self.config.extract, Certified):  # what its cost and error models learn from
            more["labelled"] = [*self.train, *self.validation, *self.test]
            more["labels_left"] = told.get("labels_left")
        if self.config.select.kind == "cbad":  # what has filled its bins
            more = {"labelled": [*self.train, *self.validation], "acquired": list(self.acquired)}
        payload = self.payloads.acquire(
            iteration,
            model,
            mixture,
            sane,
            known=list(self.labels),
            budget=int(told["fragments"]),
            pool=told["pool"],
            held_out=self.held_out.labels,
            certified=more,
            failed=told.get("failed", ()),
        )
        key = self.ask("acquire", "local", payload)
        summary = self.required(key, f"Selecting fragments in iteration {iteration}")
        self.acquired.append(key)
        self.out.records[-1].acquired = key
        self.out.records[-1].excess_novelty = summary["novelty"]["excess"]
        self.out.decisions[f"selected/{iteration}"] = {"fragments": [f["label_key"] for f in summary["fragments"]]}
        return (key, list(summary["fragments"])) if summary["fragments"] else None

    def nothing_found(self, iteration: int) -> str:
        """Why a selection was empty."""
        summary = self.result(self.out.records[-1].acquired).summary
        return f"iteration {iteration} found {nothing(summary, then='run again')}"

    def walks(self, iteration: int, model: str) -> list[dict[str, Any]]:
        """One payload per walker: its system, temperature, pressure, length and seed."""
        from clusterflow.explore.schedule import steps_for
        from clusterflow.explore.walkers import draw_conditions

        explore, schedule = self.config.explore, self.config.explore.steps
        steps = steps_for(iteration - 1, first=schedule.first, growth=schedule.growth, maximum=schedule.maximum)
        # Once decided for an iteration, number and length stay: a campaign made longer keeps its past walks.
        wanted: dict[str, Any] = {"walkers": explore.walkers, "steps": steps}
        if explore.temperature is not None:
            wanted["temperature_K"] = temperature_after(explore.temperature, self.ramp)
            wanted["displacement"] = explore.temperature.displacement
        told = self.decided(f"walks/{iteration}", wanted)
        steps = int(told["steps"])
        counts = shares([s.weight for s in self.config.systems], int(told["walkers"]))
        payloads: list[dict[str, Any]] = []
        for system, known, count in zip(self.config.systems, self.inputs.systems, counts, strict=True):
            ensemble = system.resolved_ensemble(periodic=known.periodic)
            conditions = draw_conditions(
                count,
                temperature_K=told.get("temperature_K", ensemble.temperature),
                pressure_GPa=ensemble.pressure if isinstance(ensemble, NPT) else None,
                campaign_seed=self.config.seed,
                iteration=iteration,
                system=system.name,
            )
            start = told.get("displacement")
            payloads += [self.payloads.walk(model, known, drawn, steps, start) for drawn in conditions]
        return payloads

    def judge_ramp(self, iteration: int, ended: Sequence[Outcome]) -> None:
        """What the walks of an iteration mean for the temperature of the next one, if that rises."""
        ramp, walks = self.config.explore.temperature, self.out.decisions[f"walks/{iteration}"]
        if ramp is not None and "temperature_K" in walks:
            record = judge(ramp, self.ramp, float(walks["temperature_K"]), ended)
            self.ramp.append(record)
            self.out.decisions[f"ramp/{iteration}"] = record

    def ramp_ended(self) -> str:
        """Why the temperature rises no further, or ""."""
        return str(self.ramp[-1]["reason"]) if self.ramp and self.ramp[-1]["then"] in ("end", "stop") else ""

    def finish(self, model: str, reason: str) -> None:
        """Packages the final model; it is final once its package predicts what it does."""
        self.out.stage = "export"
        key = self.ask("export", "train", self.payloads.export(model, self.test))
        self.required(key, "Packaging the final model")
        if self.out.open:  # evaluations of new labels that nothing waited for
            raise _Wait(*self.out.open)
        self.out.stage = "finished"
        self.out.finished = reason
