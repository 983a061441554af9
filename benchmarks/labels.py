"""What a label costs and how much forces depend on the level: one row per level for each structure of a file.

    python benchmarks/labels.py fragments.extxyz out/ '{"h": 0.2}' '{"h": 0.2, "vacuum": 3.0}'

Each JSON text changes fields of ``GPAWReference.quick()``; ``{"preset": "paper"}`` starts from the paper's level.
Forces are compared with the first level of the list. CPU time (of the GPAW processes) is what wall time is on an idle
machine.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.core.frames import formula, read_frames
from clusterflow.errors import LabelError
from clusterflow.label.cost import estimate_seconds
from clusterflow.label.gpaw import GPAWReference


def main(structures: str, out: str, *levels: str) -> None:
    """Prints a Markdown table."""
    print("| structure | level | wall s | CPU s | estimate s | SCF steps | MB | E eV | max, rms ΔF eV/Å | net F eV/Å |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for number, atoms in enumerate(read_frames(structures)):
        first: FloatArray | None = None
        for level in levels or ("{}",):
            fields = dict(json.loads(level))
            preset = getattr(GPAWReference, fields.pop("preset", "quick"))
            reference = preset(**fields)
            charge, spin = int(atoms.info.get("charge", 0)), int(atoms.info.get("spin", 0))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            try:
                label = reference.label(
                    atoms, charge=charge, spin=spin, workdir=Path(out) / f"{number}-{abs(hash(level)) % 10**8}"
                )
            except LabelError as error:
                print(f"| {formula(atoms)} ({len(atoms)}) | {level} | {error.what} |")
                continue
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            forces = label.prediction.forces
            first = forces if first is None else first
            difference = forces - first
            print(
                f"| {formula(atoms)} ({len(atoms)}) | {level} | {label.wall_time:.1f} | {cpu:.1f} "
                f"| {estimate_seconds(atoms, reference.h, reference.vacuum):.0f} | {label.scf_steps} "
                f"| {label.peak_memory_MB:.0f} | {label.prediction.energy:.4f} "
                f"| {np.abs(difference).max():.3f}, {np.sqrt((difference**2).mean()):.3f} "
                f"| {np.linalg.norm(forces.sum(axis=0)):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
