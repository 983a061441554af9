"""The first stage: where the first fragments come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.config.extract import Extract
from clusterflow.config.start import Dataset, Perturbed, Start
from clusterflow.core import keys
from clusterflow.core.data import Fragment, Label, Prediction, Site
from clusterflow.core.frames import (
    content_hash,
    digest,
    fragment_to_atoms,
    write_frames,
)
from clusterflow.core.seeds import derive_seed
from clusterflow.errors import ExtractionError, InputError
from clusterflow.execution.workplace import Workplace, describe_fragments, section
from clusterflow.selection.held_out import HeldOut
from clusterflow.state.labels import label_key

_TRIES = 20


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
    fragments, sets, left_out = _apart(fragments, sets)
    write_frames(place.out / "fragments.extxyz", fragments)
    return {"fragments": describe_fragments(fragments, payload["level_of_theory"], sets), "left_out": left_out}


def _apart(fragments: Sequence[Atoms], sets: Sequence[str]) -> tuple[list[Atoms], list[str], list[str]]:
    """Without what may not be trained on because of the test set, and why each of these was left out.

    Raises
    ------
    InputError
        Nothing is left to train on.
    """
    held_out = HeldOut(a for a, s in zip(fragments, sets, strict=True) if s == "test")
    reasons = ["" if s == "test" else held_out.refuses(a) for a, s in zip(fragments, sets, strict=True)]
    left_out = [f"starting fragment {i}: {why}" for i, why in enumerate(reasons) if why]
    if len(left_out) == sum(s != "test" for s in sets):
        raise InputError(
            f"Of {len(left_out)} starting fragments for training none is apart from the test set; the first: "
            f"{left_out[0] if left_out else 'there is none'}.",
            where="`start:`",
            todo="Raise `start.displacement`, or give a seed dataset with more than one structure.",
        )
    kept = [i for i, why in enumerate(reasons) if not why]
    return [fragments[i] for i in kept], [sets[i] for i in kept], left_out


def _from_perturbed(settings: Perturbed, payload: Mapping[str, Any], place: Workplace) -> tuple[list[Atoms], list[str]]:
    """Each fragment has a perturbed frame of its own; systems by weight, kinds of block in turn."""
    rule = section(Extract, payload["extract"]).build()
    systems = payload["systems"]
    weights = np.array([s["weight"] for s in systems], dtype=float)
    fragments: list[Atoms] = []
    sets: list[str] = []
    for purpose, wanted in (("test", settings.test_fragments), ("train", settings.fragments)):
        counts = np.diff(np.round(np.concatenate([[0], np.cumsum(weights / weights.sum())]) * wanted)).astype(int)
        for system, count in zip(systems, counts, strict=True):
            atoms = place.system(system["name"])
            groups = _groups(rule, atoms)
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
    """A fragment of a randomly perturbed structure, and that structure; one too wild to cut is drawn again."""
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


def _groups(rule: Any, atoms: Atoms) -> dict[str, list[int]]:
    """Atoms to cut fragments around, in groups that take turns: kinds of block, or elements for spheres."""
    from clusterflow.extract.rules import WholeStructure
    from clusterflow.extract.sphere import SphericalCut
    from clusterflow.physics.building_blocks import find_blocks

    if isinstance(rule, WholeStructure):
        return {"whole": [0]}
    if isinstance(rule, SphericalCut):
        return {symbol: np.flatnonzero(atoms.symbols == symbol).tolist() for symbol in sorted(set(atoms.symbols))}
    return _kinds_of_blocks(getattr(rule, "blocks_of", find_blocks)(atoms))


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
