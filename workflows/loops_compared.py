"""Does the streaming loop learn as well as the synchronous one from the same number of labels?

python workflows/loops_compared.py configs/loops.yaml --seeds 1 2 3 --output runs/loops

Runs the campaign of the file with both loops for each seed: same starting fragments, same test set, same number of
labels. How often and long a campaign trains on the way depends on its loop, so the labels themselves are compared by
potentials that are trained from nothing on what each campaign has labelled, equally long and with the same settings.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from clusterflow.campaign.status import campaign_status
from clusterflow.state.journal import read_events
from clusterflow.state.snapshot import fold

LOOPS = ("synchronous", "streaming")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("config", type=Path, help="campaign file")
parser.add_argument("--output", type=Path, required=True, help="folder of the runs and of results.json")
parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
parser.add_argument("--epochs", type=int, default=240, help="of the trainings from nothing")


def clusterflow(*words: object) -> str:
    command = [sys.executable, "-m", "clusterflow.cli.main", *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def written(config: Path, folder: Path, seed: int, loop: str, epochs: int) -> tuple[Path, Path]:
    """The campaign's own file, and one for the training from nothing."""
    told = YAML(typ="safe").load(config.read_text())
    told |= {"name": f"{told['name']}-{seed}-{loop}", "seed": seed, "loop": {"kind": loop}, "folder": f"{seed}-{loop}"}
    for system in told["systems"]:
        system["structure"] = str((config.parent / system["structure"]).absolute())
    files = folder / f"{seed}-{loop}.yaml", folder / f"{seed}-{loop}-anew.yaml"
    for file in files:
        with file.open("w") as text:
            YAML().dump(told, text)
        told["train"]["final"]["max_epochs"] = epochs
    return files


def result(config: Path, folder: Path, seed: int, loop: str, epochs: int) -> dict:
    """Errors in meV/Å on the test set: after each training of the campaign, and of the training from nothing."""
    campaign, training = written(config, folder, seed, loop, epochs)
    clusterflow("run", campaign)
    place, model = folder / f"{seed}-{loop}", folder / f"{seed}-{loop}-anew"
    if not model.is_dir():
        clusterflow("train", place / "dataset.extxyz", "--output", model, "--config", training, "--seed", seed)
    told = json.loads(clusterflow("evaluate", model, place / "dataset.extxyz", "--split", "test", "--json"))["forces"]
    snapshot = fold(read_events(place / "journal.jsonl"))
    status = campaign_status(snapshot)
    return {
        "seed": seed,
        "loop": loop,
        "trainings": [[m.n_training, m.mae, m.mae_p95] for m in status.models],
        "anew": [told["mae"], told["mae_p"]],
        "lag": status.model_lag or 0.0,
        "start": snapshot.decisions["split/0"],
    }


def show(results: list[dict]) -> None:
    """A table, and the ratio of the loops' errors with its standard error over the seeds."""
    for r in results:
        way = "  ".join(f"{n}: {mae:.0f}, {p95:.0f}" for n, mae, p95 in r["trainings"])
        print(
            f"seed {r['seed']} {r['loop']:12s} lag {r['lag']:.1f}  {way}  anew: {r['anew'][0]:.0f}, {r['anew'][1]:.0f}"
        )
    for column, name in enumerate(("MAE", "MAE_P95")):
        error = {loop: np.array([r["anew"][column] for r in results if r["loop"] == loop]) for loop in LOOPS}
        ratio = np.log(error["streaming"] / error["synchronous"])
        spread = np.std(ratio, ddof=1) / np.sqrt(len(ratio)) if len(ratio) > 1 else np.nan
        print(f"{name}: streaming / synchronous {np.exp(np.mean(ratio)):.3f}, standard error {spread:.3f}")


def main() -> None:
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    results: list[dict] = []
    for seed in args.seeds:
        results += [result(args.config, args.output, seed, loop, args.epochs) for loop in LOOPS]
        (args.output / "results.json").write_text(json.dumps(results, indent=1))
        one, other = results[-2:]
        assert one["start"]["test"] == other["start"]["test"], "the two campaigns have other test sets"
        assert one["start"]["train"] == other["start"]["train"], "the two campaigns have other starting fragments"
        assert one["trainings"][-1][0] == other["trainings"][-1][0], "the two campaigns have not as many labels"
    show(results)


if __name__ == "__main__":
    main()
