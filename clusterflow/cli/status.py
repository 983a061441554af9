"""`clusterflow status`."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from clusterflow.campaign.inputs import gather_inputs
from clusterflow.campaign.progress import running_lines
from clusterflow.campaign.simulate import Workforce, simulate
from clusterflow.campaign.status import campaign_status
from clusterflow.campaign.task_times import NEEDED, assumed_times, failure_rate, measured_times
from clusterflow.cli.console import duration, labels_left_text, lane_table, print_judgement, stage_table
from clusterflow.config.campaign import Campaign
from clusterflow.config.load import describes_properties, load_campaign, load_properties
from clusterflow.config.start import Dataset
from clusterflow.errors import ClusterflowError
from clusterflow.execution.machines import LANES, load_machine
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.lease import owner
from clusterflow.state.queue_waits import queue_waits
from clusterflow.state.snapshot import Snapshot, fold

_EVERY = 5.0  # s
_MOST_SIMULATED = 50_000
"""Tasks: a larger campaign would make `status` slow."""


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
        path = load_properties(path).run_folder if describes_properties(path) else load_campaign(path).run_folder
    return CampaignFolder(path.absolute()).require()


def watch_status(path: Path, console: Console, *, pause: Callable[[float], None] = time.sleep) -> None:
    """The tables again and again, until no driver runs any more or Ctrl-C; ``pause`` waits for so many s.

    The old screen stays until the new one is complete: a large campaign takes seconds to look at.
    """
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            began = time.monotonic()
            with console.capture() as screen:
                state = print_status(path, as_json=False, console=console)
            console.clear()  # does nothing where the output is no terminal
            console.file.write(screen.get())
            if state != "running":
                return
            wait = max(_EVERY, 10 * (time.monotonic() - began))
            console.print(f"again in {wait:.0f} s; Ctrl-C ends this, not the campaign", style="dim", highlight=False)
            pause(wait)


def print_status(path: Path, *, as_json: bool, console: Console) -> str:
    """Tables for a person, or JSON for a script; returns the state."""
    folder, snapshot = find_campaign(path)
    status = campaign_status(snapshot)
    status.queue = queue_waits(folder.root / "parsl")
    if snapshot.finished is None:
        status.seconds_left = _seconds_left(folder, snapshot)
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
        return status.state
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
    console.print(lane_table(status))
    for row in status.queue:
        waits = f"{duration(row.median)} in the queue (median; longest {duration(row.longest)})"
        console.print(f"blocks of lane {row.lane}: {row.blocks}, {waits}", markup=False, highlight=False)
    if status.model_lag is not None:
        console.print(f"mean model lag {status.model_lag:.1f} versions", markup=False, highlight=False)
    if status.seconds_left is not None:
        end = f"about {duration(status.seconds_left)} of running left, by simulation with the times measured so far"
        console.print(end, markup=False, highlight=False)
    if labels_left_text(status):
        console.print(labels_left_text(status), markup=False)
    print_judgement(status, console)
    for line in [] if gone else running_lines(folder):
        console.print(line, markup=False, highlight=False)
    for kind, count in status.failures_by_kind.items():
        console.print(f"failed {count} × {kind}", markup=False, highlight=False)
    for failure in status.failures[-10:]:
        console.print(
            f"failed {failure['task']} {failure['key'][:10]}: {failure['reason']}", markup=False, soft_wrap=True
        )
    return status.state


def _seconds_left(folder: CampaignFolder, snapshot: Snapshot) -> float | None:
    """Of running, as the event simulation has it; None where too little is measured or it cannot be told."""
    measured = measured_times(snapshot)
    if any(kind not in measured for kind in NEEDED):
        return None
    try:
        config = Campaign.model_validate_json(folder.config.read_text(encoding="utf-8"))
        machine = load_machine(config.machine).for_ranks(config.label.ranks)
        lanes = {name: machine.resolved(name) for name in LANES}
        inputs, _ = gather_inputs(config, folder)
        told = simulate(
            config,
            inputs,
            Workforce(
                {name: lane.workers for name, lane in lanes.items()},
                {name: lane.cores_per_worker for name, lane in lanes.items()},
                machine.total_cores(),
            ),
            {**assumed_times(), **measured},
            label_failures=failure_rate(snapshot),
            seed_frames=len(config.start.frames(inputs.level_of_theory)) if isinstance(config.start, Dataset) else 0,
            most=_MOST_SIMULATED,
            begun=snapshot,
        )
    except (ClusterflowError, OSError, ValueError):  # a prediction is a courtesy: nothing may fail for lack of it
        return None
    return told.seconds
