"""The tasks of a campaign: what each needs, and its content key. Both kinds of loop ask for the same tasks.

A payload holds what the task uses and nothing else, so that other changes of the file do not repeat it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterflow.campaign.committee import share_of
from clusterflow.campaign.convergence import IterationRecord
from clusterflow.config.campaign import Campaign
from clusterflow.config.extract import Certified
from clusterflow.config.section import to_json
from clusterflow.core.data import Task
from clusterflow.core.frames import canonical_json, digest
from clusterflow.core.seeds import derive_seed
from clusterflow.explore.walkers import WalkerConditions
from clusterflow.score.calibration import CONFIDENCE
from clusterflow.state.snapshot import Outcome

ORDER = (
    "start", "train", "novelty", "evaluate", "calibrate", "acquire", "control", "explore", "label", "export",
    "relax", "dynamics", "vibrations", "hessian", "metadynamics", "property",
)  # fmt: skip
"""In which order tasks that are wanted at once are sent: first those for which the others wait."""
SPARE = ("label", "explore", "relax", "hessian", "dynamics", "vibrations", "metadynamics")
"""Kinds of task of which one may fail for good without ending the whole: pieces of science, many alike."""
PLAN_VERSION = 1
"""Part of every task key: a change of what a task computes must change it."""
GRACE = 120.0
"""s between a label's own limit and the engine giving up on its worker."""
WEEK = 7 * 86_400.0
"""s; the limit of a task that has none of its own."""
DAMPING = (1.0, 0.5)
"""Factors of the learning rate: a training that diverged gets one more try, from scratch and gentler."""


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
    start_model: str = ""
    """Identity of the model that is fine-tuned, if there is one."""


