"""The plan of properties from dynamics: segments after each other, failures that stop what needs them, rounds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from clusterflow.campaign.property_forecast import foreseen
from clusterflow.campaign.property_graph import PropertyInputs
from clusterflow.campaign.property_plan import property_plan, verdicts
from clusterflow.campaign.tasks import SystemInput
from clusterflow.config.properties import PropertyRun
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot

INPUTS = PropertyInputs(
    (SystemInput("a", "id-a", 5, True, ("Cu",)),),
    "EMT",
    {"kind": "ase", "calculator": "ase.calculators.emt:EMT", "arguments": {}, "version": ""},
)
PV = {
    "kind": "pressure_volume",
    "pressures": [{"from": "-1 GPa", "to": "1 GPa", "points": 5}, "0 MPa"],
    "volumes": [0.9, 0.92],
    "duration": "25 ps",
    "rounds": 2,
}


def config(**changes: Any) -> PropertyRun:
    return PropertyRun.model_validate(
        {
            "name": "test",
            "potential": {"calculator": "ase.calculators.emt:EMT"},
            "structures": [{"name": "a", "structure": "a.extxyz"}],
            "properties": [{**PV, **changes}],
        }
    )


def end(snapshot: Snapshot, tasks: list[Task], status: str = "done", **summary: Any) -> None:
    for task in tasks:
        snapshot.outcomes[task.key] = Outcome(status, task.kind, summary=summary, reason="too hot")  # type: ignore[arg-type]


def until_reduction(run: PropertyRun, snapshot: Snapshot) -> tuple[list[Counter[str]], list[Task]]:
    """(kinds of the batches before it, the reduction)."""
    batches = []
    while True:
        tasks = property_plan(run, INPUTS, snapshot).tasks
        if not tasks or tasks[0].kind == "property":
            return batches, tasks
        batches.append(Counter(t.kind for t in tasks))
        end(snapshot, tasks)


def test_a_run_is_cut_into_segments_after_each_other() -> None:
    run, snapshot = config(), Snapshot()
    batches, (reduction,) = until_reduction(run, snapshot)
    assert batches == [{"relax": 3}, {"dynamics": 7}, {"dynamics": 7}, {"dynamics": 7}]
    assert len(reduction.payload["runs"]) == 7
    kind, value, keys = reduction.payload["runs"][0]
    assert (kind, value, len(keys)) == ("pressure", -1.0, 3)
    steps = [20_000, 20_000, 10_000]
    assert list(run.properties[0].segment_steps) == steps  # type: ignore[union-attr]
    (row,) = foreseen(run, INPUTS, Snapshot())
    assert row.work == "3 relaxations, 21 pieces of dynamics (350,000 MD steps)"
    assert (row.tasks, row.done, row.rounds) == (25, 0, 2)
    assert foreseen(run, INPUTS, snapshot)[0].done == 24


def test_longer_runs_keep_the_pieces_that_there_are() -> None:
    first = {t.key for t in _all_tasks(config(duration="20 ps"))}
    longer = {t.key for t in _all_tasks(config(duration="40 ps"))}
    assert first < longer
    more = {t.key for t in _all_tasks(config(duration="20 ps", replicas=2))}
    assert first < more
    assert not first & {t.key for t in _all_tasks(config(duration="20 ps", temperature="310 K"))} - _relaxations()


def _all_tasks(run: PropertyRun) -> list[Task]:
    snapshot, tasks = Snapshot(), []
    while (found := property_plan(run, INPUTS, snapshot).tasks) and found[0].kind != "property":
        tasks += found
        end(snapshot, found)
    return tasks


def _relaxations() -> set[str]:
    return {t.key for t in _all_tasks(config()) if t.kind == "relax"}


def test_more_runs_where_they_are_wanted_in_so_many_rounds() -> None:
    run, snapshot = config(replicas=2), Snapshot()
    _, (first,) = until_reduction(run, snapshot)
    end(snapshot, [first], wanted=["0 GPa", "0.9 × V", "something else"])
    batches, (second,) = until_reduction(run, snapshot)
    assert batches == [{"dynamics": 4}] * 3
    counted = Counter((kind, value) for kind, value, _ in second.payload["runs"])
    assert counted[("pressure", 0.0)] == counted[("volume", 0.9)] == 4
    assert counted[("pressure", 1.0)] == 2
    end(snapshot, [second], wanted=["0 GPa"])
    _, (third,) = until_reduction(run, snapshot)
    assert len(third.payload["runs"]) == len(second.payload["runs"]) + 2
    end(snapshot, [third], wanted=["0 GPa"])
    plan = property_plan(run, INPUTS, snapshot)
    assert plan.finished == "all properties are done (1)"
    assert verdicts(run, INPUTS, snapshot)[0].key == third.key
    # converged at once: no second round
    again = Snapshot()
    _, (only,) = until_reduction(run, again)
    end(again, [only])
    assert property_plan(run, INPUTS, again).finished


def test_a_round_that_fails_leaves_the_result_before_it() -> None:
    run, snapshot = config(), Snapshot()
    _, (first,) = until_reduction(run, snapshot)
    end(snapshot, [first], wanted=["0 GPa"])
    _, (second,) = until_reduction(run, snapshot)
    end(snapshot, [second], status="failed")
    assert verdicts(run, INPUTS, snapshot)[0].key == first.key
    assert property_plan(run, INPUTS, snapshot).finished


@pytest.mark.parametrize("kind", ["relax", "dynamics"])
def test_what_needs_a_failed_task_is_not_done(kind: str) -> None:
    run, snapshot = config(), Snapshot()
    first = property_plan(run, INPUTS, snapshot).tasks
    if kind == "dynamics":
        end(snapshot, first)
        first = property_plan(run, INPUTS, snapshot).tasks
    lost = next(t for t in first if t.payload.get("freedom") == "shape" or t.payload.get("pressure_GPa") == 0.5)
    end(snapshot, [lost], status="failed")
    end(snapshot, [t for t in first if t is not lost])
    _, (reduction,) = until_reduction(run, snapshot)
    assert len(reduction.payload["runs"]) == 6
    assert reduction.payload["failed"] == [["0.9 × V" if kind == "relax" else "0.5 GPa", "too hot"]]
