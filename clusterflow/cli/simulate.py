"""`clusterflow simulate`: how long a campaign would take on so many workers, in both loops."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from clusterflow.campaign.inputs import gather_inputs
from clusterflow.campaign.simulate import Prediction, Workforce, simulate
from clusterflow.campaign.task_times import (
    KINDS,
    Given,
    Measured,
    assumed_times,
    failure_rate,
    measured_times,
    parse_times,
    require,
    split_pairs,
)
from clusterflow.cli.status import find_campaign
from clusterflow.config.campaign import Campaign
from clusterflow.config.load import load_campaign
from clusterflow.config.loop import Streaming, Synchronous
from clusterflow.config.start import Dataset
from clusterflow.errors import InputError
from clusterflow.execution.machines import LANES, load_machine

_SLOW = 0.8
"""Busy fraction of the training lane from which on it is what everything waits for."""


def simulate_campaign(
    path: Path,
    *,
    run: Path | None,
    times: str | None,
    workers: str | None,
    nodes: str,
    latency: float,
    as_json: bool,
    console: Console,
) -> None:
    """Prints what the simulation predicts: one row per loop and number of nodes."""
    config = load_campaign(path)
    used, failures = _times(run, times)
    force = _workforce(config, workers)
    inputs, _ = gather_inputs(config)
    seed_frames = len(config.start.frames(inputs.level_of_theory)) if isinstance(config.start, Dataset) else 0
    streaming = config.loop if isinstance(config.loop, Streaming) else Streaming()
    loops = (Synchronous(),) if config.only_synchronous() else (Synchronous(), streaming)
    rows: list[tuple[int, str, Workforce, Prediction]] = []
    for count in _nodes(nodes):
        wide = _on_nodes(force, count)
        for loop in loops:
            told = simulate(
                config.model_copy(update={"loop": loop}),
                inputs,
                wide,
                used,
                latency=latency,
                label_failures=failures,
                seed_frames=seed_frames,
            )
            rows.append((count, loop.kind, wide, told))
    if as_json:
        data = [
            {"nodes": n, "loop": kind, "workers": dict(f.workers), **asdict(p), "labels_per_hour": p.labels_per_hour}
            for n, kind, f, p in rows
        ]
        known = {"times": {k: str(v) for k, v in used.items()}, "only_synchronous": _not_streaming(config)}
        json.dump({**known, "predictions": data}, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    _print(config, used, failures, rows, console)


def _not_streaming(config: Campaign) -> str:
    """Why the streaming loop is not for this campaign, "" if it is."""
    return "; ".join(why for why, _ in config.only_synchronous())


def _times(run: Path | None, text: str | None) -> tuple[dict[str, Given | Measured], float]:
    """Given before measured before assumed; and the share of labels that failed in the run."""
    used: dict[str, Given | Measured] = dict(assumed_times())
    failures = 0.0
    if run is not None:
        _, snapshot = find_campaign(run)
        used.update(measured_times(snapshot))
        failures = failure_rate(snapshot)
    if text is not None:
        used.update(parse_times(_given(text), f"--times {text}"))
    require(used, "--times, --from")
    return used, failures


def _given(text: str) -> dict[str, Any]:
    if not text.endswith((".yaml", ".yml")):
        return dict(split_pairs(text, "--times"))
    try:
        data = YAML(typ="safe").load(Path(text).read_text(encoding="utf-8"))
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"The times cannot be read: {error}", where=text, todo="Give a YAML file of name: time."
        ) from None
    if not isinstance(data, dict):
        raise InputError(
            f"'{text}' holds no mapping of names to times.", where=text, todo="Write lines `label: 10 min`."
        )
    return {str(k): v for k, v in data.items()}


def _workforce(config: Campaign, text: str | None) -> Workforce:
    """Workers as given, else those of the campaign's machine, whose lanes share its cores."""
    if text is None:
        machine = load_machine(config.machine).for_ranks(config.label.ranks)
        lanes = {name: machine.resolved(name) for name in LANES}
        return Workforce(
            {name: lane.workers for name, lane in lanes.items()},
            {name: lane.cores_per_worker for name, lane in lanes.items()},
            machine.total_cores(),
        )
    pairs = split_pairs(text, "--workers")
    unknown = sorted(set(pairs) - set(LANES))
    if unknown:
        raise InputError(
            f"There is no lane '{unknown[0]}'.", where=f"--workers {text}", todo=f"The lanes are {', '.join(LANES)}."
        )
    return Workforce({name: _count(pairs.get(name, "1"), f"--workers {text}") for name in LANES})


