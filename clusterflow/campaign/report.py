"""Gathers what the report shows from journal, results and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clusterflow import __version__
from clusterflow.campaign.arm_curves import arm_curves
from clusterflow.campaign.arms import is_of_arm
from clusterflow.campaign.calibrations import calibration_rows
from clusterflow.campaign.lag import model_lag
from clusterflow.campaign.ramp import ramp_rows
from clusterflow.campaign.report_structures import asking_iterations, explored, tested
from clusterflow.campaign.status import campaign_status
from clusterflow.campaign.timeline import running_periods, strips
from clusterflow.config.load import stored
from clusterflow.config.score import Score
from clusterflow.core.frames import read_optional_frames
from clusterflow.evaluate.learning_curve import learning_curve
from clusterflow.evaluate.metrics import Metrics
from clusterflow.evaluate.report.calibration_data import CalibrationView, calibration_view
from clusterflow.evaluate.report.collect import feature_map, novelty_histograms, parity_of
from clusterflow.evaluate.report.data import (
    CorrelationRow,
    Cost,
    FailureRow,
    FeatureMap,
    LagRow,
    ModelResult,
    NoveltyHistograms,
    PotentialFiles,
    QueueRow,
    RampRow,
    ReportData,
    StructureView,
    TimingRow,
    WalkerRow,
)
from clusterflow.evaluate.report.render import render_report
from clusterflow.evaluate.report.structure_views import structure_view
from clusterflow.state.disk import storage_error
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import read_json, verify_folder
from clusterflow.state.queue_waits import queue_waits
from clusterflow.state.snapshot import Snapshot

_GALLERY = 60
"""At most this many fragments, the newest, so that the file stays small."""


def write_report(folder: CampaignFolder, snapshot: Snapshot) -> Path:
    """Writes ``report.html``; a campaign that has hardly begun has a report too.

    Raises
    ------
    StateError
        The disk is full, fails or may not be written to; or a result is damaged.
    """
    try:
        render_report(report_data(folder, snapshot), folder.report)
    except OSError as error:
        raise storage_error(error, Path(error.filename or folder.report), "written") from error
    return folder.report


def report_data(folder: CampaignFolder, snapshot: Snapshot) -> ReportData:
    """All that the report shows."""
    status = campaign_status(snapshot)
    config, environment = _json(folder.config), _json(folder.environment)
    labels = [o for o in snapshot.outcomes.values() if o.kind == "label"]
    evaluated = _evaluated(snapshot)
    models, correlations = _models(folder, snapshot, evaluated)
    unit = _unit(config, folder)
    structures = _tested(folder, evaluated[-1], unit) if evaluated else []
    novelty, maps = _novelty(folder, snapshot, evaluated, structures)
    return ReportData(
        campaign=str(config.get("name", folder.root.name)),
        state=status.state,  # type: ignore[arg-type]
        reason=status.reason,
        generated=status.last_event,
        clusterflow_version=__version__,
        iterations_done=max((int(v["iteration"]) for v in evaluated), default=0),
        iterations_planned=config.get("stop", {}).get("iterations"),
        labels_done=sum(o.status == "done" for o in labels),
        labels_failed=sum(o.status == "failed" for o in labels),
        labels_open=status.labels_left,
        cost=Cost(
            wall_seconds=sum(end - begin for begin, end in running_periods(snapshot)),
            core_seconds=status.core_hours * 3600.0,
            label_core_seconds=status.stages["label"].core_seconds,
            driver_memory_MB=float((snapshot.finished or {}).get("driver_memory_MB", 0.0)),
        ),
        level_of_theory=str(snapshot.opened[-1].data["level_of_theory"]) if snapshot.opened else "",
        test_frames=len(snapshot.decisions.get("split/0", {}).get("test", [])),
        learning=learning_curve(
            [
                (int(v["iteration"]), int(v["n_training"]), _label_seconds(snapshot, int(v["iteration"])), m.metrics)
                for v, m in zip(_last_of_each(evaluated), _last_models(models), strict=True)
                if m.metrics is not None
            ]
        ),
        models=tuple(models),
        novelty=tuple(novelty),
        correlations=tuple(correlations),
        noise=status.noise,
        calibrations=tuple(_calibrations(folder, snapshot)),
        feature_maps=tuple(maps),
        walkers=tuple(_walkers(snapshot)),
        ramp=tuple(RampRow(**row) for row in ramp_rows(snapshot)),
        fragments=tuple(_fragments(folder, snapshot, unit)),
        structures=tuple(structures),
        failures=tuple(
            FailureRow(stage=f["task"], item=f["key"][:12], what=f["reason"], where="", todo="")
            for f in status.failures
        ),
        timings=tuple(
            TimingRow(kind, c.done + c.failed, c.wall_seconds, c.core_seconds, c.peak_memory_MB)
            for kind, c in status.stages.items()
            if c.done + c.failed
        ),
        lanes=tuple(strips(snapshot)),
        queue=tuple(QueueRow(q.lane, q.blocks, q.median, q.longest) for q in queue_waits(folder.root / "parsl")),
        periods=tuple(running_periods(snapshot)),
        lags=tuple(LagRow(r.version, r.labels, r.mean) for r in model_lag(snapshot)),
        settings={k: str(v) for k, v in _flat(config).items()},
        config_text=json.dumps(config, indent=2, ensure_ascii=False),
        environment={k: str(v) for k, v in _flat(environment).items()},
        potential=_potential(folder, snapshot),
        arms=tuple(arm_curves(snapshot)) if any(map(is_of_arm, snapshot.decisions)) else (),
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}{name}.").items()}
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return _flat(dict(enumerate(value)), prefix)
    return {prefix.rstrip("."): value}


def _evaluated(snapshot: Snapshot) -> list[Mapping[str, Any]]:
    return [
        v for n, v in snapshot.decisions.items() if n.startswith("evaluated/") and v["evaluation"] in snapshot.outcomes
    ]


def _last_of_each(evaluated: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last model of every iteration: a final training replaces the intermediate one in the learning curve."""
    return list({int(v["iteration"]): v for v in evaluated}.values())


