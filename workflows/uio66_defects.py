"""Point defects of UiO-66 from fragments: learning curves, controls, cross-validation (Dobbelaere 2025, 4.2 and SI 8).

python workflows/uio66_defects.py configs/uio66_teacher.yaml runs/uio66_cells --output runs/uio66_defects.json

A potential trained on whole pristine cells learns three defects from N labels chosen in frames of the defective cell:
fragments around the most novel blocks (`selected`), around random atoms (`random`), or whole cells (`periodic`). It is
tested on whole cells of all four systems, whose true forces uio66_teacher_data.py has computed. Costs are predicted
DFT core-seconds, in units of one pristine cell.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ase import Atoms

from clusterflow.config.load import load_campaign
from clusterflow.core.data import Site
from clusterflow.core.frames import content_hash, fragment_to_atoms, read_frames, with_label
from clusterflow.evaluate.metrics import compare
from clusterflow.label.cost import fit_cost
from clusterflow.selection.cores import BlockSelector
from clusterflow.selection.random_sites import RandomSelector
from clusterflow.train.learners import load_potential, make_trainer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("campaign", type=Path)
parser.add_argument("data", type=Path, help="folder of uio66_teacher_data.py")
parser.add_argument("--counts", type=int, nargs="+", default=[2, 5, 10, 20, 40])
parser.add_argument("--pristine", type=int, default=16, help="pristine cells to train on, the same for all")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--output", type=Path, required=True)
args = parser.parse_args()
config = load_campaign(args.campaign)
reference, names = config.label.build(), [s.name for s in config.systems]
cost, rule = fit_cost([], []).seconds, config.extract.build()
data = {kind: {n: read_frames(args.data / f"{n}_{kind}.extxyz") for n in names} for kind in ("train", "test")}
elements = sorted({e for frames in data["train"].values() for a in frames[:1] for e in a.get_chemical_symbols()})
base, validation = data["train"]["pristine"][: args.pristine], data["train"]["pristine"][args.pristine :][:4]
one_cell, folder = cost(base[0]), args.output.with_suffix("")


def fit(training: list[Atoms], seed: int, name: str):
    """A potential, kept in a folder beside the output."""
    model, settings = config.train.build_model(), config.train.build_settings(final=True)
    trainer = make_trainer(config.train.kind, model.to_json(), settings.to_json(), elements, threads=1)
    return load_potential(trainer.train(training, validation, start=None, seed=seed, workdir=folder / name).path)


def tested(potential) -> dict[str, dict]:
    """Errors on the test cells of each system."""
    return {n: compare(frames, potential.predict(frames)).to_json() for n, frames in data["test"].items()}


def labelled(frames: list[Atoms], sites: list[Site]) -> list[Atoms]:
    """Fragments around the sites with the teacher's forces."""
    by_id = {content_hash(a): a for a in frames}
    cuts = [rule.extract(by_id[s.frame_id], [s]) for s in sites]
    labels = [reference.label(c.atoms, charge=c.charge, spin=c.spin, workdir=folder) for c in cuts]
    return [with_label(fragment_to_atoms(c), label) for c, label in zip(cuts, labels, strict=True)]


def most_novel(pool: list[Atoms], known: list[Atoms], potential, count: int, seed: int) -> list[Site]:
    """Sites of the most novel blocks under a density of what has been trained on, one per frame."""
    density = config.score.build(potential, seed).fit(known)
    return BlockSelector(per_frame=1).select(pool, [density.score(a) for a in pool], budget=count, rng=rng)


mixture, pristine = list(base), fit(base, 1, "pristine")
rows = [{"arm": "none", "n": 0, "cost": 0.0, "errors": tested(pristine)}]
for seed in range(1, args.seeds + 1):
    for name in names[1:]:
        rng = np.random.default_rng([seed, names.index(name)])
        pool = [data["train"][name][i] for i in rng.permutation(len(data["train"][name]))]
        drawn = RandomSelector().select(pool, [np.zeros(len(a)) for a in pool], budget=max(args.counts), rng=rng)
        for arm in ("selected", "random", "periodic"):
            chosen, sites, potential = [], [], pristine
            for n in args.counts:
                stem = f"{name}_{seed}_{arm}_{n}"
                if arm == "periodic":
                    chosen = pool[: max(n // 2, 1)]
                elif arm == "random":
                    chosen = chosen + labelled(pool, drawn[len(chosen) : n])
                else:
                    left = [a for a in pool if content_hash(a) not in {s.frame_id for s in sites}]
                    new = most_novel(left, base + chosen, potential, n - len(chosen), seed)
                    chosen, sites = chosen + labelled(left, new), sites + new
                potential = fit(base + chosen, seed, stem)
                found, spent = tested(potential), sum(map(cost, chosen)) / one_cell
                told = {"system": name, "seed": seed, "arm": arm, "n": len(chosen), "cost": spent}
                rows.append({**told, "errors": found})
                print(*told.values(), *(round(v["forces"]["mae_p"]) for v in found.values()), flush=True)
            mixture += chosen if arm == "selected" and seed == 1 else []
        args.output.write_text(json.dumps(rows))
rows.append({"arm": "mixed", "n": len(mixture) - len(base), "errors": tested(fit(mixture, 1, "mixed"))})
args.output.write_text(json.dumps(rows))
