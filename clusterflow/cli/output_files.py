"""Whether an output can be written, found out before the work is done; and the format that its name asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from ase import Atoms

from clusterflow.core.frames import write_frames
from clusterflow.errors import InputError

EXTXYZ: Final = (".extxyz", ".xyz")
_FORMATS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(EXTXYZ, "extxyz"),
        ".cif": "cif",
        ".vasp": "vasp",
        "POSCAR": "vasp",
        "CONTCAR": "vasp",
        ".pdb": "proteindatabank",
        ".gen": "gen",
        ".xsf": "xsf",
    }
)
"""ASE's format by suffix or name of the file."""
_NEED_CELL: Final = ("cif", "vasp")


def check_output(path: Path, *, force: bool) -> None:
    """Refuses a file that exists already (unless ``force``), and one in a folder that does not exist.

    Raises
    ------
    InputError
        Names the file or the folder.
    """
    where = str(path.absolute())
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InputError(
            f"There is no folder '{path.parent}' to write '{path.name}' into.",
            where=where,
            todo="Make the folder, or name another file with --output.",
        )
    if path.exists() and not force:
        raise InputError(f"'{path}' exists already.", where=where, todo="Name another file, or add --force.")
    if path.is_dir():
        raise InputError(f"'{path}' is a folder.", where=where, todo="Name a file with --output.")


def check_extxyz_output(path: Path, *, force: bool, held: str) -> None:
    """As `check_output`, for files whose arrays only extxyz holds; ``held`` says which.

    Raises
    ------
    InputError
        Another suffix than .extxyz or .xyz, or as `check_output`.
    """
    if path.suffix.lower() not in EXTXYZ:
        raise InputError(
            f"'{path}' is not named as extxyz, the only format that holds {held}.",
            where=str(path.absolute()),
            todo=f"Name it '{path.with_suffix('.extxyz')}'.",
        )
    check_output(path, force=force)


def structure_format(path: Path, *, periodic: bool) -> str:
    """ASE's name of the format that the name of a file asks for.

    Raises
    ------
    InputError
        An unknown suffix, or a format that needs a cell for a structure that has none.
    """
    found = _FORMATS.get(path.suffix.lower()) or _FORMATS.get(path.name)
    if found is None or (found in _NEED_CELL and not periodic):
        raise InputError(
            f"The format of '{path}' is not known by its name."
            if found is None
            else f"The structure is not periodic; '{path}' would need a cell.",
            where=str(path.absolute()),
            todo=f"Name it with one of {', '.join(_FORMATS)}." if found is None else "Write .extxyz or .pdb instead.",
        )
    return found


def write_structure(path: Path, atoms: Atoms) -> None:
    """One structure in the format of its name; POSCAR with the elements in alphabetical order.

    Raises
    ------
    InputError
        As `structure_format`.
    """
    from ase.io import write

    kind = structure_format(path, periodic=bool(atoms.pbc.all()))
    if kind == "extxyz":
        write_frames(path, [atoms])
        return
    if kind == "vasp":  # one line of counts per element; ASE's own sorting would mix up the atoms of one element
        atoms = atoms[np.argsort(atoms.get_chemical_symbols(), kind="stable")]
    write(path, atoms, format=kind)
