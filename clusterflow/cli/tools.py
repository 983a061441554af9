"""Commands for one step alone: structures, fragments, labels, potentials, and the tests of fragments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clusterflow.cli.application import app
from clusterflow.cli.options import console, guarded

Output = Annotated[Path, typer.Option("--output", "-o", help="File or folder to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output.")]
Unchecked = Annotated[bool, typer.Option("--unchecked", help="Go on with a structure that lacks atoms.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Store = Annotated[Path | None, typer.Option(help="Label store to look in and to add to.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Sites = Annotated[list[int] | None, typer.Option(help="Atom, counted from 0; give it again for more.")]
Frames = Annotated[Path, typer.Argument(help="Structure or trajectory file.", show_default=False)]
Dataset = Annotated[Path, typer.Argument(help="Labelled frames (extxyz).", show_default=False)]
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
    structure: Frames,
    output: Output = Path("fragments.extxyz"),
    mantle: Annotated[
        str, typer.Option(help="none, neighbours, linkers, anchors, '2 shells', or a radius such as '4 Å'.")
    ] = "neighbours",
    block: Annotated[str | None, typer.Option(help="Core block: all (default), node, linker or molecule.")] = None,
    atom: Annotated[int | None, typer.Option(help="Instead of --block: the one with this atom, from 0.")] = None,
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
    store: Store = None,
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
    dataset: Dataset,
    output: Output = Path("model"),
    config: FromConfig = None,
    validation: Annotated[float, typer.Option(help="Share held out to watch the training.")] = 0.2,
    seed: Seed = 1,
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
    dataset: Dataset,
    split: Annotated[str, typer.Option(help="all, train, validation or test.")] = "all",
    as_json: AsJson = False,
) -> None:
    """Errors of a potential on labelled frames: per element, region and system."""
    from clusterflow.cli.single import evaluate_model

    evaluate_model(model, dataset, split=split, as_json=as_json, console=console)


@app.command()
@guarded
def locality(
    structure: Annotated[Path, typer.Argument(help="Structure file; periodic or a molecule.", show_default=False)],
    site: Sites = None,
    output: Output = Path("locality"),
    level: Annotated[str, typer.Option(help="gfn1, gfn2, quick or paper.")] = "gfn1",
    model: Annotated[Path | None, typer.Option(help="Folder of a trained potential, instead of --level.")] = None,
    gamma: Annotated[float, typer.Option(help="Threshold of the effective group norm, eV/Å².")] = 0.35,
    radius: Annotated[float, typer.Option(help="Of the reference piece cut from a periodic structure, Å.")] = 10.0,
    cut_cost: Annotated[float, typer.Option(help="Groups end at bonds that cost no more to cut.")] = 2.0,
    max_atoms: Annotated[int, typer.Option(help="Refuse a larger reference piece.")] = 400,
    store: Store = None,
    as_json: AsJson = False,
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
    structure: Frames,
    output: Output = Path("certified.extxyz"),
    model: Annotated[
        Path | None, typer.Option(help="Folder of a trained potential; without it the graph judges.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="calibration.json of a campaign or of an earlier --confirm.")
    ] = None,
    confirm: Annotated[int, typer.Option(min=0, help="Calibrate first, with so many labelled fragments.")] = 0,
    level: Annotated[str, typer.Option(help="Level of theory of --confirm: gfn1, gfn2, quick or paper.")] = "gfn1",
    store: Store = None,
    site: Sites = None,
    random: Annotated[int, typer.Option(min=1, help="Without --site: so many random atoms.")] = 10,
    core: Annotated[str, typer.Option(help="site (the atom and its neighbours) or block.")] = "site",
    tolerance: Annotated[float, typer.Option(min=1e-6, help="Force error allowed on required atoms, meV/Å.")] = 100.0,
    confidence: Annotated[float | None, typer.Option(help="Of the bound of --confirm (default 0.95).")] = None,
    max_atoms: Annotated[int, typer.Option(help="Of a fragment; one that confirms it may have twice as many.")] = 250,
    seed: Seed = 1,
    unchecked: Unchecked = False,
    as_json: AsJson = False,
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
    store: Store = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Parent with errors per atom (extxyz).")] = None,
    unchecked: Unchecked = False,
    as_json: AsJson = False,
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