def _last_models(models: list[ModelResult]) -> list[ModelResult]:
    return list({m.iteration: m for m in models}.values())


def _label_seconds(snapshot: Snapshot, iteration: int) -> float:
    """Core seconds of all labels that the model of this iteration was trained on."""
    wanted = [
        key
        for name, value in snapshot.decisions.items()
        if name.startswith("split/") and int(name.split("/")[1]) <= iteration
        for key in (*value["train"], *value["validation"])
    ]
    outcomes = [snapshot.outcomes[k] for k in wanted if k in snapshot.outcomes]
    return sum(o.wall_time * o.cores for o in outcomes)


def _models(
    folder: CampaignFolder, snapshot: Snapshot, evaluated: list[Mapping[str, Any]]
) -> tuple[list[ModelResult], list[CorrelationRow]]:
    models, rows = [], []
    for value in evaluated:
        place = _verified(folder, "evaluate", value["evaluation"])
        data = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
        trained = snapshot.outcomes.get(value["model"])
        with np.load(place / "atoms.npz", allow_pickle=False) as arrays:
            parity = parity_of({k: arrays[k] for k in arrays.files})
        models.append(
            ModelResult(
                iteration=int(value["iteration"]),
                model_id=str(trained.summary["model_id"]) if trained else "",
                metrics=Metrics.from_json(data["metrics"]),
                parity=parity,
                train_seconds=trained.wall_time if trained else None,
                epochs=int(trained.summary["metrics"]["epochs"])
                if trained and "epochs" in trained.summary["metrics"]
                else None,
            )
        )
        rows += [
            CorrelationRow(
                iteration=int(value["iteration"]),
                element=element,
                **{k: c[k] for k in ("n_atoms", "n_infinite", "spearman", "spearman_low", "spearman_high", "pearson")},
            )
            for element, c in data["correlation"].items()
        ]
    return models, rows


def _unit(config: Mapping[str, Any], folder: CampaignFolder) -> str:
    """Of the novelty."""
    score: Score = stored(Score, config.get("score", {"kind": "gmm"}), folder.config)
    return score.unit


def _tested(folder: CampaignFolder, evaluated: Mapping[str, Any], unit: str) -> list[StructureView]:
    """Test frames with the errors of one model."""
    place = _verified(folder, "evaluate", evaluated["evaluation"])
    with np.load(place / "atoms.npz", allow_pickle=False) as arrays:
        return tested(folder, _payload(folder, "evaluate", evaluated["evaluation"])["labels"], dict(arrays), unit)


def _calibrations(folder: CampaignFolder, snapshot: Snapshot) -> list[CalibrationView]:
    return [
        calibration_view(
            snapshot.outcomes[row.key].summary,
            json.loads((_verified(folder, "calibrate", row.key) / "calibration.json").read_text(encoding="utf-8")),
        )
        for row in calibration_rows(snapshot)
    ]


