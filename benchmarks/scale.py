"""What the driver costs in a large campaign: 1,000 walkers and 10,000 labels whose tasks do nothing.

    python benchmarks/scale.py [--walkers 1000] [--labels 10000] [--loop streaming] [--no-parsl] [--json FILE]

Plan, loop, journal (with every line forced to the disk), the search for published results, the lines that `clusterflow
run` prints, the Parsl engine and its worker processes are real; the tasks are not. Prints what one task costs the
driver, in wall time and in CPU time of its process, the driver's memory as the campaign grows, and the time to read it
back. With ``--no-parsl`` the driver answers its tasks itself, at once: what is left is plan, loop, journal and console.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path

import psutil
from rich.console import Console

from clusterflow.campaign.loop import Loop
from clusterflow.campaign.planner import plan_once
from clusterflow.campaign.status import campaign_status
from clusterflow.campaign.tasks import Plan
from clusterflow.cli.console import CampaignView
from clusterflow.core.data import Task, TaskResult
from clusterflow.core.protocols import Engine
from clusterflow.execution.apps import published
from clusterflow.execution.machines import LocalMachine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.state.journal import Event, Journal, no_search_for_cycles, read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.lease import Lease
from clusterflow.state.snapshot import fold
from clusterflow.testing.fakes import run_toy
from clusterflow.testing.sleeping_engine import SleepingEngine, warm_up
from clusterflow.testing.toy_campaign import TOY_INPUTS, large_config, toy_result

WORKERS = {"md": 8, "label": 8, "train": 1, "local": 1}
KINDS = ("start", "label", "train", "novelty", "evaluate", "calibrate", "explore", "acquire", "export")


class Nothing:
    """No time at all."""

    def seconds(self, task: Task) -> float:
        del task
        return 0.0


class AtOnce:
    """An engine without workers."""

    def submit(self, task: Task) -> Future[TaskResult]:
        future: Future[TaskResult] = Future()
        future.set_result(toy_result(task))
        return future

    def close(self, *, cancel: bool = False) -> None:
        del cancel


def begin(folder: Path) -> Engine:
    """Parsl with its workers, once each of them has answered."""
    lanes = {name: {"workers": n, "gpus": 0} for name, n in WORKERS.items()}
    machine = LocalMachine.model_validate({"cores": sum(WORKERS.values()), "lanes": lanes})
    parsl = ParslEngine(machine, folder, run_toy, run_id="benchmark")
    try:
        warm_up(parsl, WORKERS)
    except BaseException:
        parsl.close(cancel=True)
        raise
    return SleepingEngine(parsl, dict.fromkeys(KINDS, Nothing()))


def measure(loop: str, walkers: int, labels: int, folder: Path, *, with_parsl: bool) -> dict[str, float]:
    config, place = large_config(loop, walkers=walkers, labels=labels), CampaignFolder(folder)
    lease = Lease.acquire(folder)
    engine = begin(folder) if with_parsl else AtOnce()
    process, snapshot = psutil.Process(), fold([])
    memory: list[tuple[int, float]] = []
    with (folder / "console.txt").open("w") as text:
        view = CampaignView(snapshot, title="scale", planned=0, progress=list, console=Console(file=text, width=120))

        def watch(event: Event | None, plan: Plan, flying: int) -> None:
            view.watch(event, plan, flying)
            if event is not None and event.kind == "done" and len(snapshot.outcomes) % 200 == 0:
                memory.append((len(snapshot.outcomes), process.memory_info().rss / 1e6))

        try:
            with Journal.open(place.journal, lease.epoch, guard=lease.check) as journal:
                driver = Loop(
                    config, TOY_INPUTS, snapshot, journal, engine, lambda t: published(t, place), watch, lambda: False
                )
                began, cpu = time.perf_counter(), time.process_time()
                driver.run()
                wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        finally:
            engine.close(cancel=True)
            lease.release()
    tasks = len(snapshot.outcomes)
    began, busy = time.perf_counter(), time.process_time()
    again = fold(read_events(place.journal))
    read, busy = time.perf_counter() - began, time.process_time() - busy
    lines, bare = place.journal.read_bytes().splitlines(), time.process_time()
    with no_search_for_cycles():
        parsed = [json.loads(line) for line in lines]
    bare = time.process_time() - bare
    began = time.perf_counter()
    plan_once(config, TOY_INPUTS, again)
    anew = time.perf_counter() - began
    began = time.perf_counter()
    campaign_status(again)
    looked = time.perf_counter() - began
    half = [m for n, m in memory if n >= tasks / 2]
    return {
        "tasks": tasks,
        "labels": sum(o.kind == "label" for o in snapshot.outcomes.values()),
        "wall time (s)": wall,
        "wall time per task (ms)": 1e3 * wall / tasks,
        "driver's CPU time per task (ms)": 1e3 * cpu / tasks,
        "memory at the first 200 tasks (MB)": memory[0][1],
        "memory half-way (MB)": half[0],
        "memory at the end (MB)": half[-1],
        "growth per task, second half (kB)": 1e3 * (half[-1] - half[0]) / (tasks / 2),
        "journal (lines)": len(parsed),
        "journal (MB)": place.journal.stat().st_size / 1e6,
        "journal read back (s)": read,
        "journal read back, CPU time (s)": busy,
        "that over json.loads of each line alone": busy / bare,
        "first plan after that (s)": anew,
        "status (s)": looked,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Cost of the driver in a large campaign.")
    parser.add_argument("--walkers", type=int, default=1000)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--loop", choices=["streaming", "synchronous"], default="streaming")
    parser.add_argument("--no-parsl", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clusterflow-scale-") as folder:
        size = arguments.walkers, arguments.labels
        table = measure(arguments.loop, *size, Path(folder), with_parsl=not arguments.no_parsl)
    for name, value in table.items():
        print(f"{name:44s}{value:12.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
