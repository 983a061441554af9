"""What are the labels of campaigns worth? Linear potentials fitted to them from nothing, averaged over random splits.

python workflows/labels_judged.py runs/loops/?-synchronous runs/loops/?-streaming-? --output runs/judged.json

Takes datasets of finished campaigns. One fit says little: the strength of the regularisation is chosen on a fifth of
the labels, and which fifth changes the test error by 10 to 30 %. So each dataset is fitted with the campaign's own
split and with random ones, the same for all campaigns that have as many labels.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from clusterflow.core import keys
from clusterflow.core.frames import read_frames
from clusterflow.evaluate.metrics import compare
from clusterflow.train.learners import load_potential, make_trainer
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("runs", type=Path, nargs="+", help="run folders")
parser.add_argument("--splits", type=int, default=6, help="random ones, beside the campaign's own")
parser.add_argument("--output", type=Path, required=True)


def test_error(training: list, validation: list, test: list) -> tuple[float, float]:
    """Force MAE and MAE_P95 in meV/Å of a linear potential fitted to these frames."""
    elements = sorted({e for a in (*training, *validation, *test) for e in a.get_chemical_symbols()})
    settings = LinearModelSettings().to_json(), LinearTrainingSettings().to_json()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer("linear", *settings, elements, threads=1)
        potential = load_potential(trainer.train(training, validation, start=None, seed=1, workdir=Path(folder)).path)
        forces = compare(test, potential.predict(test)).to_json()["forces"]
    return forces["mae"], forces["mae_p"]


args = parser.parse_args()
judged = {}
for run in args.runs:
    parts = {part: [] for part in ("train", "validation", "test")}
    for atoms in read_frames(run / "dataset.extxyz"):
        parts[atoms.info[keys.SPLIT]].append(atoms)
    known, held_out = parts["train"] + parts["validation"], len(parts["validation"])
    found = [test_error(parts["train"], parts["validation"], parts["test"])]
    for seed in range(args.splits):
        order = [known[i] for i in np.random.default_rng(seed).permutation(len(known))]
        found.append(test_error(order[held_out:], order[:held_out], parts["test"]))
    judged[str(run)] = found
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
    print(
        f"{run.name}: MAE {mean[0]:.0f} ± {spread[0]:.0f}, MAE_P95 {mean[1]:.0f} ± {spread[1]:.0f} over the splits",
        flush=True,
    )
    args.output.write_text(json.dumps(judged))
