"""A temperature that rises from iteration to iteration, is repeated, and stops when too many walkers blow up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from clusterflow.campaign.loop import Interrupted
from clusterflow.campaign.plan import plan
from clusterflow.campaign.ramp import judge, temperature_after
from clusterflow.campaign.tasks import Payloads, Plan
from clusterflow.config.campaign import Campaign
from clusterflow.config.ramp import Ramp
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot
from clusterflow.testing.toy_campaign import TOY_INPUTS, toy_result
from clusterflow.testing.toy_science import drive_toy, final_hash, toy_config

RAMP = Ramp(first="100 K", step="300 K", last="1000 K")  # type: ignore[arg-type]
TORN = "stopped between steps 10 and 20: the bond Zn{}–O{} has broken, 2.9{} Å (limit 2.80 Å)"


def campaign(**changes: Any) -> Campaign:
    data: dict[str, Any] = {
        "name": "toy",
        "systems": [{"name": "crystal", "structure": "nowhere.extxyz"}],
        "start": {"fragments": 8, "test_fragments": 4},
        "explore": {"walkers": 4, "temperature": {"first": "100 K", "step": "300 K", "last": "1000 K"}},
        "select": {"kind": "cbad", "fragments": 4},
        "extract": {"kind": "whole"},
        **changes,
    }
    return Campaign.model_validate(data)


Change = Callable[[Task, dict[str, Any]], dict[str, Any]]


def finish(config: Campaign, snapshot: Snapshot, change: Change = lambda _, s: s) -> tuple[Plan, list[Task]]:
    """Runs the plan against the toy; ``change`` says what a task's summary is instead."""
    ran: list[Task] = []
    for _ in range(200):
        now = plan(config, TOY_INPUTS, snapshot)
        for name in now.retired:
            snapshot.decisions.pop(name, None)
        snapshot.decisions.update(now.decisions)
        if now.finished or now.failed:
            return now, ran
        for task in now.tasks:
            ran.append(task)
            found = change(task, dict(toy_result(task).summary))
            snapshot.outcomes[task.key] = Outcome("done", task.kind, found, wall_time=1.0, cores=1)
    raise AssertionError("the plan never ends")


def unstable_above(limit: float) -> Change:
    def change(task: Task, summary: dict[str, Any]) -> dict[str, Any]:
        if task.kind == "explore" and task.payload["temperature_K"] > limit:
            summary["stop_reason"] = TORN.format(1, 2, 3)
        return summary

    return change


def temperatures(ran: list[Task]) -> list[float]:
    found = [t.payload["temperature_K"] for t in ran if t.kind == "explore"]
    return [t for i, t in enumerate(found) if i % 4 == 0]


def test_the_temperature_rises_to_the_last_and_the_campaign_ends() -> None:
    snapshot = Snapshot()
    last, ran = finish(campaign(), snapshot)
    assert temperatures(ran) == [100.0, 400.0, 700.0, 1000.0]
    assert last.finished == "the ramp has reached 1000 K; 0 of 4 walkers blew up at 1000 K"
    assert snapshot.decisions["stop"]["iteration"] == 4
    assert any(v["final"] for n, v in snapshot.decisions.items() if n.startswith("model/"))


def test_walkers_of_an_iteration_differ_and_start_displaced() -> None:
    _, ran = finish(campaign(), Snapshot())
    walks = [t.payload for t in ran if t.kind == "explore"]
    assert len({w["seed"] for w in walks}) == len(walks) == 16
    assert {w["displacement"] for w in walks} == {0.02}


def test_an_unstable_temperature_is_repeated_and_then_ends_the_ramp() -> None:
    snapshot = Snapshot()
    last, ran = finish(campaign(), snapshot, unstable_above(500))
    assert temperatures(ran) == [100.0, 400.0, 700.0, 700.0, 700.0]
    assert last.finished == (
        "4 of 4 walkers blew up at 700 K (most often: the bond Zn–O has broken), more than 50%, 3 times: "
        "the ramp ends before 1000 K"
    )
    told = snapshot.decisions["ramp/3"]
    assert told["then"] == "repeat"
    assert "the temperature is repeated" in told["reason"]
    assert told["unstable"] == told["walkers"] == 4


def test_a_ramp_that_recovers_goes_on() -> None:
    def change(task: Task, summary: dict[str, Any]) -> dict[str, Any]:
        return unstable_above(500)(task, summary) if first else summary

    first, snapshot = True, Snapshot()
    config = campaign()
    for _ in range(200):
        now = plan(config, TOY_INPUTS, snapshot)
        snapshot.decisions.update(now.decisions)
        first = "ramp/3" not in snapshot.decisions
        if now.finished:
            break
        for task in now.tasks:
            found = change(task, dict(toy_result(task).summary))
            snapshot.outcomes[task.key] = Outcome("done", task.kind, found)
    told = [snapshot.decisions[f"ramp/{n}"] for n in range(1, 6)]
    assert [t["temperature_K"] for t in told] == [100.0, 400.0, 700.0, 700.0, 1000.0]
    assert [t["then"] for t in told] == ["rise", "rise", "repeat", "rise", "end"]


def test_nothing_new_at_one_temperature_does_not_end_the_ramp() -> None:
    def change(task: Task, summary: dict[str, Any]) -> dict[str, Any]:
        if task.kind == "acquire" and len(task.payload["acquired"]) == 1:
            summary["fragments"] = []
        return summary

    last, ran = finish(campaign(), Snapshot(), change)
    assert temperatures(ran) == [100.0, 400.0, 700.0, 1000.0]
    assert "has reached 1000 K" in last.finished
    assert sum(t.kind == "train" for t in ran) == 1 + 3 + 1  # none after 400 K; the last one is the final


