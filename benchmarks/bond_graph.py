"""Speed of bond graph and building blocks on large cells of several chemistries, and of their reuse along a trajectory.

Run: ``python benchmarks/bond_graph.py [--rounds 3]``. Prints one table; CPU times of one thread, best of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms

from clusterflow.core.frames import read_frames
from clusterflow.physics.block_reuse import blocks_like
from clusterflow.physics.bonds import bond_graph
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.testing import structures

ROOT = Path(__file__).parents[1]


def best_time(task: Callable[[], object], rounds: int) -> float:
    """Shortest CPU time of a task in s (one thread; other load on the machine does not count)."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return min(times)


def cells() -> dict[str, Atoms]:
    """About 22,000 atoms or more each."""
    conventional = read_frames(ROOT / "configs" / "structures" / "UiO-66_conventional.extxyz")[0]
    return {
        "UiO-66": conventional * (4, 4, 4),
        "ZIF-8": read_frames(ROOT / "tests" / "data" / "ZIF-8_primitive.extxyz")[0] * (5, 5, 7),
        "HKUST-1": structures.hkust1() * (5, 5, 6),
        "MOF-74": structures.mof74() * (6, 6, 12),
        "MIL-53": read_frames(ROOT / "tests" / "data" / "MIL-53-Al.extxyz")[0] * (6, 7, 7),
        "zeolite SOD": structures.sodalite() * (8, 9, 9),
        "imine COF": structures.imine_layer() * (18, 19, 1),
        "water": read_frames(ROOT / "tests" / "data" / "water_32.extxyz")[0] * (6, 6, 7),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"{'CPU s':<14} {'atoms':>7} {'graph':>8} {'hysteresis':>11} {'blocks':>8} {'max_cost 3':>11} {'reused':>8}")
    for name, atoms in cells().items():
        graph = bond_graph(atoms)
        blocks = find_blocks(atoms, graph)
        frame = atoms.copy()
        frame.positions += np.random.default_rng(0).normal(0.0, 0.03, size=frame.positions.shape)
        times = [
            best_time(task, rounds)
            for task in (
                lambda a=frame: bond_graph(a),
                lambda a=frame, g=graph: bond_graph(a, g),
                lambda a=atoms, g=graph: find_blocks(a, g),
                lambda a=atoms, g=graph: find_blocks(a, g, max_cost=3.0),
                lambda a=frame, b=blocks: blocks_like(a, b),
            )
        ]
        print(
            f"{name:<14} {len(atoms):>7} "
            + " ".join(f"{t:>{w}.3f}" for t, w in zip(times, (8, 11, 8, 11, 8), strict=True))
        )


if __name__ == "__main__":
    main()
