"""A plan that goes on, and one that is made from nothing, are the same at every event: for campaigns with all that the
synchronous loop can do, in which anything may fail and tasks end in any order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from clusterflow.campaign.desk import Desk
from clusterflow.campaign.plan import Cycle, plan
from clusterflow.campaign.steps import Course, StepDesk, Steps
from clusterflow.campaign.tasks import ORDER, Payloads, Plan, PlanStopped
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task
from clusterflow.state.snapshot import Outcome, Snapshot
from clusterflow.testing.toy_campaign import TOY_INPUTS, toy_config, toy_result

RAMP = {
    "explore": {"walkers": 4, "temperature": {"first": "100 K", "step": "300 K", "last": "1000 K"}},
    "select": {"kind": "cbad", "fragments": 4},
    "extract": {"kind": "whole"},
}
ARMS = {"select": {"fragments": 12}, "controls": {"arms": ["random", "periodic"], "share": 0.5}}
COMMITTEE = {"train": {"committee": 3}, "score": {"kind": "committee"}}
FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "certified": {"extract": {"kind": "certified"}, "stop": {"iterations": 4, "labels": 45}},
    "committee": COMMITTEE,
    "linear committee": {"train": {"kind": "linear", "committee": 2}, "score": {"kind": "committee"}},
    "ramp": RAMP,
    "ramp, committee": {**RAMP, **COMMITTEE},
    "arms": ARMS,
    "arms, budget": {**ARMS, "stop": {"iterations": 6, "labels": 50}},
    "arms, ramp": {**RAMP, "select": {"kind": "cbad", "fragments": 12}, "controls": ARMS["controls"]},
    "core hours": {"stop": {"iterations": 9, "core_hours": 0.2}},
    "criteria": {"stop": {"iterations": 6, "test_mae_p95": "297 meV/Å", "novelty": 8.0}},
}


def campaign(**changes: Any) -> Campaign:
    return toy_config(**{"stop": {"iterations": 3}, **changes})


@dataclass
class Chance:
    """What a task gives, by chance that follows from its key: some labels, trainings and walks fail, some selections
    find nothing."""

    seed: int
    share: float = 0.15

    def outcome(self, task: Task) -> Outcome:
        dice = random.Random(f"{self.seed} {task.key}")
        summary, bad = dict(toy_result(task).summary), dice.random() < self.share
        if bad and task.kind in ("label", "control", "train"):
            return Outcome("failed", task.kind, reason="as it happens", wall_time=7.0)
        if bad and task.kind == "explore":
            summary["stop_reason"] = "the bond Zn1–O2 has broken, 2.9 Å"
            summary["n_frames"] = dice.choice([0, 2])
        if dice.random() < self.share / 2 and task.kind == "acquire":
            summary["fragments"] = []
        return Outcome("done", task.kind, summary, wall_time=10.0)


@dataclass
class Driver:
    """Takes one outcome after the other, of a task that ``dice`` chooses; every plan is compared with one from
    nothing, and ``reopened`` says how often another driver takes over."""

    config: Campaign
    chance: Chance
    dice: random.Random
    reopened: float = 0.0
    snapshot: Snapshot = field(default_factory=Snapshot)
    sent: dict[str, Task] = field(default_factory=dict)
    events: int = 0

    def run(self) -> Plan:
        cycle, ended = self._open(), []
        while True:
            kept, anew = cycle.plan(self.snapshot, ended), plan(self.config, TOY_INPUTS, self.snapshot)
            same(kept, anew, self.sent)
            for name in kept.retired:
                self.snapshot.decisions.pop(name, None)
            self.snapshot.decisions.update(kept.decisions)
            ended = []
            if kept.decisions or kept.retired:
                continue
            if kept.finished or kept.failed:
                return kept
            self.sent.update(kept.open)
            task = self.dice.choice(kept.tasks)
            self.snapshot.outcomes[task.key] = self.chance.outcome(task)
            ended, self.events = [task.key], self.events + 1
            if self.dice.random() < self.reopened:
                cycle, ended = self._open(), []

    def _open(self) -> Cycle:
        return Cycle(self.config, Payloads(self.config, TOY_INPUTS))


def same(kept: Plan, anew: Plan, sent: Mapping[str, Task]) -> None:
    assert (kept.finished, kept.failed, kept.stage) == (anew.finished, anew.failed, anew.stage)
    assert kept.decisions == anew.decisions
    assert list(kept.decisions) == list(anew.decisions)
    assert kept.retired == anew.retired
    assert (kept.iteration, kept.records, set(kept.waits_for)) == (anew.iteration, anew.records, set(anew.waits_for))
    assert list(kept.labels.items()) == list(anew.labels.items())
    if not kept.failed:
        assert kept.open == anew.open
        assert unsent(kept, sent) == unsent(anew, sent)
    assert all(k in kept.open for k in kept.waits_for)


def unsent(told: Plan, sent: Mapping[str, Task]) -> list[str]:
    """In the order in which the loop would send them."""
    return [t.key for t in sorted(told.tasks, key=lambda t: ORDER.index(t.kind)) if t.key not in sent]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("features", list(FEATURES))
def test_a_plan_that_goes_on_is_the_plan_from_nothing_at_every_event(features: str, seed: int) -> None:
    config = campaign(**FEATURES[features])
    driver = Driver(config, Chance(seed), random.Random(seed))
    last = driver.run()
    assert driver.events > 12
    again = Driver(config, Chance(seed), random.Random(-seed), reopened=0.3)  # in another order, by several drivers
    assert (again.run().finished or "failed") == (last.finished or "failed")
    if last.finished and config.stop.core_hours is None:
        assert again.snapshot.decisions == driver.snapshot.decisions
        assert again.snapshot.outcomes == driver.snapshot.outcomes


@pytest.mark.parametrize("features", ["plain", "certified", "arms", "ramp"])
def test_what_is_retried_or_changed_in_between_is_seen_the_same_way(features: str) -> None:
    """By the driver that opens the campaign then, and by one that makes every plan from nothing."""
    settings = FEATURES[features]
    driver = Driver(campaign(**settings), Chance(1), random.Random(1))
    driver.run()
    for key in [k for k, o in driver.snapshot.outcomes.items() if o.status == "failed"]:
        del driver.snapshot.outcomes[key]  # what --retry-failed does
    stop = {**settings.get("stop", {}), "iterations": 5}
    driver.config, driver.chance = campaign(**{**settings, "stop": stop}), Chance(1, share=0.0)
    assert driver.run().finished
    driver.config = campaign(**{**settings, "stop": stop, "train": {"batch_size": 3}})  # other models, other walks
    assert driver.run().finished
    trained = [
        k
        for n, v in driver.snapshot.decisions.items()
        if n.startswith("split/")
        for k in (*v["train"], *v["validation"])
    ]
    assert len(trained) == len(set(trained))


def test_a_label_that_succeeded_late_is_trained_on_once() -> None:
    """It joins the split after the one that it missed, and no later one."""
    late, driver = "", Driver(campaign(stop={"iterations": 1}), Chance(0, share=0.0), random.Random(0))
    driver.run()
    late = driver.snapshot.decisions["split/0"]["train"][0]
    first = Driver(campaign(stop={"iterations": 1}), Chance(0, share=0.0), random.Random(0))
    first.snapshot.outcomes[late] = Outcome("failed", "label", reason="too slow")
    first.run()
    del first.snapshot.outcomes[late]
    first.config = campaign(stop={"iterations": 2})
    first.run()
    first.config = campaign(stop={"iterations": 4})  # opened again, after it has joined
    first.run()
    splits = [first.snapshot.decisions[f"split/{i}"] for i in range(5)]
    assert [late in [*s["train"], *s["validation"]] for s in splits] == [False, False, True, False, False]


def test_a_course_goes_on_when_all_that_it_waits_for_has_ended() -> None:
    desk, seen = StepDesk(), []

    def steps() -> Steps[None]:
        yield from desk.wait(["a", "b"])
        seen.append("both")
        yield ()  # another course's turn
        seen.append("again")
        yield from desk.result("c", "The third")

    def end(key: str, status: Any = "done") -> None:
        desk.snapshot.outcomes[key] = Outcome(status, "label", reason="a pity")
        course.go_on(desk)

    course = Course(steps())
    course.go_on(desk)
    assert course.waits_for == ["a", "b"]
    end("b")
    assert (course.waits_for, seen) == (["a"], [])
    end("a")
    assert (list(course.waits_for), seen) == ([], ["both"])
    course.go_on(desk)
    assert (course.waits_for, seen) == (["c"], ["both", "again"])
    with pytest.raises(PlanStopped, match="The third failed: a pity"):
        end("c", "failed")
    assert course.over
    assert isinstance(desk, Desk)
