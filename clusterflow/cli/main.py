"""The command line."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clusterflow import __version__
from clusterflow.cli.options import console, guarded

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Trains a machine-learning potential for a material too large for DFT, from finite fragments.",
)

Config = Annotated[Path, typer.Argument(help="Campaign file (YAML).", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="Run folder of a campaign, or its YAML file.", show_default=False)]


class EngineName(StrEnum):
    """How tasks are run."""

    parsl = "parsl"
    serial = "serial"


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
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


@app.command()
@guarded
def check(config: Config) -> None:
    """Validates a campaign file; prints its plan, the fragments it would cut and what they would cost. Runs nothing."""
    from clusterflow.cli.check import check_campaign

    check_campaign(config, console)


@app.command()
@guarded
def status(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Shows a running or finished campaign from outside, from its journal alone."""
    from clusterflow.cli.status import print_status

    print_status(folder, as_json=as_json, console=console)


@app.command()
@guarded
def report(folder: Folder) -> None:
    """Writes report.html anew from the journal and the results."""
    from clusterflow.campaign.outputs import write_outputs
    from clusterflow.campaign.report import write_report
    from clusterflow.cli.status import find_campaign

    place, snapshot = find_campaign(folder)
    write_outputs(place, snapshot)
    write_report(place, snapshot)
    console.print(str(place.report), markup=False, highlight=False, soft_wrap=True)


Output = Annotated[Path, typer.Option("--output", "-o", help="File or folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output.")]
FromConfig = Annotated[Path | None, typer.Option("--config", "-c", help="Take the settings of a campaign file.")]


@app.command()
@guarded
def new(
    structure: Annotated[Path, typer.Argument(help="Structure file (extxyz, CIF, …).", show_default=False)],
    output: Output = Path("campaign.yaml"),
    force: Force = False,
) -> None:
    """Writes a commented campaign file for a structure."""
    from clusterflow.cli.single import write_new

    write_new(structure, output, force=force, console=console)


@app.command()
@guarded
def extract(
    structure: Annotated[Path, typer.Argument(help="Structure or trajectory file.", show_default=False)],
    output: Output = Path("fragments.extxyz"),
    mantle: Annotated[
        str, typer.Option(help="none, neighbours, anchors, '2 shells', or a radius such as '4 Å'.")
    ] = "neighbours",
    block: Annotated[str, typer.Option(help="Kind of core block: all, node, linker or molecule.")] = "all",
    atom: Annotated[int | None, typer.Option(help="Only the block that holds this atom (counted from 0).")] = None,
    force: Force = False,
) -> None:
    """Cuts fragments; writes extxyz with core, mantle and termination marked."""
    from clusterflow.cli.single import extract_fragments

    extract_fragments(structure, output, mantle=mantle, block=block, atom=atom, force=force, console=console)


@app.command()
@guarded
def label(
    structures: Annotated[Path, typer.Argument(help="Frames to label.", show_default=False)],
    output: Output = Path("labelled.extxyz"),
    config: FromConfig = None,
    level: Annotated[str, typer.Option(help="Without --config: paper, quick, gfn1 or gfn2.")] = "quick",
    store: Annotated[Path | None, typer.Option(help="Label store to look in and to add to.")] = None,
    force: Force = False,
) -> None:
    """Computes energies and forces at a level of theory."""
    from clusterflow.cli.single import label_frames

    label_frames(structures, output, config=config, level=level, store=store, force=force, console=console)


@app.command()
@guarded
def train(
    dataset: Annotated[Path, typer.Argument(help="Labelled frames (extxyz).", show_default=False)],
    output: Output = Path("model"),
    config: FromConfig = None,
    validation: Annotated[float, typer.Option(help="Share held out to watch the training.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
) -> None:
    """Trains a potential on a labelled file."""
    from clusterflow.cli.single import train_model

    train_model(dataset, output, config=config, validation=validation, seed=seed, console=console)


@app.command()
@guarded
def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder.", show_default=False)],
    dataset: Annotated[Path, typer.Argument(help="Labelled frames (extxyz).", show_default=False)],
    split: Annotated[str, typer.Option(help="all, train, validation or test.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Errors of a potential on labelled frames: per element, region and system."""
    from clusterflow.cli.single import evaluate_model

    evaluate_model(model, dataset, split=split, as_json=as_json, console=console)


@app.command()
@guarded
def doctor(
    machine: Annotated[str, typer.Option(help="Machine name or file.")] = "local",
    quick: Annotated[bool, typer.Option("--quick", help="Without the Parsl lanes.")] = False,
) -> None:
    """Tests each part for real, and says how to mend what fails."""
    from clusterflow.execution.doctor import examine
    from clusterflow.execution.machines import load_machine

    failed = 0
    for finding in examine(load_machine(machine), engine=not quick):
        mark = "ok      " if finding.ok else "FAILED  " if finding.needed else "missing "
        console.print(f"{mark}{finding.name} ({finding.seconds:.1f} s): {finding.seen}", markup=False, soft_wrap=True)
        if not finding.ok:
            failed += finding.needed
            console.print(f"         next: {finding.todo}", markup=False, soft_wrap=True)
    sys.exit(1 if failed else 0)


@app.command()
@guarded
def schema() -> None:
    """Prints the JSON Schema of campaign files, for editors."""
    from clusterflow.config.campaign import Campaign

    sys.stdout.write(json.dumps(Campaign.model_json_schema(), indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """Entry point of the `clusterflow` command."""
    app()


if __name__ == "__main__":
    main()
