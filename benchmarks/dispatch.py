"""What dispatching costs: time to the first result, per task, tasks per second, and memory of the driver.

    python benchmarks/dispatch.py [--tasks 300] [--json FILE]

Prints a table for the serial and the parallel engine on the machine "local". A real label takes 10 s or more, so a few
milliseconds per task do not matter; this guards against the day when they do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path

import psutil

from clusterflow.core.data import Task
from clusterflow.core.frames import digest
from clusterflow.core.protocols import Engine
from clusterflow.execution import supervise
from clusterflow.execution.machines import default_machine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.execution.serial_engine import SerialEngine
from clusterflow.testing.fakes import run_toy


def measure(make: Callable[[], Engine], folder: str, tasks: int) -> dict[str, float]:
    """Times in s (per task in ms), memory in MB."""

    def task(n: int) -> Task:
        return Task("toy", f"{n:08d}", "md", {"do": "echo", "n": n})

    began = time.perf_counter()
    engine = make()
    try:
        engine.submit(task(-1)).result(timeout=300)
        first = time.perf_counter() - began
        single = []
        for n in range(tasks):
            start = time.perf_counter()
            engine.submit(task(n)).result(timeout=60)
            single.append(time.perf_counter() - start)
        start = time.perf_counter()
        wait([engine.submit(task(n)) for n in range(tasks)])
        rate = tasks / (time.perf_counter() - start)
        memory = psutil.Process().memory_info().rss / 1e6
        workers = sum(c.memory_info().rss for c in _pool_processes(folder)) / 1e6
        start = time.perf_counter()
    finally:
        engine.close()
    return {
        "first result (s)": first,
        "per task, median (ms)": 1e3 * statistics.median(single),
        "per task, 95 % (ms)": 1e3 * sorted(single)[int(0.95 * tasks)],
        "tasks per second": rate,
        "driver memory (MB)": memory,
        "idle workers and interchange, memory (MB)": workers,
        "close (s)": time.perf_counter() - start,
    }


def _pool_processes(folder: str) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in supervise.marked(digest(folder)[:16])]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Cost of dispatching a task that does nothing.")
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clusterflow-dispatch-") as folder:
        table = {
            "serial": measure(lambda: SerialEngine(run_toy, folder), folder, arguments.tasks),
            "parsl": measure(
                lambda: ParslEngine(default_machine(), folder, run_toy, run_id="benchmark"), folder, arguments.tasks
            ),
        }
    print(f"{'':44s}{'serial':>10s}{'parsl':>10s}")
    for name in table["serial"]:
        print(f"{name:44s}{table['serial'][name]:10.2f}{table['parsl'][name]:10.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
