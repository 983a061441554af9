"""`clusterflow compare` on campaigns whose files are real and whose science is a toy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clusterflow.campaign.report import report_data
from clusterflow.cli.main import app
from clusterflow.cli.status import find_campaign
from clusterflow.testing.toy_science import drive_toy, toy_config

CONTROLS = {"select": {"fragments": 4}, "controls": {"arms": ["random"]}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Run folders of one campaign with two seeds."""
    folder = tmp_path_factory.mktemp("compare")
    out = []
    for seed in (1, 2):
        config = toy_config(folder, seed=seed, **CONTROLS)
        assert drive_toy(config.model_copy(update={"folder": folder / f"run{seed}"})).finished
        out.append(folder / f"run{seed}")
    return out


def clusterflow(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, done.output


def test_tables_of_both_arms_with_intervals(runs: list[Path]) -> None:
    code, said = clusterflow("compare", *runs)
    assert code == 0
    assert "over 2 runs" in said
    assert "selected" in said
    assert "random" in said
    assert "…" in said


def test_one_run_says_that_it_has_no_interval(runs: list[Path]) -> None:
    code, said = clusterflow("compare", runs[0])
    assert code == 0
    assert "One seed gives no interval" in said


def test_json_and_page(runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    code, said = clusterflow("compare", *runs, "--json", "-o", page)
    assert code == 0
    told = json.loads(said)
    assert [p["n_labels"] for p in told["curves"]["random"]] == [2, 4]
    assert told["curves"]["selected"][1]["mae_p95"]["n"] == 2
    assert page.read_text(encoding="utf-8").count("<svg") == 2
    code, said = clusterflow("compare", *runs, "-o", page)
    assert code == 2
    assert "--force" in said


def test_metrics_and_report_have_the_arms_and_the_hash_of_the_test_set(runs: list[Path]) -> None:
    metrics = json.loads((runs[0] / "metrics.json").read_text(encoding="utf-8"))
    folder, snapshot = find_campaign(runs[0])
    assert metrics["test_set"] == {
        "hash": snapshot.decisions["test_set/0"]["hash"], "fragments": 1, "labelled": 1
    }  # fmt: skip
    assert [c["arm"] for c in metrics["arms"]] == ["selected", "random"]
    assert [c.arm for c in report_data(folder, snapshot).arms] == ["selected", "random"]
    assert metrics["arms"][0]["points"][1]["core_seconds"] > 0


def test_what_cannot_be_compared(runs: list[Path]) -> None:
    code, said = clusterflow("compare", runs[0], runs[0])
    assert code == 2
    assert "given twice" in said
    config = toy_config(runs[0].parent, **CONTROLS, train={"model": {"preset": "small"}})
    assert drive_toy(config).finished
    code, said = clusterflow("compare", runs[0], runs[0].parent / "run")
    assert code == 2
    assert "differ in more than their seeds: train.model.preset" in said
