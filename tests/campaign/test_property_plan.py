"""The plan of a property run is a pure function: what it wants, when, and what a failure stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from clusterflow.campaign.property_plan import PropertyInputs, property_plan, verdicts
from clusterflow.campaign.tasks import Plan, SystemInput
from clusterflow.config.properties import PropertyRun
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot

INPUTS = PropertyInputs(
    (SystemInput("a", "id-a", 5, True, ("Cu",)), SystemInput("b", "id-b", 3, True, ("Cu",))),
    "EMT",
    {"kind": "ase", "calculator": "ase.calculators.emt:EMT", "arguments": {}, "version": ""},
)


def run(*properties: dict[str, Any], **changes: Any) -> PropertyRun:
    return PropertyRun.model_validate(
        {
            "name": "test",
            "potential": {"calculator": "ase.calculators.emt:EMT"},
            "structures": [{"name": n, "structure": f"{n}.extxyz"} for n in "ab"],
            "properties": list(properties),
            **changes,
        }
    )


EV = {"kind": "energy_volume", "points": 9}
HC = {"kind": "heat_capacity", "rows": 2, "repeats": [[1, 1, 1], [2, 1, 1]]}


FAILED = "1000 steps were too few"


def end(snapshot: Snapshot, tasks: list[Task], *, failing: str = "") -> None:
    for task in tasks:
        bad = task.kind == failing
        snapshot.outcomes[task.key] = Outcome("failed" if bad else "done", task.kind, reason=FAILED if bad else "")


def walk(config: PropertyRun, **only: Any) -> tuple[list[list[Task]], Plan]:
    """Batches of tasks until the end, all of which succeed."""
    snapshot, batches = Snapshot(), []
    while (plan := property_plan(config, INPUTS, snapshot, **only)).tasks:
        batches.append(plan.tasks)
        end(snapshot, plan.tasks)
    return batches, plan


def test_independent_pieces_then_reductions() -> None:
    batches, plan = walk(run(EV, HC))
    assert plan.finished == "all properties are done (4)"
    counted = [Counter(t.kind for t in batch) for batch in batches]
    assert counted[0] == {"relax": 20}  # 2 × 9 volumes and 2 × 1 at rest
    assert counted[1] == {"property": 2, "hessian": (3 + 2) * 2}  # blocks of two atoms, two cells
    assert counted[2] == {"property": 2}
    keys = [t.key for batch in batches for t in batch]
    assert len(keys) == len(set(keys))
    assert {t.lane for batch in batches for t in batch} == {"md", "local"}


def test_what_two_properties_share_is_done_once() -> None:
    wider = {**EV, "name": "wider", "range": [0.92, 1.08], "points": 17}
    relaxations = walk(run({**EV, "points": 7}, wider))[0][0]
    ratios = Counter((t.payload["structure"], t.payload["ratio"]) for t in relaxations)
    assert max(ratios.values()) == 1
    assert len(ratios) == 2 * len(
        {round(0.94 + 0.02 * i, 6) for i in range(7)} | {round(0.92 + 0.01 * i, 6) for i in range(17)}
    )


def test_settings_of_the_reduction_repeat_only_the_reduction() -> None:
    before = {t.key for batch in walk(run(EV, HC))[0] for t in batch if t.kind != "property"}
    after = {
        t.key
        for batch in walk(run({**EV, "agreement": 0.05}, {**HC, "temperature": "77 K", "lowest": "5 cm^-1"}, seed=4))[0]
        for t in batch
        if t.kind != "property"
    }
    assert before == after
    other = {t.key for batch in walk(run({**EV, "fmax": "2 meV/Å"}))[0] for t in batch}
    assert not before & other


def test_random_displacements_follow_from_the_seed() -> None:
    def seeds(seed: int) -> set[int]:
        return {t.payload["seed"] for t in walk(run({**EV, "rattle": "0.01 Å"}, seed=seed))[0][0]}

    assert len(seeds(1)) == 18
    assert seeds(1) == seeds(1)
    assert not seeds(1) & seeds(2)


def test_a_volume_that_fails_is_left_out_but_a_minimum_is_needed() -> None:
    config, snapshot = run(EV, HC), Snapshot()
    first = property_plan(config, INPUTS, snapshot).tasks
    lost = next(t for t in first if t.payload["freedom"] == "shape" and t.payload["structure"] == "a")
    rest = next(t for t in first if t.payload["freedom"] == "cell" and t.payload["structure"] == "b")
    end(snapshot, [t for t in first if t not in (lost, rest)])
    end(snapshot, [lost, rest], failing="relax")
    plan = property_plan(config, INPUTS, snapshot)
    reduction = next(t for t in plan.tasks if t.kind == "property" and t.payload["structure"] == "a")
    assert len(reduction.payload["points"]) == 8
    assert reduction.payload["failed"] == [["0.94", "1000 steps were too few"]]
    assert not any(t.kind == "hessian" and t.payload["structure"] == "b" for t in plan.tasks)
    while plan.tasks:
        end(snapshot, plan.tasks)
        plan = property_plan(config, INPUTS, snapshot)
    assert plan.failed.startswith("1 of 4 failed, first heat_capacity of b: the relaxation failed: 1000 steps")
    status = {(v.property, v.structure): v.status for v in verdicts(config, INPUTS, snapshot)}
    assert status[("heat_capacity", "b")] == "failed"
    assert sum(s == "done" for s in status.values()) == 3


def test_a_failed_reduction_is_the_verdict() -> None:
    config, snapshot = run(EV), Snapshot()
    end(snapshot, property_plan(config, INPUTS, snapshot).tasks)
    reductions = property_plan(config, INPUTS, snapshot).tasks
    end(snapshot, reductions, failing="property")
    plan = property_plan(config, INPUTS, snapshot)
    assert plan.failed.startswith("2 of 2 failed")
    assert plan.tasks == []


def test_only_what_is_named_and_only_for_its_structures() -> None:
    config = run({**EV, "structures": ["b"]}, HC)
    batches, plan = walk(config, only=["energy_volume"])
    assert {t.payload["structure"] for batch in batches for t in batch} == {"b"}
    assert plan.finished == "all properties are done (1)"
    with pytest.raises(ValueError, match="nothing"):
        property_plan(config, INPUTS, Snapshot(), only=["nothing"])


def test_references_need_the_modes_of_their_structure() -> None:
    known = {"structure": "a", "temperature": "300 K", "value": "0.4 J/g/K"}
    config = run({**HC, "repeats": [[1, 1, 1]], "references": [known]})
    batches, _ = walk(config)
    assert [Counter(t.kind for t in batch) for batch in batches] == [{"relax": 2}, {"hessian": 5}, {"property": 2}]
    for task in batches[-1]:
        (reference,) = task.payload["references"]
        assert reference["value"] == 0.4
        assert reference["relaxed"] == next(t.key for t in batches[0] if t.payload["structure"] == "a")


TORSION = {
    "kind": "torsion_free_energy", "torsions": [[0, 1, 2, 3]], "structures": ["a"], "replicas": 3,
    "steps": 3000, "segment": 1000,
}  # fmt: skip


def test_replicas_of_metadynamics_run_side_by_side_and_their_segments_in_order() -> None:
    batches, plan = walk(run(TORSION))
    assert [Counter(t.kind for t in batch) for batch in batches] == [
        {"relax": 1}, {"metadynamics": 3}, {"metadynamics": 3}, {"metadynamics": 3}, {"property": 1}
    ]  # fmt: skip
    first, second = batches[1], batches[2]
    assert [t.payload["before"] for t in first] == [None] * 3
    assert {t.payload["before"] for t in second} == {t.key for t in first}
    assert len({t.payload["seed"] for batch in batches[1:4] for t in batch}) == 9
    assert plan.finished
    longer, _ = walk(run({**TORSION, "steps": 4000}))
    assert [t.key for t in longer[3]] == [t.key for t in batches[3]]  # what is done stays done
    more, _ = walk(run({**TORSION, "replicas": 4}))
    assert {t.key for t in more[1]} > {t.key for t in first}


def reduced_torsion(*failures: tuple[int, int]) -> Mapping[str, Any]:
    """Payload of the reduction when (batch of segments, replica) failed, both counted from 0."""
    snapshot = Snapshot()
    end(snapshot, property_plan(run(TORSION), INPUTS, snapshot).tasks)
    order = [t.key for t in property_plan(run(TORSION), INPUTS, snapshot).tasks]
    first: dict[str, int] = {key: n for n, key in enumerate(order)}
    for batch in range(4):
        tasks = property_plan(run(TORSION), INPUTS, snapshot).tasks
        if tasks[0].kind == "property":
            return tasks[0].payload
        for task in tasks:
            replica = first.setdefault(task.key, first.get(str(task.payload["before"]), -1))
            end(snapshot, [task], failing="metadynamics" if (batch, replica) in failures else "")
    return property_plan(run(TORSION), INPUTS, snapshot).tasks[0].payload


def test_a_segment_that_blew_up_ends_its_replica_alone() -> None:
    whole = reduced_torsion()
    assert [len(keys) for keys in whole["replicas"]] == [3, 3, 3]
    assert "failed" not in whole
    late = reduced_torsion((2, 1))
    assert [len(keys) for keys in late["replicas"]] == [3, 2, 3]
    assert late["replicas"][1] == whole["replicas"][1][:2]
    assert late["failed"] == [[2, 2, 3, FAILED, True]]
    early = reduced_torsion((1, 1), (0, 2))
    assert early["replicas"] == [whole["replicas"][0]]
    assert early["failed"] == [[2, 1, 3, FAILED, False], [3, 0, 3, FAILED, False]]
    all_early = reduced_torsion((1, 0), (1, 1), (0, 2))  # a little is better than nothing
    assert [len(keys) for keys in all_early["replicas"]] == [1, 1]
    assert reduced_torsion((0, 0), (0, 1), (0, 2))["replicas"] == []
