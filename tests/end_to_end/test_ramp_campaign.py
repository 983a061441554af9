"""A temperature ramp with every real part: dynamics, empty bins, xTB, NequIP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.build import molecule

from clusterflow.campaign.loop import Interrupted, Loop
from clusterflow.campaign.outputs import write_outputs
from clusterflow.campaign.session import open_session
from clusterflow.config.load import load_campaign
from clusterflow.core.frames import content_hash, read_frames, write_frames
from clusterflow.execution import apps
from clusterflow.execution.serial_engine import SerialEngine

pytestmark = pytest.mark.slow
CAMPAIGN = """\
name: ramp
seed: 3
systems:
  - {name: ethanol, structure: ethanol.extxyz, ensemble: {kind: nvt}}
start: {fragments: 5, test_fragments: 2, displacement: [0.02 Å, 0.04 Å]}
explore:
  kind: ase
  temperature: {first: 100 K, step: 100 K, last: 200 K, max_unstable: 1}
  walkers: 2
  steps: {first: 20, growth: 1, maximum: 20}
  frame_interval: 5
  limits: {bonds: free, max_force: 200 eV/Å, energy_jump: 50 eV, max_temperature_factor: 1000}
score: {components: [1, 2]}
select: {kind: cbad, fragments: 4}
extract: {kind: whole}
label: {kind: xtb}
train:
  model: {preset: small}
  intermediate: {max_epochs: 4}
  final: {max_epochs: 4}
  packaged: []
stop: {iterations: 4}
"""


def test_a_ramp_until_its_second_selection(tmp_path: Path) -> None:
    write_frames(tmp_path / "ethanol.extxyz", [molecule("CH3CH2OH")])
    (tmp_path / "ramp.yaml").write_text(CAMPAIGN, encoding="utf-8")
    run = tmp_path / "run"
    config = load_campaign(tmp_path / "ramp.yaml").model_copy(update={"folder": run})
    with open_session(config, {}) as session:
        told = session.snapshot
        loop = Loop(
            config=config,
            inputs=session.inputs,
            snapshot=told,
            journal=session.journal,
            engine=SerialEngine(apps.run_task, session.folder.root),
            published=lambda task: apps.published(task, session.folder),
            watch=lambda *_: None,
            stop=lambda: "selected/2" in told.decisions,  # the rest is as in any campaign
        )
        with pytest.raises(Interrupted):
            loop.run()
        write_outputs(session.folder, told)
    ramp = [told.decisions[f"ramp/{n}"] for n in (1, 2)]
    assert [r["temperature_K"] for r in ramp] == [100.0, 200.0]
    assert ramp[1]["reason"] == "the ramp has reached 200 K; 0 of 2 walkers blew up at 200 K"
    assert all(1 <= len(told.decisions[f"selected/{n}"]["fragments"]) <= 2 for n in (1, 2))
    starts = [read_frames(p)[0] for p in run.glob("tasks/explore/*/trajectory.extxyz")]
    assert len({content_hash(a) for a in starts}) == 4
    labelled = read_frames(run / "dataset.extxyz")
    assert len({content_hash(a) for a in labelled}) == len(labelled)
    records = sorted(run.glob("tasks/acquire/*/cbad.json"))
    filled = [json.loads(r.read_text())["bins"]["filled"] for r in records]
    assert len(filled) == 2
    assert {"bond C(CHHH)-C(CHHO)", "angle C(CHHH)-C(CHHO)-O(CH)"} <= set(filled[0])
    metrics = json.loads((run / "metrics.json").read_text())
    assert [(r["then"], r["accepted"]) for r in metrics["ramp"]] == [
        ("rise", len(told.decisions["selected/1"]["fragments"])),
        ("end", len(told.decisions["selected/2"]["fragments"])),
    ]
