"""The command line."""

from __future__ import annotations

import json
import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clusterflow import __version__
from clusterflow.cli import tools  # noqa: F401 - its commands belong to the application
from clusterflow.cli.application import app
from clusterflow.cli.options import console, guarded

Config = Annotated[Path, typer.Argument(help="Campaign file (YAML).", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="Run folder of a campaign, or its YAML file.", show_default=False)]


class EngineName(StrEnum):
    """How tasks are run."""

    parsl = "parsl"
    serial = "serial"


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # fonts of formulas that we do not draw
    if version:
        console.print(f"clusterflow {__version__}", highlight=False)
        raise typer.Exit


@app.command()
@guarded
def run(
    config: Config,
    folder: Annotated[Path | None, typer.Option(help="Run folder, instead of the one the file names.")] = None,
    engine: Annotated[
        EngineName, typer.Option(help="parsl spreads tasks over workers; serial runs them here, one by one.")
    ] = EngineName.parsl,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try labels, walkers and trainings again that failed.")
    ] = False,
) -> None:
    """Runs a campaign, or resumes it where it was. Ctrl-C stops cleanly (exit 75)."""
    from clusterflow.cli.run import run_campaign

    code = run_campaign(config, folder=folder, engine=engine.value, retry_failed=retry_failed, console=console)
    sys.exit(code)


@app.command("property")
@guarded
def properties(
    words: Annotated[
        list[str],
        typer.Argument(metavar="[NAME]... FILE", help="Property file (YAML), and before it which of its properties."),
    ],
    only: Annotated[list[str] | None, typer.Option(help="The same as NAME: only this property.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Run folder, instead of the one the file names.")] = None,
    engine: Annotated[
        EngineName, typer.Option(help="parsl spreads tasks over workers; serial runs them here, one by one.")
    ] = EngineName.parsl,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check file and structures, show the tasks, try one force call each.")
    ] = False,
) -> None:
    """Computes properties with a potential (curves against volume, heat capacity …), or resumes where it was."""
    from clusterflow.cli.property import names_and_file, plan_properties, run_properties
    from clusterflow.config.document import lines_told

    with lines_told(names_and_file(words)[1]):
        if dry_run:
            plan_properties(words, only=only or [], folder=folder, console=console)
            return
        code = run_properties(
            words, only=only or [], folder=folder, engine=engine.value, retry_failed=retry_failed, console=console
        )
    sys.exit(code)


@app.command()
@guarded
def check(config: Config) -> None:
    """Validates a campaign file; prints its plan, the fragments it would cut and what they would cost. Runs nothing."""
    from clusterflow.cli.check import check_campaign

    check_campaign(config, console)


