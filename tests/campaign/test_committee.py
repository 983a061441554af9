"""A committee in both plans: members are trained side by side, each on its share; nothing changes for one potential."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from clusterflow.campaign.committee import share_of
from clusterflow.campaign.planner import Planner, plan_once
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task
from clusterflow.core.frames import digest
from clusterflow.state.snapshot import Outcome, Snapshot
from clusterflow.testing.toy_campaign import TOY_INPUTS, toy_result
from clusterflow.testing.toy_campaign import toy_config as campaign

LINEAR: dict[str, Any] = {"train": {"kind": "linear", "committee": 3}, "score": {"kind": "committee"}}
NEQUIP: dict[str, Any] = {"train": {"committee": 2}, "score": {"kind": "committee"}}
STREAMING = {"loop": {"kind": "streaming", "retrain_after": 4}}


def drive(
    config: Campaign, *, fails: Callable[[Task], bool] = lambda _: False, seed: int | None = None
) -> tuple[Snapshot, list[list[Task]], str]:
    """The toy campaign to its end: all wanted tasks end at once (one by one in random order with a ``seed``, and each
    plan compared with one made from nothing). Returns the state, the tasks wave by wave, and why it ended."""
    snapshot, waves, dice = Snapshot(), [], random.Random(seed)
    planner = Planner(config, TOY_INPUTS)
    for _ in range(2000):
        current = planner.plan(snapshot)
        if seed is not None:
            anew = plan_once(config, TOY_INPUTS, snapshot)
            assert {t.key: t.payload for t in current.tasks} == {t.key: t.payload for t in anew.tasks}
            assert dict(current.decisions) == dict(anew.decisions)
        new = {n: v for n, v in current.decisions.items() if snapshot.decisions.get(n) != v}
        snapshot.decisions.update(new)
        if new:
            planner.decided()
            continue
        if current.finished or current.failed:
            return snapshot, waves, current.finished or current.failed
        tasks = [t for t in current.tasks if t.key not in snapshot.outcomes]
        waves.append(tasks if seed is None else [dice.choice(tasks)])
        for task in waves[-1]:
            bad = fails(task)
            summary = {} if bad else toy_result(task).summary
            snapshot.outcomes[task.key] = Outcome("failed" if bad else "done", task.kind, summary, reason="NaN")
            planner.ended(task.key)
    raise AssertionError("the plan never ends")


def trainings(waves: list[list[Task]]) -> list[list[Task]]:
    return [w for w in ([t for t in wave if t.kind == "train"] for wave in waves) if w]


def test_shares_of_members() -> None:
    training, validation = [f"t{i}" for i in range(40)], [f"v{i}" for i in range(10)]
    for member in (1, 2):
        drawn, same = share_of(training, validation, how="bootstrap", seed=1, member=member)
        assert same == validation
        assert len(drawn) == 40
        assert len(set(drawn)) < 36
        assert set(drawn) <= set(training)
        kept, held = share_of(training, validation, how="split", seed=1, member=member)
        assert (len(kept), len(held)) == (30, 10)
        assert sorted(kept + held) == sorted(training)  # disagreement is calibrated on the validation of the first
    assert share_of(training, validation, how="split", seed=1, member=1) != (kept, held)
    # the order in which labels came decides nothing
    assert share_of(training[::-1], validation, how="bootstrap", seed=1, member=2)[0] == drawn
    assert share_of(training[::-1], validation[::-1], how="split", seed=1, member=2) == (kept, held)
    assert share_of(["t0"], ["v0"], how="split", seed=1, member=1) == (["t0"], ["v0"])
    assert share_of(training[:4], validation, how="split", seed=1, member=1)[0] != []
    # a member keeps its split when labels are added: only what fills the larger validation set changes
    more = share_of([*training, "t40", "t41"], validation, how="split", seed=1, member=2)[1]
    assert len(set(held) & set(more)) >= 8


def test_a_synchronous_committee_trains_side_by_side_and_scores_together() -> None:
    snapshot, all_waves, why = drive(campaign(**LINEAR))
    assert why == "all 2 iterations are done"
    waves = trainings(all_waves)
    assert [len(w) for w in waves] == [3, 3, 3]
    first, *others = waves[1]
    assert "member" not in first.payload
    assert [t.payload["member"] for t in others] == [1, 2]
    assert len({t.payload["seed"] for t in waves[1]}) == 3
    assert all(t.payload["start"] is None for w in waves for t in w)  # a fit needs no start
    assert snapshot.decisions["model/1"]["key"] == first.key
    assert snapshot.decisions["model/1"]["others"] == [t.key for t in others]
    scored = [t.payload for wave in all_waves for t in wave if t.kind == "novelty"]
    assert [p["members"] for p in scored] == [[t.key for t in w] for w in waves]
    walked = {t.payload["model"] for wave in all_waves for t in wave if t.kind == "explore"}
    assert walked == {waves[0][0].key, waves[1][0].key}  # the first member runs the dynamics


def test_members_of_nequip_go_on_from_their_own_last_model() -> None:
    waves = trainings(drive(campaign(**NEQUIP))[1])
    for before, after in itertools.pairwise(waves):
        assert [t.payload["start"] for t in after] == [t.key for t in before]


@pytest.mark.parametrize("loop", [{}, STREAMING])
def test_a_member_that_fails_gets_one_more_try_and_then_ends_the_campaign(loop: dict[str, Any]) -> None:
    failed: list[str] = []

    def once(task: Task) -> bool:
        wrong = task.kind == "train" and task.payload.get("member") == 1 and not failed
        failed.extend([task.key] if wrong else [])
        return wrong

    snapshot, _, why = drive(campaign(**LINEAR, **loop), fails=once)
    assert why == "all 2 iterations are done"
    assert len(failed) == 1
    snapshot, _, why = drive(campaign(**LINEAR, **loop), fails=lambda t: t.payload.get("member") == 2)
    assert "failed twice" in why
    assert sum(o.kind == "train" for o in snapshot.outcomes.values()) == 4  # three, and one again


@pytest.mark.parametrize("changes", [LINEAR, NEQUIP])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_streaming_committee_is_the_same_for_every_driver(changes: dict[str, Any], seed: int) -> None:
    snapshot, waves, why = drive(campaign(**changes, **STREAMING), seed=seed)
    assert why == "all 2 iterations are done"
    size = changes["train"]["committee"]
    scored = [t.payload for wave in waves for t in wave if t.kind == "novelty"]
    assert [len(p["members"]) for p in scored] == [size] * 3
    for number, payload in enumerate(scored):
        told = snapshot.decisions[f"committee/{number}"]["models"]
        assert payload["members"] == [snapshot.decisions[f"model/{number}"]["key"], *told]


def test_a_campaign_of_one_nequip_potential_keeps_its_keys() -> None:
    """Keys of all tasks: whoever changes what they are made of lets older campaigns begin anew, and should know."""
    config = campaign(
        train={"kind": "nequip", "model": {"preset": "small"}, "core_only": True, "final": {"max_epochs": 5}},
        score={"kind": "gmm", "components": [1, 3]},
    )
    snapshot, _, _ = drive(config)
    assert digest(*snapshot.outcomes)[:16] == "78bd9da4da6bebe3"
