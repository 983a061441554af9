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
) -> None:
    """Computes properties with a potential (energy–volume, heat capacity), or resumes where it was."""
    from clusterflow.cli.property import run_properties

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
    gpu_speed: Annotated[float, typer.Option(min=0.1, help="Cores that one GPU replaces, in the estimate.")] = 20.0,
) -> None:
    """Prints the job scripts, the predicted core- and GPU-hours, and the first fragments. Submits nothing."""
    from clusterflow.cli.plan import plan_campaign

    plan_campaign(config, machine=machine, gpu_speed=gpu_speed, console=console)


@app.command()
@guarded
def status(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every few seconds, until it ends or Ctrl-C.")] = False,
) -> None:
    """Shows a running or finished campaign from outside, from its journal alone."""
    from clusterflow.cli.status import print_status, watch_status

    if watch and not as_json:
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


Output = Annotated[Path, typer.Option("--output", "-o", help="File or folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output.")]
Unchecked = Annotated[bool, typer.Option("--unchecked", help="Go on with a structure that lacks atoms.")]
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
def build(
    structure: Annotated[Path, typer.Argument(help="Structure of the perfect framework.", show_default=False)],
    output: Output = Path("built.extxyz"),
    repeat: Annotated[tuple[int, int, int] | None, typer.Option(help="Supercell, such as 4 4 4; comes first.")] = None,
    topology: Annotated[str | None, typer.Option(help="bcu, reo or scu, from a framework with the net fcu.")] = None,
    axis: Annotated[str | None, typer.Option(help="a, b or c: the weak axis of bcu and scu; c if not given.")] = None,
    pair: Annotated[int | None, typer.Option(help="Two missing linkers: number of the pair (--pairs).")] = None,
    missing_linkers: Annotated[int, typer.Option(min=0, help="How many linkers to remove.")] = 0,
    missing_nodes: Annotated[int, typer.Option(min=0, help="How many nodes to remove, with their linkers.")] = 0,
    remove_linkers: Annotated[float, typer.Option(help="Share of the linkers to remove at random.")] = 0.0,
    remove_nodes: Annotated[float, typer.Option(help="Share of the nodes to remove at random.")] = 0.0,
    final: Annotated[bool, typer.Option("--final", help="The shares are what is missing in the end.")] = False,
    substitute: Annotated[str | None, typer.Option(help="Zr:Hf:0.2 (share), Zr:Hf:1 (atoms), Zr:Hf:2:nodes.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses at random.")] = 0,
    pairs: Annotated[bool, typer.Option("--pairs", help="List the distinct pairs of linkers; write nothing.")] = False,
    unchecked: Unchecked = False,
    force: Force = False,
) -> None:
    """Makes defects: missing linkers and nodes, other topologies, substituted metals, random supercells.

    The name of the output says its format: .extxyz, .xyz, .cif, .vasp, .pdb, .gen or .xsf.
    """
    from clusterflow.cli.build_structure import Wanted, build_structure

    wanted = Wanted(
        repeat=repeat,
        topology=topology,
        axis=axis,
        pair=pair,
        missing_linkers=missing_linkers,
        missing_nodes=missing_nodes,
        remove_linkers=remove_linkers,
        remove_nodes=remove_nodes,
        final=final,
        substitute=substitute,
        seed=seed,
    )
    build_structure(structure, output, wanted, list_pairs=pairs, unchecked=unchecked, force=force, console=console)


@app.command()
@guarded
def extract(
    structure: Annotated[Path, typer.Argument(help="Structure or trajectory file.", show_default=False)],
    output: Output = Path("fragments.extxyz"),
    mantle: Annotated[
        str, typer.Option(help="none, neighbours, linkers, anchors, '2 shells', or a radius such as '4 Å'.")
    ] = "neighbours",
    block: Annotated[str, typer.Option(help="Kind of core block: all, node, linker or molecule.")] = "all",
    atom: Annotated[int | None, typer.Option(help="Only the block that holds this atom (counted from 0).")] = None,
    unchecked: Unchecked = False,
    force: Force = False,
) -> None:
    """Cuts fragments out of building blocks; writes extxyz with core, mantle and termination marked.

    `clusterflow certify` cuts certified ones; a campaign file also knows the kinds sphere and whole.
    """
    from clusterflow.cli.single import extract_fragments

    extract_fragments(
        structure, output, mantle=mantle, block=block, atom=atom, unchecked=unchecked, force=force, console=console
    )


