"""Real campaigns of a small molecule with linear potentials, every stage real, in this process: a committee in both
loops, and fine-tuning of what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read

from clusterflow.campaign.report import write_report
from clusterflow.config.campaign import Campaign
from clusterflow.core.frames import write_frames
from clusterflow.errors import ConfigError, InputError
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import Snapshot
from clusterflow.testing.serial_drive import drive
from clusterflow.train.learners import load_potential

MODEL = {"cutoff": "4 Å", "radial": 8, "density": 4, "l_max": 2, "channels": 6, "features": 4}


def campaign(place: Path, **changes: Any) -> Campaign:
    structure = place / "methanol.extxyz"
    if not structure.is_file():
        write_frames(structure, [molecule("CH3OH")])
    system = {"name": "methanol", "structure": str(structure), "ensemble": {"kind": "nvt", "temperature": "400 K"}}
    data: dict[str, Any] = {
        "name": "small",
        "seed": 2,
        "folder": str(place / "run"),
        "systems": [system],
        "start": {"fragments": 10, "test_fragments": 3, "displacement": ["0.03 Å", "0.1 Å"]},
        "explore": {"kind": "ase", "walkers": 2, "steps": {"first": 40, "growth": 1}, "frame_interval": 10},
        "score": {"kind": "committee", "threshold": "0.001 eV/Å"},
        "select": {"fragments": 3},
        "extract": {"kind": "whole"},
        "label": {"kind": "xtb"},
        "train": {"kind": "linear", "committee": 2, "model": MODEL},
        "stop": {"iterations": 1},
        **changes,
    }
    return Campaign.model_validate(data)


def run(config: Campaign) -> tuple[str, Snapshot]:
    """To the end with the serial engine; writes outputs and report."""
    plan, snapshot = drive(config)
    write_report(CampaignFolder(config.run_folder), snapshot)
    return plan.finished or plan.failed, snapshot


@pytest.mark.parametrize("loop", [{}, {"loop": {"kind": "streaming", "retrain_after": 3}}])
def test_a_committee_of_linear_potentials_learns(tmp_path: Path, loop: dict[str, Any]) -> None:
    why, snapshot = run(campaign(tmp_path, **loop))
    assert why == "all 1 iterations are done"
    folder = tmp_path / "run"
    fitted = [o for o in snapshot.outcomes.values() if o.kind == "train"]
    assert len(fitted) == 4  # two members, before and after
    assert all(o.summary["metrics"]["val_force_mae_eV_per_A"] < 1.0 for o in fitted)
    scored = [o.summary for o in snapshot.outcomes.values() if o.kind == "novelty"]
    assert [s["members"] for s in scored] == [2, 2]
    assert all(set(s["quantiles"]) == {"H", "C", "O"} for s in scored)
    explored = [o.summary["novelty"] for o in snapshot.outcomes.values() if o.kind == "acquire"]
    assert all(0 < e["max"] < 50 for e in explored)
    assert "eV/Å" in (folder / "report.html").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["metrics"]["energy_by_system"]["methanol"]) == {"average", "std", "mae", "rmse", "n_frames"}
    potential = load_potential(folder / "model")
    frames = [a for a in read(folder / "dataset.extxyz", ":") if a.info["split"] == "test"]
    errors = [p.forces - a.get_forces() for p, a in zip(potential.predict(frames), frames, strict=True)]
    assert 1000 * np.abs(np.concatenate(errors)).mean() == pytest.approx(metrics["models"][-1]["mae"], rel=1e-3)


def test_an_iteration_in_which_the_committee_agrees_ends_the_campaign(tmp_path: Path) -> None:
    why, _ = run(campaign(tmp_path, score={"kind": "committee", "threshold": "1000 eV/Å"}))
    assert why == "iteration 1 found no atom on which the committee disagrees by more than its threshold"


def test_a_campaign_that_fine_tunes_the_potential_of_another(tmp_path: Path) -> None:
    alone = {"score": {"components": [1, 2]}, "stop": {"iterations": 0}, "folder": str(tmp_path / "first")}
    run(campaign(tmp_path, train={"kind": "linear", "model": MODEL}, **alone))
    given = tmp_path / "first" / "model"
    tuned: dict[str, Any] = {"kind": "linear", "model": MODEL, "start_from": str(given)}
    few = {"fragments": 2, "test_fragments": 2, "displacement": ["0.03 Å", "0.1 Å"]}
    alone |= {"start": few, "label": {"kind": "xtb", "method": "GFN2-xTB"}, "folder": str(tmp_path / "second")}
    _, snapshot = run(campaign(tmp_path, train=tuned, **alone))
    _, scratch = run(
        campaign(tmp_path, train={"kind": "linear", "model": MODEL}, **alone | {"folder": str(tmp_path / "third")})
    )
    error, without = (
        next(o.summary["mae"] for o in s.outcomes.values() if o.kind == "evaluate") for s in (snapshot, scratch)
    )
    assert error < 0.7 * without  # two labels of another level are enough for what the first one knew
    copy = tmp_path / "second" / "inputs" / "start_model"
    assert json.loads((copy / "model.json").read_text())["fine_tuned_from"]["level_of_theory"].startswith("GFN1")

    with pytest.raises(ConfigError, match="another model to start from"):
        run(campaign(tmp_path, train={**tuned, "start_from": str(tmp_path / "third" / "model")}, **alone))
    with pytest.raises(InputError, match="no model to start from"):
        run(campaign(tmp_path, train={**tuned, "start_from": "nowhere"}, **alone | {"folder": str(tmp_path / "no")}))
    given.rename(tmp_path / "moved")  # the campaign has its own copy
    assert run(campaign(tmp_path, train=tuned, **alone))[0] == "all 0 iterations are done"
