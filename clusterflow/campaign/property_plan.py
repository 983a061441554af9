"""What a property run does next: a pure function of configuration, inputs and journal, as the plan of a campaign.

Each property of each structure is a small graph: independent pieces of work (a relaxation per volume; blocks of rows of
a Hessian), then one reduction of what they published. Keys follow from content, so a piece that two properties share
is done once, and a changed setting repeats what depends on it and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clusterflow.campaign.property_torsion import torsion_pieces
from clusterflow.campaign.tasks import Plan, SystemInput, task_key
from clusterflow.config.properties import (
    EnergyVolume,
    HeatCapacity,
    Property,
    PropertyRun,
    Relaxation,
    TorsionFreeEnergy,
)
from clusterflow.core.data import Task
from clusterflow.core.seeds import derive_seed
from clusterflow.evaluate.energy_volume import volume_ratios
from clusterflow.evaluate.heat_capacity import curve_temperatures, row_blocks
from clusterflow.state.snapshot import Snapshot

WORK, REDUCTION = "md", "local"
"""Lanes: what evaluates the potential many times goes where dynamics goes; reductions are light."""


@dataclass(frozen=True, slots=True)
class PropertyInputs:
    """Structures, and the potential as tasks name it (``told``: JSON that a worker builds it from; ``identity``)."""

    structures: tuple[SystemInput, ...]
    identity: str
    told: Mapping[str, Any]

    def structure(self, name: str) -> SystemInput:
        """By its name."""
        return next(s for s in self.structures if s.name == name)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far one property of one structure is; ``key`` of its reduction once known, ``reason`` if it failed."""

    property: str
    kind: str
    structure: str
    status: Literal["open", "done", "failed"]
    key: str = ""
    reason: str = ""


class PropertyPlanner:
    """The plan of a property run while it runs; see `property_plan` for the pure function."""

    def __init__(self, config: PropertyRun, inputs: PropertyInputs, only: Sequence[str] = ()) -> None:
        self._jobs = _jobs(config, inputs, only)
        self._plan = Plan()
        self._stale = True

    def plan(self, snapshot: Snapshot) -> Plan:
        """The plan for this snapshot."""
        if self._stale:
            self._plan = _plan(self._jobs, snapshot)
            self._stale = False
        return self._plan

    def take_asked(self) -> list[Task]:
        """All tasks of the plan."""
        return self._plan.tasks

    def ended(self, key: str) -> None:  # noqa: ARG002 - anything may open the way for something
        """A task has ended, well or for good."""
        self._stale = True

    def decided(self) -> None:
        """Decisions were journaled; a property run makes none."""
        self._stale = True


def property_plan(config: PropertyRun, inputs: PropertyInputs, snapshot: Snapshot, only: Sequence[str] = ()) -> Plan:
    """The plan for a snapshot, from nothing; ``only``: names or kinds of properties."""
    return _plan(_jobs(config, inputs, only), snapshot)


def verdicts(
    config: PropertyRun, inputs: PropertyInputs, snapshot: Snapshot, only: Sequence[str] = ()
) -> list[Verdict]:
    """How far every property of every structure is."""
    return [_look(job, snapshot)[0] for job in _jobs(config, inputs, only)]


# -- the graph ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """A task, the tasks whose results it reads, and a word for messages."""

    task: Task
    needs: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    """One property of one structure. ``spare``: its reduction does without steps that failed."""

    settings: Property
    structure: SystemInput
    steps: tuple[_Step, ...]
    reduction: Mapping[str, Any]
    spare: bool
    time_limit: float


def _jobs(config: PropertyRun, inputs: PropertyInputs, only: Sequence[str]) -> list[_Job]:
    jobs = []
    for settings in config.chosen(tuple(only)):
        for structure in inputs.structures:
            if settings.structures and structure.name not in settings.structures:
                continue
            graph = _Graph(config, inputs)
            if isinstance(settings, TorsionFreeEnergy):
                jobs.append(graph.torsion_free_energy(settings, structure))
                continue
            made = graph.energy_volume if isinstance(settings, EnergyVolume) else graph.heat_capacity
            jobs.append(made(settings, structure))  # type: ignore[arg-type]
    return jobs


