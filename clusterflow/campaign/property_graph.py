"""What a property of a structure is made of: independent tasks, what each needs, and the reduction of their results.

Keys follow from content, so a piece that two properties share is done once, and a changed setting repeats what depends
on it and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterflow.campaign.tasks import SystemInput, task_key
from clusterflow.config.properties import EnergyVolume, HeatCapacity, Property, PropertyRun
from clusterflow.config.relaxation import Relaxation
from clusterflow.config.sampling import VibrationalSpectrum
from clusterflow.core.data import Task
from clusterflow.core.seeds import derive_seed
from clusterflow.evaluate.energy_volume import volume_ratios
from clusterflow.evaluate.heat_capacity import curve_temperatures, row_blocks

WORK, REDUCTION = "md", "local"
"""Lanes: what evaluates the potential many times goes where dynamics goes; reductions are light."""
REDUCTION_VERSION = 3
"""Part of the key of every reduction: a change of what one makes of the same pieces must change it. 2: uncertainties of
equations of state and of heat capacities. 3: errors of P(V) points that grow where they are unlikely, `misfit`."""


@dataclass(frozen=True, slots=True)
class PropertyInputs:
    """Structures, and the potential as tasks name it (``told``: JSON that a worker builds it from; ``identity``).

    ``facts``: what the reader of the results must know of it; nothing depends on them.
    """

    structures: tuple[SystemInput, ...]
    identity: str
    told: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def structure(self, name: str) -> SystemInput:
        """By its name."""
        return next(s for s in self.structures if s.name == name)


@dataclass(frozen=True, slots=True)
class Step:
    """A task, the tasks whose results it reads, and a word for messages."""

    task: Task
    needs: tuple[str, ...] = ()
    about: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One property of one structure.

    ``payload``: that of the reduction, from the steps that failed (key → reason). ``spare``: the reduction does without
    them. ``more``: from the summary of the reduction, the same property with more steps; None: that is all.
    """

    settings: Property
    structure: SystemInput
    steps: tuple[Step, ...]
    payload: Callable[[Mapping[str, str]], Mapping[str, Any]]
    spare: bool
    time_limit: float
    more: Callable[[Mapping[str, Any]], Job | None] | None = None

    def reduction(self, failed: Mapping[str, str]) -> Task:
        """The task that makes the result."""
        payload = self.payload(failed)
        return Task("property", task_key("property", payload), REDUCTION, payload, self.time_limit)


class Graph:
    """Steps of a property, for one configuration."""

    def __init__(self, config: PropertyRun, inputs: PropertyInputs) -> None:
        self.config, self.inputs = config, inputs

    def about(self, name: str, structure: SystemInput) -> dict[str, Any]:
        """What every reduction is told."""
        return {
            "property": name,
            "version": REDUCTION_VERSION,
            "structure": structure.name,
            "identity": structure.identity,
            "potential": self.inputs.identity,
        }

    def task(self, kind: str, payload: Mapping[str, Any], lane: str = WORK) -> Task:
        """A task with the time limit of the run."""
        return Task(kind, task_key(kind, payload), lane, payload, self.config.time_limit)

    def relaxation(self, settings: Relaxation, structure: SystemInput, freedom: str, ratio: float = 1.0) -> Task:
        """A structure at rest; ``ratio`` of its volume to that of the input."""
        payload: dict[str, Any] = {
            "potential": {**self.inputs.told, **self.precision("float64")},
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

    def at_rest(self, settings: HeatCapacity | VibrationalSpectrum, structure: SystemInput) -> Task:
        """The relaxation that vibrations are about."""
        return self.relaxation(settings, structure, settings.relax or ("cell" if structure.periodic else "positions"))

    def precision(self, precision: str) -> dict[str, str]:
        """Part of a payload: a calculator has its own."""
        return {"precision": precision} if self.inputs.told["kind"] == "model" else {}

    def energy_volume(self, settings: EnergyVolume, structure: SystemInput) -> Job:
        """A relaxation per volume."""
        ratios = volume_ratios(*settings.range, settings.points)
        tasks = [self.relaxation(settings, structure, "shape", ratio) for ratio in ratios]
        reduction = {
            **self.about("energy_volume", structure),
            "agreement": settings.agreement,
            "min_points": settings.min_points,
            "fmax": settings.fmax,
        }
        steps = tuple(Step(t, about=f"{r:.4g}") for t, r in zip(tasks, ratios, strict=True))

        def payload(failed: Mapping[str, str]) -> Mapping[str, Any]:
            points = [[s.about, s.task.key] for s in steps if s.task.key not in failed]
            lost = [[s.about, failed[s.task.key]] for s in steps if s.task.key in failed]
            return {**reduction, "points": points, "failed": lost}

        return Job(settings, structure, steps, payload, True, self.config.time_limit)

    def heat_capacity(self, settings: HeatCapacity, structure: SystemInput) -> Job:
        """A relaxation, and blocks of rows of Hessians that need it."""
        steps: list[Step] = []
        relaxed, cells = self.hessians(settings, structure, settings.repeats, settings.precisions, steps)
        largest = [max(settings.repeats, key=math.prod)]
        references = []
        for known in settings.references:
            other = self.inputs.structure(known.structure)
            rest, own = self.hessians(settings, other, largest, settings.precisions[:1], steps)
            references.append({**own[0], "relaxed": rest, "temperature_K": known.temperature, "value": known.value})
        reduction = {
            **self.about("heat_capacity", structure),
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
        return Job(settings, structure, unique, lambda _: reduction, False, self.config.time_limit)

    def hessians(
        self,
        settings: HeatCapacity | VibrationalSpectrum,
        structure: SystemInput,
        repeats: Sequence[tuple[int, int, int]],
        precisions: Sequence[str],
        steps: list[Step],
    ) -> tuple[str, list[dict[str, Any]]]:
        """Adds the steps of a structure; returns the key of its relaxation and what each cell is made of."""
        relaxed = self.at_rest(settings, structure)
        steps.append(Step(relaxed, about="the relaxation"))
        exact = self.inputs.told["kind"] == "model" and self.inputs.told.get("exact_hessian", True)
        cells = []
        for repeat in repeats:
            for precision in precisions:
                blocks = [
                    self.task(
                        "hessian",
                        {
                            "potential": {**self.inputs.told, **self.precision(precision)},
                            "structure": structure.name,
                            "relaxed": relaxed.key,
                            "repeat": list(repeat),
                            "atoms": list(block),
                            **({} if exact else {"displacement": settings.displacement}),
                        },
                    )
                    for block in row_blocks(structure.n_atoms, settings.rows)
                ]
                steps.extend(Step(b, (relaxed.key,), "the Hessian") for b in blocks)
                cells.append({"repeat": list(repeat), "precision": precision, "rows": [b.key for b in blocks]})
        return relaxed.key, cells
