"""`clusterflow run`: wires configuration, state, engine and loop, and turns signals into a clean stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from rich.console import Console

from clusterflow.campaign.event_log import log_event
from clusterflow.campaign.loop import Interrupted, Loop, Paused
from clusterflow.campaign.notify import notify
from clusterflow.campaign.outputs import write_outputs
from clusterflow.campaign.progress import running_lines
from clusterflow.campaign.report import write_report
from clusterflow.campaign.session import Held, Session, forget_failures, open_session
from clusterflow.campaign.status import campaign_status
from clusterflow.campaign.tasks import Plan
from clusterflow.cli.console import CampaignView, model_table
from clusterflow.cli.options import STOPPED, program
from clusterflow.config.load import load_campaign
from clusterflow.config.notify import Moment
from clusterflow.core.memory import peak_memory_MB
from clusterflow.core.protocols import Engine
from clusterflow.errors import ClusterflowError, ExecutionError
from clusterflow.execution.apps import published, run_task
from clusterflow.execution.machines import load_machine
from clusterflow.execution.provenance import environment
from clusterflow.state.journal import Event


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


def run_campaign(
    path: Path, *, folder: Path | None, engine: Literal["parsl", "serial"], retry_failed: bool, console: Console
) -> int:
    """Runs or resumes the campaign of a file, in its own run folder or in ``folder``; returns the exit code.

    ``retry_failed`` forgets the labels, walkers and trainings that failed, so that they are tried again.
    """
    config = load_campaign(path)
    if folder is not None:
        config = config.model_copy(update={"folder": folder})
    machine = load_machine(config.machine).for_ranks(config.label.ranks)
    with StopSignal().installed() as stop, open_session(config, environment()) as session:
        _greet(session, console)
        if retry_failed:
            console.print(f"trying {forget_failures(session)} failed tasks again", highlight=False)
        runner = make_engine(engine, machine, session)
        if machine.kind != "local" and engine == "parsl":
            log = session.folder.root / "parsl" / "driver.log"
            console.print(f"jobs are asked for as tasks need them; {log} follows them", markup=False, soft_wrap=True)
        view = CampaignView(
            session.snapshot,
            title=f"clusterflow · {config.name}",
            planned=config.stop.iterations,
            progress=lambda: running_lines(session.folder),
            console=console,
        )

        def watch(event: Event | None, plan: Plan, in_flight: int) -> None:
            if event is not None:
                log_event(session.folder.events, event)
            view.watch(event, plan, in_flight)

        loop = Loop(
            config=config,
            inputs=session.inputs,
            snapshot=session.snapshot,
            journal=session.journal,
            engine=runner,
            published=lambda task: published(task, session.folder),
            watch=watch,
            stop=lambda: bool(stop.name),
        )
        finished, paused = False, ""

        def tell(state: Moment, reason: str) -> None:
            where = session.folder.root
            if complaint := notify(config.notify, state, campaign=config.name, reason=reason, folder=where):
                console.print(f"note: {complaint}", markup=False, highlight=False, soft_wrap=True)

        try:
            with view:
                plan = loop.run()
            finished = True
        except Paused as pause:
            paused = str(pause)
        except Interrupted:
            session.snapshot.apply(session.journal.append("stopped", reason=stop.name))
        except ExecutionError as error:
            _write_outputs(session)
            tell("failed", error.what)
            raise
        except ClusterflowError as error:
            tell("failed", error.what)
            raise
        finally:
            runner.close(cancel=not finished or loop.in_flight > 0)
        _write_outputs(session)
        again = " ".join([program(), "run", str(path), *(["--folder", str(folder)] if folder else [])])
        if paused:
            tell("paused", paused)
            _say_paused(session, paused, again)
            return STOPPED
        if not finished:
            console.print(f"stopped by {stop.name}; `{again}` resumes", markup=False, soft_wrap=True)
            tell("stopped", stop.name)
            return STOPPED
        code = _finish(session, plan, console)
        tell("failed" if plan.failed else "finished", plan.failed or plan.finished)
        return code


def _say_paused(session: Session, reason: str, again: str) -> None:
    Console(file=sys.stderr).print(
        f"paused: {reason}\n  where: {session.folder.root}\n"
        f"  next:  `{program()} status {session.folder.root}` names the logs. Mend the cause, then `{again}` "
        "goes on (with --retry-failed it also tries the failed ones again); `failures:` sets the limit",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _write_outputs(session: Session) -> None:
    """Dataset, potential, metrics and report, unless another driver owns the campaign by now."""
    session.lease.check()
    write_outputs(session.folder, session.snapshot)
    write_report(session.folder, session.snapshot)


def make_engine(kind: Literal["parsl", "serial"], machine: Any, session: Session | Held[Any]) -> Engine:
    """The engine by name; Parsl is imported only if it is asked for."""
    if kind == "serial":
        from clusterflow.execution.serial_engine import SerialEngine

        return SerialEngine(run_task, str(session.folder.root))
    from clusterflow.execution.parsl_engine import ParslEngine

    run_id = f"{session.config.name}:{session.lease.epoch}"
    return ParslEngine(machine, session.folder.root, run_task, run_id=run_id)


def _greet(session: Session, console: Console) -> None:
    verb = "resuming" if session.resumed else "new campaign"
    console.print(
        f"{verb} {session.config.name} in {session.folder.root}", markup=False, highlight=False, soft_wrap=True
    )
    console.print(f"level of theory: {session.inputs.level_of_theory}", markup=False, highlight=False, soft_wrap=True)
    for change in session.changes:
        console.print(f"changed since last time: {change}", markup=False, highlight=False, soft_wrap=True)


def _finish(session: Session, plan: Plan, console: Console) -> int:
    reason = plan.failed or plan.finished
    session.snapshot.apply(
        session.journal.append(
            "finished", reason=reason, failed=bool(plan.failed), driver_memory_MB=round(peak_memory_MB())
        )
    )
    write_report(session.folder, session.snapshot)
    status = campaign_status(session.snapshot)
    if status.models:
        console.print(model_table(status))
    if status.noise:
        console.print(status.noise, markup=False, highlight=False, soft_wrap=True)
    for warning in status.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if plan.failed:
        Console(file=sys.stderr).print(
            f"error: the campaign cannot go on: {reason}\n  where: {session.folder.root}\n"
            f"  next:  read {session.folder.report.name} there, mend the cause or the configuration, and run again",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return 1
    console.print(f"done: {reason}", markup=False, highlight=False)
    for what, where in (
        ("potential", session.folder.model),
        ("dataset", session.folder.dataset),
        ("report", session.folder.report),
    ):
        console.print(f"  {what:10s} {where}", markup=False, highlight=False, soft_wrap=True)
    return 0
