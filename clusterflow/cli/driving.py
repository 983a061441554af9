"""What `run` and `property` have in common: signals, engine, the watched loop, and how to go on after a stop."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from clusterflow.campaign.event_log import log_event
from clusterflow.campaign.loop import Loop
from clusterflow.campaign.planner import Planning
from clusterflow.campaign.session import Held, Session
from clusterflow.campaign.tasks import Plan
from clusterflow.cli.console import CampaignView
from clusterflow.cli.options import program
from clusterflow.core.memory import peak_memory_MB
from clusterflow.core.protocols import Engine
from clusterflow.execution.apps import published, run_task
from clusterflow.state.journal import Event

EngineKind = Literal["parsl", "serial"]


class StopSignal:
    """Set by SIGINT and SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self.name = ""

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.name:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name

    @contextmanager
    def installed(self) -> Iterator[StopSignal]:
        """Handles both signals inside the context, and gives them back after it."""
        before = {s: signal.signal(s, self) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_engine(kind: EngineKind, machine: Any, session: Session | Held[Any]) -> Engine:
    """The engine by name; Parsl is imported only if it is asked for."""
    if kind == "serial":
        from clusterflow.execution.serial_engine import SerialEngine

        return SerialEngine(run_task, str(session.folder.root))
    from clusterflow.execution.parsl_engine import ParslEngine

    run_id = f"{session.config.name}:{session.lease.epoch}"
    return ParslEngine(machine, session.folder.root, run_task, run_id=run_id)


def watched_loop(
    session: Session | Held[Any], engine: Engine, view: CampaignView, stop: StopSignal, planner: Planning | None = None
) -> Loop:
    """The loop of a session, with a view that shows and a log that keeps every event."""

    def watch(event: Event | None, plan: Plan, in_flight: int) -> None:
        if event is not None:
            log_event(session.folder.events, event)
        view.watch(event, plan, in_flight)

    return Loop(
        config=session.config,
        inputs=session.inputs,
        snapshot=session.snapshot,
        journal=session.journal,
        engine=engine,
        published=lambda task: published(task, session.folder),
        watch=watch,
        stop=lambda: bool(stop.name),
        planner=planner,
    )


def note_end(session: Session | Held[Any], plan: Plan) -> str:
    """Journals how the plan has ended; returns the reason."""
    reason, memory = plan.failed or plan.finished, round(peak_memory_MB())
    event = session.journal.append("finished", reason=reason, failed=bool(plan.failed), driver_memory_MB=memory)
    session.snapshot.apply(event)
    return reason


def resume_command(words: Sequence[str], file: Path, root: Path, *, named: bool) -> str:
    """The command that goes on, from whatever folder it is called: ``words`` before the ``file``, whose run folder is
    ``root``. ``named``: the file itself names that folder; else it would be looked for below the current one."""
    folder = [] if named else ["--folder", str(root.absolute())]
    return shlex.join([program(), *words, str(file.absolute()), *folder])
