"""`clusterflow export` and `clusterflow import`: potentials and data out of the house, data of psiflow into it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from clusterflow.campaign.export import export, find_source
from clusterflow.cli.output_files import check_extxyz_output
from clusterflow.cli.status import campaign_folder
from clusterflow.core import keys
from clusterflow.core.frames import write_frames
from clusterflow.errors import InputError
from clusterflow.exchange.psiflow_dataset import read_psiflow


def export_potential(
    path: Path,
    output: Path,
    *,
    forms: Sequence[str],
    structures: Sequence[Path],
    licence: str,
    compile: bool,
    force: bool,
    console: Console,
) -> None:
    """Writes the export and says what is in it, and what is not."""
    _check_folder(output, force=force)
    if path.suffix in (".yaml", ".yml"):
        path = campaign_folder(path).root
    source = find_source(path, structures)
    done = export(source, output, forms, licence=licence, compile=compile)
    width = max(len(name) for name in done.files)
    for name, what in done.files.items():
        console.print(f"{name:{width}s}  {what}", markup=False, highlight=False, soft_wrap=True)
    for name, why in done.left_out.items():
        console.print(f"left out: {name}: {why}", markup=False, highlight=False, soft_wrap=True)
    for line in done.licences:
        console.print(f"licence of the data of {line}", markup=False, highlight=False, soft_wrap=True)
    if not licence and ("dataset" in (forms or ("dataset",)) or "card" in forms):
        console.print(
            "note: no licence is stated for the potential; --licence CC-BY-4.0 (or another) would",
            markup=False,
            highlight=False,
        )
    console.print(f"→ {output}", markup=False, highlight=False, soft_wrap=True)


def import_dataset(path: Path, output: Path, *, level: str, force: bool, console: Console) -> None:
    """Takes a dataset of psiflow in, with the level of theory that it does not state."""
    check_extxyz_output(output, force=force, held="labels with their level of theory")
    frames = read_psiflow(path, level_of_theory=level)
    write_frames(output, frames)
    names = sorted({str(a.info.get(keys.SYSTEM, "")) for a in frames} - {""})
    told = f" of {', '.join(names)}" if names else ""
    console.print(
        f"{len(frames)} labelled frames{told} at '{level}' → {output}", markup=False, highlight=False, soft_wrap=True
    )
    console.print(
        "next: `clusterflow train` takes it, and `start: {kind: dataset, file: …}` of a campaign",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _check_folder(output: Path, *, force: bool) -> None:
    """Refuses to write over what is not an export."""
    where = str(output.absolute())
    if output.exists() and not force:
        raise InputError(f"'{output}' exists already.", where=where, todo="Name another folder, or add --force.")
    if output.exists() and not (output / "SHA256SUMS").is_file():
        raise InputError(
            f"'{output}' is not a folder that an export has written (it has no SHA256SUMS), so it is left alone.",
            where=where,
            todo="Name another folder with --output.",
        )
    if not output.absolute().parent.is_dir():
        raise InputError(f"There is no folder '{output.parent}'.", where=where, todo="Make it first.")