class _Graph:
    """Steps of a property, for one configuration."""

    def __init__(self, config: PropertyRun, inputs: PropertyInputs) -> None:
        self.config, self.inputs = config, inputs

    def task(self, kind: str, payload: Mapping[str, Any], lane: str = WORK) -> Task:
        return Task(kind, task_key(kind, payload), lane, payload, self.config.time_limit)

    def relaxation(self, settings: Relaxation, structure: SystemInput, freedom: str, ratio: float = 1.0) -> Task:
        payload: dict[str, Any] = {
            "potential": {**self.inputs.told, **self._precision("float64")},
            "structure": structure.name,
            "identity": structure.identity,
            "freedom": freedom,
            "ratio": ratio,
        }
        if freedom != "nothing":
            payload |= {"fmax": settings.fmax, "max_steps": settings.max_steps, "optimiser": settings.optimiser}
            if settings.rattle > 0.0:
                seed = derive_seed(self.config.seed, "rattle", structure.name, f"{ratio!r}")
                payload |= {"rattle": settings.rattle, "seed": seed}
        return self.task("relax", payload)

    def _precision(self, precision: str) -> dict[str, str]:
        return {"precision": precision} if self.inputs.told["kind"] == "model" else {}

    def energy_volume(self, settings: EnergyVolume, structure: SystemInput) -> _Job:
        ratios = volume_ratios(*settings.range, settings.points)
        tasks = [self.relaxation(settings, structure, "shape", ratio) for ratio in ratios]
        reduction = {
            "property": "energy_volume",
            "structure": structure.name,
            "identity": structure.identity,
            "potential": self.inputs.identity,
            "agreement": settings.agreement,
            "min_points": settings.min_points,
            "fmax": settings.fmax,
        }
        steps = tuple(_Step(t, about=f"{r:.4g}") for t, r in zip(tasks, ratios, strict=True))
        return _Job(settings, structure, steps, reduction, True, self.config.time_limit)

    def heat_capacity(self, settings: HeatCapacity, structure: SystemInput) -> _Job:
        steps: list[_Step] = []
        relaxed, cells = self._hessians(settings, structure, settings.repeats, settings.precisions, steps)
        largest = [max(settings.repeats, key=math.prod)]
        references = []
        for known in settings.references:
            other = self.inputs.structure(known.structure)
            rest, own = self._hessians(settings, other, largest, settings.precisions[:1], steps)
            references.append({**own[0], "relaxed": rest, "temperature_K": known.temperature, "value": known.value})
        reduction = {
            "property": "heat_capacity",
            "structure": structure.name,
            "identity": structure.identity,
            "potential": self.inputs.identity,
            "relaxed": relaxed,
            "cells": cells,
            "temperature_K": settings.temperature,
            "temperatures_K": list(curve_temperatures(*settings.temperatures, settings.points)),
            "lowest": settings.lowest,
            "scaling": settings.scaling,
            "references": references,
            "fmax": settings.fmax,
        }
        unique = tuple({s.task.key: s for s in steps}.values())
        return _Job(settings, structure, unique, reduction, False, self.config.time_limit)

    def torsion_free_energy(self, settings: TorsionFreeEnergy, structure: SystemInput) -> _Job:
        relaxed = self.relaxation(settings, structure, settings.relax)
        told = {**self.inputs.told, **self._precision("float32")}
        pieces, replicas = torsion_pieces(
            settings, structure.name, told, relaxed.key, self.config.seed, self.config.time_limit
        )
        reduction = {
            "property": "torsion_free_energy",
            "structure": structure.name,
            "identity": structure.identity,
            "potential": self.inputs.identity,
            "replicas": replicas,
            "temperature_K": settings.temperature,
            "bias_factor": settings.bias_factor,
            "bins": settings.bins,
            "discard": settings.discard,
            "fmax": settings.fmax,
        }
        steps = (_Step(relaxed, about="the relaxation"), *(_Step(t, needs, "metadynamics") for t, needs in pieces))
        return _Job(settings, structure, steps, reduction, False, self.config.time_limit)

    def _hessians(
        self,
        settings: HeatCapacity,
        structure: SystemInput,
        repeats: Sequence[tuple[int, int, int]],
        precisions: Sequence[str],
        steps: list[_Step],
    ) -> tuple[str, list[dict[str, Any]]]:
        """Adds the steps of a structure; returns the key of its relaxation and what each cell is made of."""
        freedom = settings.relax or ("cell" if structure.periodic else "positions")
        relaxed = self.relaxation(settings, structure, freedom)
        steps.append(_Step(relaxed, about="the relaxation"))
        exact = self.inputs.told["kind"] == "model"
        cells = []
        for repeat in repeats:
            for precision in precisions:
                blocks = [
                    self.task(
                        "hessian",
                        {
                            "potential": {**self.inputs.told, **self._precision(precision)},
                            "structure": structure.name,
                            "relaxed": relaxed.key,
                            "repeat": list(repeat),
                            "atoms": list(block),
                            **({} if exact else {"displacement": settings.displacement}),
                        },
                    )
                    for block in row_blocks(structure.n_atoms, settings.rows)
                ]
                steps.extend(_Step(b, (relaxed.key,), "the Hessian") for b in blocks)
                cells.append({"repeat": list(repeat), "precision": precision, "rows": [b.key for b in blocks]})
        return relaxed.key, cells


