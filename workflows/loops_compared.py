"""Does the streaming loop learn as well as the synchronous one from the same number of labels?

python workflows/loops_compared.py configs/loops.yaml --seeds 1 2 3 --lags 2 1 0 --output runs/loops

Runs the campaign of the file for each seed with the synchronous loop, and with the streaming one at each largest model
lag: same starting fragments, same test set, same number of labels. How often and long a campaign trains on the way
depends on its loop, so the labels themselves are compared by NequIP potentials that are trained from nothing on
what each campaign has labelled, equally long and with the same settings (labels_judged.py: by linear ones).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from scipy.stats import sem

from clusterflow.campaign.status import campaign_status
from clusterflow.state.journal import read_events
from clusterflow.state.snapshot import fold

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("config", type=Path, help="campaign file")
parser.add_argument("--output", type=Path, required=True, help="folder of the runs and of results.json")
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--lags", type=int, nargs="+", default=[2, 1, 0], help="max_model_lag of the streaming loops")
parser.add_argument("--epochs", type=int, default=240, help="of the trainings from nothing")


def clusterflow(*words: object) -> str:
    command = [sys.executable, "-m", "clusterflow.cli.main", *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def written(config: Path, folder: Path, name: str, seed: int, lag: int | None, epochs: int) -> tuple[Path, Path]:
    """The campaign's own file, and one for the training from nothing."""
    told = YAML(typ="safe").load(config.read_text())
    loop = {"kind": "synchronous"} if lag is None else {"kind": "streaming", "max_model_lag": lag}
    told |= {"name": f"{told['name']}-{name}", "seed": seed, "loop": loop, "folder": name}
    for system in told["systems"]:
        system["structure"] = str((config.parent / system["structure"]).absolute())
    files = folder / f"{name}.yaml", folder / f"{name}-anew.yaml"
    for file in files:
        YAML().dump(told, file)
        told["train"]["final"]["max_epochs"] = epochs
    return files


def anew(place: Path, *settings: object) -> list[float]:
    """MAE and MAE_P95 of forces (meV/Å, test set) of a potential trained from nothing on a campaign's labels."""
    model = place.with_name(f"{place.name}-anew")
    if not model.is_dir():
        clusterflow("train", place / "dataset.extxyz", "--output", model, *settings)
    told = json.loads(clusterflow("evaluate", model, place / "dataset.extxyz", "--split", "test", "--json"))
    return [told["forces"]["mae"], told["forces"]["mae_p"]]


def result(config: Path, folder: Path, seed: int, lag: int | None, epochs: int) -> dict:
    """Errors in meV/Å on the test set: after each training of the campaign, and of the trainings from nothing."""
    name = f"{seed}-synchronous" if lag is None else f"{seed}-streaming-{lag}"
    place, (campaign, training) = folder / name, written(config, folder, name, seed, lag, epochs)
    clusterflow("run", campaign)
    status = campaign_status(snapshot := fold(read_events(place / "journal.jsonl")))
    return {
        "seed": seed,
        "loop": "synchronous" if lag is None else f"streaming, lag {lag}",
        "trainings": [[m.n_training, m.mae, m.mae_p95] for m in status.models],
        "anew": anew(place, "--config", training, "--seed", seed),
        "lag": status.model_lag or 0.0,
        "start": snapshot.decisions["split/0"],
    }


def show(results: list[dict]) -> None:
    """A table, and the loops' errors over the synchronous one's, with the standard error over the seeds."""
    for r in results:
        way = "  ".join(f"{n}: {mae:.0f}, {p95:.0f}" for n, mae, p95 in r["trainings"])
        print(r["seed"], r["loop"], f"mean lag {r['lag']:.2f}  {way}  anew:", *(round(x) for x in r["anew"]))
    first, *others = dict.fromkeys(r["loop"] for r in results)
    for column, name in enumerate(("MAE", "MAE_P95")):
        error = {k: np.log([r["anew"][column] for r in results if r["loop"] == k]) for k in (first, *others)}
        for loop in others:
            ratio = error[loop] - error[first]
            print(f"{name}: {loop} / {first} {np.exp(np.mean(ratio)):.3f}, standard error {sem(ratio):.3f}")


args, results = parser.parse_args(), []
args.output.mkdir(parents=True, exist_ok=True)
for seed in args.seeds:
    results += (here := [result(args.config, args.output, seed, lag, args.epochs) for lag in (None, *args.lags)])
    (args.output / "results.json").write_text(json.dumps(results, indent=1))
    for other in here[1:]:
        for part in ("train", "test"):
            assert here[0]["start"][part] == other["start"][part], f"they start with other fragments to {part}"
        assert here[0]["trainings"][-1][0] == other["trainings"][-1][0], "they have not as many labels"
show(results)