@app.command()
@guarded
def label(
    structures: Annotated[Path, typer.Argument(help="Frames to label.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="labelled.extxyz, or noise.json with --noise.")
    ] = None,
    config: FromConfig = None,
    level: Annotated[str, typer.Option(help="Without --config: paper, quick, gfn1 or gfn2.")] = "quick",
    store: Annotated[Path | None, typer.Option(help="Label store to look in and to add to.")] = None,
    noise: Annotated[
        int | None, typer.Option(min=1, help="Measure the noise of the first structure, so many labels of a kind.")
    ] = None,
    force: Force = False,
) -> None:
    """Computes energies and forces at a level of theory.

    With --noise, it moves and turns one structure and changes the grid instead, and says how much of a force is noise.
    """
    from clusterflow.cli.single import label_frames

    place = output or Path("labelled.extxyz" if noise is None else "noise.json")
    label_frames(structures, place, config=config, level=level, store=store, noise=noise, force=force, console=console)


@app.command()
@guarded
def train(
    dataset: Annotated[Path, typer.Argument(help="Labelled frames (extxyz).", show_default=False)],
    output: Output = Path("model"),
    config: FromConfig = None,
    validation: Annotated[float, typer.Option(help="Share held out to watch the training.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    kind: Annotated[str, typer.Option(help="Without --config: nequip, or linear (seconds, one core).")] = "nequip",
    start_from: Annotated[Path | None, typer.Option(help="Model to fine-tune.", show_default=False)] = None,
) -> None:
    """Trains a potential on a labelled file."""
    from clusterflow.cli.single import train_model

    train_model(
        dataset,
        output,
        config=config,
        validation=validation,
        seed=seed,
        kind=kind,
        start_from=start_from,
        console=console,
    )


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
def locality(
    structure: Annotated[Path, typer.Argument(help="Structure file; periodic or a molecule.", show_default=False)],
    site: Annotated[list[int] | None, typer.Option(help="Atom, counted from 0; give it again for more.")] = None,
    output: Output = Path("locality"),
    level: Annotated[str, typer.Option(help="gfn1, gfn2, quick or paper.")] = "gfn1",
    model: Annotated[Path | None, typer.Option(help="Folder of a trained potential, instead of --level.")] = None,
    gamma: Annotated[float, typer.Option(help="Threshold of the effective group norm, eV/Å².")] = 0.35,
    radius: Annotated[float, typer.Option(help="Of the reference piece cut from a periodic structure, Å.")] = 10.0,
    cut_cost: Annotated[float, typer.Option(help="Groups end at bonds that cost no more to cut.")] = 2.0,
    max_atoms: Annotated[int, typer.Option(help="Refuse a larger reference piece.")] = 400,
    store: Annotated[Path | None, typer.Option(help="Label store to look in and to add to.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    force: Force = False,
) -> None:
    """Tests how far the force on an atom reaches, by the Hessian; writes tables, pictures and fragments."""
    from clusterflow.cli.locality import locality as assess

    assess(
        structure,
        output,
        sites=site or [],
        level=level,
        model=model,
        gamma=gamma,
        radius=radius,
        cut_cost=cut_cost,
        max_atoms=max_atoms,
        store=store,
        as_json=as_json,
        force=force,
        console=console,
    )


@app.command()
@guarded
def certify(
    structure: Annotated[Path, typer.Argument(help="Structure or trajectory file.", show_default=False)],
    output: Output = Path("certified.extxyz"),
    model: Annotated[
        Path | None, typer.Option(help="Folder of a trained potential; without it the graph judges.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="calibration.json of a campaign or of an earlier --confirm.")
    ] = None,
    confirm: Annotated[int, typer.Option(min=0, help="Calibrate first, with so many labelled fragments.")] = 0,
    level: Annotated[str, typer.Option(help="Level of theory of --confirm: gfn1, gfn2, quick or paper.")] = "gfn1",
    store: Annotated[Path | None, typer.Option(help="Label store to look in and to add to.")] = None,
    site: Annotated[list[int] | None, typer.Option(help="Atom, counted from 0; give it again for more.")] = None,
    random: Annotated[int, typer.Option(min=1, help="Without --site: so many random atoms.")] = 10,
    core: Annotated[str, typer.Option(help="site (the atom and its neighbours) or block.")] = "site",
    tolerance: Annotated[float, typer.Option(min=1e-6, help="Force error allowed on required atoms, meV/Å.")] = 100.0,
    confidence: Annotated[float | None, typer.Option(help="Of the bound of --confirm (default 0.95).")] = None,
    max_atoms: Annotated[int, typer.Option(help="Of a fragment; one that confirms it may have twice as many.")] = 250,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    unchecked: Unchecked = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    force: Force = False,
) -> None:
    """Finds the cheapest fragments whose core forces are the parent's, and says how sure that is."""
    from clusterflow.cli.certify import certify as certify_sites

    certify_sites(
        structure,
        output,
        model=model,
        calibration=calibration,
        confirmations=confirm,
        level=level,
        store=store,
        sites=site or [],
        random=random,
        core=core,
        tolerance=tolerance / 1000.0,
        confidence=confidence,
        max_atoms=max_atoms,
        seed=seed,
        unchecked=unchecked,
        as_json=as_json,
        force=force,
        console=console,
    )


@app.command()
@guarded
def match(
    parent: Annotated[Path, typer.Argument(help="Frames of one parent structure.", show_default=False)],
    mantle: Annotated[
        list[str] | None,
        typer.Option(
            help="none, neighbours, linkers, anchors, '2 shells', '4 Å'; may be repeated. Default: none and neighbours."
        ),
    ] = None,
    atom: Annotated[int | None, typer.Option(help="Core = the block that holds this atom (counted from 0).")] = None,
    block: Annotated[str, typer.Option(help="Without --atom: core = the first block of this kind.")] = "node",
    level: Annotated[
        list[str] | None,
        typer.Option(help="gfn1, gfn2, quick or paper; may be repeated. Default: gfn1, or nothing but --model."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a trained potential, as one more level.")] = None,
    frames: Annotated[int, typer.Option(min=0, help="How many of the frames to use; 0: all.")] = 0,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Compare with the limit over growing mantles, not with the parent.")
    ] = False,
    max_atoms: Annotated[int, typer.Option(help="Refuse to compute the forces of a larger parent.")] = 250,
    store: Annotated[Path | None, typer.Option(help="Label store to look in and to add to.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Parent with errors per atom (extxyz).")] = None,
    unchecked: Unchecked = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
    force: Force = False,
) -> None:
    """Compares forces in fragments with those in their parent: per mantle, level and region."""
    from clusterflow.cli.match import match as match_mantles

    match_mantles(
        parent,
        output,
        atom=atom,
        block=block,
        mantles=mantle or ["none", "neighbours"],
        levels=level or ([] if model is not None else ["gfn1"]),
        model=model,
        n_frames=frames,
        extrapolate=extrapolate,
        max_atoms=max_atoms,
        store=store,
        unchecked=unchecked,
        as_json=as_json,
        force=force,
        console=console,
    )


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
