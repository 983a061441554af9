"""An energy–volume grid on n workers against one: `clusterflow property` as a user runs it, n after n, in turns.

    python benchmarks/property_lanes.py [--lanes 1 2 4] [--rounds 2] [--wait 0.1]
    python benchmarks/property_lanes.py --model MODEL_FOLDER --structure configs/structures/UiO-66_primitive.extxyz

Without ``--model`` the potential is ASE's EMT (rattled copper, 32 atoms) that also sleeps for ``--wait`` seconds in
every call: tasks then take time but no core, and the ratio is that of the engine whatever else the machine does. With a
model the tasks compute, and the ratio means something on idle cores only. Every run has a folder of its own, so nothing
is reused. *Wall* is the whole command, interpreter and engine included; *grid* the time from the first task sent to the
last one done; *busy* the share of it in which a worker had a task.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

WAITING = "clusterflow.testing.waiting_calculator:WaitingEMT"
STRUCTURES = Path(__file__).parent.parent / "configs" / "structures"
RUN = """\
name: lanes
folder: out
potential: {potential}
structures:
  - {{name: one, structure: {structure}{build}}}
properties:
  - {{kind: energy_volume, range: [0.94, 1.06], points: {points}, rattle: 0.1 Å, fmax: {fmax} meV/Å}}
machine: machine.yaml
"""
MACHINE = """\
kind: local
cores: {n}
lanes: {{md: {{workers: {n}}}, label: {{workers: 1}}, train: {{workers: 1}}, local: {{workers: 1}}}}
"""
SUPERCELL = ", build: [{kind: supercell, repeat: [2, 2, 2]}]"


def one_run(n: int, text: str) -> dict[str, float]:
    """Seconds of one run on ``n`` workers, and how busy they were."""
    with tempfile.TemporaryDirectory(prefix="lanes-") as folder:
        file = Path(folder) / "run.yaml"
        file.write_text(text, encoding="utf-8")
        (Path(folder) / "machine.yaml").write_text(MACHINE.format(n=n), encoding="utf-8")
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "clusterflow.cli.main", "property", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        wall = time.perf_counter() - began
        if done.returncode != 0:
            raise SystemExit(f"the run failed:\n{done.stdout}{done.stderr}")
        spans = task_spans(Path(folder) / "out")
    grid = max(end for end, _ in spans) - min(end - seconds for end, seconds in spans)
    work = sum(seconds for _, seconds in spans)
    return {"wall_s": wall, "grid_s": grid, "work_s": work, "tasks": len(spans), "busy": work / (n * grid)}


def task_spans(root: Path) -> list[tuple[float, float]]:
    """When each relaxation was done (s since the epoch) and how long its worker had it, from the journal."""
    records = [json.loads(line) for line in (root / "journal.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        (datetime.fromisoformat(record["time"]).timestamp(), record["data"]["wall_time"])
        for record in records
        if record["kind"] == "done" and record["data"]["task"] == "relax"
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4], help="numbers of workers; the first is 1")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--points", type=int, default=13, help="volumes of the grid")
    parser.add_argument("--wait", type=float, default=0.1, help="s of sleep in every call of EMT")
    parser.add_argument("--model", type=Path, help="folder of a trained potential, instead of EMT that waits")
    parser.add_argument("--structure", type=Path, default=STRUCTURES / "metals" / "Cu.extxyz")
    parser.add_argument("--fmax", type=float, default=1.0, help="meV/Å")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    waiting = f'{{kind: ase, calculator: "{WAITING}", arguments: {{wait: {given.wait}}}}}'
    text = RUN.format(
        potential=waiting if given.model is None else given.model.resolve(),
        structure=given.structure.resolve(),
        build=SUPERCELL if given.model is None else "",
        points=given.points,
        fmax=given.fmax,
    )
    runs: dict[int, list[dict[str, float]]] = {n: [] for n in given.lanes}
    for _ in range(given.rounds):
        for n in given.lanes:
            found = {**one_run(n, text), "load": os.getloadavg()[0]}
            runs[n].append(found)
            print(
                f"{n} workers: {found['tasks']:.0f} relaxations, grid {found['grid_s']:.1f} s, busy "
                f"{100 * found['busy']:.0f} %, whole command {found['wall_s']:.1f} s; load {found['load']:.1f}",
                flush=True,
            )
    first = given.lanes[0]
    for n in given.lanes[1:]:
        for key in ("grid_s", "wall_s"):
            ratios = [one[key] / many[key] for one, many in zip(runs[first], runs[n], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{n} workers against {first}, {key}: {statistics.median(ratios):.2f} ({spread})")
        tasks = int(runs[n][0]["tasks"])
        most = math.ceil(tasks / first) / math.ceil(tasks / n)
        print(f"{n} workers against {first}: {tasks} equal tasks allow {most:.2f}")
    if given.json is not None:
        given.json.write_text(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