@dataclass(slots=True)
class Plan:
    """``open``: key → task that is wanted now (those in flight are among them); ``asked``: those of them that the last
    plan of the same planner did not want; ``decisions`` to journal and ``retired`` ones to withdraw first; ``finished``
    or ``failed`` says why the campaign has ended.

    ``waits_for``: the plan stays as it is until all of these have ended; empty: until anything has. ``timer`` is a
    decision to journal (name, s) if the plan still asks for it after so long: the only way in which time enters.
    """

    open: dict[str, Task] = field(default_factory=dict)
    asked: list[Task] = field(default_factory=list)
    decisions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    retired: list[str] = field(default_factory=list)
    stage: str = "start"
    iteration: int = 0
    finished: str = ""
    failed: str = ""
    records: list[IterationRecord] = field(default_factory=list)
    labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Every fragment asked for: label key → {source, index, system, kind, set, iteration, n_atoms}."""
    waits_for: tuple[str, ...] = ()
    timer: tuple[str, float] | None = None

    @property
    def tasks(self) -> list[Task]:
        """All tasks that are wanted now."""
        return list(self.open.values())


class PlanStopped(Exception):  # noqa: N818 - not an error of ours: the plan says so with `failed`
    """The campaign cannot go on; the message says why."""


def task_key(kind: str, payload: Mapping[str, Any]) -> str:
    """Content key of a task."""
    return digest(str(PLAN_VERSION), kind, canonical_json(payload))


class Payloads:
    """Payloads of all kinds of task for one configuration."""

    def __init__(self, config: Campaign, inputs: Inputs) -> None:
        self.config, self.inputs = config, inputs
        self._reference = to_json(config.label)
        self._extract = to_json(config.extract)
        of_walks = ("walkers", "steps", "pool", "temperature")
        self._explore = {k: v for k, v in to_json(config.explore).items() if k not in of_walks}
        self._select = {k: v for k, v in to_json(config.select).items() if k != "fragments"}
        if self._select["kind"] == "novelty":
            del self._select["kind"]  # there was no other, and keys stay what they were
        share = getattr(config.select, "share", None)
        self._weights = {"weights": {s.name: s.weight for s in config.systems}} if share == "weight" else {}

    def seed(self, *parts: str | int) -> int:
        """Derived from the campaign's seed."""
        return derive_seed(self.config.seed, *parts)

    def start(self) -> dict[str, Any]:
        """Starting fragments. The seed dataset counts by its content, not by where it lies."""
        return {
            "systems": [
                {"name": s.name, "identity": i.identity, "weight": s.weight}
                for s, i in zip(self.config.systems, self.inputs.systems, strict=True)
            ],
            "start": {k: v for k, v in to_json(self.config.start).items() if k != "file"},
            "dataset": self.inputs.dataset,
            "extract": self._extract,
            "level_of_theory": self.inputs.level_of_theory,
            "seed": self.seed("start"),
        }

    def label(self, kind: str, source: str, index: int) -> dict[str, Any]:
        """Fragment ``index`` of a start or acquire task."""
        return {"source_kind": kind, "source": source, "index": index, "reference": self._reference}

    def train(
        self,
        iteration: int,
        training: Sequence[str],
        validation: Sequence[str],
        *,
        start: str | None,
        final: bool,
        attempt: int,
        extra: bool = False,
        member: int = 0,
    ) -> dict[str, Any]:
        """``start``: the model to go on from, in the first attempt; ``member`` of the committee, 0: the potential."""
        train = self.config.train
        seed: tuple[str | int, ...] = ("train", iteration, int(extra), attempt)
        more: dict[str, Any] = {}
        if member:
            lot = self.seed("committee")
            training, validation = share_of(training, validation, how=train.resampling, seed=lot, member=member)
            seed, more = (*seed, "member", member), {"member": member}
        before = start if attempt == 0 and train.continues else None
        if self.inputs.start_model and before is None:
            more["start_from"] = self.inputs.start_model
        return {
            "kind": train.kind,
            "model": train.build_model().to_json(),
            "settings": train.build_settings(final=final, damping=DAMPING[attempt]).to_json(),
            "training": list(training),
            "validation": list(validation),
            "start": before,
            "elements": list(self.inputs.elements),
            "seed": self.seed(*seed),
            **more,
        }

    def novelty(
        self, iteration: int, model: str, training: Sequence[str], *, others: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Feature density of the training split; with the ``others`` of a committee, their disagreement there."""
        return {
            **({"members": [model, *others]} if others else {}),
            "model": model,
            "score": to_json(self.config.score),
            "training": list(training),
            "core_only": self.config.train.core_only,
            "seed": self.seed("novelty", iteration),
        }

    def evaluation(self, model: str, mixture: str, labels: Sequence[str]) -> dict[str, Any]:
        """What is not trained on is not judged by."""
        told = {"model": model, "mixture": mixture, "labels": list(labels), "core_only": self.config.train.core_only}
        noise = getattr(self.config.train, "label_noise", None)
        return {**told, "label_noise": dict(noise)} if noise else told

    def calibration(
        self, iteration: int, model: str, mixture: str, validation: Sequence[str], labels: Sequence[str], *, new: bool
    ) -> dict[str, Any]:
        """Novelty calibrated on the validation split, judged on ``labels``: the test set, or the ``new`` ones that this
        model asked for."""
        return {
            "model": model,
            "mixture": mixture,
            "validation": list(validation),
            "labels": list(labels),
            "core_only": self.config.train.core_only,
            "confidence": CONFIDENCE,
            "iteration": iteration,
            "new": new,
        }

    def walk(
        self, model: str, system: SystemInput, drawn: WalkerConditions, steps: int, displacement: float | None = None
    ) -> dict[str, Any]:
        """One walker; ``displacement`` (Å) of its start, if that is not the structure as it is."""
        more = {} if displacement is None else {"displacement": displacement}
        return {
            **more,
            "model": model,
            "system": system.name,
            "identity": system.identity,
            "explore": self._explore,
            "temperature_K": drawn.temperature_K,
            "pressure_GPa": drawn.pressure_GPa,
            "steps": steps,
            "seed": drawn.seed,
        }

    def failed(self, outcomes: Mapping[str, Outcome], asked: Iterable[str]) -> tuple[str, ...]:
        """Of the labels asked for those that have failed by now, where a choice depends on that: larger fragments that
        should confirm others, and `coverage`, for which only what has a label (or will have) is known."""
        if not isinstance(self.config.extract, Certified) and self._select.get("ranking") != "coverage":
            return ()
        return tuple(k for k in asked if (o := outcomes.get(k)) is not None and o.status == "failed")

    def acquire(
        self,
        number: int,
        model: str,
        mixture: str,
        walkers: Sequence[str],
        *,
        known: Sequence[str],
        budget: int,
        pool: str,
        held_out: Sequence[str],
        certified: Mapping[str, Any],
        failed: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Scores the walks, selects and cuts. ``held_out``: labels of the test set, which nothing may resemble;
        ``certified``: what the models of certified fragments learn from, or what has filled the bins of CBAD;
        ``failed``: labels among the ``known`` that failed before this was decided."""
        return {
            **certified,
            **({"failed": list(failed)} if failed else {}),
            **self._weights,
            "model": model,
            "mixture": mixture,
            "walkers": list(walkers),
            "pool": pool,
            "select": self._select,
            "extract": self._extract,
            "known": list(known),
            "held_out": list(held_out),
            "level_of_theory": self.inputs.level_of_theory,
            "budget": budget,
            "seed": self.seed("select", number),
        }

    def control(
        self,
        arm: str,
        iteration: int,
        model: str,
        walkers: Sequence[str],
        *,
        trained: Sequence[str],
        held_out: Sequence[str],
        budget: int,
        pool: str,
        failed: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What a control arm chooses from the frames of an iteration. ``trained``: the labels that it has asked for, of
        which those ``failed``."""
        return {
            **({"failed": list(failed)} if failed else {}),
            "arm": arm,
            "model": model,
            "walkers": list(walkers),
            "pool": pool,
            "extract": self._extract,
            "known": list(trained),
            "held_out": list(held_out),
            "level_of_theory": self.inputs.level_of_theory,
            "budget": budget,
            "seed": self.seed("control", arm, iteration),
        }

    def export(self, model: str, test: Sequence[str]) -> dict[str, Any]:
        """Packages of the final model."""
        return {"model": model, "labels": list(test), "packaged": list(self.config.train.packaged)}
