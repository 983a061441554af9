"""A torsional free energy by `clusterflow property`: pieces that resume, a longer run that goes on, and bad input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ase.build import molecule
from rich.console import Console

from clusterflow.cli.property import run_properties
from clusterflow.config.load import load_properties
from clusterflow.config.properties import TorsionFreeEnergy
from clusterflow.core.frames import write_frames
from clusterflow.errors import ConfigError, ExploreError, StructureError
from clusterflow.execution import property_stages, stages
from clusterflow.execution.workplace import Workplace
from clusterflow.state.fsck import examine
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.testing.torsion_chain import TorsionChain, chain

RUN = """\
name: butane
potential: {calculator: "clusterflow.testing.torsion_chain:ChainCalculator"}
structures:
  - {name: chain, structure: chain.extxyz}
properties:
  - kind: torsion_free_energy
    torsions: [[0, 1, 2, 3]]
    temperature: 600 K
    timestep: 2 fs
    steps: 2000
    segment: 1000
    replicas: 2
    height: 50 meV
    width: 20°
    grid: 10 deg
    interval: 20
    bins: 36
    discard: 0.1
"""


def prepared(folder: Path, text: str = RUN) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_frames(folder / "chain.extxyz", [chain(TorsionChain())])
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    return folder / "run.yaml"


def run(file: Path, root: Path, *, retry_failed: bool = False) -> int:
    return run_properties(
        [str(file)], only=[], folder=root, engine="serial", retry_failed=retry_failed, console=Console(quiet=True)
    )


def test_a_longer_run_goes_on_and_ends_as_one_in_a_single_go(tmp_path: Path) -> None:
    whole, root = tmp_path / "whole", tmp_path / "out"
    assert run(prepared(tmp_path / "a"), whole) == 0
    short = prepared(tmp_path / "b", RUN.replace("steps: 2000", "steps: 1000"))
    run(short, root)  # may have holes yet
    done = {p.name: p.stat().st_ino for p in (root / "tasks" / "metadynamics").iterdir()}
    assert len(done) == 2
    assert run(prepared(tmp_path / "b"), root) == 0
    now = {p.name: p.stat().st_ino for p in (root / "tasks" / "metadynamics").iterdir()}
    assert len(now) == 4
    assert now.items() >= done.items()
    sent = [e.data["key"] for e in read_events(root / "journal.jsonl") if e.kind == "sent"]
    assert len(sent) == len(set(sent))
    results, expected = (json.loads((r / "results.json").read_text()) for r in (root, whole))
    assert results == expected
    quantities = results["results"][0]["result"]["quantities"]
    assert 0.1 < quantities["barrier of a turn"]["value"] < 0.4  # 0.22 eV; 8 ps in all
    assert quantities["sampling time"]["value"] == pytest.approx(8.0, rel=0.01)
    assert (
        "Helmholtz" in (root / "figures" / "torsion_free_energy-chain.svg").read_text()
        or (root / "figures" / "torsion_free_energy-chain.png").stat().st_size > 10_000
    )
    assert "barrier of a turn" in (root / "report.html").read_text()
    assert "torsion [°]" in (root / "curves" / "torsion_free_energy-chain-profile.csv").read_text()
    assert examine(CampaignFolder(root)).damage == []


def test_a_segment_that_fails_costs_its_replica_what_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others, and what it has, give a result that says what is missing; with --retry-failed it becomes whole."""
    file, root = prepared(tmp_path), tmp_path / "out"
    failed: set[int] = set()

    def blows_up(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
        if payload["before"] is not None and (not failed or payload["seed"] in failed):
            failed.add(payload["seed"])
            raise ExploreError("The walk blew up after 12 steps.")
        return property_stages.metadynamics(payload, place)

    with monkeypatch.context() as patch:
        patch.setattr("clusterflow.execution.apps.STAGES", {**stages.STAGES, "metadynamics": blows_up})
        assert run(file, root) == 0
    result = json.loads((root / "results.json").read_text())["results"][0]["result"]
    told = "has 1 of its 2 segments, and what it has counts; the next one failed: The walk blew up after 12 steps."
    assert told in result["notes"][0]
    assert told in (root / "report.html").read_text()
    assert result["quantities"]["sampling time"]["value"] == pytest.approx(6.0, rel=0.01)
    assert run(file, root, retry_failed=True) == 0
    result = json.loads((root / "results.json").read_text())["results"][0]["result"]
    assert result["quantities"]["sampling time"]["value"] == pytest.approx(8.0, rel=0.01)
    assert not any("segments" in note for note in result["notes"])


def test_bad_torsions_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    cases = {
        "[[0, 1, 2, 4]]": "There is no atom 4",
        "[[0, 2, 1, 3]]": "C0 and C2 of the torsion .* are not bonded .C0 is bonded to C1",
        "[[0, 1, 2, 2]]": "names an atom twice",
    }
    for torsions, match in cases.items():
        file = prepared(tmp_path, RUN.replace("[[0, 1, 2, 3]]", torsions))
        with pytest.raises(StructureError, match=match) as error:
            run(file, tmp_path / "out")
        assert "torsion_free_energy" in error.value.where
    file = prepared(tmp_path, RUN + "    distance_walls: [{atoms: [0, 9], upper: 4 Å}]\n")
    with pytest.raises(StructureError, match="There is no atom 9"):
        run(file, tmp_path / "out")
    write_frames(tmp_path / "chain.extxyz", [molecule("H2O")])
    with pytest.raises(StructureError, match="There is no atom 3"):
        run(tmp_path / "run.yaml", tmp_path / "other")  # what was kept in the first folder stays as it was
    assert not list(tmp_path.glob("*/tasks"))


def test_the_file_is_checked(tmp_path: Path) -> None:
    settings = load_properties(prepared(tmp_path)).properties[0]
    assert isinstance(settings, TorsionFreeEnergy)
    assert settings.width == pytest.approx(0.349066)
    cases = {
        "steps: 2000": ("steps: 2100", "steps .2100. must be a multiple of segment .1000."),
        "segment: 1000": ("segment: 1010", "multiple of"),
        "grid: 10 deg": ("grid: 30 deg", "must not be wider than a hill"),
        "width: 20°": ("width: 20", "the unit is missing"),
        "height: 50 meV": ("height: 50 K", "'K' is not a unit of energy"),
        "[[0, 1, 2, 3]]": ("[]", "torsions"),
        "bins: 36": ("bins: 36\n    distance_walls: [{atoms: [0, 1]}]", "a wall needs `upper:` or `lower:`"),
        "discard: 0.1": ("torsion_walls: [{atoms: [0, 1, 2, 3], lower: 1 rad, upper: 0 rad}]", "less than a full turn"),
    }
    for was, (now, match) in cases.items():
        with pytest.raises(ConfigError, match=match):
            load_properties(prepared(tmp_path, RUN.replace(was, now)))
