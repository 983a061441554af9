"""What the user takes home: dataset, potential, metrics. All of it can be rebuilt from journal and results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase import Atoms

from clusterflow.campaign.arm_curves import arm_curves
from clusterflow.campaign.calibrations import calibration_rows, noise_statement
from clusterflow.campaign.held_out import DECISION
from clusterflow.campaign.ramp import ramp_rows
from clusterflow.campaign.status import model_rows
from clusterflow.core import keys
from clusterflow.core.frames import certificate_from_atoms, with_label, write_frames
from clusterflow.extract.calibration import Calibration, ErrorModel, calibrate
from clusterflow.extract.confirm import confirmations
from clusterflow.state.disk import replace_bytes, replace_file, storage_error
from clusterflow.state.fragments import annotated_fragments
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import Snapshot


def dataset(folder: CampaignFolder, snapshot: Snapshot) -> list[Atoms]:
    """Every labelled frame with its provenance: split, iteration, system, rule, level of theory, label key."""
    store, annotated = LabelStore(folder.labels), annotated_fragments(folder)
    frames = []
    for name in sorted((n for n in snapshot.decisions if n.startswith("split/")), key=lambda n: int(n.split("/")[1])):
        for split in ("train", "validation", "test"):
            for key in snapshot.decisions[name][split]:
                found = store.get(key)
                if found is not None:
                    info = {keys.SPLIT: split, keys.ITERATION: int(name.split("/")[1]), keys.LABEL: key}
                    frames.append(with_label(annotated.get(key, found[0]), found[1], **info))
    return frames


def write_outputs(folder: CampaignFolder, snapshot: Snapshot) -> None:
    """Writes ``dataset.extxyz``, ``metrics.json``, ``calibration.json`` and ``model/`` as far as they exist yet.

    Raises
    ------
    StateError
        The disk is full, fails or may not be written to; or a label is damaged.
    """
    try:
        _write_outputs(folder, snapshot)
    except OSError as error:
        raise storage_error(error, Path(error.filename or folder.root), "written") from error


def _write_outputs(folder: CampaignFolder, snapshot: Snapshot) -> None:
    frames = dataset(folder, snapshot)
    if frames:
        partial = folder.dataset.with_suffix(".part")
        write_frames(partial, frames)
        replace_file(partial, folder.dataset)
        _write_calibration(folder, snapshot, frames)
    evaluated = [v for n, v in snapshot.decisions.items() if n.startswith("evaluated/")]
    if evaluated:
        last = evaluated[-1]["evaluation"]
        table = {
            "models": [
                {"iteration": r.iteration, "labels": r.n_training, "mae": r.mae, "rmse": r.rmse, "mae_p95": r.mae_p95}
                for r in model_rows(snapshot)
            ],
            "unit": "meV/Å",
            "test_set": _test_set(snapshot),
            "arms": [curve.to_json() for curve in arm_curves(snapshot)],
            "new_labels": _before_training(snapshot),
            **({"ramp": rows} if (rows := ramp_rows(snapshot)) else {}),
            "noise": noise_statement(snapshot),
            "novelty": _novelty_calibrations(folder, snapshot),
            **json.loads((folder.result("evaluate", last) / "metrics.json").read_text(encoding="utf-8")),
        }
        replace_bytes(folder.metrics, json.dumps(table, indent=1).encode())
    stop = snapshot.decisions.get("stop")
    exports = [k for k, o in snapshot.outcomes.items() if o.kind == "export" and o.status == "done"]
    if stop is not None and folder.result("train", stop["model"]).is_dir():
        partial_model = folder.model.with_name("model.part")
        shutil.rmtree(partial_model, ignore_errors=True)
        shutil.copytree(folder.result("train", stop["model"]) / "model", partial_model)
        for key in exports[-1:]:
            for file in folder.result("export", key).iterdir():
                if file.is_file() and file.name not in ("result.json", "manifest.json"):
                    shutil.copyfile(file, partial_model / file.name)
        shutil.rmtree(folder.model, ignore_errors=True)
        partial_model.rename(folder.model)


def _write_calibration(folder: CampaignFolder, snapshot: Snapshot, frames: Sequence[Atoms]) -> None:
    """The error model of certified fragments, from all confirmations there are, for `clusterflow certify`."""
    acquired = [o for o in snapshot.outcomes.values() if o.kind == "acquire" and o.status == "done"]
    models = [m for o in acquired if (m := o.summary.get("error_model")) is not None]
    certificates = [c for a in frames if (c := certificate_from_atoms(a)) is not None]
    if models and certificates:
        last = ErrorModel.from_json(models[-1])
        tolerance = certificates[-1].tolerance
        model = calibrate(last.columns, confirmations(frames), tolerance=tolerance, confidence=last.confidence)
        models_made = [v["model_id"] for n, v in snapshot.decisions.items() if n.startswith("model/")]
        told = Calibration(model, str(frames[-1].info[keys.LEVEL]), tolerance, str(models_made[-1]))
        replace_bytes(folder.calibration, json.dumps(told.to_json(), indent=1).encode())


def _novelty_calibrations(folder: CampaignFolder, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Of each iteration: how the calibration of novelty did on the test set and on new labels; the last one whole."""
    rows = calibration_rows(snapshot)
    told = [{k: v for k, v in asdict(r).items() if k != "key"} for r in rows]
    for row, data in zip(rows, told, strict=True):
        if row in rows[-2:]:
            file = folder.result("calibrate", row.key) / "calibration.json"
            data.update(json.loads(file.read_text(encoding="utf-8")))
    return told


def _test_set(snapshot: Snapshot) -> dict[str, Any]:
    """The hash that the journal has had since before the first label, and how many fragments it is of."""
    told = snapshot.decisions.get(DECISION, {})
    labelled = snapshot.decisions.get("split/0", {}).get("test", [])
    return {"hash": told.get("hash", ""), "fragments": len(told.get("labels", labelled)), "labelled": len(labelled)}


def _before_training(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Force errors of the new labels of each iteration under the model that asked for them, not yet trained on them."""
    rows = []
    for name, value in snapshot.decisions.items():
        found = snapshot.outcomes.get(str(value.get("evaluation"))) if name.startswith("new_labels/") else None
        if found is not None and found.status == "done":
            rows.append({"iteration": int(name.split("/")[1]), **found.summary})
    return rows
