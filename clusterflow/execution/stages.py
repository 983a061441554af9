"""What each kind of task does: payload in, files and a small summary out.

A stage reads the published results of earlier tasks by their keys, works in its scratch folder, and leaves the files to
publish in ``out``. It knows no engine and no configuration beyond the sections in its payload. Everything random comes
from the seed in the payload.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.config.explore import Explore
from clusterflow.config.label import Label as LabelSection
from clusterflow.config.score import Score
from clusterflow.core import keys
from clusterflow.core.data import BoolArray, Label
from clusterflow.core.frames import (
    read_frames,
    write_frames,
)
from clusterflow.errors import StateError
from clusterflow.evaluate.metrics import Metrics
from clusterflow.execution.acquiring import acquire
from clusterflow.execution.calibrating import calibrate
from clusterflow.execution.controls import control
from clusterflow.execution.property_stages import PROPERTY_STAGES
from clusterflow.execution.scoring import core_of, novelty_of, potential_of, scores_of, write_ranges
from clusterflow.execution.starting import start
from clusterflow.execution.worker import MPI
from clusterflow.execution.workplace import Workplace, section
from clusterflow.train.model_folder import FIRST_KIND, kind_of


def label(payload: Mapping[str, Any], place: Workplace, key: str) -> dict[str, Any]:
    """One reference calculation; its result is published in the label store, not in the tasks folder."""
    atoms = read_frames(place.result(payload["source_kind"], payload["source"]) / "fragments.extxyz")[payload["index"]]
    charge, spin = int(atoms.info[keys.CHARGE]), int(atoms.info[keys.SPIN])
    reference = with_launcher(section(LabelSection, payload["reference"]).build())
    found = reference.label(atoms, charge=charge, spin=spin, workdir=place.scratch)
    place.labels.put(key, atoms, found)
    return label_summary(found)


def with_launcher(reference: Any) -> Any:
    """The same level of theory, with its MPI ranks started as the machine file says."""
    words = json.loads(os.environ.get(MPI, "[]"))
    if not words or getattr(reference, "ranks", 1) == 1 or not hasattr(reference, "launcher"):
        return reference
    return replace(reference, launcher=tuple(words))


def label_summary(found: Label) -> dict[str, Any]:
    """What the journal keeps of a label."""
    return {
        "energy": found.prediction.energy,
        "max_force": float(np.abs(found.prediction.forces).max()),
        "scf_steps": found.scf_steps,
        "ladder": list(found.steps),
        "seconds": found.wall_time,
        "cores": found.cores,
        "peak_memory_MB": found.peak_memory_MB,
    }


def train(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Trains a potential on labels of the store."""
    from clusterflow.train.learners import make_trainer

    kind, elements = str(payload.get("kind", FIRST_KIND)), payload["elements"]
    trainer = make_trainer(kind, payload["model"], payload["settings"], elements, threads=place.threads)
    model = trainer.train(
        place.labelled(payload["training"]),
        place.labelled(payload["validation"]),
        start=_start_model(payload, place),
        seed=payload["seed"],
        workdir=place.scratch,
    )
    Path(model.path).rename(place.out / "model")
    return {
        "model_id": model.model_id,
        "n_training": len(payload["training"]),
        "n_validation": len(payload["validation"]),
        "metrics": _finite(model.metrics),
    }


def _start_model(payload: Mapping[str, Any], place: Workplace) -> Path | None:
    """The model to go on from: that of an earlier training, or the one the user gave."""
    if payload["start"]:
        return place.result("train", payload["start"]) / "model"
    return place.folder.start_model if payload.get("start_from") else None


