"""Control arms go beside the campaign and change nothing in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from clusterflow.campaign.arms import is_of_arm
from clusterflow.campaign.held_out import DECISION
from clusterflow.campaign.plan import plan
from clusterflow.campaign.tasks import Plan
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot
from clusterflow.testing.toy_campaign import TOY_INPUTS, toy_config, toy_result

ARMS = ["random", "farthest_point", "periodic"]


def campaign(**changes: object) -> Campaign:
    return toy_config(**{"seed": 0, "explore": {"walkers": 2}, **changes})


def toy_summary(task: Task) -> Mapping[str, Any]:
    return toy_result(task).summary


def always(_: Task) -> str:
    return ""


def finish(
    config: Campaign,
    snapshot: Snapshot,
    fails: Callable[[Task], str] = always,
    last: bool = False,
    results: Callable[[Task], Mapping[str, Any]] = toy_summary,
) -> tuple[Plan, list[Task]]:
    """Runs the plan against the toy; ``last``: the newest task first, one at a time, so that arms run ahead."""
    ran: list[Task] = []
    for _ in range(1000):
        current = plan(config, TOY_INPUTS, snapshot)
        new = {n: v for n, v in current.decisions.items() if snapshot.decisions.get(n) != v}
        for name in current.retired:
            snapshot.decisions.pop(name, None)
        if new:
            snapshot.decisions.update(new)
            continue
        if current.finished or current.failed:
            return current, ran
        assert current.tasks, current.stage
        for task in current.tasks[-1:] if last else current.tasks:
            ran.append(task)
            why = fails(task)
            found = {} if why else results(task)
            snapshot.outcomes[task.key] = Outcome("failed" if why else "done", task.kind, found, reason=why)
    raise AssertionError("the plan never ends")


def own(snapshot: Snapshot) -> dict[str, Any]:
    """The decisions of the campaign itself."""
    return {n: v for n, v in snapshot.decisions.items() if not is_of_arm(n)}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("stop", [{"iterations": 2}, {"iterations": 5, "test_mae_p95": "297 meV/Å"}])
def test_a_campaign_decides_and_does_the_same_with_and_without_arms(last: bool, stop: dict[str, Any]) -> None:
    """Up to the budget: with three arms and a share of 3/4, it has a quarter of the labels of an iteration."""
    alone, beside = Snapshot(), Snapshot()
    _, ran = finish(campaign(stop=stop), alone)
    more = campaign(stop=stop, select={"fragments": 20}, controls={"arms": ARMS, "share": 0.75})
    done, ran_too = finish(more, beside, last=last)
    assert own(beside) == alone.decisions
    assert {t.key for t in ran} <= {t.key for t in ran_too}
    assert done.finished
    assert not any(is_of_arm(n) for n in alone.decisions)


def test_an_arm_has_the_starting_labels_and_its_own() -> None:
    snapshot = Snapshot()
    finish(campaign(select={"fragments": 15}, controls={"arms": ["random", "periodic"], "share": 0.7}), snapshot)
    start = {k for s in ("train", "validation") for k in snapshot.decisions["split/0"][s]}
    test = set(snapshot.decisions[DECISION]["labels"])
    for arm in ("random", "periodic"):
        picked = {
            f["label_key"] for o in snapshot.outcomes.values() if o.kind == "control" for f in o.summary["fragments"]
        }
        told = snapshot.decisions[f"arm/2/{arm}/evaluated"]
        assert told["n_training"] == 8 + 2 * 5
        splits = [snapshot.decisions[f"arm/{i}/{arm}/split"] for i in (1, 2)]
        mine = {k for s in splits for part in ("train", "validation") for k in s[part]}
        assert len(mine) == 10
        assert mine <= picked
        assert not mine & (start | test)
        assert told["model"] != snapshot.decisions["evaluated/2"]["model"]
    main = {k for i in (1, 2) for k in snapshot.decisions[f"split/{i}"]["train"]}
    assert not main & picked


def test_arms_train_with_the_settings_of_the_campaign_and_are_tested_on_its_test_set() -> None:
    snapshot = Snapshot()
    _, ran = finish(campaign(select={"fragments": 10}, controls={"arms": ["random"]}), snapshot)
    trained = {t.key: t.payload for t in ran if t.kind == "train"}
    evaluated = {t.key: t.payload for t in ran if t.kind == "evaluate"}
    for i in (1, 2):
        its, arms = (trained[snapshot.decisions[n]["model"]] for n in (f"evaluated/{i}", f"arm/{i}/random/evaluated"))
        assert {k for k in its if its[k] != arms[k]} <= {"training", "validation", "start"}
        test = evaluated[snapshot.decisions[f"arm/{i}/random/evaluated"]["evaluation"]]["labels"]
        assert test == snapshot.decisions["split/0"]["test"]
    first, second = (trained[snapshot.decisions[f"arm/{i}/random/evaluated"]["model"]] for i in (1, 2))
    assert first["start"] == snapshot.decisions["model/0"]["key"]
    assert second["start"] == snapshot.decisions["arm/1/random/evaluated"]["model"]


def test_the_label_budget_holds_for_all_together() -> None:
    snapshot = Snapshot()
    config = campaign(
        select={"fragments": 10}, controls={"arms": ["random"]}, stop={"iterations": 9, "labels": 12 + 17}
    )
    last, ran = finish(config, snapshot)
    assert last.finished == "the budget of 21 labels is spent"  # of the campaign; the arm has had 8
    assert sum(t.kind == "label" for t in ran) == 29
    assert snapshot.decisions["arm/2/random/budget"] == {"fragments": 3}


def test_an_arm_that_cannot_go_on_ends_and_the_campaign_does_not() -> None:
    snapshot = Snapshot()
    config = campaign(select={"fragments": 15}, controls={"arms": ["random", "periodic"], "share": 0.7})
    chosen: set[str] = set()

    def fails(task: Task) -> str:
        if task.kind == "control" and task.payload["arm"] == "random":
            chosen.update(f["label_key"] for f in toy_result(task).summary["fragments"])
        return "SCF" if task.key in chosen else ""

    last, _ = finish(config, snapshot, fails)
    assert last.finished == "all 2 iterations are done"
    assert "none of the labels of iteration 1 succeeded" in snapshot.decisions["arm/1/random/ended"]["reason"]
    assert "arm/2/periodic/evaluated" in snapshot.decisions
    assert "arm/2/random/evaluated" not in snapshot.decisions

    for key in chosen & {k for k, o in snapshot.outcomes.items() if o.status == "failed"}:  # what --retry-failed does
        del snapshot.outcomes[key]
    last, _ = finish(config, snapshot)
    assert last.finished == "all 2 iterations are done"
    assert "arm/2/random/evaluated" in snapshot.decisions
    assert "arm/1/random/ended" not in snapshot.decisions


def test_an_arm_that_goes_by_features_knows_which_of_its_labels_failed() -> None:
    snapshot = Snapshot()
    config = campaign(select={"fragments": 15}, controls={"arms": ["random", "farthest_point"], "share": 0.7})
    lost: dict[str, str] = {}

    def fails(task: Task) -> str:
        if task.kind == "control":
            lost.setdefault(task.payload["arm"], toy_result(task).summary["fragments"][0]["label_key"])
        return "SCF" if task.key in lost.values() else ""

    _, ran = finish(config, snapshot, fails)
    second = {t.payload["arm"]: t.payload for t in ran if t.kind == "control"}
    assert second["farthest_point"]["failed"] == [lost["farthest_point"]]
    assert "failed" not in second["random"]
    del snapshot.outcomes[lost["farthest_point"]]  # what --retry-failed does
    _, ran = finish(config, snapshot)
    assert "control" not in {t.kind for t in ran}


def test_a_campaign_that_finds_nothing_new_ends_with_its_arms() -> None:
    snapshot = Snapshot()
    config = campaign(select={"fragments": 10}, controls={"arms": ["random"]}, stop={"iterations": 5})
    for _ in range(300):
        current = plan(config, TOY_INPUTS, snapshot)
        snapshot.decisions.update(current.decisions)
        if current.finished:
            break
        for task in current.tasks:
            told = dict(toy_result(task).summary)
            if task.kind == "acquire" and len(task.payload["known"]) > 12:
                told["fragments"] = []
            snapshot.outcomes[task.key] = Outcome("done", task.kind, told)
    assert current.finished == "iteration 2 found no fragment that is not labelled already"
    assert "arm/2/random/evaluated/final" in snapshot.decisions


def test_made_longer_an_arm_keeps_its_past() -> None:
    snapshot = Snapshot()
    settings: dict[str, Any] = {"select": {"fragments": 10}, "controls": {"arms": ["random"]}}
    finish(campaign(**settings), snapshot)
    _, ran = finish(campaign(**settings, stop={"iterations": 3}), snapshot)
    assert [t.kind for t in ran].count("train") == 2
    assert [t.kind for t in ran].count("control") == 1


def test_arms_do_not_wait_for_a_potential_that_will_not_come() -> None:
    """A finished campaign is made longer, and its next iteration finds nothing: it has no model of its own."""
    snapshot, controls = Snapshot(), {"arms": ["random"], "share": 0.5}
    finish(campaign(controls=controls), snapshot)

    def nothing(task: Task) -> dict[str, Any]:
        found = dict(toy_result(task).summary)
        return {**found, "fragments": []} if task.kind == "acquire" else found

    longer = campaign(controls=controls, stop={"iterations": 5})
    done, _ = finish(longer, snapshot, results=nothing)
    assert "found no fragment" in done.finished


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loop": {"kind": "streaming"}}, "needs `loop: {kind: synchronous}`"),
        ({"extract": {"kind": "certified"}}, "cannot be combined"),
        (
            {"train": {"kind": "linear", "committee": 3}, "score": {"kind": "committee"}},
            "each arm trains one potential",
        ),
        ({"controls": {"arms": ARMS, "share": 0.5}}, "less than one label for each of 3 control arms"),
        ({"controls": {"arms": ["random", "random"]}}, "each arm can be given once"),
        ({"controls": {"arms": []}}, "at least 1 item"),
        ({"controls": {"arms": ["best"]}}, "'random'"),
    ],
)
def test_what_controls_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        campaign(**{"controls": {"arms": ["random"]}, **changes})