@app.command()
@guarded
def simulate(
    config: Config,
    run: Annotated[
        Path | None, typer.Option("--from", help="Run folder whose measured task times to use.", show_default=False)
    ] = None,
    times: Annotated[
        str | None, typer.Option(help="md=60s,label=10min±heavy,train=5min, or a YAML file.", show_default=False)
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(help="md=4,label=16,train=1,local=1; default: those of the machine.", show_default=False),
    ] = None,
    nodes: Annotated[str, typer.Option(help="Times so many md and label workers: 1,10,100.")] = "1",
    latency: Annotated[float, typer.Option(min=0.0, help="Seconds that every task spends on its way.")] = 0.02,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Predicts wall time, busy workers and model lag of a campaign, in both loops. Runs nothing."""
    from clusterflow.cli.simulate import simulate_campaign

    simulate_campaign(
        config, run=run, times=times, workers=workers, nodes=nodes, latency=latency, as_json=as_json, console=console
    )


@app.command()
@guarded
def plan(
    config: Config,
    machine: Annotated[str | None, typer.Option(help="Machine name or file, instead of the campaign's own.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Run folder, instead of the one the file names.")] = None,
    gpu_speed: Annotated[float, typer.Option(min=0.1, help="Cores that one GPU replaces, in the estimate.")] = 20.0,
) -> None:
    """Prints the job scripts, the predicted core- and GPU-hours, and the first fragments. Submits nothing."""
    from clusterflow.cli.plan import plan_campaign

    plan_campaign(config, machine=machine, folder=folder, gpu_speed=gpu_speed, console=console)


@app.command()
@guarded
def status(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every few seconds, until it ends or Ctrl-C.")] = False,
) -> None:
    """Shows a running or finished campaign from outside, from its journal alone."""
    from clusterflow.cli.status import print_status, watch_status
    from clusterflow.errors import InputError

    if watch and as_json:
        raise InputError(
            "--watch and --json do not go together.", where="status", todo="Call `status --json` as often as you want."
        )
    if watch:
        watch_status(folder, console)
    else:
        print_status(folder, as_json=as_json, console=console)


@app.command()
@guarded
def report(folder: Folder) -> None:
    """Writes report.html anew from the journal and the results."""
    from clusterflow.campaign.outputs import write_outputs
    from clusterflow.campaign.property_outputs import rewrite_property_outputs
    from clusterflow.campaign.property_session import holds_properties
    from clusterflow.campaign.report import write_report
    from clusterflow.cli.status import find_campaign

    place, snapshot = find_campaign(folder)
    if holds_properties(place):
        rewrite_property_outputs(place, snapshot)
    else:
        write_outputs(place, snapshot)
        write_report(place, snapshot)
    console.print(str(place.report), markup=False, highlight=False, soft_wrap=True)


@app.command("export")
@guarded
def export_(
    path: Annotated[
        Path, typer.Argument(help="Run folder of a campaign, its YAML file, or a model folder.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("export"),
    to: Annotated[
        list[str] | None,
        typer.Option(help="ase, lammps, openmm, dataset, psiflow or card; may be repeated. Default: all."),
    ] = None,
    structure: Annotated[
        list[Path] | None, typer.Option(help="One more structure for the examples and LAMMPS; may be repeated.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Of the potential, and of data whose system states none.")] = "",
    compiled: Annotated[
        bool, typer.Option("--compile/--no-compile", help="NequIP's form for LAMMPS, if there is none yet (minutes).")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier export.")] = False,
) -> None:
    """Writes a potential for ASE, LAMMPS, OpenMM and psiflow, with its data and a model card."""
    from clusterflow.cli.export import export_potential

    export_potential(
        path,
        output,
        forms=to or [],
        structures=structure or [],
        licence=licence,
        compile=compiled,
        force=force,
        console=console,
    )


@app.command("import")
@guarded
def import_(
    dataset: Annotated[Path, typer.Argument(help="Dataset that psiflow saved (extxyz).", show_default=False)],
    level: Annotated[str, typer.Option(help="Level of theory of its labels, exactly.")] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="extxyz to write.")] = Path("imported.extxyz"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Takes a labelled dataset of psiflow in, and states its level of theory."""
    from clusterflow.cli.export import import_dataset

    import_dataset(dataset, output, level=level, force=force, console=console)


@app.command()
@guarded
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that differ in their seeds.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML page with the figure.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Learning curves of a campaign and its control arms, with intervals over runs with different seeds."""
    from clusterflow.cli.compare import compare_runs

    compare_runs(runs, output=output, force=force, as_json=as_json, console=console)


@app.command()
@guarded
def bank(
    folder: Annotated[Path, typer.Argument(help="Bank of labels (`bank:` of a campaign file).", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Says what a bank of labels holds, and verifies every entry; changes nothing."""
    from clusterflow.cli.bank import show_bank

    sys.exit(show_bank(folder, as_json=as_json, console=console))


@app.command()
@guarded
def fsck(
    folder: Folder,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Set aside what is damaged, so that the next run computes it anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Verifies the journal, every result and every label of a campaign; changes nothing without --rebuild."""
    from clusterflow.cli.fsck import check_folder

    sys.exit(check_folder(folder, rebuild=rebuild, as_json=as_json, console=console))


@app.command()
@guarded
def doctor(
    machine: Annotated[str, typer.Option(help="Machine name or file.")] = "local",
    quick: Annotated[bool, typer.Option("--quick", help="Without the Parsl lanes.")] = False,
    patience: Annotated[float, typer.Option(min=1.0, help="Minutes to wait for each job of a cluster.")] = 30.0,
) -> None:
    """Tests each part for real, and says how to mend what fails. On a cluster it submits a small job for each lane."""
    from clusterflow.execution.doctor import examine
    from clusterflow.execution.machines import load_machine

    failed = 0
    for finding in examine(load_machine(machine), engine=not quick, patience=60.0 * patience):
        mark = "ok      " if finding.ok else "FAILED  " if finding.needed else "missing "
        console.print(f"{mark}{finding.name} ({finding.seconds:.1f} s): {finding.seen}", markup=False, soft_wrap=True)
        if not finding.ok:
            failed += finding.needed
            console.print(f"         next: {finding.todo}", markup=False, soft_wrap=True)
    sys.exit(1 if failed else 0)


@app.command()
@guarded
def schema(
    properties: Annotated[bool, typer.Option("--properties", help="Of property files.")] = False,
) -> None:
    """Prints the JSON Schema of campaign files (or of property files), for editors."""
    from clusterflow.config.campaign import Campaign
    from clusterflow.config.properties import PropertyRun

    model = PropertyRun if properties else Campaign
    sys.stdout.write(json.dumps(model.model_json_schema(), indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """Entry point of the `clusterflow` command."""
    app()


if __name__ == "__main__":
    main()
