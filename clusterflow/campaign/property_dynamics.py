"""Properties from dynamics: runs of several segments at each condition, and more of them where it is not converged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterflow.campaign.property_graph import Graph, Job, Step
from clusterflow.campaign.property_torsion import torsion_free_energy
from clusterflow.campaign.tasks import SystemInput
from clusterflow.config.sampling import PressureVolume, Sampling, ThermalExpansion, VibrationalSpectrum
from clusterflow.core.data import Task
from clusterflow.core.seeds import derive_seed
from clusterflow.evaluate.pressure_volume import condition


@dataclass(frozen=True, slots=True)
class Condition:
    """What a run is held at: temperature K and ``pressure`` GPa, or (None) the volume ``ratio`` to the input's."""

    temperature: float
    pressure: float | None
    ratio: float = 1.0


def run_steps(
    graph: Graph, settings: Sampling, structure: SystemInput, at: Condition, replica: int
) -> tuple[Step, ...]:
    """The relaxation and the segments of one run, each after the one before."""
    freedom = "shape" if at.pressure is None else "cell"
    relaxed = graph.relaxation(settings, structure, freedom, at.ratio)
    steps = [Step(relaxed, about="the relaxation")]
    before: Task | None = None
    for k, length in enumerate(settings.segment_steps):
        name = f"{at.temperature!r} {at.pressure!r} {at.ratio!r}"
        payload = {
            "potential": {**graph.inputs.told, **graph.precision("float32")},
            "structure": structure.name,
            "relaxed": relaxed.key,
            **({"after": before.key} if before is not None else {}),
            "temperature_K": at.temperature,
            "pressure_GPa": at.pressure,
            "steps": length,
            "timestep_fs": settings.timestep,
            "friction_time_fs": settings.friction_time,
            "barostat_interval": settings.barostat_interval,
            "interval": settings.interval,
            "keep_bonds": settings.bonds == "kept",
            "seed": derive_seed(graph.config.seed, "dynamics", structure.name, name, replica, k),
        }
        needs = (relaxed.key,) if before is None else (relaxed.key, before.key)
        before = graph.task("dynamics", payload)
        steps.append(Step(before, needs, "the dynamics"))
    return tuple(steps)


def pressure_volume(graph: Graph, settings: PressureVolume, structure: SystemInput) -> Job:
    """Runs at all pressures and volumes; the next round adds as many at the conditions that the reduction names."""
    conditions = {condition("pressure", p): Condition(settings.temperature, p) for p in settings.pressures}
    conditions |= {condition("volume", v): Condition(settings.temperature, None, v) for v in settings.volumes}
    reduction = {
        **graph.about("pressure_volume", structure),
        "temperature_K": settings.temperature,
        "tolerance": settings.tolerance,
        "tolerance_maximum": settings.tolerance_maximum,
        "fmax": settings.fmax,
    }

    def job(counts: Mapping[str, int], rounds: int) -> Job:
        runs = [
            (name, at, run_steps(graph, settings, structure, at, replica))
            for name, at in conditions.items()
            for replica in range(counts[name])
        ]

        def payload(failed: Mapping[str, str]) -> Mapping[str, Any]:
            kept, lost = _divided(runs, failed)
            told = [
                ["volume", at.ratio, keys] if at.pressure is None else ["pressure", at.pressure, keys]
                for at, keys in kept
            ]
            return {**reduction, "runs": told, "failed": lost}

        def more(summary: Mapping[str, Any]) -> Job | None:
            wanted = [name for name in summary.get("wanted", ()) if name in counts]
            if not wanted or rounds >= settings.rounds:
                return None
            return job({n: c + settings.replicas * (n in wanted) for n, c in counts.items()}, rounds + 1)

        return Job(settings, structure, _unique(runs), payload, True, graph.config.time_limit, more)

    return job(dict.fromkeys(conditions, settings.replicas), 0)


