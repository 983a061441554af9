"""What a property run has to do, before it does anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from clusterflow.campaign.property_graph import PropertyInputs
from clusterflow.campaign.property_plan import property_jobs
from clusterflow.config.properties import PropertyRun
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Snapshot

_WORDS = {
    "relax": "relaxations",
    "hessian": "blocks of Hessian rows",
    "dynamics": "pieces of dynamics",
    "vibrations": "runs at constant energy",
}


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One property of one structure: its ``tasks`` (its reduction among them) and how many are ``done``; ``work``:
    the same in words; ``rounds`` of more runs that it may ask for."""

    property: str
    structure: str
    n_atoms: int
    work: str
    tasks: int
    done: int
    rounds: int


def foreseen(
    config: PropertyRun, inputs: PropertyInputs, snapshot: Snapshot, only: Sequence[str] = ()
) -> list[Foreseen]:
    """What is to be done, property by property, if nothing fails; raises ValueError for a name that none has."""
    found = []
    for job in property_jobs(config, inputs, only):
        tasks = [*(s.task for s in job.steps), job.reduction({})]
        found.append(
            Foreseen(
                job.settings.name,
                job.structure.name,
                job.structure.n_atoms,
                _words(tasks),
                len(tasks),
                sum(t.key in snapshot.outcomes for t in tasks),
                getattr(job.settings, "rounds", 0),
            )
        )
    return found


def _words(tasks: Sequence[Task]) -> str:
    counted = Counter(t.kind for t in tasks)
    steps = sum(t.payload["steps"] for t in tasks if t.kind in ("dynamics", "vibrations"))
    parts = [f"{counted[kind]} {word}" for kind, word in _WORDS.items() if counted[kind]]
    return ", ".join(parts) + (f" ({steps:,} MD steps)" if steps else "")
