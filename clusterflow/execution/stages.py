"""What each kind of task does: payload in, files and a small summary out.

A stage reads the published results of earlier tasks by their keys, works in its scratch folder, and leaves the files to
publish in ``out``. It knows no engine and no configuration beyond the sections in its payload. Everything random comes
from the seed in the payload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import TypeAdapter

from clusterflow.config.explore import Explore
from clusterflow.config.extract import Extract
from clusterflow.config.label import Label as LabelSection
from clusterflow.config.score import Score
from clusterflow.config.selection import Select
from clusterflow.config.start import Dataset, Perturbed, Start
from clusterflow.config.train import Train
from clusterflow.core import keys
from clusterflow.core.data import Fragment, Label, Prediction, Site
from clusterflow.core.frames import (
    content_hash,
    digest,
    fragment_from_atoms,
    fragment_to_atoms,
    read_frames,
    read_optional_frames,
    with_label,
    write_frames,
)
from clusterflow.core.seeds import derive_seed
from clusterflow.errors import ExtractionError, StateError
from clusterflow.state.fragments import annotated_fragments
from clusterflow.state.labels import LabelStore, label_key
from clusterflow.state.layout import CampaignFolder

_TRIES = 20


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a stage works: the campaign's folder, a scratch folder of its own, and the folder of files to publish."""

    folder: CampaignFolder
    scratch: Path
    out: Path
    threads: int = 1

    @property
    def labels(self) -> LabelStore:
        return LabelStore(self.folder.labels)

    def result(self, kind: str, key: str) -> Path:
        """Published files of an earlier task.

        Raises
        ------
        StateError
            They are not there.
        """
        path = self.folder.result(kind, key)
        if not path.is_dir():
            raise StateError(
                f"The result of {kind} {key[:16]} is missing, although the journal says it is done.",
                where=str(path),
                todo="Restore the folder from a backup, or start the campaign anew with the same labels folder.",
            )
        return path

    def system(self, name: str) -> Atoms:
        """The built structure of a system."""
        return read_frames(self.folder.inputs / f"{name}.extxyz")[0]

    def known_fragments(self, label_keys: Sequence[str]) -> list[Fragment]:
        """Fragments of this campaign that have been asked for already."""
        wanted = set(label_keys)
        return [
            fragment_from_atoms(a)
            for key, a in annotated_fragments(self.folder).items()
            if key in wanted and keys.REGION in a.arrays
        ]

    def labelled(self, label_keys: Sequence[str]) -> list[Atoms]:
        """Annotated and labelled frames, in the order given."""
        store, annotated = self.labels, annotated_fragments(self.folder)
        frames = []
        for key in label_keys:
            found = store.get(key)
            if found is None:
                raise StateError(
                    f"Label {key[:16]} is missing from the label store.",
                    where=str(self.folder.labels),
                    todo="Restore the labels folder from a backup; labels that are lost must be computed again.",
                )
            frames.append(with_label(annotated.get(key, found[0]), found[1], **{keys.LABEL: key}))
        return frames


def section(kind: Any, data: Mapping[str, Any]) -> Any:
    """A configuration section (or a union of them) from its JSON form."""
    return TypeAdapter(kind).validate_python(data)


