"""The stages one by one: `extract`, `label`, `train`, `evaluate`, `new`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ase import Atoms
from rich.console import Console
from rich.progress import track

from clusterflow.cli.checks import refuse_unsound
from clusterflow.cli.options import mantle_rule
from clusterflow.cli.output_files import check_extxyz_output, check_output
from clusterflow.config.campaign import Campaign
from clusterflow.config.load import load_campaign
from clusterflow.core import keys
from clusterflow.core.data import Site
from clusterflow.core.frames import content_hash, formula, fragment_to_atoms, read_frames, with_label, write_frames
from clusterflow.errors import InputError, LabelError, StructureError
from clusterflow.extract.soundness import check_structure


def write_new(structure: Path, output: Path, *, force: bool, console: Console) -> None:
    """Writes a commented campaign file for a structure."""
    from clusterflow.config.template import campaign_template, identifier
    from clusterflow.physics.bonds import check_distances
    from clusterflow.physics.building_blocks import find_blocks
    from clusterflow.physics.structure_checks import check_occupancy

    frames = read_frames(structure)
    atoms = frames[0]
    if len(frames) > 1:
        console.print(f"note: the first of {len(frames)} frames is used", markup=False, highlight=False)
    if not atoms.pbc.any():
        console.print("note: the file has no cell, so this is taken for a molecule", markup=False, highlight=False)
    check_occupancy(atoms)
    check_distances(atoms)
    try:
        blocks = any(k in ("node", "linker") for k in find_blocks(atoms).kinds)
    except StructureError as error:
        console.print(f"note: {error.what} The file therefore labels whole frames.", markup=False)
        blocks = False
    try:
        check_structure(atoms)
    except StructureError as error:
        said = f"note: {error.what} {error.todo}" + (" Until then `clusterflow check` refuses it." if blocks else "")
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    check_output(output, force=force)
    target = structure.absolute()
    if target.is_relative_to(output.absolute().parent):
        target = target.relative_to(output.absolute().parent)
    text = campaign_template(target, atoms, name=identifier(output.stem), file=output.name, blocks=blocks)
    output.write_text(text, encoding="utf-8")
    console.print(f"wrote {output}; next: clusterflow check {output}", markup=False, highlight=False)


def extract_fragments(
    structure: Path,
    output: Path,
    *,
    mantle: str,
    block: str | None,
    atom: int | None,
    unchecked: bool,
    force: bool,
    console: Console,
) -> None:
    """Cuts fragments out of every frame of a file and writes them with region and parent arrays."""
    from clusterflow.physics.bonds import check_distances
    from clusterflow.physics.structure_checks import check_occupancy

    if block is not None and atom is not None:
        raise InputError(
            f"--block {block} and --atom {atom} cannot be given together: the atom names its block already.",
            todo="Leave one of the two out.",
        )
    check_extxyz_output(output, force=force, held="core, mantle and termination of fragments")
    frames = read_frames(structure)
    rule = mantle_rule(mantle)
    found = []
    began = time.perf_counter()
    for number, frame in enumerate(frames):
        check_occupancy(frame)
        check_distances(frame)
        if number == 0:
            refuse_unsound(frame, structure, unchecked=unchecked, console=console)
        blocks = rule.blocks_of(frame)
        if atom is not None:
            if not 0 <= atom < len(frame):
                raise InputError(
                    f"There is no atom {atom}: frame {number} has {len(frame)} atoms, counted from 0.",
                    where=str(structure),
                    todo=f"Give a number from 0 to {len(frame) - 1}.",
                )
            members = [atom]
        else:
            chosen = [b for b, kind in enumerate(blocks.kinds) if block in (None, "all", kind)]
            members = [int(blocks.members(b)[0]) for b in chosen]
        if not members:
            raise InputError(
                f"Frame {number} has no block of kind '{block}'; it has {', '.join(sorted(set(blocks.kinds)))}.",
                where=str(structure),
                todo="Ask for one of these with --block, or for all.",
            )
        frame_id = content_hash(frame)
        found += [
            fragment_to_atoms(rule.extract(frame, [Site(frame_id, m)]), **{keys.FRAME: frame_id}) for m in members
        ]
    seconds = time.perf_counter() - began
    write_frames(output, found)
    table: dict[tuple[Any, ...], int] = {}
    for a in found:
        row = (str(a.info[keys.KIND]), formula(a), len(a), int(a.info[keys.CHARGE]), int(a.info[keys.SPIN]))
        table[row] = table.get(row, 0) + 1
    for (kind, text, n, charge, spin), count in sorted(table.items()):
        console.print(
            f"{count:5d} × {kind}: {text}, {n} atoms, charge {charge}, {spin} unpaired electrons",
            markup=False,
            highlight=False,
        )
    fragments = f"{len(found)} fragment{'' if len(found) == 1 else 's'}"
    console.print(f"{fragments} in {seconds:.2f} s → {output}", markup=False, highlight=False)


def _campaign(config: Path | None) -> Campaign | None:
    return load_campaign(config) if config is not None else None


def label_frames(
    structures: Path,
    output: Path,
    *,
    config: Path | None,
    level: str,
    store: Path | None,
    noise: int | None = None,
    force: bool,
    console: Console,
) -> None:
    """Labels every frame of a file, one after the other; what the store has is not computed again. With ``noise`` it
    measures that of the first frame instead, with so many labels of each kind."""
    from clusterflow.config.label import GPAW, XTB
    from clusterflow.state.labels import LabelStore, label_key

    if noise is None:
        check_extxyz_output(output, force=force, held="labels with their level of theory")
    levels: dict[str, GPAW | XTB] = {
        "paper": GPAW(preset="paper"),
        "quick": GPAW(preset="quick"),
        "gfn1": XTB(method="GFN1-xTB"),
        "gfn2": XTB(method="GFN2-xTB"),
    }
    campaign = _campaign(config)
    if campaign is None and level not in levels:
        raise InputError(f"There is no level '{level}'.", todo=f"Choose one of {', '.join(levels)}, or give --config.")
    reference = (campaign.label if campaign is not None else levels[level]).build()
    if noise is not None:
        from clusterflow.cli.noise import label_noise

        label_noise(structures, output, reference, repeats=noise, store=store, force=force, console=console)
        return
    frames = read_frames(structures)
    if hasattr(reference, "check_elements"):
        reference.check_elements(sorted({e for a in frames for e in a.get_chemical_symbols()}))
    labels = LabelStore(store) if store is not None else None
    console.print(f"level of theory: {reference.level_of_theory}", markup=False, highlight=False, soft_wrap=True)
    good: list[Atoms] = []
    failed = 0
    for number, atoms in enumerate(track(frames, description="labels", console=console, transient=True)):
        charge, spin = int(atoms.info.get(keys.CHARGE, 0)), int(atoms.info.get(keys.SPIN, 0))
        key = label_key(atoms, level_of_theory=reference.level_of_theory, charge=charge, spin=spin)
        found = labels.get(key) if labels is not None else None
        if found is None:
            with tempfile.TemporaryDirectory(prefix="clusterflow-label-") as scratch:
                try:
                    label = reference.label(atoms, charge=charge, spin=spin, workdir=Path(scratch))
                except LabelError as error:
                    failed += 1
                    # Its scratch folder is gone by now, so `where` would lead nowhere.
                    console.print(f"frame {number} failed: {error.what} {error.todo}", markup=False, highlight=False)
                    continue
                except KeyboardInterrupt:
                    console.print(f"stopped: {len(good)} of {len(frames)} labels are in {output}", markup=False)
                    if labels is None and good:
                        console.print("with --store FOLDER a next run takes up what is there", markup=False)
                    raise
            if labels is not None:
                labels.put(key, atoms, label)
        else:
            label = found[1]
        good.append(with_label(atoms, label, **{keys.LABEL: key}))
        write_frames(output, good)  # after each, so that a long list is never lost
        console.print(f"frame {number}: {label.wall_time:.1f} s", markup=False, highlight=False)
    console.print(f"{len(good)} labels, {failed} failed → {output}", markup=False, highlight=False)
    if not good:
        raise LabelError("None of the frames could be labelled.", where=str(structures), todo="Read the reasons above.")


def train_model(
    dataset: Path,
    output: Path,
    *,
    config: Path | None,
    validation: float,
    seed: int,
    kind: str,
    start_from: Path | None,
    console: Console,
) -> None:
    """Trains a potential on a labelled extxyz file: that of a campaign file, or one of a kind with its defaults."""
    from clusterflow.campaign.split import split_validation
    from clusterflow.config.train import Linear, NequIP
    from clusterflow.train.learners import make_trainer
    from clusterflow.train.start_model import import_start_model

    kinds: dict[str, type[NequIP | Linear]] = {"nequip": NequIP, "linear": Linear}
    if kind not in kinds:
        raise InputError(f"There is no learner '{kind}'.", todo=f"Choose one of {', '.join(kinds)}, or give --config.")
    if output.exists():
        raise InputError(f"'{output}' exists already.", where=str(output.absolute()), todo="Name another folder.")
    campaign = _campaign(config)
    settings = campaign.train if campaign is not None else kinds[kind]()
    frames = read_frames(dataset)
    marked = [a.info.get(keys.SPLIT) for a in frames]
    if all(m in ("train", "validation", "test") for m in marked):
        training = [a for a, m in zip(frames, marked, strict=True) if m == "train"]
        held = [a for a, m in zip(frames, marked, strict=True) if m == "validation"]
    else:
        by_content = {content_hash(a): a for a in frames}
        first, second = split_validation(list(by_content), fraction=validation, seed=seed)
        training, held = [by_content[k] for k in first], [by_content[k] for k in second]
    if not training or not held:
        raise InputError(
            f"{len(frames)} frames give {len(training)} for training and {len(held)} for validation; each needs one.",
            where=str(dataset),
            todo="Give more frames, or another --validation.",
        )
    elements = tuple(sorted({e for a in frames for e in a.get_chemical_symbols()}))
    console.print(f"training on {len(training)} frames, validating on {len(held)}", markup=False, highlight=False)
    model_json, training_json = settings.build_model().to_json(), settings.build_settings(final=True).to_json()
    source = start_from or settings.start_from
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=output.absolute().parent) as scratch:
        before = Path(scratch) / "start" if source is not None else None
        if source is not None and before is not None:
            told = {"kind": settings.kind, "model": model_json, "elements": elements}
            _, elements = import_start_model(source, before, **told)
        trainer = make_trainer(settings.kind, model_json, training_json, elements, threads=None)
        model = trainer.train(training, held, start=before, seed=seed, workdir=Path(scratch))
        Path(model.path).rename(output)
    console.print(f"model {model.model_id[:12]} → {output}", markup=False, highlight=False)
    for name, value in model.metrics.items():
        console.print(f"  {name}: {value:.6g}", markup=False, highlight=False)


def evaluate_model(model: Path, dataset: Path, *, split: str, as_json: bool, console: Console) -> None:
    """Errors of a potential on a labelled file."""
    from clusterflow.evaluate.metrics import compare
    from clusterflow.train.learners import existing_folder, load_potential

    existing_folder(model)  # before a large file is read
    frames = read_frames(dataset)
    if split not in ("all", "train", "validation", "test"):
        raise InputError(f"There is no split '{split}'.", todo="Choose all, train, validation or test.")
    if split != "all":
        frames = [a for a in frames if a.info.get(keys.SPLIT) == split]
    if not frames:
        raise InputError(f"No frame of '{dataset}' belongs to the split '{split}'.", todo="Use --split all.")
    if all(a.calc is None for a in frames):
        raise InputError(
            f"None of the {len(frames)} frames has a label.",
            where=str(dataset),
            todo="Label them first with `clusterflow label`; `evaluate` compares with reference energies and forces.",
        )
    metrics = compare(frames, load_potential(model).predict(frames))
    if as_json:
        json.dump(metrics.to_json(), sys.stdout, indent=1)
        sys.stdout.write("\n")
    else:
        console.print(metrics.to_text(), markup=False, highlight=False, soft_wrap=True)
