"""A whole campaign on a real Slurm: OpenMM and NequIP on one partition, xTB labels on the other, and a block killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from clusterflow.state.journal import read_events

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def queue(form: str = "%A|%P|%T") -> list[list[str]]:
    said = subprocess.run(["squeue", "--noheader", f"--format={form}"], capture_output=True, text=True, check=True)
    return [line.strip().split("|") for line in said.stdout.splitlines()]


def test_campaign_across_both_partitions_with_a_block_killed(slurm: Path, tmp_path: Path) -> None:
    text = (ROOT / "configs" / "smoke.yaml").read_text().replace("structures/", f"{ROOT / 'configs' / 'structures'}/")
    config = tmp_path / "smoke.yaml"
    config.write_text(f"{text}\nmachine: {ROOT / 'hpc' / 'slurm_loopback.yaml'}\n")
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "clusterflow.cli.main", "run", str(config), "--folder", str(folder)]
    partitions: set[str] = set()
    killed = ""
    with (tmp_path / "said").open("w") as said:
        driver = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + 800
            while driver.poll() is None:
                assert time.monotonic() < end, (tmp_path / "said").read_text()
                jobs = queue()
                partitions.update(partition for _, partition, _ in jobs)
                labels = list((folder / "labels").rglob("*.json")) if (folder / "labels").is_dir() else []
                running = [job for job, partition, state in jobs if (partition, state) == ("cpu", "RUNNING")]
                if not killed and running and len(labels) >= 2:
                    killed = running[0]
                    subprocess.run(["scancel", killed], check=True)
                time.sleep(0.3)
        finally:
            driver.kill()
            driver.wait()
    assert driver.returncode == 0, (tmp_path / "said").read_text() + (folder / "parsl" / "driver.log").read_text()
    assert killed, "no block was killed: the campaign was too fast for this test"
    assert partitions == {"cpu", "gpu"}
    for _ in range(300):  # a job that was cancelled may still be completing
        if not queue():
            break
        time.sleep(0.2)
    assert queue() == []
    computed = Counter(line.split()[0] for line in (folder / "computed.log").read_text().splitlines())
    assert max(computed.values()) == 1  # no label twice
    done = Counter(e.data["key"] for e in read_events(folder / "journal.jsonl") if e.kind == "done")
    assert max(done.values()) == 1
    ran = {e.data["task"] for e in read_events(folder / "journal.jsonl") if e.kind == "done"}
    assert {"label", "train", "explore"} <= ran
    assert json.loads((folder / "metrics.json").read_text())["models"]