def novelty(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Feature density of the training split."""
    potential = potential_of(payload["model"], place)
    frames = place.labelled(payload["training"])
    cores = [core_of(a, core_only=payload["core_only"]) for a in frames]
    members = payload.get("members", [])
    source = [potential, *(potential_of(k, place) for k in members[1:])] if members else potential
    density = section(Score, payload["score"]).build(source, payload["seed"]).fit(frames, atoms=cores)
    told = {**density.to_json(), **({"members": members} if members else {})}
    (place.out / "density.json").write_text(json.dumps(told), encoding="utf-8")
    features = [potential.features(a) for a in frames]
    write_ranges(place, features, frames, cores)
    np.savez_compressed(
        place.out / "training.npz",
        features=np.concatenate(features),
        numbers=np.concatenate([a.numbers for a in frames]),
        novelty=np.concatenate(scores_of(density, frames, features)),
    )
    if members:
        return {"members": len(members), "quantiles": density.quantiles}
    mixtures = getattr(density, "mixtures", None) or {}
    return {"components": {e: int(m.n_components) for e, m in mixtures.items()}}


def evaluate(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Errors on labelled frames, and how well novelty ranks them."""
    from clusterflow.evaluate.metrics import compare
    from clusterflow.score.correlation import correlations_by_element

    potential = potential_of(payload["model"], place)
    density = novelty_of(payload["mixture"], potential, place)
    frames = place.labelled(payload["labels"])
    predictions = potential.predict(frames)
    judged = [_without_forces(a, ~core_of(a, core_only=payload["core_only"])) for a in frames]
    metrics = compare(judged, predictions)
    scores = [density.score(a) for a in frames]
    correlations = correlations_by_element(judged, scores, predictions)
    np.savez_compressed(
        place.out / "atoms.npz",
        frame=np.concatenate([np.full(len(a), i) for i, a in enumerate(frames)]),
        numbers=np.concatenate([a.numbers for a in frames]),
        reference=np.concatenate([a.get_forces(apply_constraint=False) for a in frames]),
        predicted=np.concatenate([p.forces for p in predictions]),
        novelty=np.concatenate(scores),
        energy_reference=np.array([a.get_potential_energy() for a in frames]),
        energy_predicted=np.array([p.energy for p in predictions]),
        n_atoms=np.array([len(a) for a in frames]),
        system=np.array([str(a.info.get(keys.SYSTEM, "")) for a in frames]),
    )
    data = {"metrics": metrics.to_json(), "correlation": {e: c.to_json() for e, c in correlations.items()}}
    floor = _noise_floor(payload.get("label_noise"), judged, metrics)
    data |= floor
    (place.out / "metrics.json").write_text(json.dumps(data), encoding="utf-8")
    forces = metrics.forces
    if forces is None:
        raise StateError("The labels to evaluate on have no forces.", where=str(place.folder.labels))
    return {"mae_p95": forces.mae_p, "mae": forces.mae, "rmse": forces.rmse, "n_frames": len(frames), **floor}


def _noise_floor(noise: Mapping[str, float] | None, frames: Sequence[Atoms], metrics: Metrics) -> dict[str, Any]:
    """``noise_floor``: RMSE in meV/Å that the labels' own noise causes, and what that says of the potential; nothing
    where no noise is given, or not of all elements."""
    from clusterflow.evaluate.metrics import at_noise_floor, reference_forces
    from clusterflow.label.noise import noise_floor

    labelled = [np.asarray(a.get_chemical_symbols())[np.isfinite(reference_forces(a)).all(axis=1)] for a in frames]
    floor = noise_floor(noise, np.concatenate(labelled)) if noise and labelled else None
    if floor is None or metrics.forces is None:
        return {}
    return {"noise_floor": 1000.0 * floor, "at_noise_floor": at_noise_floor(metrics.forces.rmse, 1000.0 * floor)}


def _without_forces(atoms: Atoms, which: BoolArray) -> Atoms:
    """Labelled copy in which these atoms have no force label."""
    if not which.any():
        return atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    copy: Atoms = atoms.copy()
    results = dict(atoms.calc.results)
    results["forces"] = np.where(which[:, None], np.nan, results["forces"])
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def explore(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """One walker."""
    settings = section(Explore, payload["explore"])
    explorer = settings.build(payload["temperature_K"], payload["pressure_GPa"], payload["steps"])
    potential = potential_of(payload["model"], place)
    atoms = place.system(payload["system"])
    if payload.get("displacement"):
        from clusterflow.structures.perturbation import perturb

        rng = np.random.default_rng([payload["seed"], 2])
        atoms = perturb(atoms, displacement=payload["displacement"], strain=0.0, rng=rng)
    trajectory = explorer.explore(atoms, potential, seed=payload["seed"], workdir=place.scratch)
    frames = trajectory.frames[1:]  # the first is the start, which every walker of the system shares
    for a in frames:
        a.info[keys.SYSTEM] = payload["system"]
        a.calc = None
    write_frames(place.out / "trajectory.extxyz", frames)
    return {
        "model": payload["model"],
        "system": payload["system"],
        "temperature_K": payload["temperature_K"],
        "pressure_GPa": payload["pressure_GPa"],
        "steps": payload["steps"],
        "steps_done": trajectory.steps_done,
        "n_frames": len(frames),
        "stop_reason": trajectory.stop_reason,
    }


def export(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Packages the final model (NequIP's with NequIP's own tools) and compares what comes back."""
    from clusterflow.train.linear_export import export_linear
    from clusterflow.train.nequip_export import export_final

    folder = place.result("train", payload["model"]) / "model"
    if kind_of(folder) == "linear":
        return export_linear(folder, place.labelled(payload["labels"]))
    result: dict[str, Any] = export_final(
        folder,
        place.out,
        place.labelled(payload["labels"]),
        ase="ase" in payload["packaged"],
        lammps="lammps" in payload["packaged"],
    )
    return result


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {k: float(v) for k, v in metrics.items() if math.isfinite(v)}


STAGES: Mapping[str, Callable[[Mapping[str, Any], Workplace], dict[str, Any]]] = {
    "start": start,
    "train": train,
    "novelty": novelty,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "explore": explore,
    "acquire": acquire,
    "control": control,
    "export": export,
    **PROPERTY_STAGES,
}
"""Kind of task → what it does. `label` stands apart: it publishes in the label store."""
