"""`clusterflow run`: wires configuration, state, engine and loop, and turns signals into a clean stop."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from clusterflow.campaign.loop import Interrupted, Paused
from clusterflow.campaign.notify import notify
from clusterflow.campaign.outputs import write_outputs
from clusterflow.campaign.progress import running_lines
from clusterflow.campaign.report import write_report
from clusterflow.campaign.session import Session, forget_failures, open_session
from clusterflow.campaign.status import campaign_status
from clusterflow.campaign.tasks import Plan
from clusterflow.cli.console import CampaignView, print_judgement
from clusterflow.cli.driving import EngineKind, StopSignal, make_engine, note_end, resume_command, watched_loop
from clusterflow.cli.options import STOPPED, program
from clusterflow.config.load import load_campaign
from clusterflow.config.notify import Moment
from clusterflow.errors import ClusterflowError, ExecutionError
from clusterflow.execution.machines import load_machine
from clusterflow.execution.provenance import environment


def run_campaign(path: Path, *, folder: Path | None, engine: EngineKind, retry_failed: bool, console: Console) -> int:
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

        loop = watched_loop(session, runner, view, stop)
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
        named = folder is None and config.folder is not None
        again = resume_command(["run"], path, session.folder.root, named=named)
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
        f"  next:  `{program()} status {session.folder.root}` lists the failures. Mend the cause, then `{again}` "
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


def _greet(session: Session, console: Console) -> None:
    verb = "resuming" if session.resumed else "new campaign"
    console.print(
        f"{verb} {session.config.name} in {session.folder.root}", markup=False, highlight=False, soft_wrap=True
    )
    console.print(f"level of theory: {session.inputs.level_of_theory}", markup=False, highlight=False, soft_wrap=True)
    for change in session.changes:
        console.print(f"changed since last time: {change}", markup=False, highlight=False, soft_wrap=True)


def _finish(session: Session, plan: Plan, console: Console) -> int:
    reason = note_end(session, plan)
    write_report(session.folder, session.snapshot)
    status = campaign_status(session.snapshot)
    print_judgement(status, console)
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
