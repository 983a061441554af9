"""What a property run does next: a pure function of configuration, inputs and journal, as the plan of a campaign.

Each property of each structure is a small graph (`clusterflow.campaign.property_graph`): independent pieces of work,
then one reduction of what they published; one that is not converged may ask for more pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from clusterflow.campaign.property_dynamics import JOBS
from clusterflow.campaign.property_graph import Graph, Job, PropertyInputs
from clusterflow.campaign.tasks import Plan
from clusterflow.config.properties import PropertyRun
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot


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
        self._jobs = property_jobs(config, inputs, only)
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
    return _plan(property_jobs(config, inputs, only), snapshot)


def verdicts(
    config: PropertyRun, inputs: PropertyInputs, snapshot: Snapshot, only: Sequence[str] = ()
) -> list[Verdict]:
    """How far every property of every structure is."""
    return [_look(job, snapshot)[0] for job in property_jobs(config, inputs, only)]


def property_jobs(config: PropertyRun, inputs: PropertyInputs, only: Sequence[str] = ()) -> list[Job]:
    """Every property of every structure; ``only``: names or kinds of properties."""
    graph = Graph(config, inputs)
    return [
        JOBS[settings.kind](graph, settings, structure)
        for settings in config.chosen(tuple(only))
        for structure in inputs.structures
        if not settings.structures or structure.name in settings.structures
    ]


def _plan(jobs: Sequence[Job], snapshot: Snapshot) -> Plan:
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


def _look(job: Job, snapshot: Snapshot) -> tuple[Verdict, list[Task]]:
    """How far a job is, and what it wants done now; goes on to its next round where it asks for one."""
    while True:
        verdict, tasks = _look_once(job, snapshot)
        if verdict.status != "done" or job.more is None:
            return verdict, tasks
        further = job.more(snapshot.outcomes[verdict.key].summary)
        if further is None:
            return verdict, tasks
        if (last := _ended(further, snapshot)) is not None and last.status == "failed":
            return verdict, []  # what is known stays known
        job = further


def _look_once(job: Job, snapshot: Snapshot) -> tuple[Verdict, list[Task]]:
    failed, waiting, ready = _steps(job, snapshot)
    about = (job.settings.name, job.settings.kind, job.structure.name)
    if failed and not job.spare:
        key, reason = next(iter(failed.items()))
        what = next(s.about for s in job.steps if s.task.key == key)
        return Verdict(*about, "failed", reason=f"{what} failed: {reason}"), []
    if waiting:
        return Verdict(*about, "open"), ready
    task = job.reduction(failed)
    outcome = snapshot.outcomes.get(task.key)
    if outcome is None:
        return Verdict(*about, "open", task.key), [task]
    status: Literal["done", "failed"] = "done" if outcome.status == "done" else "failed"
    return Verdict(*about, status, task.key, outcome.reason), []


def _steps(job: Job, snapshot: Snapshot) -> tuple[dict[str, str], bool, list[Task]]:
    """(steps that failed, or cannot be done because of one that did: key → reason; whether others are not done yet;
    tasks that can be done now). Needs come before what needs them."""
    failed: dict[str, str] = {}
    ready: list[Task] = []
    waiting = False
    for step in job.steps:
        outcome = snapshot.outcomes.get(step.task.key)
        lost = next((failed[key] for key in step.needs if key in failed), None)
        if outcome is not None and outcome.status == "failed":
            failed[step.task.key] = outcome.reason
        elif outcome is None and lost is not None:
            failed[step.task.key] = lost
        elif outcome is None:
            waiting = True
            if all(key in snapshot.outcomes for key in step.needs):
                ready.append(step.task)
    return failed, waiting, ready


def _ended(job: Job, snapshot: Snapshot) -> Outcome | None:
    failed, waiting, _ = _steps(job, snapshot)
    return None if waiting else snapshot.outcomes.get(job.reduction(failed).key)
