"""Time and memory of choosing by coverage from many large frames: `python benchmarks/selection.py [frames] [atoms]`.

Synthetic: features of 16 dimensions, clustered as those of a framework are (a few environments per element, seen again
and again, and rare ones), blocks of 20 atoms, novelty that follows the distance from the labelled environments. Finding
the blocks of real frames is benchmarks/extraction.py's part.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
from ase import Atoms

from clusterflow.label.cost import fit_cost
from clusterflow.selection.coverage import CoverageSelector

DIMENSIONS, BLOCK, ELEMENTS = 16, 20, (1, 6, 8, 40)


def main(n_frames: int, n_atoms: int) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.choice(ELEMENTS, n_atoms, p=(0.3, 0.4, 0.25, 0.05))
    centres = {z: rng.normal(size=(6, DIMENSIONS)) for z in ELEMENTS}
    kind = rng.integers(6, size=n_atoms)
    mean = np.array([centres[z][k] for z, k in zip(numbers, kind, strict=True)])
    frames, features, scores = [], [], []
    for _ in range(n_frames):
        odd = rng.random(n_atoms) < 0.01
        away = np.where(odd, 3.0, 0.3)[:, None] * rng.normal(size=(n_atoms, DIMENSIONS)) / 4.0
        frames.append(Atoms(numbers, positions=rng.uniform(0.0, 60.0, (n_atoms, 3)), cell=[60.0] * 3, pbc=True))
        features.append(mean + away)
        scores.append((away**2).sum(axis=1) * 8.0 - 10.0)
    groups = [np.arange(n_atoms) // BLOCK] * n_frames
    known = np.tile(mean[:200], (10, 1)) + 0.08 * rng.normal(size=(2000, DIMENSIONS))
    cost = fit_cost([50.0, 100.0, 200.0], [4.0, 20.0, 100.0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    selector = CoverageSelector(
        features, groups, known, np.tile(numbers[:200], 10),
        seconds=lambda n: cost.prefactor * np.maximum(n, 1.0) ** cost.exponent,
        batch=20,
    )  # fmt: skip
    began = time.perf_counter()
    found = selector.choose(frames, scores, 88)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"{n_frames} frames of {n_atoms} atoms: {seconds:.1f} s, peak memory {peak:.0f} MB ({before:.0f} MB before)")
    share = found.covers.value / found.covers.bound
    print(f"{len(found.sites)} sites; the batch covers at least {share:.0%} of what the best one does")


if __name__ == "__main__":
    main(*(int(a) for a in (sys.argv[1:] or ("1000", "5000"))))
