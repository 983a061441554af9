"""Nothing that is trained on is ever in the test set, whatever the stages find: proved on both plans."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.campaign.held_out import DECISION, TestSet
from clusterflow.campaign.planner import plan_once
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot
from clusterflow.testing.toy_campaign import TOY_INPUTS, toy_config, toy_result

LOOPS = ("synchronous", "streaming")
LEAKS = ("copy", "turned", "confirms", "confirms a turned one", "none")


def campaign(loop: str) -> Campaign:
    start, select = {"fragments": 6, "test_fragments": 3}, {"fragments": 4}
    return toy_config(start=start, explore={"walkers": 2}, select=select, loop={"kind": loop})


def summary(task: Task, leaks: list[str], order: list[int], test: list[str]) -> dict[str, Any]:
    """What the toy finds, with some of its fragments turned into such as are in the test set or confirm one of it."""
    told = dict(toy_result(task).summary)
    if task.kind not in ("start", "acquire"):
        return told
    fragments = [{**f, "structure": f"shape of {f['label_key']}"} for f in told["fragments"]]
    known = test or [f["label_key"] for f in fragments if f["set"] == "test"]
    trained = [f for f in fragments if f["set"] == "train"]
    for place, leak in enumerate(leaks[: max(0, len(trained) - 2)]):
        wanted = known[place % len(known)]
        if leak == "copy":
            trained[place]["label_key"] = wanted
        elif leak == "turned":
            trained[place]["structure"] = f"shape of {wanted}"
        elif leak == "confirms":
            trained[place]["confirms"] = wanted
        elif leak == "confirms a turned one" and place:
            trained[place - 1]["structure"] = f"shape of {wanted}"
            trained[place]["confirms"] = trained[place - 1]["label_key"]
    told["fragments"] = sorted(fragments, key=lambda f: order[fragments.index(f) % len(order)])
    return told


def run(loop: str, leaks: list[str], order: list[int], failing: set[int]) -> tuple[Snapshot, list[Task], list[str]]:
    """The whole campaign; tasks that it asked for; the kinds of decision and task, in order."""
    config, snapshot, asked, story = campaign(loop), Snapshot(), [], []
    for _ in range(200):
        current = plan_once(config, TOY_INPUTS, snapshot)
        new = {n: v for n, v in current.decisions.items() if snapshot.decisions.get(n) != v}
        if new:
            snapshot.decisions.update(new)
            story += [f"decision {n}" for n in new]
            continue
        if current.finished or current.failed:
            return snapshot, asked, story
        test = list(snapshot.decisions.get(DECISION, {}).get("labels", []))
        for task in current.tasks:
            asked.append(task)
            story.append(task.kind)
            bad = task.kind == "label" and sum(t.kind == "label" for t in asked) in failing
            found = {} if bad else summary(task, leaks, order, test)
            snapshot.outcomes[task.key] = Outcome("failed" if bad else "done", task.kind, found, reason="toy")
    raise AssertionError("the plan never ends")


@pytest.mark.parametrize("loop", LOOPS)
@given(
    leaks=st.lists(st.sampled_from(LEAKS), min_size=1, max_size=4),
    order=st.permutations(range(9)),
    failing=st.sets(st.sampled_from([11, 12, 14]), max_size=2),
)
@settings(max_examples=12, deadline=None)
def test_nothing_of_the_test_set_is_trained_on(
    loop: str, leaks: list[str], order: list[int], failing: set[int]
) -> None:
    snapshot, asked, story = run(loop, leaks, order, failing)
    test = set(snapshot.decisions[DECISION]["labels"])
    described = {
        f["label_key"]: f
        for o in snapshot.outcomes.values()
        if o.kind in ("start", "acquire")
        for f in sorted(o.summary["fragments"], key=lambda f: f["set"] != "train")
    }
    shapes = {f"shape of {key}" for key in test}
    trained = {key for t in asked if t.kind == "train" for key in (*t.payload["training"], *t.payload["validation"])}
    assert trained
    assert not trained & test
    assert not {described[k]["structure"] for k in trained} & shapes
    partners = {described[k].get("confirms") for k in trained} - {None}
    assert not partners & test
    assert not {described[p]["structure"] for p in partners if p in described} & shapes
    assert {k for t in asked if t.kind == "evaluate" for k in t.payload["labels"]} & test  # it is evaluated on
    assert all(
        t.payload["held_out"] == list(snapshot.decisions[DECISION]["labels"]) for t in asked if t.kind == "acquire"
    )
    assert story.index(f"decision {DECISION}") < story.index("label")  # frozen before the first label is sent


@pytest.mark.parametrize("loop", LOOPS)
def test_a_test_label_that_fails_is_not_trained_on_later(loop: str) -> None:
    snapshot, asked, _ = run(loop, ["copy"], list(range(9)), {1})
    test = list(snapshot.decisions[DECISION]["labels"])
    (lost,) = [k for k in test if snapshot.outcomes[k].status == "failed"]
    assert lost not in snapshot.decisions["split/0"]["test"]
    assert not any(lost in (*t.payload["training"], *t.payload["validation"]) for t in asked if t.kind == "train")


def test_hash_follows_from_what_is_in_it_and_not_from_the_order() -> None:
    entries = [{"label_key": k, "set": "test"} for k in ("b", "a")] + [{"label_key": "c", "set": "train"}]
    assert TestSet(entries).hash == TestSet(entries[::-1]).hash
    assert TestSet(entries).hash != TestSet(entries[1:]).hash
