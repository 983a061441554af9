"""`clusterflow status`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console

from clusterflow.campaign.progress import running_lines
from clusterflow.campaign.status import campaign_status
from clusterflow.cli.console import labels_left_text, model_table, stage_table
from clusterflow.config.load import load_campaign
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.lease import owner
from clusterflow.state.snapshot import Snapshot, fold


def find_campaign(path: Path) -> tuple[CampaignFolder, Snapshot]:
    """The campaign in a run folder, or the one that a YAML file describes.

    Raises
    ------
    StateError
        There is none, or its journal is damaged.
    """
    folder = campaign_folder(path)
    return folder, fold(read_events(folder.journal))


def campaign_folder(path: Path) -> CampaignFolder:
    """The run folder itself, or the one that a YAML file describes.

    Raises
    ------
    InputError
        No campaign lives there.
    """
    if path.suffix in (".yaml", ".yml"):
        path = load_campaign(path).run_folder
    return CampaignFolder(path.absolute()).require()


def print_status(path: Path, *, as_json: bool, console: Console) -> None:
    """Tables for a person, or JSON for a script."""
    folder, snapshot = find_campaign(path)
    status = campaign_status(snapshot)
    holder = owner(folder.root)
    gone = holder is None or holder["alive"] is False
    if status.state == "running" and gone:
        status.state, status.reason = "stopped", "no driver is running; `clusterflow run` resumes"
    if as_json:
        json.dump(
            {**status.to_json(), "folder": str(folder.root), "driver": dict(holder) if holder else None},
            sys.stdout,
            indent=1,
        )
        sys.stdout.write("\n")
        return
    console.print(
        f"{folder.root}: {status.state} {status.reason}".rstrip(), markup=False, highlight=False, soft_wrap=True
    )
    console.print(
        f"iteration {status.iteration}, {status.core_hours:.2f} core hours, began {status.began}, "
        f"last event {status.last_event}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    console.print(stage_table(status))
    if status.certificates:
        told = ", ".join(f"{n} {verdict}" for verdict, n in status.certificates.items())
        console.print(f"certificates of selected fragments: {told}", markup=False, highlight=False)
    if labels_left_text(status):
        console.print(labels_left_text(status), markup=False)
    if status.models:
        console.print(model_table(status))
    for line in [] if gone else running_lines(folder):
        console.print(line, markup=False, highlight=False)
    for failure in status.failures[-10:]:
        console.print(
            f"failed {failure['task']} {failure['key'][:10]}: {failure['reason']}", markup=False, soft_wrap=True
        )
