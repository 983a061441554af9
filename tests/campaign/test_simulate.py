"""The event simulation: hand-made cases whose answer is known, and what must hold of any."""

from __future__ import annotations

import pytest

from clusterflow.campaign.simulate import Workforce, simulate
from clusterflow.campaign.task_times import (
    Given,
    Measured,
    assumed_times,
    failure_rate,
    measured_times,
    parse_times,
    require,
    split_pairs,
)
from clusterflow.config.campaign import Campaign
from clusterflow.config.loop import Streaming
from clusterflow.core.data import Task
from clusterflow.errors import InputError
from clusterflow.state.snapshot import Outcome, Snapshot
from clusterflow.testing.toy_campaign import TOY_INPUTS

ONE = Workforce({"md": 1, "label": 1, "train": 1, "local": 1})
MANY = Workforce({"md": 4, "label": 16, "train": 1, "local": 1})
UNIT = {kind: Given(1.0) for kind in ("start", "label", "train", "novelty", "evaluate", "explore", "acquire", "export")}
UNIT["calibrate"] = Given(0.0)  # nothing waits for it: the sums by hand leave it out


def campaign(loop: str = "synchronous", **changes: object) -> Campaign:
    data: dict[str, object] = {
        "name": "toy",
        "systems": [{"name": "crystal", "structure": "nowhere.extxyz"}],
        "start": {"fragments": 4, "test_fragments": 2},
        "explore": {"walkers": 2},
        "select": {"fragments": 3},
        "stop": {"iterations": 1},
        "loop": {"kind": loop},
        **changes,
    }
    return Campaign.model_validate(data)


def test_by_hand_one_worker_each() -> None:
    told = simulate(campaign(), TOY_INPUTS, ONE, UNIT)
    # start 1, labels 6, train 1, novelty 1, evaluate 1, walks 2, acquire 1, labels 3, train 1 (beside it the new labels
    # are judged), novelty 1, evaluate 1, export 1
    assert told.seconds == 20.0
    assert told.labels == 9
    assert told.busy["label"] == pytest.approx(9 / 20)
    assert told.busy["md"] == pytest.approx(2 / 20)
    assert told.core_hours == pytest.approx(21 / 3600)
    assert told.lag is None
    assert told.ended == "all 1 iterations are done"


def test_by_hand_enough_workers() -> None:
    assert simulate(campaign(), TOY_INPUTS, MANY, UNIT).seconds == 20.0 - 5 - 1 - 2


def test_lanes_share_cores() -> None:
    narrow = Workforce(MANY.workers, {"label": 2}, cores=4)
    told = simulate(campaign(), TOY_INPUTS, narrow, UNIT)
    assert told.seconds == 20.0 - 3 - 1 - 1  # two labels at once, and both walks


def test_latency_counts_for_every_task() -> None:
    assert simulate(campaign(), TOY_INPUTS, ONE, UNIT, latency=0.5).seconds == 30.5  # one of them not waited for


def test_failing_labels_cost_time_and_are_replaced() -> None:
    config = campaign("streaming", stop={"iterations": 5})
    told = simulate(config, TOY_INPUTS, MANY, UNIT, label_failures=0.3)
    assert told.labels < told.core_hours * 3600
    assert told.ended == "all 5 iterations are done"


@pytest.mark.parametrize("walkers", [1, 3, 8])
@pytest.mark.parametrize("heavy", [0.0, 1.0])
def test_streaming_is_faster_and_its_lag_is_bounded(walkers: int, heavy: float) -> None:
    times = {**UNIT, "label": Given(10.0, heavy), "explore": Given(8.0, heavy), "train": Given(10.0)}
    changes = {"explore": {"walkers": walkers}, "select": {"fragments": 16}, "stop": {"iterations": 99, "labels": 200}}
    cycle = simulate(campaign("synchronous", **changes), TOY_INPUTS, MANY, times)
    stream = simulate(campaign("streaming", **changes), TOY_INPUTS, MANY, times)
    assert cycle.labels == stream.labels == 200
    assert stream.seconds < cycle.seconds
    assert stream.lag is not None
    assert stream.lag <= 2.0
    assert all(0.0 <= b <= 1.0 for p in (cycle, stream) for b in p.busy.values())


def test_two_simulations_agree() -> None:
    times = {**UNIT, "label": Given(10.0, 1.0)}
    assert simulate(campaign("streaming"), TOY_INPUTS, MANY, times) == simulate(
        campaign("streaming"), TOY_INPUTS, MANY, times
    )


