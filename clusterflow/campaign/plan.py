"""What to do next: a pure function of the configuration, the inputs and the state.

The plan walks the campaign from its beginning every time. Each stage asks for its task; the task's key is the hash of
what it needs (configuration, keys of earlier results, a derived seed), so a task that is done is recognised wherever it
was done, and the first stage that still waits for something ends the walk. Nothing here reads a clock, a file or an
environment variable: the same state always gives the same plan, and a campaign can be replayed from its journal.

The cycle is that of Dobbelaere 2025 (arXiv:2504.03881), section 2.2 and SI 4: explore, score, select, extract, label,
train, again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterflow.campaign.convergence import IterationRecord, stop_reason
from clusterflow.campaign.split import shares, split_validation
from clusterflow.config.campaign import Campaign
from clusterflow.config.extract import Certified
from clusterflow.config.section import to_json
from clusterflow.config.systems import NPT
from clusterflow.core.data import Task
from clusterflow.core.frames import canonical_json, digest
from clusterflow.core.seeds import derive_seed
from clusterflow.state.snapshot import Outcome, Snapshot

PLAN_VERSION = 1
"""Part of every task key: a change of what a task computes must change it."""
_GRACE = 120.0  # s between a label's own limit and the engine giving up on its worker


@dataclass(frozen=True, slots=True)
class SystemInput:
    """What the plan must know of a system's structure: a hash that identifies it, its size, whether it is periodic."""

    name: str
    identity: str
    n_atoms: int
    periodic: bool
    elements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What does not stand in the configuration itself: structures, seed dataset and level of theory."""

    systems: tuple[SystemInput, ...]
    level_of_theory: str
    elements: tuple[str, ...]
    dataset: str = ""
    """Hash of the seed dataset, if there is one."""


@dataclass(slots=True)
class Plan:
    """``tasks`` wanted now (those in flight are among them); ``decisions`` to journal; ``finished`` or ``failed`` says
    why the campaign has ended."""

    tasks: list[Task] = field(default_factory=list)
    decisions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    stage: str = "start"
    iteration: int = 0
    finished: str = ""
    failed: str = ""
    records: list[IterationRecord] = field(default_factory=list)
    labels: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Every fragment asked for: label key → {source, index, system, kind, set, iteration, n_atoms}."""


class _Wait(Exception):  # noqa: N818 - not an error: the walk ends here until a task does
    """A stage needs a result that is not there yet."""


class _Stop(Exception):  # noqa: N818
    """The campaign cannot go on; the message says why."""


def task_key(kind: str, payload: Mapping[str, Any]) -> str:
    """Content key of a task."""
    return digest(str(PLAN_VERSION), kind, canonical_json(payload))


def plan(config: Campaign, inputs: Inputs, snapshot: Snapshot) -> Plan:
    """The tasks that are wanted now and the decisions that follow from what is done."""
    walk = _Walk(config, inputs, snapshot)
    try:
        walk.campaign()
    except _Wait:
        pass
    except _Stop as stop:
        walk.out.failed = str(stop)
    return walk.out


