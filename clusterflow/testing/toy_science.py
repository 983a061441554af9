"""A campaign whose science takes no time but whose files are real: session, loop, lease, journal, published results and
labels are those of `clusterflow run`; only what the stages compute is a toy. For tests of what survives a fault."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
from ase import Atoms
from ase.build import molecule

from clusterflow.campaign.tasks import Plan, task_key
from clusterflow.config.campaign import Campaign
from clusterflow.core import keys
from clusterflow.core.data import Prediction, Task
from clusterflow.core.frames import digest, write_frames
from clusterflow.core.protocols import Engine
from clusterflow.evaluate.metrics import compare
from clusterflow.execution import apps
from clusterflow.execution.stages import STAGES
from clusterflow.execution.workplace import Workplace, describe_fragments
from clusterflow.state.fragments import SOURCES
from clusterflow.state.journal import decisions_digest, read_events
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import read_json, verify_folder
from clusterflow.testing.serial_drive import drive
from clusterflow.testing.toy_campaign import toy_result

CALCULATOR: Final = {"kind": "ase", "calculator": "ase.calculators.lj:LennardJones",
                     "arguments": {"sigma": 0.8, "epsilon": 0.01}}  # fmt: skip
_MEASURED = ("wall_time_s", "peak_memory_MB")
"""Parts of a label that differ from run to run."""


def toy_config(folder: Path, **changes: Any) -> Campaign:
    """A campaign of one small molecule, with its run folder ``folder/run``; ``changes`` replace whole sections."""
    structure = folder / "water.extxyz"
    if not structure.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_frames(structure, [molecule("H2O")])
    sections: dict[str, Any] = {
        "name": "toy",
        "folder": str(folder / "run"),
        "systems": [{"name": "water", "structure": str(structure)}],
        "start": {"kind": "perturbed", "fragments": 2, "test_fragments": 1},
        "explore": {"kind": "ase", "walkers": 1},
        "select": {"fragments": 2},
        "extract": {"kind": "whole"},
        "label": CALCULATOR,
        "stop": {"iterations": 1},
        **changes,
    }
    return Campaign.model_validate(sections)


@contextlib.contextmanager
def toy_stages() -> Iterator[None]:
    """Inside the context every stage but `label` is a toy, for tasks that run in this process."""
    with patch.object(apps, "STAGES", {kind: _stage(kind) for kind in STAGES}):
        yield


def drive_toy(
    config: Campaign,
    *,
    engine: Callable[[Engine], Engine] = lambda e: e,
    stop: Callable[[], bool] = lambda: False,
) -> Plan:
    """`drive` with toys for stages."""
    with toy_stages():
        return drive(config, engine=engine, stop=stop)[0]


def published_keys(root: Path) -> set[str]:
    """Keys of the labels and results that are published; each is verified."""
    folder = CampaignFolder(root)
    found = {p.stem for p in (root / "labels").glob("??/*.json") if read_json(p)["key"] == p.stem}
    for result in folder.tasks.glob("*/*"):
        verify_folder(result)
        found.add(str(read_json(result / "result.json")["key"]))
    return found


def final_hash(root: Path) -> str:
    """Hash of all that a campaign has decided, labelled and published, without what is measured on the way (times,
    memory); equal for a campaign that was interrupted and one that was not. Verifies everything that it reads."""
    folder = CampaignFolder(root)
    parts = [decisions_digest(read_events(folder.journal))]
    store = LabelStore(folder.labels)
    for key in list(store.keys()):
        found = store.get(key)
        assert found is not None, key
        body = read_json(folder.labels / key[:2] / f"{key}.json")["label"]
        parts.append(key + json.dumps({k: v for k, v in body.items() if k not in _MEASURED}))
    for result in sorted(folder.tasks.glob("*/*/result.json")):
        told = read_json(result)
        sums = verify_folder(result.parent)
        names = sorted(f"{name} {sha}" for name, sha in sums.items() if name != "result.json")
        parts.append(json.dumps([told["task"], told["key"], told["payload"], _steady(told["summary"]), names]))
    return digest(*parts)


def _steady(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in summary.items() if k != "seconds"}


def _stage(kind: str) -> Callable[[Mapping[str, Any], Workplace], dict[str, Any]]:
    """A toy of this kind: reads what it depends on, as the real one does, and writes files that follow from it."""

    def work(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
        key = task_key(kind, payload)
        seen = digest(*_read(payload, place))
        summary = dict(toy_result(Task(kind, key, "", payload)).summary)
        if kind in SOURCES:
            frames = [_fragment(key, i) for i in range(len(summary["fragments"]))]
            sets = [f["set"] for f in summary["fragments"]]
            summary["fragments"] = describe_fragments(frames, payload["level_of_theory"], sets)
            write_frames(place.out / "fragments.extxyz", frames)
            _save_atoms(place.out / "pool.npz", frames)
        elif kind == "train":
            (place.out / "model").mkdir()
            (place.out / "model" / "weights.safetensors").write_text(seen * 8)
            summary["model_id"] = seen[:12]
        elif kind == "explore":
            write_frames(place.out / "trajectory.extxyz", [_fragment(key + seen, i) for i in range(2)])
        elif kind == "evaluate":
            summary |= _evaluation(payload, place)
        elif kind == "novelty":
            (place.out / "density.json").write_text(json.dumps({"mixtures": {}, "seen": seen}))
            _save_atoms(place.out / "training.npz", place.labelled(payload["training"]))
        else:
            (place.out / "seen.txt").write_text(seen)
        return summary

    return work


def _read(payload: Mapping[str, Any], place: Workplace) -> Iterator[str]:
    """Hashes of everything that a payload refers to, verified as the real stages verify it."""
    wanted = [("train", payload.get("model")), ("train", payload.get("start")), ("novelty", payload.get("mixture"))]
    for kind, key in [*wanted, *(("explore", key) for key in payload.get("walkers", []))]:
        if isinstance(key, str):
            folder = place.result(kind, key)
            yield from (sha for name, sha in sorted(verify_folder(folder).items()) if name != "result.json")
    labels = [*payload.get("training", []), *payload.get("validation", []), *payload.get("labels", [])]
    for atoms in place.labelled(labels):
        yield f"{atoms.get_potential_energy():.12f}"


def _evaluation(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Metrics of a model whose forces are all wrong by 0.01 eV/Å, as `clusterflow report` reads them."""
    frames = place.labelled(payload["labels"])
    made = [Prediction(a.get_potential_energy(), a.get_forces() + 0.01) for a in frames]
    metrics = compare(frames, made).to_json()
    (place.out / "metrics.json").write_text(json.dumps({"metrics": metrics, "correlation": {}}))
    np.savez_compressed(
        place.out / "atoms.npz",
        frame=np.repeat(np.arange(len(frames)), 3),
        numbers=np.concatenate([a.numbers for a in frames]),
        reference=np.concatenate([a.get_forces() for a in frames]),
        predicted=np.concatenate([p.forces for p in made]),
        novelty=np.zeros(3 * len(frames)),
        energy_reference=np.array([a.get_potential_energy() for a in frames]),
        energy_predicted=np.array([p.energy for p in made]),
        n_atoms=np.full(len(frames), 3),
        system=np.full(len(frames), "water"),
    )
    return {"n_frames": len(frames)}


def _save_atoms(file: Path, frames: Sequence[Atoms]) -> None:
    numbers = np.concatenate([a.numbers for a in frames])
    n = len(numbers)
    features, novelty = np.arange(2.0 * n).reshape(n, 2), np.arange(float(n))
    np.savez_compressed(file, features=features, numbers=numbers, novelty=novelty, selected=np.ones(n, dtype=np.int8))


def _fragment(key: str, index: int) -> Atoms:
    """A water molecule that the key has distorted."""
    atoms: Atoms = molecule("H2O")
    atoms.positions += np.random.default_rng(int(digest(key, str(index))[:8], 16)).normal(scale=0.03, size=(3, 3))
    atoms.info.update({keys.CHARGE: 0, keys.SPIN: 0, keys.SYSTEM: "water"})
    return atoms
