"""Keeps what is trained on apart from the test set: by structure in any orientation, and by the atoms of one frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.data import BoolArray, IntArray
from clusterflow.core.frames import content_hash, digest
from clusterflow.selection.duplicates import Fingerprint, fingerprint
from clusterflow.selection.periodic_copies import Surroundings, surroundings

_DECIMALS = 3
_LARGEST = 3000
"""Atoms up to which distances are compared; a larger structure is only compared as it stands."""


def structure_hash(atoms: Atoms) -> str:
    """Hash of the species and distances, to 0.001 Å: equal for copies that are turned, moved, mirrored or in another
    order, and for periodic ones in another cell, unless a distance lies on the edge of rounding (`HeldOut` has a
    tolerance instead).

    All distances of finite structures; of periodic ones those to the nearest neighbours of each atom.
    """
    if not _comparable(atoms):
        return content_hash(atoms)
    if atoms.pbc.any():
        return surroundings(atoms).hash(_DECIMALS)
    print_ = fingerprint(atoms)
    rounded = np.rint(print_.distances * 10.0**_DECIMALS).astype("<i8").tobytes()
    no_cell = np.zeros(6, dtype="<i8").tobytes()  # what hashes were made of before, so that they stay what they are
    return digest(print_.composition, rounded, no_cell, np.zeros(3, dtype=np.uint8).tobytes())


def _comparable(atoms: Atoms) -> bool:
    """Whether distances tell something: not too many, and with a cell wherever the structure is periodic."""
    return len(atoms) <= _LARGEST and bool(atoms.cell.array[atoms.pbc].any(axis=1).all())


def _print_of(atoms: Atoms) -> Fingerprint | Surroundings:
    return surroundings(atoms) if atoms.pbc.any() else fingerprint(atoms)


def _same(one: Fingerprint | Surroundings, other: Fingerprint | Surroundings) -> bool:
    if isinstance(one, Surroundings):
        return isinstance(other, Surroundings) and one.matches(other)
    return isinstance(other, Fingerprint) and one.matches(other)


class HeldOut:
    """Structures of a test set, and what may not be trained on because of them.

    Parameters
    ----------
    frames
        The test set; annotations (region, parent, frame_id) count where they are there.
    """

    def __init__(self, frames: Iterable[Atoms]) -> None:
        self._exact: set[str] = set()
        self._prints: dict[str, list[Fingerprint | Surroundings]] = {}
        self._parts: dict[str, list[tuple[IntArray, IntArray]]] = {}
        for atoms in frames:
            self._exact.add(content_hash(atoms))
            if _comparable(atoms):
                print_ = _print_of(atoms)
                self._prints.setdefault(print_.composition, []).append(print_)
            if (part := _part(atoms)) is not None:
                self._parts.setdefault(part[0], []).append(part[1:])

    def refuses(self, atoms: Atoms) -> str:
        """Why a structure may not be trained on, "" if it may.

        It may not if it is one of the test set, whatever its orientation, handedness, order of atoms, core and periodic
        cell (distances to 0.01 Å), or if both were cut from one frame and an atom of the core of one is among the atoms
        of the other: a larger fragment that confirms one, say.
        """
        if content_hash(atoms) in self._exact:
            return "it is in the test set"
        if self._prints and _comparable(atoms):
            print_ = _print_of(atoms)
            if any(_same(print_, other) for other in self._prints.get(print_.composition, [])):
                return "it is a copy of one of the test set"
        part = _part(atoms)
        if part is not None:
            frame, core, real = part
            for its_core, its_real in self._parts.get(frame, []):
                if np.isin(core, its_real).any() or np.isin(its_core, real).any():
                    return "it shares atoms of one frame with one of the test set"
        return ""


def _part(atoms: Atoms) -> tuple[str, IntArray, IntArray] | None:
    """(frame, indices of its core atoms there, of all its atoms there) of an annotated fragment."""
    frame = str(atoms.info.get(keys.FRAME, ""))
    if not frame or keys.PARENT not in atoms.arrays or keys.REGION not in atoms.arrays:
        return None
    parent = np.asarray(atoms.arrays[keys.PARENT], dtype=np.int64)
    core: BoolArray = np.asarray(atoms.arrays[keys.REGION]).astype(str) == "core"
    return frame, parent[core & (parent >= 0)], parent[parent >= 0]
