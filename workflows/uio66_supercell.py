"""Was a cell of 3,000 atoms learned from fragments of itself? True forces of the whole cell (Dobbelaere 2025, 4.3).

clusterflow run configs/uio66_disordered.yaml
python workflows/uio66_supercell.py runs/uio66_disordered --cells runs/uio66_cells --output runs/uio66_supercell

Frames of 600 K dynamics of the whole cell with the final potential get true forces (of the campaign's level), and
every potential of the campaign and of its control arm is tested on them, and on the cells of uio66_teacher_data.py.
`--large N`: also on one frame of an N × N × N cell made likewise (4: 22,000 atoms).
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
from ase import Atoms

mpl.use("Agg")
import matplotlib.pyplot as plt

from clusterflow.config.campaign import Campaign
from clusterflow.core.frames import read_frames, with_label, write_frames
from clusterflow.evaluate.metrics import compare
from clusterflow.state.journal import read_events
from clusterflow.state.snapshot import fold
from clusterflow.train.learners import load_potential

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, help="run folder of the campaign")
parser.add_argument("--cells", type=Path, help="folder of uio66_teacher_data.py")
parser.add_argument("--steps", type=int, default=400, help="of the walk; frames come from its second half")
parser.add_argument("--frames", type=int, default=4)
parser.add_argument("--large", type=int, help="repeats of the conventional cell along each axis")
parser.add_argument("--output", type=Path, default=Path("runs/uio66_supercell"))
args = parser.parse_args()
args.output.mkdir(parents=True, exist_ok=True)
config = Campaign.model_validate(json.loads((args.run / "config.json").read_text()))
decisions = fold(read_events(args.run / "journal.jsonl")).decisions
reference, system = config.label.build(), config.systems[0]
evaluated = {name: v for name, v in decisions.items() if "evaluated" in name}  # in the order of the journal


def load(key: str):
    return load_potential(args.run / "tasks" / "train" / key / "model")


final = load([v["model"] for name, v in evaluated.items() if not name.startswith("arm/")][-1])


def labelled(name: str, start: Atoms, steps: int, count: int) -> list[Atoms]:
    """The last frames of a walk of the final potential, with true forces; read if they are in the output folder."""
    path = args.output / f"{name}.extxyz"
    if not path.is_file():
        interval = max(1, steps // (2 * count))
        explorer = config.explore.model_copy(update={"frame_interval": interval}).build(600.0, None, steps)
        with tempfile.TemporaryDirectory() as scratch:
            walk = explorer.explore(start, final, seed=7, workdir=Path(scratch))
        print(f"{name}: {len(start)} atoms, {walk.steps_done} of {steps} steps {walk.stop_reason}", flush=True)
        begin, made = time.monotonic(), []
        for atoms in walk.frames[-count:]:
            label = reference.label(atoms, charge=0, spin=0, workdir=args.output)
            made.append(with_label(atoms, label))
        print(f"{(time.monotonic() - begin) / count:.0f} s for the true forces of a frame", flush=True)
        write_frames(path, made)
    return read_frames(path)


cell = read_frames(args.run / "inputs" / f"{system.name}.extxyz")[0]
tests = {"cell": labelled("cell", cell, args.steps, args.frames)}
if args.large:
    steps = [s.model_copy(update={"repeat": (args.large,) * 3}) if s.kind == "supercell" else s for s in system.build]
    large = system.model_copy(update={"build": tuple(steps)}).atoms()
    tests["large"] = labelled("large", large, 100, 1)
tests["held-out fragments"] = [a for a in read_frames(args.run / "dataset.extxyz") if a.info["split"] == "test"]
for path in sorted(args.cells.glob("*_test.extxyz")) if args.cells else []:
    tests[path.stem.removesuffix("_test")] = read_frames(path)
rows = []
for name, v in evaluated.items():
    potential, arm = load(v["model"]), name.split("/")[2] if name.startswith("arm/") else "selected"
    found = {test: compare(frames, potential.predict(frames)).to_json() for test, frames in tests.items()}
    rows.append({"arm": arm, "labels": v["n_training"], "errors": found})
    told = {t: f"{e['forces']['mae']:.0f}, {e['forces']['mae_p']:.0f}" for t, e in found.items()}
    print(arm, v["n_training"], "labels; MAE, MAE_P95 of forces in meV/Å:", told, flush=True)
(args.output / "supercell.json").write_text(json.dumps(rows))
fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
for axis, test in zip(axes, ("cell", "held-out fragments"), strict=True):
    for arm, colour in (("selected", "#4477aa"), ("random", "#ccbb44")):
        points = [r for r in rows if r["arm"] == arm or r["labels"] == rows[0]["labels"]]
        errors = [r["errors"][test]["forces"]["mae_p"] for r in points]
        axis.plot([r["labels"] for r in points], errors, "o-", color=colour, label=arm)
    axis.set(xlabel="labelled fragments", yscale="log", title="whole cell, 600 K" if test == "cell" else test)
axes[0].set_ylabel("force MAE_P95, meV/Å")
axes[0].yaxis.set_major_formatter("{x:g}")
axes[0].yaxis.set_minor_formatter("{x:g}")
axes[0].legend(frameon=False)
fig.savefig(args.output / "supercell.png", dpi=150)
