"""Which novelty finds wrong forces? Gaussian mixture, distance and entropy, calibrated on the same held-out labels.

python workflows/uncertainties.py --output runs/uncertainties

Trains a small NequIP potential on GFN1-xTB labels of displaced MOF-5 fragments (rings, nodes), calibrates on others of
that kind, judges on new ones, on stronger displacements, on nodes beside a missing linker, and on terephthalic acid.
"""

import argparse
import json
import timeit
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from clusterflow.core.data import Site
from clusterflow.core.frames import content_hash, fragment_to_atoms, with_label
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.label.xtb import XTBReference
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.score.calibration import calibrate
from clusterflow.score.correlation import force_error_norms
from clusterflow.score.distance import DistanceNovelty
from clusterflow.score.entropy import EntropyNovelty
from clusterflow.score.extrapolation import extrapolation, trained_ranges
from clusterflow.score.features import features_by_element
from clusterflow.score.figures import reliability_figure
from clusterflow.score.gmm import GaussianMixtureNovelty
from clusterflow.score.reliability import assess
from clusterflow.structures.defects import missing_linker
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
from clusterflow.train.nequip_potential import NequIPPotential
from clusterflow.train.nequip_train import NequIPTrainer

MOF5 = Path(__file__).parents[1] / "configs" / "structures" / "MOF-5_primitive.extxyz"
SETS = {"training": (24, 0.02, 0.07, 0), "validation": (24, 0.02, 0.07, 1), "same kind": (30, 0.02, 0.07, 2),
        "displaced more": (20, 0.08, 0.12, 3), "missing linker": (20, 0.02, 0.07, 4), "acid": (20, 0.02, 0.07, 5)}  # fmt: skip # noqa: E501
RECIPE = {"learning_rate": 0.02, "batch_size": 2, "energy_weight": 10.0, "schedule": "cosine", "max_epochs": 250}
KINDS = {"gmm": GaussianMixtureNovelty, "distance": DistanceNovelty, "entropy": EntropyNovelty}


def fragments(name: str, folder: Path) -> list[Atoms]:
    """Labelled fragments of one set (count, displacements in Å, seed); taken from the folder the next time."""
    path = folder / f"{name.replace(' ', '_')}.extxyz"
    if not path.is_file():
        count, low, high, seed = SETS[name]
        rng, out = np.random.default_rng(seed), []
        rule = BuildingBlockRule(mantle="anchors" if name == "acid" else "none")
        parent = missing_linker(read(MOF5)) if name == "missing linker" else read(MOF5)
        blocks = find_blocks(parent)
        for i in range(count):
            frame = parent.copy()
            frame.positions += rng.normal(0.0, rng.uniform(low, high), (len(frame), 3))
            kind = "linker" if name == "acid" or (name != "missing linker" and i % 2 == 0) else "node"
            block = rng.choice(np.flatnonzero(np.array(blocks.kinds) == kind))
            cut = rule.extract(frame, [Site(content_hash(frame), int(blocks.members(block)[0]))])
            out.append(with_label(fragment_to_atoms(cut), XTBReference().label(cut.atoms, charge=cut.charge)))
        write(path, out)
    return list(read(path, ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/uncertainties"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    data = {name: fragments(name, folder) for name in SETS}
    nequip = NequIPTrainer(NequIPModelSettings.preset("small"), NequIPTrainingSettings(**RECIPE), ("C", "H", "O", "Zn"))
    nequip.train(data["training"], data["validation"], start=None, seed=1, workdir=folder)  # or what it has made
    potential = NequIPPotential.load(folder / "model")
    views, times, flags, atoms = {}, {}, {}, {}  # atoms: set → features, elements, force errors (eV/Å), frame
    for name, frames in data.items():
        pairs = [(a, *potential.predict_with_features(a)) for a in frames]
        error = np.concatenate([force_error_norms(a, p) for a, p, _ in pairs])
        symbols = np.concatenate([a.get_chemical_symbols() for a in frames])
        frame = np.repeat(np.arange(len(frames)), [len(a) for a in frames])
        atoms[name] = np.concatenate([f for *_, f in pairs]), symbols, error, frame
    for kind, make in KINDS.items():
        fitted = make(potential, seed=1).fit(data["training"])
        x, symbols, error, frame = atoms["validation"]
        made = calibrate(fitted.score_features(x, symbols), error, symbols, frame, unit=fitted.unit)
        for name in list(SETS)[2:]:
            x, symbols, error, frame = atoms[name]
            times[kind] = 1e5 * timeit.timeit(partial(fitted.score_features, x, symbols), number=10) / len(x)
            views[kind, name] = found = assess(made, fitted.score_features(x, symbols), error, symbols, frame)
            print(kind, name, f"{found['all'].coverage:.0%} of the errors within their bounds", flush=True)
    ranges = trained_ranges(features_by_element(potential, data["training"]))
    for name, (x, symbols, error, _) in atoms.items():
        out = extrapolation(ranges, x, symbols).outside
        flags[name] = [float(out.mean()), float(error[~out].mean()), float(error[out].mean()) if out.any() else None]
    told = {f"{kind}, {name}": {e: r.to_json() for e, r in v.items()} for (kind, name), v in views.items()}
    (folder / "uncertainties.json").write_text(json.dumps({"novelties": told, "ms": times, "outside": flags}, indent=1))
    reliability_figure(views, folder / "uncertainties.png")


if __name__ == "__main__":
    main()
