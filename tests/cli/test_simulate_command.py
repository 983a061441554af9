"""`clusterflow simulate` as a user meets it: right input, and wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clusterflow.cli.main import app

QUICK = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
STREAMING = Path(__file__).parents[2] / "configs" / "streaming.yaml"
TIMES = "md=1min,label=2min±heavy,train=3min"
runner = CliRunner()


def simulate(*words: str, file: Path = STREAMING) -> tuple[int, str]:
    said = runner.invoke(app, ["simulate", str(file), *words], env={"COLUMNS": "160"})
    return said.exit_code, said.output


def test_both_loops_side_by_side_on_any_number_of_nodes() -> None:
    code, text = simulate("--times", TIMES, "--workers", "md=2,label=4", "--nodes", "1,1000", "--json")
    assert code == 0, text
    rows = json.loads(text)["predictions"]
    assert [(r["nodes"], r["loop"]) for r in rows] == [
        (1, "synchronous"), (1, "streaming"), (1000, "synchronous"), (1000, "streaming"),
    ]  # fmt: skip
    assert rows[2]["workers"] == {"md": 2000, "label": 4000, "train": 1, "local": 1}
    assert rows[3]["seconds"] <= rows[1]["seconds"]
    assert all(r["seconds"] > 0 and r["labels"] > 0 for r in rows)


def test_the_table_says_what_was_assumed_and_what_keeps_workers_idle() -> None:
    code, text = simulate("--times", TIMES, "--workers", "md=4,label=16")
    assert code == 0, text
    assert "120 s ± 100 %" in text
    assert "(assumed)" in text
    assert "hint: explore.walkers is 2" in text
    assert "retrain_after 4" in text


def test_without_workers_it_takes_those_of_the_machine() -> None:
    code, text = simulate("--times", TIMES, file=QUICK)
    assert code == 0, text
    assert "streaming" in text


def test_a_ramp_is_predicted_for_the_loop_that_it_needs() -> None:
    code, text = simulate("--times", TIMES, "--json", file=QUICK.with_name("ramp.yaml"))
    assert code == 0, text
    (told,) = json.loads(text)["predictions"]
    assert told["loop"] == "synchronous"
    assert "the ramp has reached 1000 K" in told["ended"]


def test_control_arms_are_predicted_for_the_loop_that_they_need(tmp_path: Path) -> None:
    structure = QUICK.parent / "structures" / "MOF-5_primitive.extxyz"
    (tmp_path / "arms.yaml").write_text(
        f"name: arms\nsystems: [{{name: a, structure: {structure}}}]\nstop: {{iterations: 2}}\n"
        "controls: {arms: [random]}\n"
    )
    code, text = simulate("--times", TIMES, "--json", file=tmp_path / "arms.yaml")
    assert code == 0, text
    told = json.loads(text)
    assert [p["loop"] for p in told["predictions"]] == ["synchronous"]
    assert "`controls:` needs" in told["only_synchronous"]
    code, text = simulate("--times", TIMES, file=tmp_path / "arms.yaml")
    assert code == 0, text
    assert "streaming: not for this file: `controls:` needs `loop: {kind: synchronous}`" in text


def test_times_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "times.yaml").write_text("md: 1 min\nlabel: 2 min ± 50%\ntrain: 3 min\n")
    code, text = simulate("--times", str(tmp_path / "times.yaml"))
    assert code == 0, text
    assert "120 s ± 50 %" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "not known how long these take"),
        (("--times", "label=10m"), "'m' is not a unit"),
        (("--times", "gpu=1min"), "no kind of task 'gpu'"),
        (("--times", "label"), "name=value"),
        (("--times", "nowhere.yaml"), "cannot be read"),
        (("--times", TIMES, "--workers", "gpu=4"), "no lane 'gpu'"),
        (("--times", TIMES, "--workers", "md=many"), "not a number of workers"),
        (("--times", TIMES, "--workers", "md=0"), "not a number of workers"),
        (("--times", TIMES, "--nodes", "1,-3"), "not a number of workers or nodes"),
        (("--from", "nowhere"), "no campaign"),
    ],
)
def test_wrong_input_is_said(words: tuple[str, ...], said: str) -> None:
    code, text = simulate(*words)
    assert code == 2, text
    assert said in " ".join(text.split())
    assert "next:" in text
