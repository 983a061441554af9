"""The tasks of a torsional free energy: replicas of metadynamics, each cut into segments that follow one another."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from clusterflow.campaign.property_graph import Graph, Job, Step
from clusterflow.campaign.tasks import SystemInput
from clusterflow.config.properties import TorsionFreeEnergy
from clusterflow.core.seeds import derive_seed


def torsion_free_energy(graph: Graph, settings: TorsionFreeEnergy, structure: SystemInput) -> Job:
    """A relaxation, and replicas that begin there.

    The number of steps is not in a task, so a longer run goes on where a shorter one ended. A replica ends before a
    segment that fails; the others, and what it has, still count.
    """
    relaxed = graph.relaxation(settings, structure, settings.relax)
    dynamics = {
        "torsions": [list(t) for t in settings.torsions],
        "temperature_K": settings.temperature,
        "timestep_fs": settings.timestep,
        "friction_time_fs": settings.friction_time,
        "height": settings.height,
        "width": settings.width,
        "bias_factor": settings.bias_factor,
        "interval": settings.interval,
        "grid": settings.grid,
        "walls": settings.walls_json(),
    }
    steps = [Step(relaxed, about="the relaxation")]
    replicas: list[list[str]] = []
    for replica in range(settings.replicas):
        keys: list[str] = []
        for number in range(settings.steps // settings.segment):
            payload = {
                "potential": {**graph.inputs.told, **graph.precision("float32")},
                "structure": structure.name,
                "relaxed": relaxed.key,
                "dynamics": dynamics,
                "steps": settings.segment,
                "seed": derive_seed(graph.config.seed, "metadynamics", structure.name, replica, number),
                "before": keys[-1] if keys else None,
            }
            task = graph.task("metadynamics", payload)
            steps.append(Step(task, (keys[-1],) if keys else (relaxed.key,), "metadynamics"))
            keys.append(task.key)
        replicas.append(keys)
    reduction = {
        **graph.about("torsion_free_energy", structure),
        "replicas": replicas,
        "temperature_K": settings.temperature,
        "bias_factor": settings.bias_factor,
        "bins": settings.bins,
        "discard": settings.discard,
        "fmax": settings.fmax,
    }

    def reduced(failed: Mapping[str, str]) -> Mapping[str, Any]:
        """Replicas as far as they came, without those that are less than half as long as the longest: each weighs the
        same, and a short one has not been around."""
        if not failed:
            return reduction
        whole = [list(takewhile(lambda key: key not in failed, keys)) for keys in replicas]
        longest = max(map(len, whole))
        used = [bool(kept) and 2 * len(kept) >= longest for kept in whole]
        lost = [
            [number, len(kept), len(keys), failed[keys[len(kept)]], counts]
            for number, (kept, keys, counts) in enumerate(zip(whole, replicas, used, strict=True), 1)
            if len(kept) < len(keys)
        ]
        told = [kept for kept, counts in zip(whole, used, strict=True) if counts]
        return {**reduction, "replicas": told, "failed": lost}

    return Job(settings, structure, tuple(steps), reduced, True, graph.config.time_limit)
