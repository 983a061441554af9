"""A toy in place of the science, to test plan, loop and journal in milliseconds. Its numbers mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from clusterflow.campaign.tasks import Inputs, SystemInput
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task, TaskResult
from clusterflow.core.frames import canonical_json, digest

TOY_INPUTS = Inputs(
    systems=(SystemInput("crystal", "abc", 106, True, ("C", "H", "O", "Zn")),),
    level_of_theory="toy",
    elements=("C", "H", "O", "Zn"),
)


def toy_config(**changes: Any) -> Campaign:
    """A small campaign for the toy: two iterations of five labels; ``changes`` replace whole sections."""
    data: dict[str, Any] = {
        "name": "toy",
        "seed": 3,
        "systems": [{"name": "crystal", "structure": "nowhere.extxyz"}],
        "start": {"fragments": 8, "test_fragments": 4},
        "explore": {"walkers": 3},
        "select": {"fragments": 5},
        "stop": {"iterations": 2},
        **changes,
    }
    return Campaign.model_validate(data)


def large_config(loop: str, *, walkers: int, labels: int, arms: int = 0) -> Campaign:
    """A large campaign for benchmarks of plan and driver: as many labels per iteration as walkers; ``arms`` control
    arms beside it."""
    controls = {"arms": ["random", "farthest_point", "periodic"][:arms], "share": 0.5}
    return toy_config(
        name="large",
        start={"fragments": 200, "test_fragments": 50},
        explore={"walkers": walkers},
        select={"fragments": walkers},
        stop={"labels": labels, "iterations": 100_000},
        loop={"kind": loop},
        **({"controls": controls} if arms else {}),
    )


def toy_result(task: Task) -> TaskResult:
    """A result of the right shape that depends on nothing but the task."""
    p = task.payload
    summary: dict[str, Any] = {}
    if task.kind == "start":
        s = p["start"]
        kinds = ["test"] * s["test_fragments"] + ["train"] * s["fragments"]
        summary = {"fragments": [_fragment(task, i, k) for i, k in enumerate(kinds)]}
    elif task.kind == "acquire":
        summary = {
            "fragments": [_fragment(task, i, "train") for i in range(p["budget"])] + _confirming(task),
            "novelty": {"max": 99.0, "excess": 30.0 - len(p["known"]), "median": 1.0, "never_seen": 0},
            "n_frames": len(p["walkers"]),
            "refused": [],
        }
    elif task.kind == "control":
        summary = {"fragments": [_fragment(task, i, "train") for i in range(p["budget"])], "n_frames": 1, "refused": []}
    elif task.kind == "train":
        summary = {"model_id": task.key[:12], "n_training": len(p["training"]), "n_validation": 1, "metrics": {}}
    elif task.kind == "evaluate":
        summary = {"mae_p95": 300.0 - len(p["labels"]), "mae": 50.0, "rmse": 70.0, "n_frames": len(p["labels"])}
    elif task.kind == "explore":
        summary = {
            "model": p["model"], "system": p["system"], "temperature_K": p["temperature_K"],
            "pressure_GPa": p["pressure_GPa"], "steps": p["steps"], "steps_done": p["steps"], "n_frames": 2,
            "stop_reason": "",
        }  # fmt: skip
    elif task.kind == "label":
        summary = {"energy": -1.0, "seconds": 10.0, "cores": 1}
    return TaskResult(task.key, summary, 10.0, 1, 100.0)


def _fragment(task: Task, index: int, purpose: str) -> dict[str, Any]:
    key = digest(task.key, str(index))
    return {"label_key": key, "system": "crystal", "kind": "linker", "n_atoms": 18, "set": purpose}


def _confirming(task: Task) -> list[dict[str, Any]]:
    """With certified fragments, one larger one that confirms each second one."""
    if task.payload["extract"]["kind"] != "certified":
        return []
    small = [_fragment(task, i, "train")["label_key"] for i in range(0, task.payload["budget"], 2)]
    return [{**_fragment(task, 1000 + i, "train"), "confirms": key} for i, key in enumerate(small)]


@dataclass
class ToyEngine:
    """Runs `toy_result` (or what ``work`` says) at once; remembers what it ran, so that tests can count."""

    work: Callable[[Task], TaskResult] = toy_result
    ran: list[Task] = field(default_factory=list)
    closed: bool = False

    def submit(self, task: Task) -> Future[TaskResult]:
        self.ran.append(task)
        future: Future[TaskResult] = Future()
        try:
            canonical_json(dict(task.payload))  # whatever travels must be JSON
            future.set_result(self.work(task))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self, *, cancel: bool = False) -> None:  # noqa: ARG002 - the Protocol has it
        self.closed = True