def _nodes(text: str) -> list[int]:
    return [_count(part, f"--nodes {text}") for part in text.split(",")]


def _count(text: str, where: str) -> int:
    if not text.strip().isdigit() or not 1 <= int(text) <= 1_000_000:
        raise InputError(f"'{text}' is not a number of workers or nodes.", where=where, todo="Give 1 or more.")
    return int(text)


def _on_nodes(force: Workforce, nodes: int) -> Workforce:
    """Dynamics and labels on every node; training and the small tasks stay where they are."""
    if nodes == 1:
        return force
    workers = {name: count * nodes if name in ("md", "label") else count for name, count in force.workers.items()}
    return Workforce(workers, force.cores_per_worker, force.cores * nodes)


def _print(
    config: Campaign,
    used: dict[str, Given | Measured],
    failures: float,
    rows: list[tuple[int, str, Workforce, Prediction]],
    console: Console,
) -> None:
    assumed = assumed_times()
    console.print("times", highlight=False)
    for kind in (k for members in KINDS.values() for k in members):
        note = "  (assumed)" if used[kind] == assumed.get(kind) else ""
        console.print(f"  {kind:9s} {used[kind]}{note}", markup=False, highlight=False)
    if failures:
        console.print(f"  {failures:.1%} of the labels fail", highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("nodes", "loop", "wall time", "labels/h", *(f"{n} busy" for n in LANES), "lag", "core h", "trainings"):
        table.add_column(name, justify="left" if name == "loop" else "right")
    for count, kind, force, told in rows:
        table.add_row(
            str(count),
            kind,
            str(timedelta(seconds=round(told.seconds))),
            f"{told.labels_per_hour:.4g}",
            *(f"{told.busy[n]:.0%} of {force.workers[n]}" for n in LANES),
            "·" if told.lag is None else f"{told.lag:.1f}",
            f"{told.core_hours:.4g}",
            str(told.iterations + 1),
        )
    console.print(table)
    for kind in dict.fromkeys(k for _, k, _, _ in rows):
        ends = dict.fromkeys(p.ended for _, k, _, p in rows if k == kind)
        console.print(f"{kind}: {'; '.join(ends)}", markup=False, highlight=False, soft_wrap=True)
    if why := _not_streaming(config):
        console.print(f"streaming: not for this file: {why}", markup=False, soft_wrap=True)
    for hint in _hints(config, rows):
        console.print(hint, markup=False, highlight=False, soft_wrap=True)


def _hints(config: Campaign, rows: list[tuple[int, str, Workforce, Prediction]]) -> list[str]:
    """What keeps workers idle, where it is a number in the file."""
    said = []
    walkers = config.explore.walkers
    if any(force.workers["md"] > walkers for _, _, force, _ in rows):
        said.append(f"hint: explore.walkers is {walkers}: md workers beyond that have nothing to do.")
    if isinstance(config.loop, Streaming) or any(kind == "streaming" for _, kind, _, _ in rows):
        loop = config.loop if isinstance(config.loop, Streaming) else Streaming()
        batch = loop.retrain_after or config.select.fragments
        room = (loop.max_model_lag + 1) * batch
        most = max(force.workers["label"] for _, _, force, _ in rows)
        if any(kind == "streaming" and told.busy["train"] > _SLOW for _, kind, _, told in rows):
            own = " Where labels are dearer than time, max_model_lag: 0 lets each potential ask for its own."
            said.append(
                f"hint: training is busy more than {_SLOW:.0%} of the time and holds the walkers back: raise "
                f"retrain_after ({batch}), or train faster.{own if loop.max_model_lag else ''}"
            )
        if room < 2 * most:
            said.append(
                f"hint: with retrain_after {batch} and max_model_lag {loop.max_model_lag} at most {room} labels are "
                f"under way; {most} label workers want {2 * most}."
            )
    return said
