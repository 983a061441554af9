"""`clusterflow compare`: what choosing was worth, over runs that differ in their seeds."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from clusterflow.campaign.arm_curves import arm_curves
from clusterflow.cli.status import find_campaign
from clusterflow.config.campaign import Campaign
from clusterflow.config.section import to_json
from clusterflow.errors import InputError, StateError
from clusterflow.evaluate.arms import ArmCurve, Interval, advantages, mean_curves
from clusterflow.evaluate.report.arms import controls
from clusterflow.evaluate.report.markup import text
from clusterflow.state.layout import CampaignFolder

_MAY_DIFFER: Final = frozenset({"name", "folder", "seed", "machine", "labels_folder", "bank", "notify", "failures"})


def compare_runs(paths: Sequence[Path], *, output: Path | None, force: bool, as_json: bool, console: Console) -> None:
    """Prints (and draws into ``output``) the learning curves of all arms, with intervals over the runs.

    Raises
    ------
    InputError
        Runs that differ in more than their seeds, that are given twice, or that have tested no potential yet.
    """
    found = [find_campaign(path) for path in paths]
    runs = [arm_curves(snapshot) for _, snapshot in found]
    _check([folder for folder, _ in found], runs)
    if output is not None and output.exists() and not force:
        raise InputError(f"'{output}' exists.", where=str(output.absolute()), todo="Give another name, or --force.")
    if as_json:
        told = {
            "curves": {arm: [dataclasses.asdict(p) for p in points] for arm, points in mean_curves(runs).items()},
            "advantages": [dataclasses.asdict(row) for row in advantages(runs)],
            "unit": "meV/Å",
            "runs": [str(folder.root) for folder, _ in found],
        }
        sys.stdout.write(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    else:
        _print(runs, console)
    if output is not None:
        _write(output, runs, [folder.root.name for folder, _ in found])
        if not as_json:
            console.print(str(output), markup=False, highlight=False, soft_wrap=True)


def _check(folders: Sequence[CampaignFolder], runs: Sequence[Sequence[ArmCurve]]) -> None:
    roots = [f.root.resolve() for f in folders]
    twice = sorted({str(r) for r in roots if roots.count(r) > 1})
    if twice:
        raise InputError("A run is given twice: it would count as two seeds.", where=twice[0], todo="Give it once.")
    for folder, curves in zip(folders, runs, strict=True):
        if not curves[0].points:
            raise InputError(
                "This campaign has tested no potential yet.", where=str(folder.root), todo="Let it run further."
            )
    first = _settings(folders[0])
    for folder in folders[1:]:
        other = _settings(folder)
        different = sorted(k for k in {*first, *other} if first.get(k) != other.get(k))
        if different:
            raise InputError(
                f"These runs differ in more than their seeds: {', '.join(different[:5])}"
                f"{', …' if len(different) > 5 else ''}; their mean would mean nothing.",
                where=f"{folders[0].root} and {folder.root}",
                todo="Give runs of one campaign file in which only `seed:` (and `name:`) was changed.",
            )


def _settings(folder: CampaignFolder) -> dict[str, Any]:
    try:
        config: Mapping[str, Any] = json.loads(folder.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StateError(
            "The configuration of this run cannot be read.",
            where=str(folder.config),
            todo="The next `clusterflow run` of its campaign file writes it anew.",
        ) from error
    with contextlib.suppress(ValueError):  # an earlier version wrote it: with the defaults of keys that came since
        config = to_json(Campaign.model_validate(config))
    return _flat({k: v for k, v in config.items() if k not in _MAY_DIFFER and v is not None})


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): value}


def _print(runs: Sequence[Sequence[ArmCurve]], console: Console) -> None:
    seeds = len(runs)
    title = f"force MAE_P95 on the test set, meV/Å, over {seeds} run{'s' if seeds > 1 else ''}"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for column in ("arm", "iteration", "labels", "core s", "MAE_P95", "95 % interval"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, points in mean_curves(runs).items():
        for p in points:
            table.add_row(
                arm, str(p.iteration), f"{p.n_labels:.0f}", f"{p.core_seconds:.4g}", f"{p.mae_p95.mean:.1f}",
                "·" if p.mae_p95.low is None else f"{p.mae_p95.low:.1f} … {p.mae_p95.high:.1f}",
            )  # fmt: skip
    console.print(table)
    rows = advantages(runs)
    if not rows:
        _say(console, "There is no control arm: `controls:` in the campaign file asks for them.")
        return
    table = Table(
        box=None, pad_edge=False, title="what control arms need, relative to selected, for the same error",
        title_justify="left",
    )  # fmt: skip
    for column in ("control arm", "times the labels", "times the core-seconds", "runs compared"):
        table.add_column(column, justify="left" if column == "control arm" else "right")
    for r in rows:
        table.add_row(r.arm, _ratio(r.labels), _ratio(r.core_seconds), f"{r.reached} of {r.seeds}")
    console.print(table)
    if seeds == 1:
        _say(console, "One seed gives no interval: run the file with other seeds, and give all run folders.")
    for k, curves in enumerate(runs):
        for curve in curves:
            if curve.ended:
                _say(console, f"note: the arm {curve.arm} of run {k + 1} went no further: {curve.ended}")


def _ratio(found: Interval | None) -> str:
    if found is None:
        return "·"
    return f"{found.mean:.2f}" + ("" if found.low is None else f" ({found.low:.2f} … {found.high:.2f})")


def _say(console: Console, words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)


def _write(path: Path, runs: Sequence[Sequence[ArmCurve]], names: Sequence[str]) -> None:
    """A page of its own with the figure and tables of the report's section; loads nothing."""
    style = files("clusterflow.evaluate.report").joinpath("style.css").read_text(encoding="utf-8")
    made = controls(runs)
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{text(made.title)}</title><style>{style}</style></head>'
        f'<body><header><p class="over">clusterflow compare</p><h1>{text(made.title)}</h1>'
        f'<p class="note">{text(", ".join(names))}</p></header>'
        f"<main style='padding: 0 20px'><section>{made.body}</section></main></body></html>\n"
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise StateError(
            f"The comparison cannot be written: {error.strerror or error}.",
            where=str(path.absolute()),
            todo="Give a folder that exists and that you may write to.",
        ) from error
