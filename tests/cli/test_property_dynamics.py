"""Properties from dynamics as a user runs them: results, kill −9 in the middle, bad input, and the dry run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from rich.console import Console

from clusterflow.cli.property import plan_properties, run_properties
from clusterflow.core.frames import write_frames
from clusterflow.errors import InputError
from clusterflow.state.journal import read_events

RUN = """\
name: copper
seed: 3
potential: {calculator: "ase.calculators.emt:EMT"}
structures:
  - {name: cu, structure: cu.extxyz}
properties:
  - kind: pressure_volume
    pressures: [{from: -8 GPa, to: 8 GPa, points: 3}]
    volumes: [0.93, 1.05]
    duration: 1.6 ps
    segment: 0.8 ps
    timestep: 4 fs
    barostat_interval: 4
    interval: 10
    bonds: free
    rounds: 1
    tolerance: 5 MPa
"""


def prepared(folder: Path, text: str = RUN) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_frames(folder / "cu.extxyz", [bulk("Cu", cubic=True)])
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    return folder / "run.yaml"


def run(file: Path, root: Path) -> int:
    return run_properties(
        [str(file)], only=[], folder=root, engine="serial", retry_failed=False, console=Console(quiet=True)
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert run(prepared(folder), folder / "out") == 0
    return folder / "out"


def test_results_figures_and_the_rounds(whole: Path) -> None:
    (entry,) = json.loads((whole / "results.json").read_text())["results"]
    q = entry["result"]["quantities"]
    assert q["K"]["value"] == pytest.approx(125.0, rel=0.35)  # 134 GPa at 0 K, and runs far too short
    assert q["V0"]["value"] == pytest.approx(47.0, rel=0.03)
    assert "P_max, at least" in q
    assert any("Not converged: K" in n for n in entry["result"]["notes"])
    sent = [e.data for e in read_events(whole / "journal.jsonl") if e.kind == "sent"]
    kinds = [e["task"] for e in sent]
    # 5 conditions of two pieces; three of them again in the round that follows; one result for each
    assert (kinds.count("dynamics"), kinds.count("property")) == (10 + 6, 2)
    assert (whole / "figures" / "pressure_volume-cu.png").read_bytes()[:4] == b"\x89PNG"
    assert (whole / "curves" / "pressure_volume-cu-convergence.csv").is_file()
    assert "pressure–volume" in (whole / "report.html").read_text()
    assert "&gt; " in (whole / "report.html").read_text()  # the bound of P_max in the table


def test_kill_9_in_the_middle_recomputes_nothing_that_was_published(whole: Path, tmp_path: Path) -> None:
    file, root = prepared(tmp_path), tmp_path / "out"
    arguments = ["property", str(file), "--folder", str(root), "--engine", "serial"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "clusterflow.cli.main", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 700
    while len(list(root.glob("tasks/dynamics/*/result.json"))) < 8:  # second pieces of runs among them
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    assert driver.stderr is not None
    driver.stderr.close()
    there = {p: p.stat().st_mtime_ns for p in root.glob("tasks/*/*/result.json")}
    last = read_events(root / "journal.jsonl")[-1].seq
    assert run(file, root) == 0
    assert {p: p.stat().st_mtime_ns for p in there} == there
    again = {e.data["key"] for e in read_events(root / "journal.jsonl") if e.kind == "sent" and e.seq > last}
    assert again
    assert not again & {p.parent.name for p in there}
    assert (root / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_bad_input_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    file = prepared(tmp_path)
    write_frames(tmp_path / "cu.extxyz", [molecule("H2O")])
    with pytest.raises(InputError, match="not periodic in three directions") as error:
        run(file, tmp_path / "out")
    assert "property 'pressure_volume' of structure 'cu'" in error.value.where
    with pytest.raises(InputError, match="not periodic in three directions"):
        plan_properties([str(file)], only=[], folder=tmp_path / "out", console=Console(quiet=True))


def test_a_dry_run_shows_the_tasks_and_writes_nothing(whole: Path, tmp_path: Path) -> None:
    screen = Console(record=True, width=120)
    plan_properties([str(whole.parent / "run.yaml")], only=[], folder=tmp_path / "none", console=screen)
    text = screen.export_text()
    assert "3 relaxations, 10 pieces of dynamics (2,000 MD steps)" in text
    assert "14 tasks to do at most" in text
    assert "more runs in up to 1 rounds" in text
    assert not (tmp_path / "none").exists()
    screen = Console(record=True, width=120)
    plan_properties(["pressure_volume", str(whole.parent / "run.yaml")], only=[], folder=whole, console=screen)
    assert "0 tasks to do at most" in screen.export_text()
    with pytest.raises(InputError, match="No property is called"):
        plan_properties(["nothing", str(whole.parent / "run.yaml")], only=[], folder=whole, console=screen)


EXPANSION_AND_SPECTRUM = """\
name: vibrating
potential: {calculator: "ase.calculators.emt:EMT"}
structures:
  - {name: cu, structure: cu.extxyz}
  - {name: dimer, structure: dimer.extxyz}
properties:
  - kind: thermal_expansion
    temperatures: [{from: 100 K, to: 500 K, points: 3}]
    duration: 1.6 ps
    timestep: 4 fs
    barostat_interval: 4
    interval: 10
    bonds: free
    structures: [cu]
  - kind: vibrational_spectrum
    temperature: 100 K
    duration: 2 ps
    equilibration: 200 fs
    timestep: 2 fs
    sampling: 4 fs
    resolution: 30 cm^-1
    highest: 1000 cm^-1
    replicas: 2
    bonds: free
"""


def test_thermal_expansion_and_spectra_of_a_crystal_and_a_molecule(tmp_path: Path) -> None:
    write_frames(tmp_path / "dimer.extxyz", [Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])])
    file = prepared(tmp_path, EXPANSION_AND_SPECTRUM)
    assert run(file, tmp_path / "out") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    found = {(r["property"], r["structure"]): r["result"] for r in results}
    expansion = found[("thermal_expansion", "cu")]
    assert expansion["quantities"]["V"]["value"] == pytest.approx(47.0, rel=0.04)
    crystal, dimer = (found[("vibrational_spectrum", s)]["quantities"] for s in ("cu", "dimer"))
    assert crystal["modes"]["value"] == pytest.approx(9.0, rel=0.03)
    assert dimer["modes"]["value"] == pytest.approx(1.0, rel=0.03)  # one bond: translations and rotations are out
    assert 0.3 < crystal["overlap with the Hessian"]["value"] < 1.0
    for name in ("thermal_expansion-cu", "vibrational_spectrum-dimer", "vibrational_spectrum-comparison"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").is_file()
    assert sum(e.kind == "sent" for e in read_events(tmp_path / "out" / "journal.jsonl")) == 3 + 4 + 2 * 2 + 1 + 3
