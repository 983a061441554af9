"""The tasks of a torsional free energy: replicas of metadynamics, each cut into segments that follow one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterflow.campaign.tasks import task_key
from clusterflow.config.properties import TorsionFreeEnergy
from clusterflow.core.data import Task
from clusterflow.core.seeds import derive_seed

LANE = "md"


def torsion_pieces(
    settings: TorsionFreeEnergy,
    structure: str,
    potential: Mapping[str, Any],
    relaxed: str,
    seed: int,
    time_limit: float,
) -> tuple[list[tuple[Task, tuple[str, ...]]], list[list[str]]]:
    """Tasks with the keys that each needs, and the keys of each replica in order; ``relaxed``: key of the start.

    The number of steps is not in a task, so a longer run goes on where a shorter one ended.
    """
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
    pieces: list[tuple[Task, tuple[str, ...]]] = []
    replicas: list[list[str]] = []
    for replica in range(settings.replicas):
        keys: list[str] = []
        for number in range(settings.steps // settings.segment):
            payload = {
                "potential": potential,
                "structure": structure,
                "relaxed": relaxed,
                "dynamics": dynamics,
                "steps": settings.segment,
                "seed": derive_seed(seed, "metadynamics", structure, replica, number),
                "before": keys[-1] if keys else None,
            }
            task = Task("metadynamics", task_key("metadynamics", payload), LANE, payload, time_limit)
            pieces.append((task, (keys[-1],) if keys else (relaxed,)))
            keys.append(task.key)
        replicas.append(keys)
    return pieces, replicas
