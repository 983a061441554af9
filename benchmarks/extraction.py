"""Speed of bond graph, building blocks and fragment extraction.

Run: ``python benchmarks/extraction.py [--rounds 3]``. Prints one table; CPU times of one thread, best of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clusterflow.core.data import Fragment, Site
from clusterflow.core.frames import content_hash, read_frames
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.physics.bonds import bond_graph, check_distances
from clusterflow.physics.building_blocks import find_blocks

ROOT = Path(__file__).parents[1]
ZIF8 = ROOT / "tests" / "data" / "ZIF-8_primitive.extxyz"
UIO66 = ROOT / "configs" / "structures" / "UiO-66_conventional.extxyz"


def best_time(task: Callable[[], object], rounds: int) -> float:
    """Shortest CPU time of a task in s (one thread; other load on the machine does not count)."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds

    cell = read_frames(UIO66)[0]
    print(f"{'task':<52} {'atoms':>7} {'CPU / s':>10} {'per second':>11}")
    for atoms in (cell, cell * (4, 4, 4)):
        graph = bond_graph(atoms)
        for name, task in (
            ("overlap check", lambda a=atoms: check_distances(a)),
            ("bond graph", lambda a=atoms: bond_graph(a)),
            ("building blocks, graph known", lambda a=atoms, g=graph: find_blocks(a, g)),
        ):
            print(f"{name:<52} {len(atoms):>7} {best_time(task, rounds):>10.4f} {'':>11}")

    frame_id = content_hash(cell)
    every = [[Site(frame_id, int(k))] for k in np.unique(find_blocks(cell).labels, return_index=True)[1]]
    seconds = best_time(lambda: BuildingBlockRule().extract_many(cell, every), rounds)
    name = f"{len(every)} fragments, one per block, blocks not known"
    print(f"{name:<52} {len(cell):>7} {seconds:>10.4f} {len(every) / seconds:>11.0f}")
    zif8 = read_frames(ZIF8)[0] * (5, 4, 8)
    for atoms, most, mantles in (
        (cell, 480, ("neighbours", "anchors")),
        (cell * (4, 4, 4), 1024, ("neighbours", "anchors")),
        (zif8, 1024, ("neighbours",)),
    ):
        blocks = find_blocks(atoms)
        frame_id = content_hash(atoms)
        for kind in ("node", "linker"):
            chosen = [b for b, k in enumerate(blocks.kinds) if k == kind]
            chosen = (chosen * (most // len(chosen) + 1))[:most]
            groups = [[Site(frame_id, int(blocks.members(b)[0]))] for b in chosen]
            for mantle in mantles:
                rule = BuildingBlockRule(mantle)
                done = rule.extract_many(atoms, groups, blocks=blocks)
                sizes = {len(f.atoms) for f in done if isinstance(f, Fragment)}
                seconds = best_time(lambda r=rule, a=atoms, g=groups, b=blocks: r.extract_many(a, g, blocks=b), rounds)
                name = f"{len(groups)} {kind} fragments, {mantle}, {sizes} atoms"
                print(f"{name:<52} {len(atoms):>7} {seconds:>10.4f} {len(groups) / seconds:>11.0f}")


if __name__ == "__main__":
    main()