def _novelty(
    folder: CampaignFolder,
    snapshot: Snapshot,
    evaluated: list[Mapping[str, Any]],
    structures: list[StructureView],
) -> tuple[list[NoveltyHistograms], list[FeatureMap]]:
    """Training density against what was explored with it, per iteration and element. Frames of the last walks are added
    to the ``structures`` that are drawn."""
    from ase.data import chemical_symbols

    histograms, maps = [], []
    pools = {
        o_payload["mixture"]: key
        for key, o in snapshot.outcomes.items()
        if o.kind == "acquire" and o.status == "done" and (o_payload := _payload(folder, "acquire", key))
    }
    for value in evaluated:
        pool = pools.get(value["mixture"])
        if pool is None or value["mixture"] not in snapshot.outcomes:
            continue
        iteration = int(value["iteration"]) + 1
        fitted = _verified(folder, "novelty", value["mixture"])
        with np.load(fitted / "training.npz", allow_pickle=False) as known:
            train = {k: known[k] for k in known.files}
        with np.load(_verified(folder, "acquire", pool) / "pool.npz", allow_pickle=False) as found:
            new = {k: found[k] for k in found.files}
        told = json.loads((fitted / "density.json").read_text(encoding="utf-8"))
        density, unit = told.get("mixtures") or {}, str(told.get("unit", "nats"))
        drawn = np.full((len(new["numbers"]), 2), -1)
        if pool == list(pools.values())[-1]:
            views, drawn = explored(folder.result("acquire", pool), new, len(structures), unit)
            structures += views
        for z in sorted(set(new["numbers"].tolist()) | set(train["numbers"].tolist())):
            element = chemical_symbols[int(z)]
            old, fresh = train["numbers"] == z, new["numbers"] == z
            histograms.append(
                novelty_histograms(iteration, element, train["novelty"][old], new["novelty"][fresh], unit=unit)
            )
            if old.any():
                mixture = density.get(element, {})
                maps.append(
                    feature_map(
                        iteration,
                        element,
                        train["features"][old],
                        new["features"][fresh],
                        new["features"][fresh & (new["selected"] > 0)],
                        components=len(mixture["weights"]) if mixture else None,
                        bic={int(k): float(v) for k, v in mixture.get("bic", {}).items()},
                        explored_atoms=drawn[fresh],
                        selected_atoms=drawn[fresh & (new["selected"] > 0)],
                    )
                )
    return histograms, maps


def _verified(folder: CampaignFolder, kind: str, key: str) -> Path:
    """Folder of a published result, every file of it as it was written (StateError otherwise)."""
    place = folder.result(kind, key)
    verify_folder(place)
    return place


def _json(path: Path) -> dict[str, Any]:
    """What a file of the last run says; nothing if it is not there or damaged, since the next run writes it anew."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _payload(folder: CampaignFolder, kind: str, key: str) -> dict[str, Any]:
    path = folder.result(kind, key) / "result.json"
    return dict(read_json(path)["payload"]) if path.is_file() else {}


def _walkers(snapshot: Snapshot) -> list[WalkerRow]:
    """In the order in which they ended, iteration by iteration."""
    model_of = {v["model"]: int(v["iteration"]) + 1 for v in _evaluated(snapshot)}
    rows = []
    for key, outcome in snapshot.outcomes.items():
        if outcome.kind != "explore":
            continue
        s = outcome.summary
        if outcome.status == "failed":
            rows.append(WalkerRow(0, key[:8], "", stop_reason=outcome.reason))
            continue
        rows.append(
            WalkerRow(
                iteration=model_of.get(s.get("model", ""), 0),
                walker=key[:8],
                system=str(s["system"]),
                temperature_K=s["temperature_K"],
                pressure_GPa=s["pressure_GPa"],
                steps=int(s["steps_done"]),
                planned_steps=int(s["steps"]),
                frames=int(s["n_frames"]),
                stop_reason=str(s["stop_reason"]),
            )
        )
    return sorted(rows, key=lambda r: (r.iteration, r.system, r.walker))


def _fragments(folder: CampaignFolder, snapshot: Snapshot, unit: str) -> list[StructureView]:
    views, asked_in = [], asking_iterations(snapshot)
    for key, outcome in snapshot.outcomes.items():
        if outcome.kind not in ("start", "acquire") or outcome.status != "done":
            continue
        frames = read_optional_frames(folder.result(outcome.kind, key) / "fragments.extxyz")
        for atoms, told in zip(frames, outcome.summary["fragments"], strict=True):
            label = snapshot.outcomes.get(told["label_key"])
            views.append(
                structure_view(
                    atoms,
                    status={None: "in work", "done": "labelled", "failed": "failed"}[label.status if label else None],
                    iteration=asked_in.get(told["label_key"]),
                    label_seconds=label.wall_time if label and label.status == "done" else None,
                    unit=unit,
                )
            )
    return views[-_GALLERY:]


def _potential(folder: CampaignFolder, snapshot: Snapshot) -> PotentialFiles | None:
    if not (folder.model / "model.json").is_file():
        return None
    model = _json(folder.model / "model.json")
    files = {p.name: f"model/{p.name}" for p in sorted(folder.model.iterdir()) if p.is_file()}
    stop = snapshot.decisions.get("stop", {})
    trained = snapshot.outcomes.get(str(stop.get("model", "")))
    return PotentialFiles(
        folder="model",
        model_id=str(trained.summary["model_id"]) if trained else str(model.get("model_id", "")),
        elements=tuple(model.get("elements", ())),
        files=files,
    )
