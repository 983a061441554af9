"""`clusterflow property`: runs or resumes a property run, by the same loop, journal and engines as a campaign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clusterflow.campaign.loop import Interrupted, Paused
from clusterflow.campaign.property_forecast import foreseen
from clusterflow.campaign.property_graph import REDUCTION, WORK, PropertyInputs
from clusterflow.campaign.property_outputs import output_files, write_property_outputs
from clusterflow.campaign.property_plan import PropertyPlanner
from clusterflow.campaign.property_potential import facts_line
from clusterflow.campaign.property_session import (
    PropertySession,
    gather_property_inputs,
    open_property_session,
    property_structures,
    require_chosen,
)
from clusterflow.campaign.property_trial import require_all_work, stress_needed, try_potential
from clusterflow.campaign.session import forget_failures
from clusterflow.campaign.tasks import Plan
from clusterflow.cli.console import CampaignView
from clusterflow.cli.driving import EngineKind, StopSignal, make_engine, note_end, resume_command, watched_loop
from clusterflow.cli.options import STOPPED, errors, program
from clusterflow.config.load import load_properties
from clusterflow.config.properties import PropertyRun
from clusterflow.errors import InputError
from clusterflow.evaluate.property_page import Entry, comparison_table
from clusterflow.execution.machines import load_machine
from clusterflow.execution.provenance import environment
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import Snapshot, fold


def names_and_file(words: Sequence[str]) -> tuple[tuple[str, ...], Path]:
    """`[NAME …] FILE`; raises InputError if the file does not come last."""
    *names, file = words
    wrong = [n for n in names if n.endswith((".yaml", ".yml"))]
    if wrong:
        raise InputError(
            f"'{file}' stands where the property file should: the file comes last.",
            todo=f"Write `clusterflow property {' '.join([*(n for n in names if n not in wrong), file, wrong[0]])}`.",
        )
    if not file.endswith((".yaml", ".yml")) and not Path(file).exists():
        raise InputError(
            f"There is no property file '{file}': the file comes last, after the properties of it that are wanted.",
            todo=f"Write `clusterflow property {' '.join(words)} FILE.yaml`.",
        )
    return tuple(names), Path(file)


def _asked(words: Sequence[str], only: Sequence[str], folder: Path | None) -> tuple[tuple[str, ...], Path, PropertyRun]:
    """Names of the properties, the file, and what it says; with the run folder that was given instead, if one was."""
    names, path = names_and_file(words)
    config = load_properties(path)
    return (*names, *only), path, config if folder is None else config.model_copy(update={"folder": folder})


def run_properties(
    words: Sequence[str],
    *,
    only: Sequence[str],
    folder: Path | None,
    engine: EngineKind,
    retry_failed: bool,
    console: Console,
) -> int:
    """Runs or resumes the properties of a file, all or those named; returns the exit code of `clusterflow run`."""
    names, path, config = _asked(words, only, folder)
    machine = load_machine(config.machine)
    with StopSignal().installed() as stop, open_property_session(config, environment(), names) as session:
        _greet(config, session, console)
        if retry_failed:
            console.print(f"trying {forget_failures(session)} failed tasks again", highlight=False)
        runner = make_engine(engine, machine, session)
        view = CampaignView(
            session.snapshot,
            title=f"clusterflow · {config.name}",
            planned=0,
            progress=list,
            console=console,
        )

        planner = PropertyPlanner(config, session.inputs, names)
        loop = watched_loop(session, runner, view, stop, planner)
        plan, halted = None, ""
        try:
            with view:
                plan = loop.run()
        except Paused as pause:
            halted = f"paused: {pause}"
        except Interrupted:
            session.snapshot.apply(session.journal.append("stopped", reason=stop.name))
            halted = f"stopped by {stop.name}"
        finally:
            runner.close(cancel=plan is None or loop.in_flight > 0)
        if plan is not None:
            note_end(session, plan)
        session.lease.check()
        entries = write_property_outputs(config, session.inputs, session.folder, session.snapshot)
        if plan is None:
            asked = ["property", *dict.fromkeys(names)]
            again = resume_command(asked, path, session.folder.root, named=False)
            console.print(f"{halted}; `{again}` resumes", markup=False, soft_wrap=True, highlight=False)
            return STOPPED
        return _finish(plan, entries, session, console)


def plan_properties(words: Sequence[str], *, only: Sequence[str], folder: Path | None, console: Console) -> None:
    """Checks a property file with all that it names, prints the tasks, and tries the potential on each structure."""
    names, path, config = _asked(words, only, folder)
    machine = load_machine(config.machine)
    require_chosen(config, names)
    place = CampaignFolder(config.run_folder.absolute())
    inputs = gather_property_inputs(config)
    there = place.journal.is_file()
    rows = foreseen(config, inputs, fold(read_events(place.journal)) if there else Snapshot(), names)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"{path} is valid. Property run '{config.name}', run folder {place.root}")
    say(f"potential: {facts_line(inputs.facts, inputs.identity)}")
    table = Table(box=None, pad_edge=False, title="tasks, of which are done already", title_justify="left")
    for column in ("property", "structure", "atoms", "work", "tasks", "done"):
        table.add_column(column, justify="right" if column in ("atoms", "tasks", "done") else "left")
    for row in rows:
        table.add_row(row.property, row.structure, str(row.n_atoms), row.work, str(row.tasks), str(row.done))
    console.print(table)
    for row in rows:
        if row.rounds:
            say(f"{row.property} of {row.structure}: more runs in up to {row.rounds} rounds if it is not converged")
    lane = machine.resolved(WORK)
    say(
        f"{sum(r.tasks - r.done for r in rows)} tasks to do at most (what two properties share is done once), on "
        f"{lane.workers} workers of the lane '{WORK}' and, for results, '{REDUCTION}'; nothing was computed"
    )
    _try_structures(config, inputs, names, say)


def _try_structures(
    config: PropertyRun, inputs: PropertyInputs, names: Sequence[str], say: Callable[[str], None]
) -> None:
    """One force call per structure; raises InputError if the potential cannot compute one."""
    stress = stress_needed(config, inputs, names)
    structures = {name: atoms for name, atoms in property_structures(config).items() if name in stress}
    say(f"one force call for each structure ({len(structures)}):")
    trials = try_potential(config.potential, structures, stress)
    for t in trials:
        told = "" if t.outcome == "fails" else f": {t.told}"  # the error below says why
        say(f"  {', '.join(t.structures)} ({t.n_atoms} atoms): {t.outcome}{told}")
    require_all_work(trials, inputs.identity)


def _greet(config: PropertyRun, session: PropertySession, console: Console) -> None:
    verb = "resuming" if session.resumed else "new property run"
    for line in (
        f"{verb} {config.name} in {session.folder.root}",
        f"potential: {facts_line(session.inputs.facts, session.inputs.identity)}",
        *(f"changed since last time: {change}" for change in session.changes),
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _finish(plan: Plan, entries: Sequence[Entry], session: PropertySession, console: Console) -> int:
    for name in dict.fromkeys(e.property for e in entries):
        ours = [e for e in entries if e.property == name and e.result is not None]
        if ours:
            head, rows = comparison_table(ours[0].kind, ours)
            table = Table(box=None, pad_edge=False, title=name, title_justify="left")
            for k, column in enumerate(head[:-1]):
                table.add_column(column, justify="right" if k else "left")
            for row in rows:
                table.add_row(*(v or "·" for v in row[:-1]))
            console.print(table)
        for e in ours:
            for note in e.result.notes if e.result is not None else ():
                console.print(f"note: {e.structure}: {note}", markup=False, highlight=False, soft_wrap=True)
    if plan.failed:
        for e in entries:
            if e.status == "failed":
                errors.print(
                    f"error: {e.property} of {e.structure}: {e.reason}", style="red", markup=False, highlight=False,
                    soft_wrap=True,
                )  # fmt: skip
        errors.print(
            f"  where: {session.folder.root}\n"
            f"  next:  mend the cause in the file and run again; with --retry-failed what failed is tried as it is. "
            f"`{program()} status {session.folder.root}` lists every failure with its reason",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print(f"done: {plan.finished}", markup=False, highlight=False)
    for what, where in output_files(session.folder):
        console.print(f"  {what:10s} {where}", markup=False, highlight=False, soft_wrap=True)
    return 1 if plan.failed else 0
