"""The plan is pure: same state, same plan; and walks the cycle in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clusterflow.campaign.plan import plan
from clusterflow.campaign.split import shares
from clusterflow.campaign.tasks import Plan
from clusterflow.config.campaign import Campaign
from clusterflow.config.section import to_json
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot
from clusterflow.testing.toy_campaign import TOY_INPUTS, toy_result
from clusterflow.testing.toy_campaign import toy_config as campaign


def finish(config: Campaign, snapshot: Snapshot, *, steps: int = 100) -> tuple[Plan, list[str]]:
    """Runs the plan against the toy, one wave of tasks at a time."""
    order: list[str] = []
    for _ in range(steps):
        current = plan(config, TOY_INPUTS, snapshot)
        for name, value in current.decisions.items():
            snapshot.decisions[name] = value
        if current.finished or current.failed:
            return current, order
        assert current.tasks, f"the plan waits for nothing in stage {current.stage}"
        for task in current.tasks:
            order.append(task.kind)
            r = toy_result(task)
            snapshot.outcomes[task.key] = Outcome("done", task.kind, r.summary, wall_time=r.wall_time, cores=r.cores)
    raise AssertionError("the plan never ends")


def test_walks_the_cycle_in_order() -> None:
    last, order = finish(campaign(), Snapshot())
    assert last.finished == "all 2 iterations are done"
    assert [k for i, k in enumerate(order) if i == 0 or order[i - 1] != k] == [
        "start", "label", "train", "novelty", "evaluate", "calibrate", "explore", "acquire", "label", "evaluate",
        "calibrate", "train", "novelty", "evaluate", "calibrate", "explore", "acquire", "label", "evaluate",
        "calibrate", "train", "novelty", "evaluate", "calibrate", "export",
    ]  # fmt: skip
    assert order.count("label") == 12 + 5 + 5
    assert order.count("explore") == 6


def test_same_state_same_plan() -> None:
    first, second = plan(campaign(), TOY_INPUTS, Snapshot()), plan(campaign(), TOY_INPUTS, Snapshot())
    assert [t.key for t in first.tasks] == [t.key for t in second.tasks]
    assert [t.key for t in plan(campaign(seed=4), TOY_INPUTS, Snapshot()).tasks] != [t.key for t in first.tasks]


def test_novelty_is_calibrated_on_the_validation_split_and_judged_elsewhere() -> None:
    snapshot = Snapshot()
    asked: list[Task] = []
    for _ in range(100):
        told = plan(campaign(), TOY_INPUTS, snapshot)
        snapshot.decisions.update(told.decisions)
        if told.finished:
            break
        for task in told.tasks:
            asked.append(task)
            r = toy_result(task)
            snapshot.outcomes[task.key] = Outcome("done", task.kind, r.summary)
    splits = [v for n, v in sorted(snapshot.decisions.items()) if n.startswith("split/")]
    seen = {(t.payload["iteration"], t.payload["new"]): t.payload for t in asked if t.kind == "calibrate"}
    assert set(seen) == {(0, False), (1, False), (2, False), (1, True), (2, True)}
    for (iteration, new), payload in seen.items():
        known = splits[: iteration + (not new)]  # the model that asked for new labels has not seen them
        assert payload["validation"] == [k for s in known for k in s["validation"]]
        assert not set(payload["validation"]) & {k for s in known for k in s["train"]}
        assert not set(payload["labels"]) & {k for s in known for k in (*s["train"], *s["validation"])}
        if not new:
            assert payload["labels"] == splits[0]["test"]


def test_test_set_is_frozen_and_never_trained_on() -> None:
    snapshot = Snapshot()
    finish(campaign(), snapshot)
    test = set(snapshot.decisions["split/0"]["test"])
    assert len(test) == 4
    trained = [
        k for n, v in snapshot.decisions.items() if n.startswith("split/") for k in (*v["train"], *v["validation"])
    ]
    assert not test & set(trained)
    assert len(trained) == len(set(trained)) == 18
    assert sum(len(v["validation"]) for n, v in snapshot.decisions.items() if n.startswith("split/")) == 4  # 20 %


def test_longer_campaign_keeps_its_past() -> None:
    snapshot = Snapshot()
    finish(campaign(), snapshot)
    before = set(snapshot.outcomes)
    last, order = finish(campaign(stop={"iterations": 3}), snapshot)
    assert last.finished == "all 3 iterations are done"
    assert order.count("train") == 1
    assert before < set(snapshot.outcomes)


def test_a_spent_budget_does_not_undo_earlier_iterations() -> None:
    snapshot = Snapshot()
    config = campaign(stop={"iterations": 9, "core_hours": 0.1})  # each toy task counts 10 core seconds
    last, _ = finish(config, snapshot)
    assert "core hours is spent" in last.finished
    assert plan(config, TOY_INPUTS, snapshot).finished == last.finished
    assert snapshot.decisions["stop"]["iteration"] >= 1


def test_label_budget_is_not_exceeded() -> None:
    snapshot = Snapshot()
    last, order = finish(campaign(stop={"iterations": 9, "labels": 20}), snapshot)
    assert order.count("label") == 20
    assert last.finished == "the budget of 20 labels is spent"


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ({"iterations": 9, "test_mae_p95": "400 meV/Å"}, "test force MAE_P95 is 296.0 meV/Å"),
        ({"iterations": 9, "novelty": 20.0, "novelty_iterations": 2}, "novelty stayed below 20 nats for 2 iterations"),
        ({"iterations": 0}, "all 0 iterations are done"),
    ],
)
def test_criteria_stop_and_train_a_final_model(stop: dict[str, object], reason: str) -> None:
    snapshot = Snapshot()
    last, _ = finish(campaign(stop=stop), snapshot)
    assert last.finished.startswith(reason)
    assert any(v["final"] for n, v in snapshot.decisions.items() if n.startswith("model/"))


def test_failed_labels_are_left_out() -> None:
    snapshot = Snapshot()
    config = campaign()
    start = plan(config, TOY_INPUTS, snapshot).tasks[0]
    snapshot.outcomes[start.key] = Outcome("done", "start", toy_result(start).summary)
    labels = plan(config, TOY_INPUTS, snapshot).tasks
    for i, task in enumerate(labels):
        bad = i == len(labels) - 1
        snapshot.outcomes[task.key] = (
            Outcome("failed", "label", reason="SCF") if bad else Outcome("done", "label", toy_result(task).summary)
        )
    (fit,) = plan(config, TOY_INPUTS, snapshot).tasks
    assert fit.kind == "train"
    assert labels[-1].key not in [*fit.payload["training"], *fit.payload["validation"]]


def test_all_labels_failed_ends_the_campaign_with_its_reason() -> None:
    snapshot = Snapshot()
    config = campaign()
    for _ in range(2):
        for task in plan(config, TOY_INPUTS, snapshot).tasks:
            snapshot.outcomes[task.key] = (
                Outcome("failed", "label", reason="SCF")
                if task.kind == "label"
                else Outcome("done", task.kind, toy_result(task).summary)
            )
    assert "of the starting labels only 0 succeeded" in plan(config, TOY_INPUTS, snapshot).failed


def test_diverged_training_gets_one_gentler_try() -> None:
    snapshot = Snapshot()
    config = campaign()
    while not any(t.kind == "train" for t in plan(config, TOY_INPUTS, snapshot).tasks):
        for task in plan(config, TOY_INPUTS, snapshot).tasks:
            snapshot.outcomes[task.key] = Outcome("done", task.kind, toy_result(task).summary)
    (first,) = plan(config, TOY_INPUTS, snapshot).tasks
    snapshot.outcomes[first.key] = Outcome("failed", "train", reason="loss is NaN")
    (second,) = plan(config, TOY_INPUTS, snapshot).tasks
    rates = [t.payload["settings"]["learning_rate"] for t in (first, second)]
    assert rates[1] == 0.5 * rates[0]
    assert second.payload["seed"] != first.payload["seed"]
    snapshot.outcomes[second.key] = Outcome("failed", "train", reason="loss is NaN")
    assert "failed twice" in plan(config, TOY_INPUTS, snapshot).failed


def test_all_walkers_blown_up_says_why() -> None:
    snapshot = Snapshot()
    config = campaign()
    for _ in range(20):
        current = plan(config, TOY_INPUTS, snapshot)
        for name, value in current.decisions.items():
            snapshot.decisions[name] = value
        for task in current.tasks:
            result = toy_result(task).summary
            if task.kind == "explore":
                result = {**result, "n_frames": 0, "stop_reason": "2 atoms too close"}
            snapshot.outcomes[task.key] = Outcome("done", task.kind, result)
    assert "2 atoms too close" in plan(config, TOY_INPUTS, snapshot).failed


@pytest.mark.parametrize(
    ("weights", "total", "counts"),
    [([1, 1], 4, [2, 2]), ([1, 3], 4, [1, 3]), ([1, 1, 1], 2, [1, 1, 1]), ([5, 1], 3, [2, 1])],
)
def test_shares(weights: list[float], total: int, counts: list[int]) -> None:
    assert shares(weights, total) == counts


def test_nothing_is_read_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan(campaign(), TOY_INPUTS, Snapshot())
    assert not list(tmp_path.iterdir())


def keys_of(snapshot: Snapshot) -> set[str]:
    return set(snapshot.outcomes)


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"packaged": ["ase", "lammps"]}},
        {"stop": {"iterations": 2, "labels": 90}},
        {"explore": {"walkers": 9, "steps": {"first": 200, "growth": 2, "maximum": 5000}}},
        {"select": {"fragments": 11}},
        {"explore": {"walkers": 3, "pool": "all"}},
    ],
)
def test_harmless_edits_of_a_finished_campaign_repeat_nothing_but_the_package(changes: dict[str, object]) -> None:
    snapshot = Snapshot()
    finish(campaign(), snapshot)
    before = keys_of(snapshot)
    _, order = finish(campaign(**changes), snapshot)
    assert set(order) <= {"export"}
    assert before <= keys_of(snapshot)


@pytest.mark.parametrize("before", [{"iterations": 2}, {"iterations": 2, "labels": 90}])
def test_a_certified_campaign_may_be_given_more_labels(before: dict[str, int]) -> None:
    snapshot = Snapshot()
    certified = {"extract": {"kind": "certified"}}
    finish(campaign(stop=before, **certified), snapshot)
    _, order = finish(campaign(stop={"iterations": 2, "labels": 120}, **certified), snapshot)
    assert set(order) <= {"export"}


def test_a_larger_fragment_goes_where_the_one_goes_that_it_confirms() -> None:
    snapshot = Snapshot()
    finish(campaign(extract={"kind": "certified"}, stop={"iterations": 3}), snapshot)
    pairs = [
        (f["label_key"], f["confirms"])
        for o in snapshot.outcomes.values()
        if o.kind == "acquire"
        for f in o.summary["fragments"]
        if "confirms" in f
    ]
    held = {
        k: s for n, v in snapshot.decisions.items() if n.startswith("split/") for s in v if s != "source" for k in v[s]
    }
    assert len(pairs) == 9
    assert all(held[large] == held[small] for large, small in pairs)
    assert {held[small] for _, small in pairs} == {"train", "validation"}


@pytest.mark.parametrize("changes", [{"extract": {"kind": "certified"}}, {"select": {"ranking": "coverage"}}, {}])
def test_a_selection_knows_which_labels_had_failed_when_it_was_decided(changes: dict[str, object]) -> None:
    """And is not repeated when one of them succeeds later."""
    snapshot, config = Snapshot(), campaign(**changes)
    start = plan(config, TOY_INPUTS, snapshot).tasks[0]
    snapshot.outcomes[start.key] = Outcome("done", "start", toy_result(start).summary)
    late = plan(config, TOY_INPUTS, snapshot).tasks[-1].key
    snapshot.outcomes[late] = Outcome("failed", "label", reason="too slow")
    finish(config, snapshot)
    frozen = snapshot.decisions["budget/1"].get("failed")
    assert frozen == ([late] if changes else None)  # what does not depend on it does not know it
    del snapshot.outcomes[late]  # what --retry-failed does
    last, order = finish(config, snapshot)
    assert last.finished
    assert "acquire" not in order


def test_a_selection_that_nothing_is_cheap_enough_for_says_so_and_a_higher_limit_goes_on() -> None:
    def finish_with(config: Campaign, snapshot: Snapshot) -> Plan:
        for _ in range(100):
            current = plan(config, TOY_INPUTS, snapshot)
            for name in current.retired:
                snapshot.decisions.pop(name, None)
            snapshot.decisions.update(current.decisions)
            if current.finished or current.failed:
                return current
            for task in current.tasks:
                told = dict(toy_result(task).summary)
                if task.kind == "acquire" and task.payload["select"]["core_seconds"] == low:
                    told |= {"fragments": [], "coverage": {"fragments": 0, "cheapest": 90.0, "limit": 20.0}}
                snapshot.outcomes[task.key] = Outcome("done", task.kind, told)
        raise AssertionError("the plan never ends")

    snapshot = Snapshot()
    select = {"ranking": "coverage", "fragments": 5}
    first = campaign(select={**select, "core_seconds": "20 s"})
    low = to_json(first.select)["core_seconds"]
    last = finish_with(first, snapshot)
    assert last.finished == (
        "iteration 1 found no fragment that `select.core_seconds` pays for: the cheapest label is predicted to take "
        "90 core-seconds, and 20 may be spent on it; raise `select.core_seconds` and run again"
    )
    again = finish_with(campaign(select={**select, "core_seconds": "100 s"}), snapshot)
    assert again.finished == "all 2 iterations are done"


def test_more_walkers_and_longer_walks_count_from_the_next_iteration_on() -> None:
    snapshot = Snapshot()
    finish(campaign(), snapshot)
    longer = campaign(
        stop={"iterations": 3}, explore={"walkers": 5, "steps": {"first": 200, "growth": 2, "maximum": 900}}
    )
    _, order = finish(longer, snapshot)
    assert (order.count("explore"), order.count("train"), order.count("label")) == (5, 1, 5)


def test_a_label_that_succeeds_later_joins_the_next_split() -> None:
    snapshot = Snapshot()
    config = campaign(stop={"iterations": 1})
    start = plan(config, TOY_INPUTS, snapshot).tasks[0]
    snapshot.outcomes[start.key] = Outcome("done", "start", toy_result(start).summary)
    late = plan(config, TOY_INPUTS, snapshot).tasks[-1]
    snapshot.outcomes[late.key] = Outcome("failed", "label", reason="too slow")
    finish(config, snapshot)
    del snapshot.outcomes[late.key]  # what --retry-failed does
    _, order = finish(campaign(stop={"iterations": 2}), snapshot)
    assert (order.count("train"), order.count("label"), order.count("explore")) == (1, 1 + 5, 3)
    second = snapshot.decisions["split/2"]
    assert late.key in [*second["train"], *second["validation"]]


def test_seed_frames_are_not_bought() -> None:
    config = campaign(start={"kind": "dataset", "file": "seed.extxyz"}, stop={"iterations": 9, "labels": 10})
    snapshot = Snapshot()
    for _ in range(60):
        current = plan(config, TOY_INPUTS, snapshot)
        for name, value in current.decisions.items():
            snapshot.decisions[name] = value
        if current.finished:
            break
        for task in current.tasks:
            stand_in = (
                {**task.payload, "start": {"test_fragments": 4, "fragments": 40}} if task.kind == "start" else None
            )
            result = toy_result(task if stand_in is None else replace(task, payload=stand_in))
            snapshot.outcomes[task.key] = Outcome("done", task.kind, result.summary)
    assert current.finished == "the budget of 10 labels is spent"
    assert sum(v["source_kind"] == "acquire" for v in current.labels.values()) == 10


@pytest.mark.parametrize("fragments", [8, 10, 12, 13, 16])
def test_one_good_label_is_enough_wherever_it_goes(fragments: int) -> None:
    """The only new label of an iteration may be one to validate with."""
    last, _ = finish(
        campaign(start={"fragments": fragments}, select={"fragments": 1}, stop={"iterations": 5}), Snapshot()
    )
    assert last.finished == "all 5 iterations are done"
    assert not last.failed
