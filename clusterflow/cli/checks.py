"""The check of a structure that all commands share which cut or change it, as `clusterflow check` makes it."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from rich.console import Console

from clusterflow.errors import StructureError
from clusterflow.extract.soundness import check_structure


def refuse_unsound(atoms: Atoms, source: Path, *, unchecked: bool, console: Console) -> None:
    """`check_structure` for the first frame of a file; with ``unchecked`` its finding is only printed.

    Raises
    ------
    StructureError
        As `check_structure`, with the file and the way around.
    """
    try:
        check_structure(atoms)
    except StructureError as error:
        if not unchecked:
            todo = f"{error.todo} Or go on with --unchecked: charges and spins may then be wrong."
            raise StructureError(error.what, where=f"{source}, first frame; {error.where}", todo=todo) from error
        console.print(f"note: {error.what}", markup=False, highlight=False, soft_wrap=True)
