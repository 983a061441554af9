"""Time of the internal coordinates of one frame, and of a selection among many.

    python benchmarks/cbad.py [--rounds N]

CPU time of one thread, best of the rounds: the bins of one frame of MOF-5 (106 atoms) and UiO-66 (456 and 5,016
atoms), the list of bonds, angles and dihedrals that they are measured by (once per material), and a selection from 50
walks of 20 frames.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from clusterflow.core.frames import read_frames
from clusterflow.selection.cbad import Bins, Cover, Descriptors

STRUCTURES = Path(__file__).parents[1] / "configs" / "structures"


def best_time(task: Callable[[], object], rounds: int) -> float:
    """Shortest CPU time of a task in s."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        task()
        times.append(time.process_time() - start)
    return min(times)


def select(descriptors: Descriptors, frames: list, walks: list[int]) -> int:
    """How many frames are accepted."""
    search, count = Cover(Bins(descriptors), frames, walks), 0
    while (found := search.best()) is not None:
        search.accept(found[0], frames[found[0]])
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{'structure':<22}{'atoms':>7}{'coordinates':>13}{'list [ms]':>11}{'frame [ms]':>12}")
    for name, repeat in (("MOF-5_primitive", 1), ("UiO-66_conventional", 1), ("UiO-66_conventional", (11, 1, 1))):
        reference = read_frames(STRUCTURES / f"{name}.extxyz")[0] * repeat
        descriptors = Descriptors({name: reference})
        frame = reference.copy()
        frame.rattle(0.05, seed=1)
        once = best_time(lambda r=reference, n=name: Descriptors({n: r}), rounds)
        each = best_time(lambda d=descriptors, f=frame, n=name: d.bins(f, n), rounds)
        count = len(descriptors.of_atoms(frame, name)[0])
        print(f"{name:<22}{len(frame):>7}{count:>13}{1e3 * once:>11.1f}{1e3 * each:>12.2f}")
    mof5 = read_frames(STRUCTURES / "MOF-5_primitive.extxyz")[0]
    descriptors, frames = Descriptors({"mof5": mof5}), []
    for k in range(1000):
        frame = mof5.copy()
        frame.rattle(0.05, seed=k)
        frames.append(descriptors.bins(frame, "mof5"))
    walks = [k // 20 for k in range(1000)]
    seconds = best_time(lambda: select(descriptors, frames, walks), rounds)
    print(f"selection from 50 walks of 20 frames of 106 atoms: {1e3 * seconds:.0f} ms, "
          f"{select(descriptors, frames, walks)} accepted")  # fmt: skip


if __name__ == "__main__":
    main()
