"""A whole campaign with every real part but xTB for DFT: from the command line, through Parsl, and from outside."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from clusterflow.core.frames import content_hash
from clusterflow.state.journal import decisions_digest, read_events

pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).parents[2] / "configs"
SMOKE = CONFIGS / "smoke.yaml"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "clusterflow.cli.main", *map(str, arguments)]


def clusterflow(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=800, check=False)


def same_science(text: str) -> str:
    """The smoke campaign with its structures where they are, for a copy elsewhere."""
    return text.replace("structures/", f"{CONFIGS / 'structures'}/")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed campaign."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = clusterflow("run", SMOKE, "--folder", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_user_takes_home_potential_dataset_and_report(whole: Path) -> None:
    frames = read(whole / "dataset.extxyz", ":")
    assert len(frames) >= 14
    assert {a.info["split"] for a in frames} == {"train", "validation", "test"}
    for a in frames:
        assert "GFN1-xTB" in a.info["level_of_theory"]
        assert np.isfinite(a.get_forces()).all()
        assert set(a.arrays["region"]) >= {"core", "termination"}
    assert (whole / "model" / "model.json").is_file()
    judged = json.loads((whole / "metrics.json").read_text())["novelty"]
    assert [(r["iteration"], r["new"]) for r in judged] == [(0, False), (1, False), (1, True)]
    assert all(r["mean_expected"] > 0 and r["coverage"] is None for r in judged)  # two structures make no bound
    report = (whole / "report.html").read_text(encoding="utf-8")
    assert "No bounds: calibrated on" in report
    assert "smoke" in report
    assert "<svg" in report
    assert whole.stat().st_mode & 0o077 == 0


def test_the_final_potential_loads_and_predicts_what_the_metrics_say(whole: Path) -> None:
    said = clusterflow("evaluate", whole / "model", whole / "dataset.extxyz", "--split", "test", "--json")
    assert said.returncode == 0, said.stderr
    now = json.loads(said.stdout)["forces"]["mae_p"]
    then = json.loads((whole / "metrics.json").read_text())["models"][-1]["mae_p95"]
    assert now == pytest.approx(then, rel=1e-4)


def test_an_element_that_the_model_does_not_know_is_refused(whole: Path, tmp_path: Path) -> None:
    atoms = read(whole / "dataset.extxyz", "0")
    forces, energy = atoms.get_forces(), atoms.get_potential_energy()
    atoms.symbols[0] = "Zr"
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    write(tmp_path / "zr.extxyz", atoms)
    said = clusterflow("evaluate", whole / "model", tmp_path / "zr.extxyz")
    assert said.returncode == 2, said.stdout
    assert "Zr" in said.stderr
    assert "next:" in said.stderr


def test_journal_verifies_and_test_frames_were_never_trained_on(whole: Path) -> None:
    events = read_events(whole / "journal.jsonl")
    assert events[-1].kind == "finished"
    frames = read(whole / "dataset.extxyz", ":")
    by_split = {s: {content_hash(a) for a in frames if a.info["split"] == s} for s in ("train", "validation", "test")}
    assert not by_split["test"] & (by_split["train"] | by_split["validation"])


def test_status_from_outside(whole: Path) -> None:
    said = clusterflow("status", whole, "--json")
    assert said.returncode == 0, said.stderr
    status = json.loads(said.stdout)
    assert status["state"] == "finished"
    assert status["stages"]["label"]["done"] >= 14
    assert len(status["models"]) == 2
    assert "finished" in clusterflow("status", whole).stdout


def test_running_a_finished_campaign_again_does_nothing(whole: Path) -> None:
    before = (whole / "computed.log").read_text()
    done = clusterflow("run", SMOKE, "--folder", whole)
    assert done.returncode == 0, done.stderr
    assert "done:" in done.stdout
    assert (whole / "computed.log").read_text() == before


def test_another_level_of_theory_is_refused(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(same_science(SMOKE.read_text()).replace("GFN1-xTB", "GFN2-xTB"))
    done = clusterflow("run", other, "--folder", whole)
    assert done.returncode == 2
    assert "GFN1-xTB" in done.stderr
    assert "GFN2-xTB" in done.stderr
    assert "never mixed" in done.stderr


def test_a_changed_configuration_shows_its_difference(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(same_science(SMOKE.read_text()).replace("iterations: 1", "iterations: 1\n  labels: 16"))
    done = clusterflow("run", other, "--folder", whole)
    assert done.returncode == 0, done.stderr
    assert "changed since last time: stop.labels: None → 16" in done.stdout


def test_killed_in_each_stage_it_resumes_to_the_same_end(whole: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
    try:
        from kill_and_resume import kill_and_resume
    finally:
        sys.path.pop(0)
    found = kill_and_resume(
        SMOKE, tmp_path / "run", ["label", "train", "explore"], whole=whole, deadline=600.0, delay=0.2
    )
    assert found["labels computed twice"] == 0
    assert found["tasks done twice"] == 0
    assert found["drivers"] == 4
    assert found["same decisions as the undisturbed run"] is True


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A campaign under way."""
    folder = tmp_path / "run"
    driver = subprocess.Popen(
        command("run", SMOKE, "--folder", folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    end = time.monotonic() + 120
    while not (folder / "journal.jsonl").is_file() or '"sent"' not in (folder / "journal.jsonl").read_text():
        assert time.monotonic() < end
        assert driver.poll() is None
        time.sleep(0.1)
    yield driver, folder
    driver.kill()
    driver.wait()


def test_a_second_run_is_refused_and_sigterm_stops_cleanly(running: tuple[subprocess.Popen[str], Path]) -> None:
    driver, folder = running
    second = clusterflow("run", SMOKE, "--folder", folder)
    assert second.returncode == 1
    assert str(driver.pid) in second.stderr
    assert json.loads(clusterflow("status", folder, "--json").stdout)["state"] == "running"
    assert "next:" in second.stderr
    driver.send_signal(signal.SIGTERM)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 75, said
    assert "resumes" in said
    assert json.loads(clusterflow("status", folder, "--json").stdout)["state"] == "stopped"


def test_serial_engine_decides_the_same(whole: Path, tmp_path: Path) -> None:
    done = clusterflow("run", SMOKE, "--folder", tmp_path / "run", "--engine", "serial")
    assert done.returncode == 0, done.stderr
    assert decisions_digest(read_events(tmp_path / "run" / "journal.jsonl")) == decisions_digest(
        read_events(whole / "journal.jsonl")
    )


def test_a_shared_label_folder_spares_the_labels(whole: Path, tmp_path: Path) -> None:
    config = tmp_path / "shared.yaml"
    config.write_text(same_science(SMOKE.read_text()) + f"\nlabels_folder: {whole / 'labels'}\n")
    done = clusterflow("run", config, "--folder", tmp_path / "run", "--engine", "serial")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run" / "computed.log").exists()
    assert len(read(tmp_path / "run" / "dataset.extxyz", ":")) == len(read(whole / "dataset.extxyz", ":"))


def test_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs to mount a small tmpfs: {mounted.stderr.strip()}")
    try:
        done = clusterflow("run", SMOKE, "--folder", small / "run")
        assert done.returncode == 1
        assert "MB are free" in done.stderr
        assert "next:" in done.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_damaged_result_is_not_used(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("lease", "parsl", "export"))
    for path in folder.glob("tasks/train/*/model/weights.safetensors"):
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.chmod(0o600)
        path.write_bytes(bytes(raw))
    (folder / "journal.jsonl").unlink()
    shutil.rmtree(folder / "tasks" / "evaluate")
    done = clusterflow("run", SMOKE, "--folder", folder, "--engine", "serial")
    assert done.returncode == 1, done.stdout
    assert "weights.safetensors" in done.stderr
    assert "next:" in done.stderr


def test_metrics_tell_what_the_new_labels_were_worth(whole: Path) -> None:
    (row,) = json.loads((whole / "metrics.json").read_text())["new_labels"]
    assert row["iteration"] == 1
    assert row["n_frames"] >= 1
    assert row["mae_p95"] > 0
