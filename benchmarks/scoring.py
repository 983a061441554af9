"""Time of scoring against one force call.

    python benchmarks/scoring.py [--model FOLDER] [--structure FILE] [--beside PRESET] [--repeats N] [--json FILE]

Fits mixtures to synthetic features (the time does not depend on what they mean) and scores 100, 456 and 5000 atoms with
8 and 16 features. ``--beside small`` (base, extended) times force calls of an untrained potential of that size on
UiO-66 cells of 114, 456 and 5016 atoms, what its features cost beside the forces of the same pass, and every kind of
novelty on them. With ``--model`` and ``--structure`` it times one energy-and-force call of that potential on that
structure, its features, and their scoring. For numbers that can be compared, set OMP_NUM_THREADS=1 and leave the
machine idle.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.core.frames import read_frames
from clusterflow.score.gmm import ElementMixture, GaussianMixtureNovelty, fit_elements

SIZES, WIDTHS, ELEMENTS, COMPONENTS = (100, 456, 5000), (8, 16), ("H", "C", "O", "Zr"), 10
STRUCTURES = Path(__file__).parents[1] / "configs" / "structures"


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of one call, after one call that does not count."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def score_all(parts: Sequence[tuple[ElementMixture, FloatArray]]) -> None:
    """Scores the atoms of each element with its mixture."""
    for mixture, features in parts:
        mixture.score(features)


def scoring(repeats: int) -> list[dict[str, Any]]:
    """Scoring time per number of atoms and features, with ten components for each of four elements."""
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    for width in WIDTHS:
        begin = time.perf_counter()
        clouds = {e: rng.normal(size=(3000, width)) + 4.0 * rng.integers(0, 4, (3000, 1)) for e in ELEMENTS}
        mixtures = fit_elements(clouds, components=(COMPONENTS, COMPONENTS), seed=0)
        fit = time.perf_counter() - begin
        for n in SIZES:
            parts = [(mixtures[e], rng.normal(size=(n // len(ELEMENTS), width))) for e in ELEMENTS]
            seconds = median_seconds(functools.partial(score_all, parts), repeats)
            rows.append({"atoms": n, "features": width, "score_ms": 1e3 * seconds, "fit_s_one_k_3000_atoms": fit})
    return rows


def force_call(model: Path, structure: Path, repeats: int) -> dict[str, Any]:
    """One energy-and-force call and one feature call of a trained potential, and the scoring of these features."""
    from clusterflow.train.nequip_potential import NequIPPotential

    potential = NequIPPotential.load(model)
    atoms = read_frames(structure)[0]
    rng = np.random.default_rng(0)
    training = []
    for _ in range(10):
        frame = atoms.copy()
        frame.positions += rng.normal(0.0, 0.03, (len(atoms), 3))
        training.append(frame)
    density = GaussianMixtureNovelty(potential, components=(1, COMPONENTS)).fit(training)
    features = potential.features(atoms)
    symbols = np.asarray(atoms.get_chemical_symbols())
    mixtures = density.mixtures or {}
    parts = [(mixtures[e], features[symbols == e]) for e in np.unique(symbols)]
    force = median_seconds(lambda: potential.predict([atoms]), repeats)
    score = median_seconds(functools.partial(score_all, parts), repeats)
    return {
        "atoms": len(atoms),
        "features": int(features.shape[1]),
        "components": {e: m.n_components for e, m in mixtures.items()},
        "force_ms": 1e3 * force,
        "features_ms": 1e3 * median_seconds(lambda: potential.features(atoms), repeats),
        "score_ms": 1e3 * score,
        "score_over_force": score / force,
    }


def untrained(preset: str, device: str) -> Any:
    """A potential with random weights: its time is that of a trained one."""
    from clusterflow.train import nequip_model
    from clusterflow.train.dataset import Statistics
    from clusterflow.train.nequip_config import NequIPModelSettings
    from clusterflow.train.nequip_potential import NequIPPotential

    statistics = Statistics(30.0, dict.fromkeys(ELEMENTS, 0.0), dict.fromkeys(ELEMENTS, 1.0), 1.0)
    config = nequip_model.ModelConfig(NequIPModelSettings.preset(preset), ELEMENTS, statistics, "")
    where = nequip_model.choose_device(device)
    model = nequip_model.build_model(config, seed=1).to(where).eval()
    return NequIPPotential(model, config, "untrained", device=where, threads=1)


def beside_force_call(preset: str, repeats: int, device: str) -> list[dict[str, Any]]:
    """Force call, the same with features, and each novelty on these features: medians in ms, with ten Gaussians (or the
    default number of kept atoms) per element."""
    from clusterflow.score.calibration import calibrate
    from clusterflow.score.distance import DistanceNovelty
    from clusterflow.score.entropy import EntropyNovelty

    cell = read_frames(STRUCTURES / "UiO-66_primitive.extxyz")[0]
    potential = untrained(preset, device)
    rng, training = np.random.default_rng(0), []
    for _ in range(30):
        training.append(cell.copy())
        training[-1].positions += rng.normal(0.0, 0.05, (len(cell), 3))
    kinds = {
        "gmm": GaussianMixtureNovelty(potential, components=(COMPONENTS, COMPONENTS)).fit(training),
        "distance": DistanceNovelty(potential).fit(training),
        "entropy": EntropyNovelty(potential).fit(training),
    }
    known = np.concatenate([kinds["gmm"].score(a) for a in training])
    names = np.concatenate([a.get_chemical_symbols() for a in training])
    curve = calibrate(known, np.abs(known), names, np.repeat(np.arange(30), len(cell)))
    rows = []
    for repeat in ((1, 1, 1), (2, 2, 1), (2, 2, 11)):
        atoms = cell.repeat(repeat)
        features, symbols = potential.features(atoms), atoms.get_chemical_symbols()
        few = max(3, repeats // (len(atoms) // 100))
        row: dict[str, Any] = {"preset": preset, "atoms": len(atoms)}
        row["force_ms"] = 1e3 * median_seconds(functools.partial(potential.predict, [atoms]), few)
        row["with_features_ms"] = 1e3 * median_seconds(functools.partial(potential.predict_with_features, atoms), few)
        for kind, novelty in kinds.items():
            call = functools.partial(novelty.score_features, features, symbols)
            row[f"{kind}_ms"] = 1e3 * median_seconds(call, max(few, 5))
        score = kinds["gmm"].score_features(features, symbols)
        row["calibrate_ms"] = 1e3 * median_seconds(functools.partial(curve.estimate, score, symbols), max(few, 5))
        rows.append(row)
        shares = ", ".join(f"{k} {row[f'{k}_ms']:.1f} ({row[f'{k}_ms'] / row['force_ms']:.1%})" for k in kinds)
        print(
            f"{preset}, {len(atoms)} atoms: forces {row['force_ms']:.1f} ms, with features "
            f"{row['with_features_ms']:.1f}; {shares}; calibrated error {row['calibrate_ms']:.2f}",
            flush=True,
        )
    return rows


def main() -> None:
    """Prints the table and, where asked, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a trained NequIP potential")
    parser.add_argument("--structure", type=Path, help="structure for the force call (with --model)")
    parser.add_argument("--beside", action="append", default=[], choices=("small", "base", "extended"))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (with --beside)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    options = parser.parse_args()
    if (options.model is None) != (options.structure is None):
        parser.error("--model and --structure go together")

    rows = scoring(options.repeats)
    print(f"{len(ELEMENTS)} elements, {COMPONENTS} Gaussians each, {os.cpu_count()} cores in this machine")
    print(f"{'atoms':>7}{'features':>10}{'score [ms]':>12}{'per atom [µs]':>15}")
    for row in rows:
        per_atom = 1e3 * float(row["score_ms"]) / int(row["atoms"])
        print(f"{row['atoms']:>7}{row['features']:>10}{row['score_ms']:>12.3f}{per_atom:>15.2f}")
    result: dict[str, Any] = {"scoring": rows}
    beside = [beside_force_call(preset, options.repeats, options.device) for preset in options.beside]
    result["beside_force_call"] = [row for rows_of_one in beside for row in rows_of_one]
    if options.model is not None:
        call = force_call(options.model, options.structure, options.repeats)
        result["force_call"] = call
        print(
            f"{call['atoms']} atoms: force call {call['force_ms']:.1f} ms, features {call['features_ms']:.1f} ms, "
            f"scoring {call['score_ms']:.3f} ms = {100 * float(call['score_over_force']):.2f} % of a force call"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
