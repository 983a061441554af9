"""Properties from dynamics: runs of several segments at each condition, and more of them where it is not converged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterflow.campaign.property_graph import Graph, Job, Step
from clusterflow.campaign.tasks import SystemInput
from clusterflow.config.sampling import PressureVolume, Sampling
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
            kept, lost = [], []
            for name, at, steps in runs:
                reason = next((failed[s.task.key] for s in steps if s.task.key in failed), None)
                if reason is not None:
                    lost.append([name, reason])
                else:
                    kind, value = ("volume", at.ratio) if at.pressure is None else ("pressure", at.pressure)
                    kept.append([kind, value, [s.task.key for s in steps[1:]]])
            return {**reduction, "runs": kept, "failed": lost}

        def more(summary: Mapping[str, Any]) -> Job | None:
            wanted = [name for name in summary.get("wanted", ()) if name in counts]
            if not wanted or rounds >= settings.rounds:
                return None
            return job({n: c + settings.replicas * (n in wanted) for n, c in counts.items()}, rounds + 1)

        return Job(settings, structure, _unique(runs), payload, True, graph.config.time_limit, more)

    return job(dict.fromkeys(conditions, settings.replicas), 0)


def _unique(runs: Sequence[tuple[str, Condition, tuple[Step, ...]]]) -> tuple[Step, ...]:
    """Every step once: runs share their relaxation."""
    return tuple({s.task.key: s for _, _, steps in runs for s in steps}.values())


JOBS: Mapping[str, Callable[[Graph, Any, SystemInput], Job]] = {
    "energy_volume": Graph.energy_volume,
    "heat_capacity": Graph.heat_capacity,
    "pressure_volume": pressure_volume,
}
"""Kind of property → the job of one structure."""
