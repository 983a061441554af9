"""`clusterflow label --noise N`: how much the forces of a label are noise."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from clusterflow.cli.output_files import check_output
from clusterflow.core import keys
from clusterflow.core.frames import read_frames
from clusterflow.errors import InputError
from clusterflow.label.noise import LabelNoise, measure_noise

_MEV = 1000.0


def label_noise(
    structures: Path, output: Path, reference: Any, *, repeats: int, store: Path | None, force: bool, console: Console
) -> None:
    """Measures the noise of the first structure of a file and writes it as JSON."""
    if store is not None:
        raise InputError(
            "A measurement of noise takes nothing from a label store and adds nothing to it.",
            where=str(store),
            todo="Leave --store out: the labels made here are of moved and turned copies.",
        )
    if output.suffix != ".json":
        raise InputError(
            f"The noise of a label is written as JSON, not to '{output}'.",
            where=str(output.absolute()),
            todo=f"Name it '{output.with_suffix('.json')}', or leave --output out.",
        )
    check_output(output, force=force)
    frames = read_frames(structures)
    atoms = frames[0]
    if hasattr(reference, "check_elements"):
        reference.check_elements(sorted(set(atoms.get_chemical_symbols())))
    if len(frames) > 1:
        console.print(f"note: the first of {len(frames)} frames is used", markup=False, highlight=False)
    console.print(f"level of theory: {reference.level_of_theory}", markup=False, highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="clusterflow-noise-") as scratch:
        found = measure_noise(
            reference,
            atoms,
            repeats=repeats,
            workdir=Path(scratch),
            charge=int(atoms.info.get(keys.CHARGE, 0)),
            spin=int(atoms.info.get(keys.SPIN, 0)),
            progress=lambda text: console.print(text, markup=False, highlight=False),
        )
    output.write_text(json.dumps(found.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(_table(found))
    total = _MEV * float(np.sqrt(np.mean(found.sigma**2)))
    console.print(
        f"noise of a force: {max(total, 1e-3):.3g} meV/Å (all kinds together, length of the vector) → {output}\n"
        f"for training: label_noise: {{{_yaml(found)}}}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _yaml(found: LabelNoise) -> str:
    # Zero is no noise that a level can have: it was below what can be seen.
    return ", ".join(f"{e}: {max(_MEV * s, 0.001):.3g} meV/Å" for e, s in found.by_element().items())


def _table(found: LabelNoise) -> Table:
    elements = list(found.by_element())
    table = Table(box=None, pad_edge=False, title="noise of the forces, meV/Å", title_justify="left")
    for column in ("changed", "labels", "RMSE", "largest", *elements, "energy (meV/atom)"):
        table.add_column(column, justify="left" if column == "changed" else "right")
    names = np.asarray(found.symbols)
    for name, kind in found.kinds.items():
        per = [_MEV * float(np.sqrt(np.mean(kind.sigma[names == e] ** 2))) for e in elements]
        numbers = (_MEV * kind.rmse, _MEV * kind.maximum, *per, _MEV * kind.energy)
        table.add_row(name, str(kind.repeats), *(f"{x:.3g}" if x >= 1e-3 else "<0.001" for x in numbers))
    return table
