"""Do potentials that know small fragments only give right forces in the bulk? (Herbold and Behler, 10.1039/d2cp05976b)

python workflows/small_fragments_data.py --output runs/small_fragments/data
python workflows/small_fragments.py runs/small_fragments/data --output runs/small_fragments

Potential 1 knows small fragments (4.359 Å = Rc) and reaches Rc, 2 knows large ones (2 Rc) and reaches Rc, 3 knows large
ones and reaches 2 Rc; "more" has five times as many fragments, "too far" breaks the rule: it reaches 2 Rc. Judged on
whole cells, and on the difference that the cut makes to the forces on atoms with all neighbours within Rc.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.frames import content_hash, read_frames
from clusterflow.evaluate.metrics import compare
from clusterflow.train.learners import load_potential, make_trainer
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings

RC = 4.359  # Å
POTENTIALS = {  # fragments, and reach of the atomic energies in Rc
    **{"1": ("small", 1), "1, more": ("more", 1), "2": ("large", 1), "3": ("large", 2)},
    **{"1, too far": ("small", 2), "1, more, too far": ("more", 2)},
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=Path, help="folder of small_fragments_data.py")
parser.add_argument("--learner", choices=["linear", "nequip"], default="linear")
parser.add_argument("--potentials", nargs="+", default=list(POTENTIALS))
parser.add_argument("--core-only", action="store_true", help="train on the forces of atoms with a complete reach alone")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
parser.add_argument("--steps", type=int, default=6400, help="of a NequIP training, one fragment each")
parser.add_argument("--output", type=Path, default=Path("runs/small_fragments"), help="results.json there grows")
args = parser.parse_args()
bulk, results = read_frames(args.data / "bulk.extxyz"), args.output / "results.json"
by_id = {content_hash(a): k for k, a in enumerate(bulk)}


def trainer(reach: int, fragments: int):
    """One whose atomic energies reach (cutoff x layers) so many Rc, for so many fragments; as many functions per Å."""
    if args.learner == "linear":
        model = LinearModelSettings(cutoff=reach * RC, radial=12 * reach, density=6 * reach)
        settings = LinearTrainingSettings(core_only=args.core_only)
    else:
        model = NequIPModelSettings(r_max=reach * RC / 2, layers=2, features=8, invariant_layers=1)
        epochs = {"schedule": "cosine", "max_epochs": args.steps // fragments, "batch_size": 1, "ema_decay": 0.99}
        settings = NequIPTrainingSettings(learning_rate=0.02, energy_weight=10.0, core_only=args.core_only, **epochs)
    return make_trainer(args.learner, model.to_json(), settings.to_json(), ["C", "H", "O", "Zn"], threads=1)


def regions(frames: list[Atoms], radius: float) -> list[Atoms]:
    """The fragments, core being the atoms that lack no neighbour within a radius (Å)."""
    for atoms in frames:
        complete = np.where(atoms.arrays["complete"] > radius, "core", "mantle")
        atoms.set_array(keys.REGION, np.where(atoms.arrays[keys.PARENT] < 0, "termination", complete))
    return frames


tests = {size: regions(read_frames(args.data / f"{size}_test.extxyz"), RC) for size in ("small", "large")}


def cut_off(fragments: list[Atoms], in_fragment: list[np.ndarray], in_bulk: list[np.ndarray]) -> list[list[float]]:
    """(n, 3) force in the bulk minus force in the fragment, eV/Å, of atoms that lack no neighbour within Rc."""
    out = []
    for atoms, forces in zip(fragments, in_fragment, strict=True):
        core = atoms.arrays[keys.REGION] == "core"
        out.append(in_bulk[by_id[atoms.info[keys.FRAME]]][atoms.arrays[keys.PARENT][core]] - forces[core])
    return np.concatenate(out).round(4).tolist()


true = {k: cut_off(t, [a.get_forces() for a in t], [a.get_forces() for a in bulk]) for k, t in tests.items()}
for seed in args.seeds:
    for name, (size, reach) in ((n, POTENTIALS[n]) for n in args.potentials):
        data = regions(read_frames(args.data / f"{size}_{seed}.extxyz"), reach * RC)
        begun, held = time.process_time(), len(data) // 5
        folder = args.output / f"{args.learner}_{name}_{seed}{'_core' * args.core_only}".replace(", ", "_")
        made = trainer(reach, len(data) - held).train(data[held:], data[:held], start=None, seed=seed, workdir=folder)
        potential, seconds = load_potential(made.path), time.process_time() - begun
        cells, cuts = potential.predict(bulk), {k: potential.predict(t) for k, t in tests.items()}
        own = {k: cut_off(t, [p.forces for p in cuts[k]], [p.forces for p in cells]) for k, t in tests.items()}
        row = {"learner": args.learner, "potential": name, "core_only": args.core_only, "seed": seed, "n": len(data),
               "train_s": seconds, "label_s": sum(a.info["seconds"] for a in data), "true": true, "own": own,
               "bulk": compare(bulk, cells).to_json(),
               "fragments": {k: compare(t, cuts[k]).to_json() for k, t in tests.items()}}  # fmt: skip
        rows = json.loads(results.read_text()) if results.is_file() else []
        results.write_text(json.dumps([*rows, row]))
        told = {k: round(v["rmse"]) for k, v in row["bulk"]["forces_by_system"].items()}
        print(args.learner, name, seed, f"{seconds:.0f} s, force RMSE in meV/Å:", told, flush=True)
