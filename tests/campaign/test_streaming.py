"""The streaming plan: pure, deterministic from its journal, and whole after a death at any moment."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from clusterflow.campaign.lag import model_lag
from clusterflow.campaign.planner import Planner, plan_once
from clusterflow.campaign.tasks import ORDER, Plan
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task
from clusterflow.errors import LabelError, ScienceError
from clusterflow.state.journal import Event
from clusterflow.state.snapshot import Snapshot, fold
from clusterflow.testing.toy_campaign import TOY_INPUTS, toy_config, toy_result

Result = dict[str, Any]


def campaign(**changes: object) -> Campaign:
    usual: dict[str, object] = {
        "start": {"fragments": 6, "test_fragments": 3},
        "select": {"fragments": 6},
        "stop": {"iterations": 3},
        "loop": {"kind": "streaming", "retrain_after": 4},
    }
    return toy_config(**{**usual, **changes})


@dataclass
class Driver:
    """A driver without processes: tasks end in an order that ``dice`` chooses. ``log`` is its journal."""

    config: Campaign
    dice: random.Random
    log: list[Event] = field(default_factory=list)
    work: Callable[[Task], Result] = lambda task: dict(toy_result(task).summary)
    order: Mapping[str, int] = field(default_factory=dict)
    """Key → place: tasks end in this order as far as it tells."""
    check: bool = False
    """Compare every plan with one made from nothing."""
    ran: list[Task] = field(default_factory=list)
    last: Plan = field(default_factory=Plan)

    def run(self, most: int = 5000) -> Plan:
        snapshot = fold(self.log)
        planner = Planner(self.config, TOY_INPUTS)
        flying: dict[str, Task] = {}

        def write(kind: str, **data: Any) -> None:
            event = Event(len(self.log), "", 1, kind, data, "", "")
            self.log.append(event)
            snapshot.apply(event)

        for _ in range(most):
            plan = self.last = planner.plan(snapshot)
            if self.check:
                same(plan, plan_once(self.config, TOY_INPUTS, snapshot), snapshot)
            new = {n: v for n, v in plan.decisions.items() if snapshot.decisions.get(n) != v}
            if plan.retired:
                write("retired", names=plan.retired)
            for name, value in new.items():
                write("decision", name=name, value=value)
            if plan.retired or new:
                planner.decided()
                continue
            if plan.finished or plan.failed:
                return plan
            for task in plan.tasks:
                if task.key not in flying and task.key not in snapshot.outcomes:
                    flying[task.key] = task
                    write("sent", key=task.key, task=task.kind, lane=task.lane, what={})
            assert flying, f"the plan waits for nothing in stage {plan.stage}"
            first = min(flying, key=lambda k: self.order.get(k, len(self.order)))
            task = flying.pop(first if first in self.order else self.dice.choice(sorted(flying)))
            self.ran.append(task)
            about = {"key": task.key, "task": task.kind, "wall_time": 10.0, "cores": 1}
            try:
                write("done", summary=self.work(task), peak_memory_MB=0.0, **about)
            except ScienceError as error:
                write("failed", reason=error.what, error="ScienceError", final=True, **about)
            planner.ended(task.key)
        raise AssertionError("the plan never ends")


def unsent(plan: Plan, snapshot: Snapshot) -> list[str]:
    """In the order in which the loop would send them."""
    tasks = [t for t in plan.tasks if t.key not in snapshot.sent]
    return [t.key for t in sorted(tasks, key=lambda t: ORDER.index(t.kind))]


def same(one: Plan, other: Plan, snapshot: Snapshot) -> None:
    assert {t.key for t in one.tasks} == {t.key for t in other.tasks}
    assert unsent(one, snapshot) == unsent(other, snapshot)
    assert {t.key: t.payload for t in one.tasks} == {t.key: t.payload for t in other.tasks}
    assert list(one.decisions.items()) == list(other.decisions.items())
    assert (one.finished, one.failed, one.stage, one.timer) == (other.finished, other.failed, other.stage, other.timer)


def drive(config: Campaign, seed: int = 0, **more: Any) -> tuple[Plan, Driver]:
    driver = Driver(config, random.Random(seed), **more)
    return driver.run(), driver


def sound(log: Iterable[Event]) -> Snapshot:
    """What must hold of every journal; returns its snapshot."""
    log = list(log)
    done = [e.data["key"] for e in log if e.kind in ("done", "failed")]
    assert len(done) == len(set(done))
    snapshot = fold(log)
    splits = [v for n, v in snapshot.decisions.items() if n.startswith("split/")]
    trained = [k for s in splits for k in (*s["train"], *s["validation"])]
    test = set(splits[0]["test"])
    assert len(trained) == len(set(trained))
    assert not test & set(trained)
    assert not any(s["test"] for s in splits[1:])
    assert all(snapshot.outcomes[k].status == "done" for k in (*trained, *test))
    decided: dict[str, Any] = {}
    for event in log:
        if event.kind == "decision":  # taken once, and kept
            assert decided.setdefault(event.data["name"], event.data["value"]) == event.data["value"]
    return snapshot


@pytest.mark.parametrize("seed", range(6))
def test_every_plan_is_what_a_driver_that_begins_anew_would_make(seed: int) -> None:
    plan, driver = drive(campaign(), seed, check=True)
    assert plan.finished == "all 3 iterations are done"
    snapshot = sound(driver.log)
    assert len(snapshot.decisions["split/0"]["test"]) == 3
    assert snapshot.decisions["model/3"]["final"]


def test_walks_labels_and_trainings_run_at_once() -> None:
    _, driver = drive(campaign(stop={"iterations": 6}))
    kinds = [e.data["task"] for e in driver.log if e.kind == "done"]
    first, last = kinds.index("explore"), len(kinds) - 1 - kinds[::-1].index("explore")
    between = kinds[first:last]
    assert {"label", "train", "acquire", "evaluate", "novelty"} <= set(between)
    versions = {e.data["value"]["version"] for e in driver.log if e.kind == "decision" and "walk/" in e.data["name"]}
    assert len(versions) >= 4


def test_cut_after_any_event_it_takes_the_next_decision_and_ends_as_sound() -> None:
    _, whole = drive(campaign(), 1)
    for n in range(1, len(whole.log)):
        snapshot = fold(whole.log[:n])
        following = whole.log[n]
        plan = plan_once(whole.config, TOY_INPUTS, snapshot)
        if following.kind == "decision":
            assert next(iter(plan.decisions.items())) == (following.data["name"], following.data["value"])
        else:
            assert not plan.decisions
            assert following.data["key"] in {t.key for t in plan.tasks} | set(snapshot.sent)
        again = Driver(whole.config, random.Random(n), log=list(whole.log[:n]))
        assert again.run().finished
        sound(again.log)
        before = {e.data["key"] for e in whole.log[:n] if e.kind == "done"}
        assert not before & {t.key for t in again.ran}


@pytest.mark.parametrize("seed", [1, 2])
def test_cut_after_any_event_it_decides_the_same_if_results_come_in_the_same_order(seed: int) -> None:
    config = campaign(stop={"iterations": 2})
    _, whole = drive(config, seed)
    order = {e.data["key"]: e.seq for e in whole.log if e.kind == "done"}
    decided = [e.data for e in whole.log if e.kind == "decision"]
    for n in range(1, len(whole.log)):
        again = Driver(config, random.Random(n), log=list(whole.log[:n]), order=order)
        assert again.run().finished
        assert [e.data for e in again.log if e.kind == "decision"] == decided
        assert [e.data["key"] for e in again.log if e.kind == "done"] == list(order)


def test_results_in_another_order_lead_to_other_decisions() -> None:
    """So what the test above says is not empty."""
    ends = [[e.data for e in drive(campaign(), seed)[1].log if e.kind == "decision"] for seed in (1, 2)]
    assert ends[0] != ends[1]


def test_killed_again_and_again_it_ends() -> None:
    config, log = campaign(stop={"iterations": 4}), []
    for n in range(1, 2000):
        driver = Driver(config, random.Random(n), log=log)
        try:
            plan = driver.run(most=7)
        except AssertionError:
            log = driver.log
            continue
        assert plan.finished
        break
    sound(log)
    assert n > 5


@pytest.mark.parametrize("labels", [9, 12, 20, 31])
def test_label_budget_is_kept(labels: int) -> None:
    for seed in range(4):
        plan, driver = drive(campaign(stop={"iterations": 50, "labels": labels}), seed)
        assert plan.finished == f"the budget of {labels} labels is spent"
        assert sum(t.kind == "label" for t in driver.ran) == labels
        snapshot = sound(driver.log)
        splits = [v for n, v in snapshot.decisions.items() if n.startswith("split/")]
        assert sum(len(v["train"]) + len(v["validation"]) for v in splits) == labels - 3  # all were trained on


def test_validation_share_is_kept() -> None:
    _, driver = drive(campaign(stop={"iterations": 8}))
    splits = [v for n, v in fold(driver.log).decisions.items() if n.startswith("split/")]
    held, trained = (sum(len(v[name]) for v in splits) for name in ("validation", "train"))
    assert held == pytest.approx(0.2 * (held + trained), abs=1.0)


@pytest.mark.parametrize("lag", [0, 1, 2, 4])
def test_model_lag_is_bounded(lag: int) -> None:
    config = campaign(stop={"iterations": 12}, loop={"kind": "streaming", "retrain_after": 4, "max_model_lag": lag})
    for seed in range(5):
        _, driver = drive(config, seed)
        found = model_lag(fold(driver.log))
        assert found
        assert sum(row.mean * row.labels for row in found) / sum(row.labels for row in found) <= lag


def test_walkers_pause_while_labels_wait() -> None:
    config = campaign(stop={"iterations": 30}, loop={"kind": "streaming", "retrain_after": 100, "max_open_labels": 5})
    driver = Driver(config, random.Random(0))
    most = {"label": 0, "explore": 0}

    def work(task: Task) -> Result:
        for kind, before in list(most.items()):
            asked = [t for t in driver.last.tasks if t.kind == kind and t.payload.get("source_kind") != "start"]
            most[kind] = max(before, len(asked))
        return dict(toy_result(task).summary)

    driver.work = work
    with pytest.raises(AssertionError, match="never ends"):
        driver.run(most=400)
    assert any(e.data.get("name") == "acquire/5" for e in driver.log)
    assert most["label"] <= 5
    assert most["explore"] <= 2  # of three: two fragments each


def test_failed_labels_are_left_out_and_retried_ones_join() -> None:
    bad: list[str] = []

    def work(task: Task) -> Result:
        if task.kind == "label" and task.payload["index"] == 1 and task.payload["source_kind"] == "acquire":
            bad.append(task.key)
            raise LabelError("SCF did not converge")
        return dict(toy_result(task).summary)

    plan, driver = drive(campaign(), work=work)
    assert plan.finished
    assert bad
    snapshot = sound(driver.log)
    log = [*driver.log, Event(len(driver.log), "", 1, "retry", {"keys": bad}, "", "")]
    longer = Driver(campaign(stop={"iterations": 5}), random.Random(0), log=log)
    assert longer.run().finished
    after = fold(longer.log)
    trained = {k for n, v in after.decisions.items() if n.startswith("split/") for k in (*v["train"], *v["validation"])}
    assert set(bad) <= trained
    assert not set(bad) & {k for v in snapshot.decisions.values() for k in v.get("train", [])}


def test_all_labels_failed_ends_with_the_reason() -> None:
    def work(task: Task) -> Result:
        if task.kind == "label" and task.payload["source_kind"] == "acquire":
            raise LabelError("SCF did not converge")
        return dict(toy_result(task).summary)

    plan, _ = drive(campaign(), work=work)
    assert "labels succeeded" in plan.failed


def test_walkers_that_all_blow_up_end_the_campaign_with_their_reasons() -> None:
    def work(task: Task) -> Result:
        summary = dict(toy_result(task).summary)
        return {**summary, "n_frames": 0, "stop_reason": "2 atoms too close"} if task.kind == "explore" else summary

    plan, driver = drive(campaign(), work=work)
    assert "2 atoms too close" in plan.failed
    assert sum(t.kind == "explore" for t in driver.ran) <= 5  # not for ever


def test_nothing_new_ends_the_campaign() -> None:
    def work(task: Task) -> Result:
        summary = dict(toy_result(task).summary)
        return {**summary, "fragments": []} if task.kind == "acquire" else summary

    plan, driver = drive(campaign(), work=work)
    assert "found no fragment that is not labelled already" in plan.finished
    assert fold(driver.log).decisions["model/1"]["final"]


def test_a_selection_is_told_of_how_many_fragments_it_is_a_part() -> None:
    select = {"fragments": 6, "ranking": "coverage"}
    _, driver = drive(campaign(select={**select, "core_seconds": "20 s"}), check=True)
    acquired = [t.payload for t in driver.ran if t.kind == "acquire"]
    assert {p["of_iteration"] for p in acquired} == {6}
    assert min(p["budget"] for p in acquired) < 6
    _, driver = drive(campaign(select=select))
    assert not any("of_iteration" in t.payload for t in driver.ran if t.kind == "acquire")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"coverage": {"fragments": 0, "cheapest": 90.0, "limit": 20.0}},
            "no fragment that `select.core_seconds` pays for: the cheapest label is predicted to take 90 core-seconds, "
            "and 20 may be spent on it; raise `select.core_seconds` and begin a new campaign",
        ),
        (
            {"refused": [f"atom {k} of frame ab: bond C1–O2 cannot be cut." for k in range(3)]},
            "no fragment that can be labelled: of the first 3 sites that were refused, 3 were because bond C1–O2",
        ),
        ({"refused": ["atom 1 of frame ab: the same fragment is labelled already"]}, "not labelled already"),
    ],
)
def test_the_reason_of_an_empty_selection_is_told(told: dict[str, Any], said: str) -> None:
    def work(task: Task) -> Result:
        summary = dict(toy_result(task).summary)
        return {**summary, "fragments": [], **told} if task.kind == "acquire" else summary

    plan, _ = drive(campaign(), work=work, check=True)
    assert said in plan.finished


def test_diverged_training_gets_one_gentler_try() -> None:
    seen: list[Task] = []

    def work(task: Task) -> Result:
        if task.kind == "train" and len(seen) < 1:
            seen.append(task)
            raise ScienceError("loss is NaN")
        return dict(toy_result(task).summary)

    plan, driver = drive(campaign(), work=work, check=True)
    assert plan.finished
    second = [t for t in driver.ran if t.kind == "train"][1]
    assert second.payload["settings"]["learning_rate"] == 0.5 * seen[0].payload["settings"]["learning_rate"]
    assert second.payload["start"] is None


def test_longer_campaign_keeps_its_past_and_gives_up_nothing() -> None:
    _, driver = drive(campaign())
    before = {t.key for t in driver.ran}
    longer = Driver(campaign(stop={"iterations": 6}), random.Random(1), log=list(driver.log), check=True)
    assert longer.run().finished == "all 6 iterations are done"
    assert not before & {t.key for t in longer.ran}
    assert [n for e in longer.log if e.kind == "retired" for n in e.data["names"]] == ["ending", "stop"]


@pytest.mark.parametrize(
    "changes",
    [
        {"select": {"fragments": 9}},
        {"explore": {"walkers": 7}},
        {"train": {"model": {"preset": "small"}}},
        {"score": {"components": [1, 2]}},
        {"start": {"fragments": 20, "test_fragments": 7}},
    ],
)
def test_changed_settings_count_from_the_next_task_on(changes: dict[str, object]) -> None:
    _, driver = drive(campaign())
    log = driver.log[: 2 * len(driver.log) // 3]
    before = {e.data["key"] for e in log if e.kind == "done"}
    changed = Driver(campaign(**changes), random.Random(1), log=list(log), check=True)
    assert changed.run().finished
    assert not before & {t.key for t in changed.ran}
    test = [e.data["value"]["test"] for e in changed.log if e.kind == "decision" and e.data["name"] == "split/0"]
    assert len(test) == 1
    if "train" in changes:  # another architecture cannot go on from the old weights
        fits = [t for t in changed.ran if t.kind == "train"]
        assert fits[0].payload["start"] is None
        assert all(t.payload["start"] for t in fits[1:])


def test_a_finished_campaign_stays_finished() -> None:
    plan, driver = drive(campaign())
    again = plan_once(driver.config, TOY_INPUTS, fold(driver.log))
    assert again.finished == plan.finished
    assert not again.decisions
    assert not again.tasks


def test_a_larger_fragment_goes_where_the_one_goes_that_it_confirms() -> None:
    for seed in range(4):
        plan, driver = drive(campaign(extract={"kind": "certified"}, stop={"iterations": 5}), seed, check=True)
        assert plan.finished
        snapshot = sound(driver.log)
        held = {
            k: name
            for n, v in snapshot.decisions.items()
            if n.startswith("split/")
            for name in ("train", "validation")
            for k in v[name]
        }
        pairs = [
            (f["label_key"], f["confirms"])
            for o in snapshot.outcomes.values()
            if o.kind == "acquire"
            for f in o.summary["fragments"]
            if "confirms" in f and f["label_key"] in held and f["confirms"] in held
        ]
        assert len(pairs) >= 3
        assert all(held[large] == held[small] for large, small in pairs)


def test_a_selection_knows_which_labels_have_failed_and_not_which_are_on_their_way() -> None:
    """As it was when it was decided: what a retry changes later, or a driver that begins anew, leaves it as it is."""
    bad: list[str] = []

    def work(task: Task) -> Result:
        if task.kind == "label" and task.payload["index"] % 3 == 1 and task.payload["source_kind"] == "acquire":
            bad.append(task.key)
            raise LabelError("SCF did not converge")
        return dict(toy_result(task).summary)

    config = campaign(extract={"kind": "certified"}, stop={"iterations": 4})
    plan, driver = drive(config, 2, work=work, check=True)
    assert plan.finished
    snapshot = sound(driver.log)
    acquired = [t for t in driver.ran if t.kind == "acquire"]
    told = [set(t.payload.get("failed", ())) for t in acquired]
    assert told[0] == set()
    assert told[-1]
    assert set().union(*told) <= set(bad)
    ended: set[str] = set()
    of = {t.key: told[i] for i, t in enumerate(acquired)}
    for event in driver.log:
        if event.kind == "failed":
            ended.add(event.data["key"])
        elif event.kind == "decision" and event.data["name"].startswith("acquire/"):
            assert of[event.data["value"]["task"]] == ended
            assert set(event.data["value"].get("failed", ())) == ended
    late = Event(len(driver.log), "", 1, "retry", {"keys": bad}, "", "")
    again = Driver(config, random.Random(0), log=[*driver.log, late], check=True)
    again.run()
    assert not {t.key for t in again.ran if t.kind == "acquire"} & set(snapshot.outcomes)


def test_a_label_that_has_waited_long_enough_starts_a_training() -> None:
    config = campaign(loop={"kind": "streaming", "retrain_after": 1000, "retrain_interval": "30 min"})
    driver = Driver(config, random.Random(0))
    with pytest.raises(AssertionError, match="never ends"):
        driver.run(most=120)
    snapshot = fold(driver.log)
    assert "split/1" not in snapshot.decisions
    name, seconds = plan_once(config, TOY_INPUTS, snapshot).timer or ("", 0.0)
    assert (name, seconds) == ("due/1", 1800.0)
    driver.log.append(Event(len(driver.log), "", 1, "decision", {"name": name, "value": {"after": seconds}}, "", ""))
    plan = plan_once(config, TOY_INPUTS, fold(driver.log))
    assert "split/1" in plan.decisions
    assert plan.timer is None


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ({"iterations": 9, "test_mae_p95": "400 meV/Å"}, "test force MAE_P95 is 297.0 meV/Å"),
        ({"iterations": 99, "core_hours": 0.2}, "the budget of 0.2 core hours is spent"),
        ({"iterations": 99, "novelty": 20.0, "novelty_iterations": 2}, "novelty stayed below 20 nats for 2 iterations"),
        ({"iterations": 0}, "all 0 iterations are done"),
    ],
)
def test_criteria_end_with_a_final_model(stop: dict[str, object], reason: str) -> None:
    plan, driver = drive(campaign(stop=stop), check=True)
    assert plan.finished.startswith(reason)
    snapshot = sound(driver.log)
    (final,) = [v for n, v in snapshot.decisions.items() if n.startswith("model/") and v["final"]]
    assert snapshot.decisions["stop"]["model"] == final["key"]


def test_walkers_share_the_conditions_of_the_synchronous_loop() -> None:
    _, streaming = drive(campaign())
    _, cycle = drive(campaign(loop={"kind": "synchronous"}))
    drawn = [
        {
            (t.payload["seed"], t.payload["temperature_K"], t.payload["pressure_GPa"])
            for t in d.ran
            if t.kind == "explore"
        }
        for d in (streaming, cycle)
    ]
    assert len(drawn[0] & drawn[1]) >= 3