# -- what is left of it ---------------------------------------------------------------------------------------------


def _plan(jobs: Sequence[_Job], snapshot: Snapshot) -> Plan:
    wanted: dict[str, Task] = {}
    found: list[Verdict] = []
    for job in jobs:
        verdict, tasks = _look(job, snapshot)
        found.append(verdict)
        wanted |= {t.key: t for t in tasks}
    plan = Plan(open=dict(wanted), stage="properties")
    left = [v for v in found if v.status == "open"]
    if left:
        plan.stage = f"{left[0].property} of {left[0].structure}, {len(found) - len(left)} of {len(found)} done"
        return plan
    failed = [v for v in found if v.status == "failed"]
    if failed:
        first = failed[0]
        plan.failed = (
            f"{len(failed)} of {len(found)} failed, first {first.property} of {first.structure}: {first.reason}"
        )
    else:
        plan.finished = f"all properties are done ({len(found)})"
    return plan


def _look(job: _Job, snapshot: Snapshot) -> tuple[Verdict, list[Task]]:
    """How far a job is, and what it wants done now."""
    failed: dict[str, str] = {}
    ready: list[Task] = []
    waiting = False
    for step in job.steps:
        outcome = snapshot.outcomes.get(step.task.key)
        if outcome is not None and outcome.status == "failed":
            failed[step.task.key] = outcome.reason
        elif outcome is None and not any(key in failed for key in step.needs):
            waiting = True
            if all(key in snapshot.outcomes for key in step.needs):
                ready.append(step.task)
    about = (job.settings.name, job.settings.kind, job.structure.name)
    if failed and not job.spare:
        key, reason = next(iter(failed.items()))
        what = next(s.about for s in job.steps if s.task.key == key)
        return Verdict(*about, "failed", reason=f"{what} failed: {reason}"), []
    if waiting:
        return Verdict(*about, "open"), ready
    task = _reduction(job, failed)
    outcome = snapshot.outcomes.get(task.key)
    if outcome is None:
        return Verdict(*about, "open", task.key), [task]
    status: Literal["done", "failed"] = "done" if outcome.status == "done" else "failed"
    return Verdict(*about, status, task.key, outcome.reason), []


def _reduction(job: _Job, failed: Mapping[str, str]) -> Task:
    payload = dict(job.reduction)
    if job.spare:
        payload["points"] = [[s.about, s.task.key] for s in job.steps if s.task.key not in failed]
        payload["failed"] = [[s.about, failed[s.task.key]] for s in job.steps if s.task.key in failed]
    return Task("property", task_key("property", payload), REDUCTION, payload, job.time_limit)
