"""The streaming loop against the synchronous one, with tasks that sleep, through the real engine.

    python benchmarks/streaming.py [--labels 1280] [--synchronous-labels 320] [--json FILE]

Everything is real but the work: plan, journal, Parsl engine and worker processes; 4 md workers, 16 for labels, 1 for
training, 1 for the small tasks, whatever the computer has (sleeping tasks need no cores). Times are log-normal with a
standard deviation as large as their mean, drawn in the order of sending, so that the event simulation of
`clusterflow simulate` (no latency) and the run have the same ones. The clock starts when all workers are up.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from clusterflow.campaign.lag import mean_lag, model_lag
from clusterflow.campaign.loop import Loop
from clusterflow.campaign.simulate import Workforce, simulate
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task
from clusterflow.execution.machines import LocalMachine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.state.journal import Journal
from clusterflow.state.lease import Lease
from clusterflow.state.snapshot import fold
from clusterflow.testing.fakes import run_toy
from clusterflow.testing.sleeping_engine import SleepingEngine, warm_up
from clusterflow.testing.toy_campaign import TOY_INPUTS

WORKERS = {"md": 4, "label": 16, "train": 1, "local": 1}
MEANS = {"explore": 1.0, "label": 1.5, "train": 1.0, "novelty": 0.1, "evaluate": 0.1, "acquire": 0.1}
"""s; what is not here takes 0.1 s."""
SPREAD = {"explore": 1.0, "label": 1.0}
"""Standard deviation over mean."""


class InOrder:
    """The n-th task of this kind to begin takes the n-th of a fixed sequence of times."""

    def __init__(self, kind: str) -> None:
        self._mean, self._spread = MEANS.get(kind, 0.1), SPREAD.get(kind, 0.0)
        self._dice = np.random.default_rng(int.from_bytes(kind.encode()[:8], "little"))
        self._drawn: dict[str, float] = {}

    def seconds(self, task: Task) -> float:
        if task.key not in self._drawn:
            sigma = np.sqrt(np.log1p(self._spread**2))
            self._drawn[task.key] = float(self._mean * np.exp(self._dice.normal(-0.5 * sigma**2, sigma)))
        return self._drawn[task.key]


def all_times() -> dict[str, Any]:
    kinds = ("start", "label", "train", "novelty", "evaluate", "calibrate", "explore", "acquire", "export")
    return {kind: InOrder(kind) for kind in kinds}


def campaign(loop: str, labels: int) -> Campaign:
    return Campaign.model_validate(
        {
            "name": "benchmark",
            "systems": [{"name": "crystal", "structure": "none.extxyz"}],
            "start": {"fragments": 24, "test_fragments": 8},
            "explore": {"walkers": 8},
            "select": {"fragments": 32},
            "stop": {"labels": labels, "iterations": 10_000},
            "loop": {"kind": loop},
        }
    )


def measure(loop: str, labels: int, folder: Path) -> dict[str, float]:
    """One campaign, run and simulated."""
    config = campaign(loop, labels)
    lanes = {name: {"workers": n, "gpus": 0} for name, n in WORKERS.items()}
    machine = LocalMachine.model_validate({"cores": sum(WORKERS.values()), "lanes": lanes})
    lease = Lease.acquire(folder)
    parsl = ParslEngine(machine, folder, run_toy, run_id="benchmark")
    engine = SleepingEngine(parsl, all_times())
    snapshot = fold([])
    try:
        warm_up(parsl, WORKERS)
        with Journal.open(folder / "journal.jsonl", lease.epoch, guard=lease.check) as journal:
            loop_ = Loop(config, TOY_INPUTS, snapshot, journal, engine, lambda _: None, lambda *_: None, lambda: False)
            began = time.perf_counter()
            loop_.run()
            seconds = time.perf_counter() - began
    finally:
        engine.close(cancel=True)
        lease.release()
    told = simulate(config, TOY_INPUTS, Workforce(WORKERS), all_times())
    done = sum(o.kind == "label" and o.status == "done" for o in snapshot.outcomes.values())
    lag = mean_lag(model_lag(snapshot))
    return {
        "labels": done,
        "wall time (s)": seconds,
        "labels per second": done / seconds,
        **{f"{name} busy (%)": 100 * engine.busy[name] / (n * seconds) for name, n in WORKERS.items()},
        "mean model lag (versions)": lag or 0.0,
        "simulated: wall time (s)": told.seconds,
        "over the simulation (%)": 100 * (seconds / told.seconds - 1),
        **{f"simulated: {name} busy (%)": 100 * told.busy[name] for name in WORKERS},
        "simulated: mean model lag": told.lag or 0.0,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Streaming against synchronous, with sleeping tasks.")
    parser.add_argument("--labels", type=int, default=1280, help="of the streaming campaign")
    parser.add_argument("--synchronous-labels", type=int, default=320)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = {}
    for loop, labels in (("synchronous", arguments.synchronous_labels), ("streaming", arguments.labels)):
        with tempfile.TemporaryDirectory(prefix="clusterflow-streaming-") as folder:
            table[loop] = measure(loop, labels, Path(folder))
    print(f"{'':34s}{'synchronous':>14s}{'streaming':>14s}")
    for name in table["streaming"]:
        print(f"{name:34s}{table['synchronous'][name]:14.2f}{table['streaming'][name]:14.2f}")
    rates = [table[loop]["labels per second"] for loop in ("streaming", "synchronous")]
    print(f"labels per second, ratio: {rates[0] / rates[1]:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
