"""`clusterflow fsck`: verifies a run folder, and sets aside what is damaged."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from clusterflow.campaign.outputs import write_outputs
from clusterflow.campaign.report import write_report
from clusterflow.cli.status import campaign_folder
from clusterflow.state.fsck import Examination, driver_lives, examine, set_damage_aside
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import fold

_SHOWN = 20


def check_folder(path: Path, *, rebuild: bool, as_json: bool, console: Console) -> int:
    """Prints what is wrong in a run folder; the exit code: 0 if nothing is, or it has been set aside, 1 otherwise.

    ``rebuild`` moves what is damaged into a folder ``damaged/`` and journals that it must be computed again; where
    nothing must be, it writes dataset, metrics, model and report anew.

    Raises
    ------
    LeaseError
        ``rebuild`` while a driver is running.
    StateError
        The journal is of a newer format, or the disk fails.
    """
    folder = campaign_folder(path)
    found = examine(folder)
    if as_json:
        findings = [{**asdict(f), "path": str(f.path)} for f in found.findings]
        json.dump({**asdict(found), "findings": findings, "again": found.again}, sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        _print(folder, found, console)
    if not rebuild:
        if found.damage and not as_json:
            console.print(
                f"next: restore it from a backup, or `clusterflow fsck {folder.root} --rebuild` and then "
                "`clusterflow run` again",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
        return 1 if found.damage else 0
    moved = set_damage_aside(folder, found)
    after = examine(folder)
    if not as_json:
        for where in moved:
            console.print(f"set aside: {where}", markup=False, highlight=False, soft_wrap=True)
    if after.damage:
        if not as_json:
            console.print(
                "what is left cannot be made again from what is here: restore it from a backup",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
        return 1
    if not found.needs_run:
        snapshot = fold(read_events(folder.journal))
        write_outputs(folder, snapshot)
        write_report(folder, snapshot)
    if not as_json:
        told = "`clusterflow run` goes on" if found.needs_run else "dataset, metrics, model and report are written anew"
        console.print(f"done: {told}", markup=False, highlight=False)
    return 0


def _print(folder: CampaignFolder, found: Examination, console: Console) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(
        f"{folder.root}: as they were written are {_count(found.events, 'event')}, {_count(found.results, 'result')}, "
        f"{_count(found.labels, 'label')} and {_count(found.inputs, 'structure')}"
    )
    if driver_lives(folder):
        say("a driver is running: what it has not finished yet is listed as unfinished")
    for finding in found.damage[:_SHOWN]:
        say(f"{finding.level:8s} {_relative(finding.path, folder)}: {finding.what}")
    if len(found.damage) > _SHOWN:
        say(f"         … and {len(found.damage) - _SHOWN} more (--json lists all)")
    for what, count in Counter(f.what for f in found.findings if f.level == "leftover").items():
        example = next(f.path for f in found.findings if f.what == what)
        say(f"leftover {count} × {what}, such as {_relative(example, folder)}; nobody reads it")
    if found.not_in_journal:
        say(f"published, and not in the journal: {found.not_in_journal}; the next run finds those that it wants")
    if found.in_flight and not driver_lives(folder):
        say(f"sent, and not ended: {_count(found.in_flight, 'task')}; the next run sends them again")
    if found.again:
        say("a run would compute again: " + ", ".join(f"{n} {kind}" for kind, n in found.again.items()))
    if not found.damage:
        say("nothing is damaged or lost")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _relative(path: Path, folder: CampaignFolder) -> str:
    return str(path.relative_to(folder.root)) if path.is_relative_to(folder.root) else str(path)