def test_a_timer_starts_a_training() -> None:
    timed = Streaming.model_validate({"retrain_after": 1000, "retrain_interval": "60 s"})
    config = campaign("streaming").model_copy(update={"loop": timed})
    assert simulate(config, TOY_INPUTS, MANY, UNIT, most=3000).iterations == 1


def test_what_is_left_of_a_campaign() -> None:
    config, begun = campaign(stop={"iterations": 1}), Snapshot()
    whole = simulate(config, TOY_INPUTS, ONE, UNIT)
    from clusterflow.campaign.planner import plan_once
    from clusterflow.testing.toy_campaign import toy_result

    for _ in range(2):  # start, and the labels
        for task in plan_once(config, TOY_INPUTS, begun).tasks:
            begun.outcomes[task.key] = Outcome("done", task.kind, toy_result(task).summary)
    before = dict(begun.outcomes)
    assert simulate(config, TOY_INPUTS, ONE, UNIT, begun=begun).seconds == whole.seconds - 7
    assert begun.outcomes == before


def test_a_lane_without_workers_is_refused() -> None:
    with pytest.raises(InputError, match="Lane 'md' has 0 workers"):
        simulate(campaign(), TOY_INPUTS, Workforce({"md": 0, "label": 1, "train": 1, "local": 1}), UNIT)


def test_a_campaign_without_end_is_given_up() -> None:
    with pytest.raises(InputError, match="does not end"):
        simulate(campaign("streaming", stop={"iterations": 100_000}), TOY_INPUTS, MANY, UNIT, most=2000)


@pytest.mark.parametrize(
    ("text", "mean", "spread"),
    [("60s", 60, 0), ("10 min", 600, 0), ("1h±50%", 3600, 0.5), ("2 min ± heavy", 120, 1), ("5s+-heavy", 5, 1)],
)
def test_times_as_a_user_writes_them(text: str, mean: float, spread: float) -> None:
    assert parse_times({"label": text}, "here") == {"label": Given(mean, spread)}


def test_lanes_stand_for_their_kinds() -> None:
    assert set(parse_times({"md": "1 s", "local": "1 s", "train": "1 s"}, "here")) == {
        "explore", "start", "novelty", "evaluate", "calibrate", "acquire", "control", "train",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "10", "10 m", "fast", "10 min ± much", "-5 s", "nan s", "10 min; rm -rf"])
def test_times_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read") as said:
        parse_times({"label": text}, "--times")
    assert said.value.todo


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="no kind of task 'gpu'"):
        parse_times({"gpu": "1 s"}, "--times")
    with pytest.raises(InputError, match="name=value"):
        split_pairs("md:4", "--workers")


def test_missing_times_are_named() -> None:
    with pytest.raises(InputError, match=r"explore, train"):
        require({**assumed_times(), "label": Given(1.0)}, "here")


def test_log_normal_times_have_the_mean_and_spread_asked_for() -> None:
    given = Given(10.0, 0.5)
    drawn = [given.seconds(Task("label", f"{i * 7919:016x}", "label", {})) for i in range(4000)]
    mean = sum(drawn) / len(drawn)
    deviation = (sum((x - mean) ** 2 for x in drawn) / len(drawn)) ** 0.5
    assert mean == pytest.approx(10.0, rel=0.03)
    assert deviation / mean == pytest.approx(0.5, rel=0.07)
    assert min(drawn) > 0


def test_measured_times_scale_with_steps_and_labels() -> None:
    snapshot = Snapshot()
    snapshot.outcomes["a"] = Outcome("done", "explore", {"steps_done": 100}, wall_time=50.0)
    snapshot.outcomes["b"] = Outcome("done", "train", {"n_training": 8, "n_validation": 2}, wall_time=100.0)
    snapshot.outcomes["c"] = Outcome("done", "label", {}, wall_time=7.0)
    snapshot.outcomes["d"] = Outcome("done", "label", {}, wall_time=900.0, cached=True)
    snapshot.outcomes["e"] = Outcome("failed", "label", wall_time=900.0)
    times = measured_times(snapshot)
    assert times["label"] == Measured((7.0,))
    assert times["explore"].seconds(Task("explore", "0" * 64, "md", {"steps": 1000})) == pytest.approx(500.0)
    fit = Task("train", "0" * 64, "train", {"training": ["x"] * 30, "validation": ["y"] * 10})
    assert times["train"].seconds(fit) == pytest.approx(400.0)
    assert failure_rate(snapshot) == pytest.approx(1 / 3)
    assert failure_rate(Snapshot()) == 0.0