def thermal_expansion(graph: Graph, settings: ThermalExpansion, structure: SystemInput) -> Job:
    """Runs at all temperatures."""
    runs = [
        (f"{t:g} K", at, run_steps(graph, settings, structure, at, replica))
        for t in settings.temperatures
        for at in (Condition(t, settings.pressure),)
        for replica in range(settings.replicas)
    ]

    def payload(failed: Mapping[str, str]) -> Mapping[str, Any]:
        kept, lost = _divided(runs, failed)
        return {
            **graph.about("thermal_expansion", structure),
            "temperature_K": settings.temperature,
            "pressure_GPa": settings.pressure,
            "fmax": settings.fmax,
            "runs": [[at.temperature, keys] for at, keys in kept],
            "failed": lost,
        }

    return Job(settings, structure, _unique(runs), payload, True, graph.config.time_limit)


def vibrational_spectrum(graph: Graph, settings: VibrationalSpectrum, structure: SystemInput) -> Job:
    """Runs at constant energy from the structure at rest and, beside them, the Hessian there."""
    steps: list[Step] = []
    cells: list[dict[str, Any]] = []
    relaxed = graph.at_rest(settings, structure)
    if settings.phonons:
        _, cells = graph.hessians(settings, structure, [(1, 1, 1)], ["float64"], steps)
    else:
        steps.append(Step(relaxed, about="the relaxation"))
    runs = []
    for replica in range(settings.replicas):
        payload = {
            "potential": {**graph.inputs.told, **graph.precision("float32")},
            "structure": structure.name,
            "relaxed": relaxed.key,
            "temperature_K": settings.temperature,
            "equilibration": max(1, round(settings.equilibration / settings.timestep)),
            "steps": round(settings.duration / settings.timestep),
            "interval": settings.interval,
            "timestep_fs": settings.timestep,
            "friction_time_fs": settings.friction_time,
            "resolution": settings.resolution,
            "keep_bonds": settings.bonds == "kept",
            "seed": derive_seed(graph.config.seed, "vibrations", structure.name, f"{settings.temperature!r}", replica),
        }
        runs.append(Step(graph.task("vibrations", payload), (relaxed.key,), "the dynamics"))

    def payload_of(failed: Mapping[str, str]) -> Mapping[str, Any]:
        whole = [c for c in cells if not any(key in failed for key in c["rows"])]
        return {
            **graph.about("vibrational_spectrum", structure),
            "relaxed": relaxed.key,
            "temperature_K": settings.temperature,
            "resolution": settings.resolution,
            "highest": settings.highest,
            "fmax": settings.fmax,
            "runs": [s.task.key for s in runs if s.task.key not in failed],
            "failed": [failed[s.task.key] for s in runs if s.task.key in failed],
            "cells": whole,
        }

    return Job(settings, structure, (*steps, *runs), payload_of, True, graph.config.time_limit)


def _divided(
    runs: Sequence[tuple[str, Condition, tuple[Step, ...]]], failed: Mapping[str, str]
) -> tuple[list[tuple[Condition, list[str]]], list[list[str]]]:
    """(condition and segments of the runs that are whole, [name, reason] of those that are not)."""
    kept, lost = [], []
    for name, at, steps in runs:
        reason = next((failed[s.task.key] for s in steps if s.task.key in failed), None)
        if reason is None:
            kept.append((at, [s.task.key for s in steps[1:]]))
        else:
            lost.append([name, reason])
    return kept, lost


def _unique(runs: Sequence[tuple[str, Condition, tuple[Step, ...]]]) -> tuple[Step, ...]:
    """Every step once: runs share their relaxation."""
    return tuple({s.task.key: s for _, _, steps in runs for s in steps}.values())


JOBS: Mapping[str, Callable[[Graph, Any, SystemInput], Job]] = {
    "energy_volume": Graph.energy_volume,
    "heat_capacity": Graph.heat_capacity,
    "pressure_volume": pressure_volume,
    "thermal_expansion": thermal_expansion,
    "vibrational_spectrum": vibrational_spectrum,
    "torsion_free_energy": torsion_free_energy,
}
"""Kind of property → the job of one structure."""