class _Walk:
    """One pass over the campaign; collects tasks and decisions in ``out``."""

    def __init__(self, config: Campaign, inputs: Inputs, snapshot: Snapshot) -> None:
        self.config, self.inputs, self.snapshot = config, inputs, snapshot
        self.out = Plan()
        self.train: list[str] = []
        self.validation: list[str] = []
        self.test: list[str] = []
        self.late: list[str] = []

    # -- asking for tasks ---------------------------------------------------------------------------------------

    def ask(self, kind: str, lane: str, payload: Mapping[str, Any], *, key: str = "", limit: float = 0.0) -> str:
        """Puts the task on the list unless it has ended; returns its key.

        The payload holds what the task uses and nothing else, so that other changes of the file do not repeat it.
        """
        key = key or task_key(kind, payload)
        if key not in self.snapshot.outcomes and all(t.key != key for t in self.out.tasks):
            self.out.tasks.append(Task(kind, key, lane, payload, time_limit=limit or 7 * 86_400.0))
        return key

    def outcome(self, key: str) -> Outcome | None:
        return self.snapshot.outcomes.get(key)

    def result(self, key: str) -> Outcome:
        """The outcome, or the end of the walk if it is not there yet."""
        found = self.outcome(key)
        if found is None:
            raise _Wait
        return found

    def required(self, key: str, what: str) -> Mapping[str, Any]:
        """The summary of a task without which the campaign cannot go on."""
        found = self.result(key)
        if found.status == "failed":
            raise _Stop(f"{what} failed: {found.reason}")
        return found.summary

    def decided(self, name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """What was decided under this name before, else ``value``; either way it is decided now."""
        kept = self.snapshot.decisions.get(name, value)
        self.out.decisions[name] = kept
        return kept

    def bought(self) -> int:
        """Labels that this campaign has asked for; frames of a seed dataset cost nothing."""
        free = self.config.start.kind == "dataset"
        return sum(not (free and v["source_kind"] == "start") for v in self.out.labels.values())

    def seed(self, *parts: str | int) -> int:
        return derive_seed(self.config.seed, *parts)

    # -- the campaign -------------------------------------------------------------------------------------------

    def campaign(self) -> None:
        source = self.start()
        fragments = self.required(source, "Making the starting fragments")["fragments"]
        self.label("start", source, fragments, iteration=0)
        self.check_split()
        limit = self.config.stop.iterations
        model = self.fit(0, None, final=limit == 0)
        iteration = 0
        while True:
            record = self.evaluate(iteration, model)
            # What was once decided stays: costs grow later, and a longer campaign must not undo its past.
            if f"continue/{iteration}" not in self.snapshot.decisions:
                reason = stop_reason(self.config.stop, self.out.records, core_hours=self.snapshot.core_hours)
                if reason:
                    break
            self.out.decisions[f"continue/{iteration}"] = {}
            iteration += 1
            self.out.iteration = iteration
            new = self.acquire(iteration, model, record.mixture)
            if not new:
                reason = f"iteration {iteration} found no fragment that is not labelled already"
                break
            before = len(self.train)
            self.label("acquire", *new, iteration=iteration)
            if len(self.train) == before:
                raise _Stop(f"none of the {len(new[1])} labels of iteration {iteration} succeeded")
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
        payload = {
            "systems": [
                {"name": s.name, "identity": i.identity, "weight": s.weight}
                for s, i in zip(self.config.systems, self.inputs.systems, strict=True)
            ],
            "start": _without_path(to_json(self.config.start)),
            "dataset": self.inputs.dataset,
            "extract": to_json(self.config.extract),
            "level_of_theory": self.inputs.level_of_theory,
            "seed": self.seed("start"),
        }
        return self.ask("start", "local", payload)

    def label(self, kind: str, source: str, fragments: Sequence[Mapping[str, Any]], *, iteration: int) -> None:
        """Asks for all labels of a source, waits for them, and splits the good ones."""
        self.out.stage, self.out.iteration = "label", iteration
        reference = to_json(self.config.label)
        waiting = False
        good: list[str] = []
        for index, fragment in enumerate(fragments):
            key = fragment["label_key"]
            self.out.labels.setdefault(
                key, {**fragment, "source_kind": kind, "source": source, "index": index, "iteration": iteration}
            )
            payload = {"source_kind": kind, "source": source, "index": index, "reference": reference}
            self.ask("label", "label", payload, key=key, limit=self.config.label.time_limit + _GRACE)
            found = self.outcome(key)
            if found is None:
                waiting = True
            elif found.status == "done" and key not in good:
                if fragment["set"] == "test":
                    if key not in self.test:
                        self.test.append(key)
                elif key not in self.train and key not in self.validation:
                    good.append(key)
        if waiting:
            raise _Wait
        good = [k for k in good if k not in self.test]  # nothing of the test set is ever trained on
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
                seed=self.seed("split"),
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
            raise _Stop(
                f"of the starting labels only {done} succeeded ({len(self.train)} for training, "
                f"{len(self.validation)} for validation, {len(self.test)} for the test set); each set needs one"
            )

    def fit(self, iteration: int, start: str | None, *, final: bool, extra: bool = False) -> str:
        """The potential of this iteration; a diverged training gets one more try, from scratch and gentler."""
        self.out.stage = "train"
        name = f"model/{iteration}" + ("/final" if extra else "")
        if name in self.snapshot.decisions:  # a campaign that is made longer keeps the models that it has
            final = bool(self.snapshot.decisions[name]["final"])
        reason = ""
        for attempt, damping in enumerate((1.0, 0.5)):
            payload = {
                "kind": self.config.train.kind,
                "model": self.config.train.build_model().to_json(),
                "settings": self.config.train.build_settings(final=final, damping=damping).to_json(),
                "training": list(self.train),
                "validation": list(self.validation),
                "start": start if attempt == 0 else None,
                "elements": list(self.inputs.elements),
                "seed": self.seed("train", iteration, int(extra), attempt),
            }
            key = self.ask("train", "train", payload)
            found = self.result(key)
            if found.status == "done":
                self.out.decisions[name] = {"key": key, "final": final, "model_id": found.summary["model_id"]}
                return key
            reason = found.reason
        raise _Stop(f"training of iteration {iteration} failed twice, the second time gentler: {reason}")

    def evaluate(self, iteration: int, model: str, *, extra: bool = False) -> IterationRecord:
        """Feature density of the training split, and the errors on the test set."""
        self.out.stage = "evaluate"
        mixture = self.ask(
            "novelty",
            "local",
            {
                "model": model,
                "score": to_json(self.config.score),
                "training": list(self.train),
                "core_only": self.config.train.core_only,
                "seed": self.seed("novelty", iteration),
            },
        )
        self.required(mixture, f"Fitting the feature density of iteration {iteration}")
        key = self.ask("evaluate", "local", self.evaluation(model, mixture, self.test))
        summary = self.required(key, f"Evaluating the model of iteration {iteration}")
        record = IterationRecord(
            iteration=iteration,
            model=model,
            mixture=mixture,
            evaluation=key,
            n_training=len(self.train) + len(self.validation),
            n_labels=self.bought(),
            test_mae_p95=float(summary["mae_p95"]),
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

    def evaluation(self, model: str, mixture: str, labels: Sequence[str]) -> dict[str, Any]:
        """Payload of an evaluation; what is not trained on is not judged by."""
        core_only = self.config.train.core_only
        return {"model": model, "mixture": mixture, "labels": list(labels), "core_only": core_only}

    def evaluate_new(self, iteration: int, model: str, mixture: str) -> None:
        """Errors of the model that asked for the new labels, on them: what novelty was worth. Nothing waits for it."""
        keys = [k for k, v in self.out.labels.items() if v["iteration"] == iteration]
        good = [k for k in keys if (o := self.outcome(k)) is not None and o.status == "done"]
        key = self.ask("evaluate", "local", self.evaluation(model, mixture, good))
        self.out.decisions[f"new_labels/{iteration}"] = {"evaluation": key}

    def acquire(self, iteration: int, model: str, mixture: str) -> tuple[str, list[Mapping[str, Any]]] | None:
        """Walks, scores, selects and cuts; None if nothing new was found."""
        self.out.stage = "explore"
        walkers = [self.ask("explore", "md", p, limit=7 * 86_400.0) for p in self.walks(iteration, model)]
        ended = [self.outcome(k) for k in walkers]
        if any(o is None for o in ended):
            raise _Wait
        sane = [k for k, o in zip(walkers, ended, strict=True) if o and o.status == "done" and o.summary["n_frames"]]
        if not sane:
            reasons = sorted({o.reason or str(o.summary.get("stop_reason", "")) for o in ended if o})
            raise _Stop(
                f"all {len(walkers)} walkers of iteration {iteration} failed before their first frame: "
                + "; ".join(reasons)[:500]
            )
        self.out.stage = "select"
        budget = self.config.select.fragments
        if self.config.stop.labels is not None:
            budget = max(0, min(budget, self.config.stop.labels - self.bought()))
        limits: dict[str, Any] = {"fragments": budget, "pool": self.config.explore.pool}
        if isinstance(self.config.extract, Certified) and self.config.stop.labels is not None:
            limits["labels_left"] = self.config.stop.labels - self.bought()
        told = self.decided(f"budget/{iteration}", limits)
        select = {k: v for k, v in to_json(self.config.select).items() if k != "fragments"}
        more: dict[str, Any] = {}
        if isinstance(self.config.extract, Certified):  # what its cost and error models learn from
            more["labelled"] = [*self.train, *self.validation, *self.test]
            more["labels_left"] = told.get("labels_left")
        key = self.ask(
            "acquire",
            "local",
            {
                **more,
                "model": model,
                "mixture": mixture,
                "walkers": sane,
                "pool": told["pool"],
                "select": select,
                "extract": to_json(self.config.extract),
                "known": list(self.out.labels),
                "level_of_theory": self.inputs.level_of_theory,
                "budget": int(told["fragments"]),
                "seed": self.seed("select", iteration),
            },
        )
        summary = self.required(key, f"Selecting fragments in iteration {iteration}")
        self.out.records[-1].acquired = key
        self.out.records[-1].excess_novelty = summary["novelty"]["excess"]
        self.out.decisions[f"selected/{iteration}"] = {"fragments": [f["label_key"] for f in summary["fragments"]]}
        return (key, list(summary["fragments"])) if summary["fragments"] else None

    def walks(self, iteration: int, model: str) -> list[dict[str, Any]]:
        """One payload per walker: its system, temperature, pressure, length and seed."""
        from clusterflow.explore.schedule import steps_for
        from clusterflow.explore.walkers import draw_conditions

        explore, schedule = self.config.explore, self.config.explore.steps
        steps = steps_for(iteration - 1, first=schedule.first, growth=schedule.growth, maximum=schedule.maximum)
        # Once decided for an iteration, number and length stay: a campaign made longer keeps its past walks.
        told = self.decided(f"walks/{iteration}", {"walkers": explore.walkers, "steps": steps})
        steps = int(told["steps"])
        counts = shares([s.weight for s in self.config.systems], int(told["walkers"]))
        settings = {k: v for k, v in to_json(explore).items() if k not in ("walkers", "steps", "pool")}
        payloads: list[dict[str, Any]] = []
        for system, known, count in zip(self.config.systems, self.inputs.systems, counts, strict=True):
            ensemble = system.resolved_ensemble(periodic=known.periodic)
            conditions = draw_conditions(
                count,
                temperature_K=ensemble.temperature,
                pressure_GPa=ensemble.pressure if isinstance(ensemble, NPT) else None,
                campaign_seed=self.config.seed,
                iteration=iteration,
                system=system.name,
            )
            payloads += [
                {
                    "model": model,
                    "system": system.name,
                    "identity": known.identity,
                    "explore": settings,
                    "temperature_K": drawn.temperature_K,
                    "pressure_GPa": drawn.pressure_GPa,
                    "steps": steps,
                    "seed": drawn.seed,
                }
                for drawn in conditions
            ]
        return payloads

    def finish(self, model: str, reason: str) -> None:
        """Packages the final model; it is final once its package predicts what it does."""
        self.out.stage = "export"
        key = self.ask(
            "export",
            "train",
            {"model": model, "labels": list(self.test), "packaged": list(self.config.train.packaged)},
        )
        self.required(key, "Packaging the final model")
        if self.out.tasks:  # evaluations of new labels that nothing waited for
            raise _Wait
        self.out.stage = "finished"
        self.out.finished = reason


def _without_path(start: dict[str, Any]) -> dict[str, Any]:
    """The seed dataset counts by its content, not by where it lies."""
    return {k: v for k, v in start.items() if k != "file"}
