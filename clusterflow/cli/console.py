"""What a person sees while a campaign runs: one screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from clusterflow.campaign.calibrations import calibration_text
from clusterflow.campaign.status import Status, campaign_status
from clusterflow.campaign.tasks import Plan
from clusterflow.state.fragments import SOURCES
from clusterflow.state.journal import Event
from clusterflow.state.snapshot import Snapshot

_NAMES = {
    "start": "starting fragments",
    "label": "labels",
    "train": "training",
    "novelty": "feature density",
    "evaluate": "evaluation",
    "calibrate": "calibration of novelty",
    "explore": "dynamics",
    "acquire": "selection",
    "control": "selection (controls)",
    "export": "packaging",
    "relax": "relaxations",
    "hessian": "Hessians",
    "metadynamics": "metadynamics",
    "dynamics": "equilibrium runs",
    "vibrations": "runs at constant energy",
    "property": "properties",
}
_REFRESH = 0.5  # s
_SHARE = 0.05
"""At most this share of the driver's time goes into the screen, however large the campaign."""


def duration(seconds: float) -> str:
    """h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))


class CampaignView:
    """Watches a loop. ``progress`` reads what running tasks say of themselves (scratch folder → short text)."""

    def __init__(
        self, snapshot: Snapshot, *, title: str, planned: int, progress: Callable[[], list[str]], console: Console
    ) -> None:
        self.snapshot, self.title, self.planned, self.progress, self.console = (
            snapshot,
            title,
            planned,
            progress,
            console,
        )
        self.began = time.monotonic()
        self._next = 0.0
        self._shown: tuple[Plan, int] | None = None
        self._live: Live | None = None
        wanted = [o.summary for o in snapshot.outcomes.values() if o.kind in SOURCES and o.summary]
        self._wanted = {f["label_key"] for told in wanted for f in told["fragments"]}
        self._ended = sum(o.kind == "label" for o in snapshot.outcomes.values())

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            if self._shown is not None:
                self._live.update(self._screen(*self._shown), refresh=True)
            self._live.stop()

    def watch(self, event: Event | None, plan: Plan, in_flight: int) -> None:
        """Called by the loop for every event and while it waits."""
        if self._live is None:
            if event is not None:
                self._line(event)
            return
        self._shown = (plan, in_flight)
        now = time.monotonic()
        if now >= self._next:
            self._live.update(self._screen(plan, in_flight), refresh=True)
            self._next = now + max(_REFRESH, (time.monotonic() - now) / _SHARE)

    # -- plain lines --------------------------------------------------------------------------------------------

    def _line(self, event: Event) -> None:
        text = event_line(event, self.snapshot.decisions)
        if event.kind == "done" and event.data["task"] in SOURCES:
            self._wanted.update(f["label_key"] for f in event.data["summary"]["fragments"])
        if event.kind in ("done", "failed") and event.data["task"] == "label" and event.data.get("final", True):
            self._ended += 1
            text += f"  ({self._ended} of {len(self._wanted)})"
        if text:
            stamp = duration(time.monotonic() - self.began)
            self.console.print(f"[{stamp}] {text}", highlight=False, markup=False, soft_wrap=True)

    # -- one screen ---------------------------------------------------------------------------------------------

    def _screen(self, plan: Plan, in_flight: int) -> Panel:
        status = campaign_status(self.snapshot)
        iteration = f"iteration {plan.iteration} of {self.planned}" if plan.iteration else "start"
        if not self.planned:  # a property run has no iterations
            iteration = "properties"
        head = Text(f"{iteration} · {plan.stage} · open tasks: {in_flight} · {duration(time.monotonic() - self.began)}")
        head.append(f" · {status.core_hours:.2f} core hours so far", style="dim")
        left = labels_left_text(status)
        parts: list[Any] = [head, stage_table(status)]
        if left:
            parts.append(Text(left))
        if status.models:
            parts.append(model_table(status))
        lines = self.progress()
        if lines:
            parts.append(Text("\n".join(lines[:8]), style="dim"))
        if status.failures:
            last = status.failures[-1]
            parts.append(Text(f"last failure: {last['task']}: {str(last['reason'])[:150]}", style="yellow"))
        return Panel(Group(*parts), title=self.title, subtitle="Ctrl-C stops cleanly; the next run resumes")


def labels_left_text(status: Status) -> str:
    """How many labels are open, and how long they will take."""
    if not status.labels_left:
        return ""
    left = status.labels_seconds_left
    return f"{status.labels_left} labels to go" + (f", about {duration(left)}" if left is not None else "")


def stage_table(status: Status) -> Table:
    """Tasks per stage."""
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "open", "done", "failed", "core s", "peak MB"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for kind, count in status.stages.items():
        if "relax" in status.stages and not (count.open or count.done or count.failed):
            continue  # a property run has none of a campaign's
        table.add_row(
            _NAMES.get(kind, kind),
            str(count.open or "·"),
            str(count.done or "·"),
            Text(str(count.failed), style="yellow") if count.failed else Text("·"),
            f"{count.core_seconds:.0f}" if count.core_seconds else "·",
            f"{count.peak_memory_MB:.0f}" if count.peak_memory_MB else "·",
        )
    return table


def lane_table(status: Status) -> Table:
    """How the workers of each lane were used."""
    table = Table(box=None, pad_edge=False)
    for column in ("lane", "tasks", "at once", "busy", "median wait", "longest wait"):
        table.add_column(column, justify="left" if column == "lane" else "right")
    for row in status.lanes:
        waits = (f"{row.median_wait:.1f} s", f"{row.longest_wait:.1f} s")
        table.add_row(row.lane, str(row.tasks), str(row.at_once), f"{row.busy:.0%}", *waits)
    return table


def model_table(status: Status) -> Table:
    """Test errors per iteration."""
    table = Table(box=None, pad_edge=False, title="force errors on the test set, meV/Å", title_justify="left")
    for column in ("iteration", "labels", "MAE", "RMSE", "MAE_P95"):
        table.add_column(column, justify="right")
    for row in status.models:
        table.add_row(
            str(row.iteration), str(row.n_training), f"{row.mae:.0f}", f"{row.rmse:.0f}", f"{row.mae_p95:.0f}"
        )
    return table


def print_judgement(status: Status, console: Console) -> None:
    """Test errors per iteration, what the noise of the labels leaves to learn, and warnings that stand."""
    if status.models:
        console.print(model_table(status))
    if status.noise:
        console.print(status.noise, markup=False, highlight=False, soft_wrap=True)
    for warning in status.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)


def event_line(event: Event, decisions: Mapping[str, Any] | None = None) -> str:
    """One line for one event, or "" for those that say nothing to a person. From the ``decisions`` so far it is known
    which labels a model was judged on."""
    data = event.data
    if event.kind == "sent":
        told = " ".join(f"{k}={_short(v)}" for k, v in data["what"].items() if v is not None)
        return f"{data['task']:8s} sent    {data['key'][:10]}  {told}"
    if event.kind == "done":
        return f"{data['task']:8s} done    {data['key'][:10]}  {_done_text(data, decisions or {})}"
    if event.kind == "failed":
        again = "" if data["final"] else " (will be tried again)"
        return f"{data['task']:8s} FAILED  {data['key'][:10]}  {data['reason']}{again}"
    if event.kind == "decision" and event.data["name"].startswith("selected/"):
        return f"iteration {event.data['name'].split('/')[1]}: {len(data['value']['fragments'])} fragments selected"
    if event.kind == "decision" and event.data["name"].startswith("ramp/"):
        return f"iteration {event.data['name'].split('/')[1]}: {data['value']['reason']}"
    if event.kind == "decision" and event.data["name"].startswith("split/") and "final" in data["value"]:
        new = len(data["value"]["train"]) + len(data["value"]["validation"])
        return f"version {event.data['name'].split('/')[1]}: training begins with {new} new labels"
    if event.kind == "decision" and event.data["name"] == "ending":
        return f"coming to an end: {data['value']['reason']}"
    if event.kind == "finished":
        return f"finished: {data['reason']}"
    return ""


def _judged_on(key: str, decisions: Mapping[str, Any]) -> str:
    """Labels of an evaluation: new ones are no test, since they are what the model knew least."""
    new = [n for n, v in decisions.items() if n.startswith("new_labels/") and v["evaluation"] == key]
    return f"new labels of iteration {new[0].split('/')[1]}, not trained on yet" if new else "test set"


def _done_text(data: Any, decisions: Mapping[str, Any]) -> str:
    s, seconds = data["summary"], f"{data['wall_time']:.0f} s"
    if data.get("cached"):
        seconds = "was there already"
    if data["task"] == "explore":
        text = f"{s['system']}, {s['steps_done']}/{s['steps']} steps, {seconds}"
        return text + (f", stopped: {s['stop_reason']}" if s["stop_reason"] else "")
    if data["task"] == "relax":
        return f"{s['structure']}, {s['steps']} steps, {s['energy']:.6f} eV, {seconds}"
    if data["task"] == "evaluate":
        judged = _judged_on(data["key"], decisions)
        return f"{judged}: force MAE_P95 {s['mae_p95']:.0f} meV/Å on {s['n_frames']} frames, {seconds}"
    if data["task"] == "calibrate":
        return f"{calibration_text(s)}, {seconds}"
    if data["task"] == "label":
        entries = "".join(f"; bank: {why}" for why in s.get("bank_notes", ()))
        return ("from the bank" if "bank" in s else seconds) + entries
    if data["task"] in SOURCES:
        said = [f"{len(s['fragments'])} fragments"]
        if "cbad" in s:
            said[0] += f" of {s['cbad']['candidates']} frames, {s['cbad']['covered']:.1%} of their bins known"
        if s.get("novelty", {}).get("outside"):
            said.append(f"{s['novelty']['outside']} atoms outside the trained features")
        return ", ".join([*said, seconds])
    return seconds


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