def start(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Starting fragments: cut from perturbed structures, or the frames of a seed dataset."""
    settings: Perturbed | Dataset
    if payload["start"]["kind"] == "dataset":
        settings = section(Start, {**payload["start"], "file": str(place.folder.inputs / "dataset.extxyz")})
        assert isinstance(settings, Dataset)
        fragments, sets = _from_dataset(settings, payload, place)
    else:
        settings = section(Start, payload["start"])
        assert isinstance(settings, Perturbed)
        fragments, sets = _from_perturbed(settings, payload, place)
    write_frames(place.out / "fragments.extxyz", fragments)
    return {"fragments": _describe(fragments, payload["level_of_theory"], sets)}


def _describe(fragments: Sequence[Atoms], level: str, sets: Sequence[str]) -> list[dict[str, Any]]:
    """The summary's entry for each fragment, by which the plan knows it."""
    return [
        {
            "label_key": label_key(
                a, level_of_theory=level, charge=int(a.info[keys.CHARGE]), spin=int(a.info[keys.SPIN])
            ),
            "system": str(a.info.get(keys.SYSTEM, "")),
            "kind": str(a.info.get(keys.KIND, "")),
            "n_atoms": len(a),
            "set": s,
        }
        for a, s in zip(fragments, sets, strict=True)
    ]


def _from_perturbed(settings: Perturbed, payload: Mapping[str, Any], place: Workplace) -> tuple[list[Atoms], list[str]]:
    """Each fragment has a perturbed frame of its own; systems by weight, kinds of block in turn."""
    from clusterflow.extract.rules import WholeStructure
    from clusterflow.physics.building_blocks import find_blocks

    rule = section(Extract, payload["extract"]).build()
    systems = payload["systems"]
    weights = np.array([s["weight"] for s in systems], dtype=float)
    fragments: list[Atoms] = []
    sets: list[str] = []
    for purpose, wanted in (("test", settings.test_fragments), ("train", settings.fragments)):
        counts = np.diff(np.round(np.concatenate([[0], np.cumsum(weights / weights.sum())]) * wanted)).astype(int)
        for system, count in zip(systems, counts, strict=True):
            atoms = place.system(system["name"])
            groups = {"whole": [0]} if isinstance(rule, WholeStructure) else _kinds_of_blocks(find_blocks(atoms))
            names = sorted(groups)
            rng = np.random.default_rng(derive_seed(payload["seed"], purpose, system["name"]))
            for number in range(count):
                fragment, frame = _cut_perturbed(atoms, groups[names[number % len(names)]], rule, settings, rng)
                info = {keys.SYSTEM: system["name"], keys.FRAME: content_hash(frame), keys.ITERATION: 0}
                fragments.append(fragment_to_atoms(fragment, **info))
                sets.append(purpose)
    return fragments, sets


def _cut_perturbed(
    atoms: Atoms, candidates: Sequence[int], rule: Any, settings: Perturbed, rng: np.random.Generator
) -> tuple[Fragment, Atoms]:
    """A fragment of a randomly perturbed structure, and that structure; a perturbation too wild to cut is drawn again."""
    from clusterflow.structures.perturbation import perturb

    for _ in range(_TRIES):
        displacement = float(rng.uniform(*settings.displacement))
        frame = perturb(atoms, displacement=displacement, strain=settings.strain, rng=rng)
        try:
            return rule.extract(frame, [Site(content_hash(frame), int(rng.choice(candidates)))]), frame
        except ExtractionError as error:
            last = error
    raise ExtractionError(
        f"{_TRIES} perturbed structures in a row gave no fragment; the last one: {last.what}",
        where=last.where,
        todo="Lower `start.displacement` and `start.strain`, or relax the structure first.",
    )


def _kinds_of_blocks(blocks: Any) -> dict[str, list[int]]:
    """One atom of every block, grouped by kind and formula, so that rare blocks are not drowned by common ones."""
    groups: dict[str, list[int]] = {}
    for block, (kind, formula) in enumerate(zip(blocks.kinds, blocks.formulas, strict=True)):
        if blocks.infinite[block]:  # a rod or sheet: no finite fragment has it as its core
            continue
        groups.setdefault(f"{kind}:{formula}", []).append(int(blocks.members(block)[0]))
    return groups


def _from_dataset(settings: Dataset, payload: Mapping[str, Any], place: Workplace) -> tuple[list[Atoms], list[str]]:
    """Seed frames become labels of the store; a random share, by content, is the test set."""
    level = payload["level_of_theory"]
    frames = settings.frames(level)
    order = sorted(range(len(frames)), key=lambda i: digest(str(payload["seed"]), content_hash(frames[i])))
    test = set(order[: max(1, round(settings.test_fraction * len(frames)))])
    store = place.labels
    sets = []
    for i, a in enumerate(frames):
        results = a.calc.results
        stress = a.get_stress(voigt=False) if "stress" in results else None
        label = Label(
            prediction=Prediction(float(results["energy"]), np.asarray(results["forces"], dtype=float), stress),
            level_of_theory=level,
            charge=int(a.info.setdefault(keys.CHARGE, 0)),
            spin=int(a.info.setdefault(keys.SPIN, 0)),
            scf_steps=0,
            wall_time=0.0,
        )
        a.info.setdefault(keys.SYSTEM, "seed")
        key = label_key(a, level_of_theory=level, charge=label.charge, spin=label.spin)
        store.put(key, _bare_with_annotations(a), label)
        sets.append("test" if i in test else "train")
    return frames, sets


def _bare_with_annotations(atoms: Atoms) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.calc = None
    return copy


def label(payload: Mapping[str, Any], place: Workplace, key: str) -> dict[str, Any]:
    """One reference calculation; its result is published in the label store, not in the tasks folder."""
    atoms = read_frames(place.result(payload["source_kind"], payload["source"]) / "fragments.extxyz")[payload["index"]]
    charge, spin = int(atoms.info[keys.CHARGE]), int(atoms.info[keys.SPIN])
    reference = section(LabelSection, payload["reference"]).build()
    found = reference.label(atoms, charge=charge, spin=spin, workdir=place.scratch)
    place.labels.put(key, atoms, found)
    return label_summary(found)


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
    from clusterflow.train.nequip_train import NequIPTrainer

    settings = section(Train, payload["train"])
    trainer = NequIPTrainer(
        model=settings.build_model(),
        training=settings.build_settings(final=payload["final"], threads=place.threads, damping=payload["damping"]),
        elements=tuple(payload["elements"]),
    )
    model = trainer.train(
        place.labelled(payload["training"]),
        place.labelled(payload["validation"]),
        start=place.result("train", payload["start"]) / "model" if payload["start"] else None,
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


def _potential(key: str, place: Workplace) -> Any:
    from clusterflow.train.nequip_potential import NequIPPotential

    return NequIPPotential.load(place.result("train", key) / "model", threads=place.threads)


def novelty(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Feature density of the training split."""
    potential = _potential(payload["model"], place)
    frames = place.labelled(payload["training"])
    density = section(Score, payload["score"]).build(potential, payload["seed"]).fit(frames)
    (place.out / "density.json").write_text(json.dumps(density.to_json()), encoding="utf-8")
    features = {str(i): potential.features(a) for i, a in enumerate(frames)}
    np.savez_compressed(
        place.out / "training.npz",
        features=np.concatenate(list(features.values())),
        numbers=np.concatenate([a.numbers for a in frames]),
        novelty=np.concatenate([density.score(a) for a in frames]),
    )
    return {"components": {e: int(m.n_components) for e, m in density.mixtures.items()}}


def _density(key: str, potential: Any, place: Workplace) -> Any:
    from clusterflow.score.gmm import GaussianMixtureNovelty

    data = json.loads((place.result("novelty", key) / "density.json").read_text(encoding="utf-8"))
    return GaussianMixtureNovelty.from_json(data, featurizer=potential)


def evaluate(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Errors on labelled frames, and how well novelty ranks them."""
    from clusterflow.evaluate.metrics import compare
    from clusterflow.score.correlation import correlations_by_element

    potential = _potential(payload["model"], place)
    density = _density(payload["mixture"], potential, place)
    frames = place.labelled(payload["labels"])
    predictions = potential.predict(frames)
    metrics = compare(frames, predictions)
    scores = [density.score(a) for a in frames]
    correlations = correlations_by_element(frames, scores, predictions)
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
    (place.out / "metrics.json").write_text(json.dumps(data), encoding="utf-8")
    forces = metrics.forces
    if forces is None:
        raise StateError("The labels to evaluate on have no forces.", where=str(place.folder.labels))
    return {"mae_p95": forces.mae_p, "mae": forces.mae, "rmse": forces.rmse, "n_frames": len(frames)}


def explore(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """One walker."""
    settings = section(Explore, payload["explore"])
    explorer = settings.build(payload["temperature_K"], payload["pressure_GPa"], payload["steps"])
    potential = _potential(payload["model"], place)
    trajectory = explorer.explore(
        place.system(payload["system"]), potential, seed=payload["seed"], workdir=place.scratch
    )
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


def acquire(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Scores the pool of frames, ranks building blocks, cuts the best into fragments that are not known yet."""
    from clusterflow.extract.rules import WholeStructure
    from clusterflow.selection.frames import FrameSelector

    potential = _potential(payload["model"], place)
    density = _density(payload["mixture"], potential, place)
    frames: list[Atoms] = []
    for key in payload["walkers"]:
        walked = read_optional_frames(place.result("explore", key) / "trajectory.extxyz")
        frames += walked if payload["pool"] == "all" else walked[-1:]
    frames = list({content_hash(a): a for a in frames}.values())
    features = [potential.features(a) for a in frames]
    scores = [density.score_features(f, a.get_chemical_symbols()) for f, a in zip(features, frames, strict=True)]
    rng = np.random.default_rng(payload["seed"])
    rule = section(Extract, payload["extract"]).build()
    selector = FrameSelector() if isinstance(rule, WholeStructure) else section(Select, payload["select"]).build()
    # More than the budget, since some candidates will be duplicates or cannot be cut.
    sites = selector.select(frames, scores, budget=4 * payload["budget"] + 8, rng=rng)
    kept, refused = _cut(frames, sites, rule, place.known_fragments(payload["known"]), payload["budget"])
    by_id = {content_hash(a): (a, s) for a, s in zip(frames, scores, strict=True)}
    annotated = []
    first = dict(zip(by_id, np.cumsum([0, *(len(a) for a in frames[:-1])]), strict=True))
    selected = np.zeros(sum(len(a) for a in frames), dtype=np.int8)
    for fragment in kept:
        real = fragment.parent[fragment.core & (fragment.parent >= 0)]
        selected[first[fragment.sites[0].frame_id] + real] = 1
        parent, score = by_id[fragment.sites[0].frame_id]
        atoms = fragment_to_atoms(
            fragment, **{keys.SYSTEM: parent.info[keys.SYSTEM], keys.FRAME: fragment.sites[0].frame_id}
        )
        known = np.where(fragment.parent >= 0, np.append(score, np.nan)[fragment.parent], np.nan)
        atoms.set_array(keys.NOVELTY, np.where(np.isfinite(known), known, 0.0))
        annotated.append(atoms)
    write_frames(place.out / "fragments.extxyz", annotated)
    write_frames(place.out / "frames.extxyz", frames)
    flat = np.concatenate(scores)
    np.savez_compressed(
        place.out / "pool.npz",
        features=np.concatenate(features),
        numbers=np.concatenate([a.numbers for a in frames]),
        novelty=flat,
        selected=selected,
    )
    finite = flat[np.isfinite(flat)]
    excess = flat - np.array([density.known_up_to(e) for a in frames for e in a.get_chemical_symbols()])
    return {
        "fragments": _describe(annotated, payload["level_of_theory"], ["train"] * len(annotated)),
        "novelty": {
            "max": None if finite.size < flat.size else float(flat.max()),
            "excess": None if finite.size < flat.size else float(excess.max()),
            "median": float(np.median(finite)) if finite.size else None,
            "never_seen": int(flat.size - finite.size),
        },
        "n_frames": len(frames),
        "refused": refused[:50],
    }


def _cut(
    frames: Sequence[Atoms], sites: Iterable[Site], rule: Any, known: Sequence[Fragment], budget: int
) -> tuple[list[Fragment], list[str]]:
    """Fragments of the sites, best first, without duplicates, until the budget is full."""
    from clusterflow.selection.duplicates import drop_duplicates

    by_id = {content_hash(a): a for a in frames}
    kept: list[Fragment] = []
    refused: list[str] = []
    for site in sites:
        if len(kept) >= budget:
            break
        try:
            fragment = rule.extract(by_id[site.frame_id], [site])
        except ExtractionError as error:
            refused.append(f"atom {site.index} of frame {site.frame_id[:12]}: {error.what}")
            continue
        if drop_duplicates([fragment], known=[*known, *kept]):
            kept.append(fragment)
        else:
            refused.append(f"atom {site.index} of frame {site.frame_id[:12]}: the same fragment is labelled already")
    return kept, refused


def export(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Packages the final model with NequIP's own tools and compares what comes back."""
    from clusterflow.train.nequip_export import export_final

    result: dict[str, Any] = export_final(
        place.result("train", payload["model"]) / "model",
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
    "explore": explore,
    "acquire": acquire,
    "export": export,
}
"""Kind of task → what it does. `label` stands apart: it publishes in the label store."""
