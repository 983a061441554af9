"""`clusterflow bank`: what a bank holds, and whether it is whole."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clusterflow.errors import InputError
from clusterflow.state.bank import Bank
from clusterflow.state.publish import read_json


def show_bank(folder: Path, *, as_json: bool, console: Console) -> int:
    """Labels per level of theory, and damaged entries; exit code 1 if there are any.

    Raises
    ------
    InputError
        There is no bank.
    """
    if not (folder / "format.json").is_file():
        raise InputError(
            "There is no bank of labels here.",
            where=str(folder.absolute()),
            todo="A campaign with `bank:` in its file makes one when it is run.",
        )
    found = Bank(folder)
    levels: Counter[str] = Counter()
    damaged: dict[str, str] = {}
    for path in found.entries():
        if why := found.examine(path):
            damaged[str(path)] = why
        else:
            levels[str(read_json(path)["label"]["level_of_theory"])] += 1
    if as_json:
        sys.stdout.write(json.dumps({"labels": dict(levels), "damaged": damaged}, ensure_ascii=False) + "\n")
        return 1 if damaged else 0
    table = Table(box=None, pad_edge=False)
    table.add_column("level of theory")
    table.add_column("labels", justify="right")
    for level, count in levels.most_common():
        table.add_row(level, str(count))
    console.print(table if levels else "The bank is empty.")
    for name, why in damaged.items():
        console.print(f"damaged: {why}\n  where: {name}", markup=False, highlight=False, soft_wrap=True)
    if damaged:
        console.print("  next:  delete these files; campaigns pass them over meanwhile", markup=False, highlight=False)
    return 1 if damaged else 0
