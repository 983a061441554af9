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

from ase import Atoms

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
models = {name: v["model"] for name, v in decisions.items() if "evaluated" in name}  # in the order of the journal


def load(key: str):
    return load_potential(args.run / "tasks" / "train" / key / "model")


final = load([key for name, key in models.items() if not name.startswith("arm/")][-1])


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
for path in sorted(args.cells.glob("*_test.extxyz")) if args.cells else []:
    tests[path.stem.removesuffix("_test")] = read_frames(path)
rows = []
for name, key in models.items():
    potential = load(key)
    found = {test: compare(frames, potential.predict(frames)).to_json() for test, frames in tests.items()}
    rows.append({"name": name, "model": key, "errors": found})
    told = {t: (round(e["forces"]["mae"]), round(e["forces"]["mae_p"])) for t, e in found.items()}
    print(name, "MAE and MAE_P95 of forces, meV/Å:", told, flush=True)
(args.output / "supercell.json").write_text(json.dumps(rows))
