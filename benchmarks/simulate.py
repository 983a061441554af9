"""What the plan costs by itself: a campaign of many labels simulated, event by event, as `clusterflow simulate` does.

    python benchmarks/simulate.py [--labels 10000 100000] [--walkers 1000] [--loop synchronous streaming] [--arms 1]

Prints seconds and CPU time for each loop and number of labels. Tasks take time by a clock that costs nothing, so all of
it is plan and simulation.
"""

from __future__ import annotations

import argparse
import time

from clusterflow.campaign.simulate import Workforce, simulate
from clusterflow.campaign.task_times import Given
from clusterflow.testing.toy_campaign import TOY_INPUTS, large_config

KINDS = ("start", "label", "train", "novelty", "evaluate", "calibrate", "explore", "acquire", "control", "export")
FORCE = Workforce({"md": 100, "label": 100, "train": 2, "local": 4})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Cost of the plan, by simulation.")
    parser.add_argument("--labels", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--walkers", type=int, default=1000)
    parser.add_argument("--loop", nargs="+", choices=["synchronous", "streaming"], default=["synchronous", "streaming"])
    parser.add_argument("--arms", type=int, default=0, choices=range(4), help="control arms beside it (synchronous)")
    arguments = parser.parse_args()
    times = {kind: Given(60.0, 1.0) for kind in KINDS}
    for labels in arguments.labels:
        for loop in arguments.loop:
            arms = arguments.arms if loop == "synchronous" else 0
            config = large_config(loop, walkers=arguments.walkers, labels=labels, arms=arms)
            began, cpu = time.perf_counter(), time.process_time()
            told = simulate(config, TOY_INPUTS, FORCE, times)
            wall, cpu = time.perf_counter() - began, time.process_time() - cpu
            print(
                f"{loop:12s} {labels:9d} labels, {arms} arms: {told.tasks:8d} tasks in {wall:7.1f} s "
                f"({cpu:.1f} s of CPU time, {1e3 * cpu / told.tasks:.2f} ms per task); {told.ended}",
                flush=True,
            )


if __name__ == "__main__":
    main()
