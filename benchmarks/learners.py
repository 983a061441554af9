"""The linear learner beside NequIP: CPU seconds of training, milliseconds of a force call, and errors with equal data.

    python benchmarks/learners.py [--frames 6 16 30] [--epochs 300] [--committee 4] [--labels FILE] [--json FILE]

Data: the node Zn4O(HCOO)6 and the linker (terephthalic acid) of MOF-5, displaced by 0.02 to 0.08 Å, labelled with
GFN1-xTB; the errors are those on other displaced frames and on frames of dynamics at 600 K, which lie outside of the
training data. ``--labels`` keeps the labels in an extxyz file for the next time. NequIP is its `small` model with the
settings of `configs/quickstart.yaml`. With ``--committee`` the linear potentials of a bootstrap committee are compared
with their errors. CPU times of this process, one thread: set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from scipy.stats import spearmanr
from tblite.ase import TBLite

from clusterflow.campaign.committee import share_of
from clusterflow.config.extract import BuildingBlocks
from clusterflow.core.data import Site, TrainedModel
from clusterflow.core.frames import content_hash, read_frames, with_label, write_frames
from clusterflow.evaluate.metrics import compare
from clusterflow.explore.thermodynamics import maxwell_boltzmann
from clusterflow.label.xtb import XTBReference
from clusterflow.score.committee import CommitteeDisagreement
from clusterflow.train.learners import load_potential, make_trainer
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings

MOF5 = Path(__file__).parents[1] / "configs" / "structures" / "MOF-5_primitive.extxyz"
ELEMENTS = ["C", "H", "O", "Zn"]


def fragments() -> list[Atoms]:
    """A node and a linker of MOF-5, capped, without mantle."""
    cell = read_frames(MOF5)[0]
    rule = BuildingBlocks(mantle={"node": "none", "linker": "anchors"}).build()
    found: dict[str, Atoms] = {}
    for index in range(len(cell)):
        atoms = rule.extract(cell, [Site(content_hash(cell), index)]).atoms
        found.setdefault(atoms.get_chemical_formula(), Atoms(atoms.numbers, atoms.positions))
        if len(found) == 2:
            break
    return list(found.values())


def labelled_data() -> list[Atoms]:
    """60 displaced frames and 40 of dynamics, named so in `info["kind"]`."""
    reference, rng, frames = XTBReference(method="GFN1-xTB"), np.random.default_rng(0), []
    parts = fragments()
    for k in range(60):
        atoms = parts[k % len(parts)].copy()
        atoms.positions += rng.normal(0.0, rng.uniform(0.02, 0.08), atoms.positions.shape)
        atoms.info["kind"] = "displaced"
        frames.append(atoms)
    for part in parts:
        atoms = part.copy()
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
        atoms.set_velocities(maxwell_boltzmann(atoms, 600.0, rng))
        md = Langevin(atoms, 0.5 * units.fs, temperature_K=600.0, friction=0.02 / units.fs, fixcm=False, rng=rng)
        for _ in range(20):
            md.run(20)
            frames.append(Atoms(atoms.numbers, atoms.positions, info={"kind": "dynamics"}))
    with tempfile.TemporaryDirectory() as scratch:
        return [with_label(a, reference.label(a, workdir=Path(scratch)), kind=a.info["kind"]) for a in frames]


def learners(epochs: int) -> dict[str, Callable[[], Any]]:
    """A new trainer of each kind."""
    nequip = NequIPTrainingSettings(
        learning_rate=0.02, batch_size=2, energy_weight=10.0, schedule="cosine", max_epochs=epochs, ema_decay=0.99
    )
    small = NequIPModelSettings.preset("small").to_json()
    linear = LinearModelSettings(features=8).to_json()
    return {
        "linear": lambda: make_trainer("linear", linear, LinearTrainingSettings().to_json(), ELEMENTS, threads=1),
        "nequip small": lambda: make_trainer("nequip", small, nequip.to_json(), ELEMENTS, threads=1),
    }


def train(trainer: Any, training: Sequence[Atoms], validation: Sequence[Atoms], seed: int = 1) -> tuple[Any, float]:
    """The potential, and the CPU seconds of its training."""
    with tempfile.TemporaryDirectory(prefix="learners-") as folder:
        begun = time.process_time()
        model: TrainedModel = trainer.train(training, validation, start=None, seed=seed, workdir=Path(folder))
        return load_potential(model.path), time.process_time() - begun


def force_call(potential: Any, atoms: Atoms, repeats: int = 20) -> float:
    """CPU milliseconds, median."""
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        potential.predict([atoms])
        times.append(time.process_time() - begun)
    return 1e3 * float(np.median(times))


def errors(potential: Any, frames: Sequence[Atoms]) -> dict[str, float]:
    """Force MAE in meV/Å and spread of the energy error in meV/atom."""
    found = compare(frames, potential.predict(frames))
    assert found.forces is not None
    assert found.energy is not None
    return {"force_mae": found.forces.mae, "force_mae_p95": found.forces.mae_p, "energy_std": found.energy.std}


def committee(
    size: int, training: list[Atoms], validation: list[Atoms], test: dict[str, list[Atoms]]
) -> dict[str, Any]:
    """Rank correlation of a linear committee's disagreement with the force errors of its first member."""
    by_name = {str(i): a for i, a in enumerate(training)}
    members = []
    for k in range(size):
        names = list(by_name) if k == 0 else share_of(list(by_name), [], how="bootstrap", seed=1, member=k)[0]
        members.append(train(learners(1)["linear"](), [by_name[n] for n in names], validation, seed=k)[0])
    found: dict[str, Any] = {"members": size}
    for measure in ("maximum", "deviation"):
        fitted = CommitteeDisagreement(tuple(members), measure=measure).fit(training)
        for kind, frames in test.items():
            error = np.concatenate(
                [np.linalg.norm(members[0].predict([a])[0].forces - a.get_forces(), axis=1) for a in frames]
            )
            scores = np.concatenate([fitted.score(a) for a in frames])
            found[f"{measure} {kind}"] = {
                "spearman": float(spearmanr(scores, error).statistic),
                "median_error_over_median_score": float(np.median(error) / np.median(scores)),
            }
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[6, 16, 30])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--committee", type=int, default=4)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.labels is not None and given.labels.is_file():
        data = read_frames(given.labels)
    else:
        data = labelled_data()
        if given.labels is not None:
            write_frames(given.labels, data)
    displaced = [a for a in data if a.info["kind"] == "displaced"]
    test = {"displaced": displaced[40:], "dynamics": [a for a in data if a.info["kind"] == "dynamics"]}
    cell = read_frames(MOF5)[0]
    cell.rattle(0.03, seed=1)
    rows = []
    for count in given.frames:
        validation = displaced[40 - max(2, count // 4) : 40]
        for name, make in learners(given.epochs).items():
            potential, seconds = train(make(), displaced[:count], validation)
            row = {"learner": name, "frames": count, "train_s": seconds, "cell_ms": force_call(potential, cell)}
            row |= {f"{kind} {k}": v for kind, frames in test.items() for k, v in errors(potential, frames).items()}
            rows.append(row)
            print(
                f"{name:13s} {count:3d} frames: trained in {seconds:6.1f} s, {row['cell_ms']:5.1f} ms per force call "
                f"of {len(cell)} atoms; force MAE {row['displaced force_mae']:4.0f} meV/Å displaced, "
                f"{row['dynamics force_mae']:4.0f} dynamics; ΔE_std {row['displaced energy_std']:.1f} and "
                f"{row['dynamics energy_std']:.1f} meV/atom",
                flush=True,
            )
    told = committee(given.committee, displaced[: max(given.frames)], displaced[36:40], test)
    for key, value in told.items():
        print(key, value)
    if given.json is not None:
        given.json.write_text(json.dumps({"rows": rows, "committee": told}, indent=1))


if __name__ == "__main__":
    main()
