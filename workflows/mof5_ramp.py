"""What did a temperature ramp learn? Accepted frames per step, and errors and coverage of every model of a campaign.

clusterflow run configs/ramp.yaml
python workflows/mof5_ramp.py runs/ramp --output runs/mof5_ramp

Walks with the final potential at several temperatures are the test (Sharma and Sanvito 2024, Fig. 5), labelled at the
campaign's level. Each model is tested on them, and on each temperature alone. Coverage: the share of the bins filled by
the walk at the lowest temperature that the labels of a model fill.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Label
from clusterflow.core.frames import read_frames, with_label
from clusterflow.evaluate.metrics import compare
from clusterflow.selection.cbad import Bins, Descriptors
from clusterflow.state.journal import read_events
from clusterflow.state.labels import LabelStore, label_key
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import fold
from clusterflow.train.learners import load_potential

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, help="run folder of the campaign")
parser.add_argument("--output", type=Path, required=True, help="folder for ramp.json, which mof5_ramp_figure.py draws")
parser.add_argument("--temperatures", type=float, nargs="+", default=[300.0, 600.0, 1000.0])
parser.add_argument("--steps", type=int, default=1000, help="of each test walk; its second half is labelled")
parser.add_argument("--frames", type=int, default=8, help="frames labelled of each test walk")
parser.add_argument("--store", type=Path, help="where labels of the test are kept (default: in the output folder)")
args = parser.parse_args()
args.output.mkdir(parents=True, exist_ok=True)
config = Campaign.model_validate(json.loads((args.run / "config.json").read_text()))
told = fold(read_events(args.run / "journal.jsonl"))
system, decisions = config.systems[0], told.decisions
reference, store = config.label.build(), LabelStore(args.store or args.output / "labels")
start = read_frames(args.run / "inputs" / f"{system.name}.extxyz")[0]
descriptors = Descriptors({system.name: start}, config.select.build(), types=config.select.types)


def labelled(atoms) -> Label:
    key = label_key(atoms, level_of_theory=reference.level_of_theory, charge=0, spin=0)
    found = store.get(key)
    if found is None:
        store.put(key, atoms, reference.label(atoms, charge=0, spin=0, workdir=args.output))
        found = store.get(key)
    return found[1]


def load(key: str):
    return load_potential(args.run / "tasks" / "train" / key / "model")


last = [v for n, v in decisions.items() if n.startswith("evaluated/")][-1]  # the campaign may be under way
final, tests, walks = load(last["model"]), {}, {}
interval = max(1, args.steps // (2 * args.frames))
for temperature in args.temperatures:
    explorer = config.explore.model_copy(update={"frame_interval": interval}).build(temperature, 0.0, args.steps)
    with tempfile.TemporaryDirectory() as scratch:
        path = explorer.explore(start, final, seed=int(temperature), workdir=Path(scratch))
    walks[temperature] = path.frames[1:]
    print(f"{temperature:g} K: {path.steps_done} of {args.steps} steps {path.stop_reason}", flush=True)
    tests[temperature] = [with_label(a, labelled(a)) for a in path.frames[-args.frames :]]
wanted = np.unique(np.concatenate([descriptors.bins(a, system.name) for a in walks[args.temperatures[0]]]))

known = LabelStore(CampaignFolder(args.run).labels)
rows, keys, bins = [], [], Bins(descriptors)
for number in range(len([n for n in decisions if n.startswith("evaluated/") and "final" not in n])):
    split = decisions.get(f"split/{number}", {"train": [], "validation": []})
    keys += [*split["train"], *split["validation"]]
    for key in keys:
        bins.fill(descriptors.bins(known.get(key)[0], system.name))
    potential = load(decisions[f"evaluated/{number}"]["model"])
    row = {"iteration": number, "labels": len(keys), "coverage": bins.covered(wanted), "bins": len(bins.codes),
           **decisions.get(f"ramp/{number}", {})}  # fmt: skip
    for temperature in (*args.temperatures, "all"):
        of = [a for t, own in tests.items() if temperature in (t, "all") for a in own]
        errors = compare(of, potential.predict(of))
        row[f"forces {temperature}"] = {"mae": errors.forces.mae, "rmse": errors.forces.rmse}
        row[f"energy {temperature}"] = {"mae": errors.energy.mae, "std": errors.energy.std}
    row["accepted"] = len(decisions.get(f"selected/{number}", {"fragments": []})["fragments"])
    rows.append(row)
    print(json.dumps(row), flush=True)
(args.output / "ramp.json").write_text(json.dumps(rows, indent=1))