def test_no_frame_at_all_ends_the_ramp_but_not_before_it_began() -> None:
    def dumb(limit: float) -> Change:
        def change(task: Task, summary: dict[str, Any]) -> dict[str, Any]:
            if task.kind == "explore" and task.payload["temperature_K"] > limit:
                return {**summary, "n_frames": 0, "stop_reason": TORN.format(3, 4, 1)}
            return summary

        return change

    last, ran = finish(campaign(), Snapshot(), dumb(500))
    assert "no walker came to a frame at 700 K" in last.finished
    assert ran[-1].kind == "export"
    last, _ = finish(campaign(), Snapshot(), dumb(50))
    assert "all 4 walkers of iteration 1 failed before their first frame" in last.failed


def test_a_ramp_made_longer_goes_on_from_what_is_there() -> None:
    snapshot = Snapshot()
    finish(campaign(), snapshot)
    longer = campaign(explore={"walkers": 4, "temperature": {"first": "100 K", "step": "300 K", "last": "1300 K"}})
    last, ran = finish(longer, snapshot)
    assert temperatures(ran) == [1300.0]
    assert "has reached 1300 K" in last.finished


def test_other_steps_count_from_the_next_iteration_on() -> None:
    snapshot = Snapshot()
    finish(campaign(stop={"iterations": 2}), snapshot)
    steeper = campaign(explore={"walkers": 4, "temperature": {"first": "50 K", "step": "600 K", "last": "1000 K"}})
    _, ran = finish(steeper, snapshot)
    assert temperatures(ran) == [1000.0]  # 100 and 400 K stay


def test_the_labels_that_fill_the_bins_are_in_the_task() -> None:
    snapshot = Snapshot()
    _, ran = finish(campaign(), snapshot)
    picks = [t.payload for t in ran if t.kind == "acquire"]
    split = snapshot.decisions["split/0"]
    assert picks[0]["labelled"] == [*split["train"], *split["validation"]]
    assert picks[0]["acquired"] == []
    assert len(picks[3]["acquired"]) == 3
    assert not set(split["test"]) & {k for p in picks for k in p["labelled"]}


def test_campaigns_without_a_ramp_ask_for_what_they_always_asked() -> None:
    """Keys of tasks are hashes of these: one key more and every older campaign would begin anew."""
    plain = campaign(explore={"walkers": 2}, select={"fragments": 4}, stop={"iterations": 1})
    _, ran = finish(plain, Snapshot())
    walk = next(t.payload for t in ran if t.kind == "explore")
    assert set(walk) == {"model", "system", "identity", "explore", "temperature_K", "pressure_GPa", "steps", "seed"}
    assert "temperature" not in walk["explore"]
    picked = next(t.payload for t in ran if t.kind == "acquire")
    assert set(picked["select"]) == {"ranking", "threshold", "per_frame", "core_seconds", "share", "share_floor"}
    assert not {"labelled", "acquired"} & set(picked)


def test_the_last_temperature_is_reached_however_the_steps_fall() -> None:
    assert Ramp(first="100 K", step="400 K", last="1000 K").temperatures() == (100, 500, 900, 1000)  # type: ignore[arg-type]
    assert Ramp().temperatures() == tuple(range(100, 1001, 100))


@pytest.mark.parametrize(("unstable", "then"), [(0, "rise"), (2, "rise"), (3, "repeat")])
def test_the_share_that_may_blow_up(unstable: int, then: str) -> None:
    ended = [
        Outcome("done", "explore", {"n_frames": 3, "stop_reason": TORN.format(1, 2, 3) if k < unstable else ""})
        for k in range(4)
    ]
    assert judge(RAMP, [], 400.0, ended)["then"] == then
    record: Mapping[str, Any] = judge(RAMP, [], 400.0, ended)
    assert temperature_after(RAMP, [record]) == (700.0 if then == "rise" else 400.0)


def test_a_lost_walker_counts_as_unstable() -> None:
    ended = [Outcome("failed", "explore", reason="out of memory")] * 3 + [
        Outcome("done", "explore", {"n_frames": 1, "stop_reason": ""})
    ]
    told = judge(RAMP, [], 400.0, ended)
    assert (told["unstable"], told["then"]) == (3, "repeat")
    assert "most often: out of memory" in told["reason"]


def test_payloads_of_walks_keep_their_keys() -> None:
    assert "temperature" not in Payloads(campaign(), TOY_INPUTS)._explore


def test_a_ramp_that_was_stopped_often_ends_as_one_that_was_not(tmp_path: Path) -> None:
    explore = {"kind": "ase", "walkers": 2, "temperature": {"first": "100 K", "step": "100 K", "last": "300 K"}}
    more: dict[str, Any] = {"explore": explore, "select": {"kind": "cbad", "fragments": 2}, "stop": {"iterations": 5}}
    whole, broken = (toy_config(tmp_path / name, **more) for name in ("whole", "broken"))
    last = drive_toy(whole)
    assert "has reached 300 K" in last.finished
    interrupted = 0
    for _ in range(100):
        asked = iter(range(6))
        try:
            drive_toy(broken, stop=lambda asked=asked: next(asked, None) is None)  # type: ignore[misc]
            break
        except Interrupted:
            interrupted += 1
    assert interrupted > 3
    assert final_hash(tmp_path / "broken" / "run") == final_hash(tmp_path / "whole" / "run")
