"""The live view: one screen on a terminal, plain lines elsewhere, both from the same events."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from clusterflow.campaign.loop import Loop
from clusterflow.cli.console import CampaignView, event_line
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task, TaskResult
from clusterflow.errors import LabelError
from clusterflow.state.journal import Event, Journal
from clusterflow.state.lease import Lease
from clusterflow.state.snapshot import fold
from clusterflow.testing.toy_campaign import TOY_INPUTS, ToyEngine, toy_result

CONFIG = Campaign.model_validate(
    {
        "name": "toy",
        "systems": [{"name": "crystal", "structure": "nowhere.extxyz"}],
        "start": {"fragments": 5, "test_fragments": 2},
        "explore": {"walkers": 2},
        "select": {"fragments": 3},
        "stop": {"iterations": 1},
    }
)


def seen(folder: Path, *, terminal: bool) -> str:
    """What a whole toy campaign, one label of which fails, prints."""
    failed: list[str] = []

    def work(task: Task) -> TaskResult:
        if task.kind == "label" and not failed:
            failed.append(task.key)
            raise LabelError("SCF did not converge [in 120 steps]")
        return toy_result(task)

    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=110, height=60)
    with Lease.acquire(folder) as lease, Journal.open(folder / "journal.jsonl", lease.epoch) as journal:
        snapshot = fold([])
        view = CampaignView(
            snapshot, title="clusterflow · toy", planned=1, progress=lambda: ["md: step 5"], console=console
        )
        with view:
            engine = ToyEngine(work)
            Loop(CONFIG, TOY_INPUTS, snapshot, journal, engine, lambda _: None, view.watch, lambda: False).run()
    return text.getvalue()


def test_one_screen_on_a_terminal(tmp_path: Path) -> None:
    said = seen(tmp_path, terminal=True)
    for words in (
        "clusterflow · toy",
        "labels",
        "dynamics",
        "iteration 1 of 1",
        "core hours so far",
        "MAE_P95",
        "md: step 5",
    ):
        assert words in said
    assert "SCF did not converge [in 120 steps]" in said


def test_what_a_ramp_says() -> None:
    told = {"temperature_K": 400.0, "walkers": 8, "unstable": 6, "then": "repeat", "reason": "6 of 8 walkers blew up"}
    event = Event(1, "2026-11-21T00:00:00", 1, "decision", {"name": "ramp/2", "value": told}, "", "")
    assert event_line(event) == "iteration 2: 6 of 8 walkers blew up"


def test_plain_lines_elsewhere(tmp_path: Path) -> None:
    lines = seen(tmp_path, terminal=False).splitlines()
    assert not any("\x1b" in line for line in lines)
    assert sum("label    FAILED" in line for line in lines) == 1
    assert sum("label    done" in line for line in lines) == 9
    assert any("iteration 1: 3 fragments selected" in line for line in lines)
    judged = [line.partition("  ")[2].strip() for line in lines if "evaluate done" in line]
    assert sum("test set: force MAE_P95" in line for line in judged) == 2
    assert sum("new labels of iteration 1, not trained on yet: force MAE_P95" in line for line in judged) == 1
    assert len(judged) == 3
