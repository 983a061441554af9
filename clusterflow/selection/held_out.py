"""Keeps what is trained on apart from the test set: by structure in any orientation, and by the atoms of one frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.core.frames import content_hash, digest
from clusterflow.selection.duplicates import TOLERANCE, Fingerprint, fingerprint

_DECIMALS = 3
_LARGEST = 3000
"""Atoms up to which all distances are compared; a larger structure is only compared as it stands."""


def structure_hash(atoms: Atoms) -> str:
    """Hash of the species and all distances, to 0.001 Å: equal for copies that are turned, moved, mirrored or in
    another order, unless a distance lies on the edge of rounding (`HeldOut` has a tolerance instead).

    For periodic structures the nearest images count, and the cell by its lengths and angles.
    """
    if len(atoms) > _LARGEST:
        return content_hash(atoms)
    print_ = _print_of(atoms)
    grid = 10.0**_DECIMALS
    rounded = np.rint(print_.distances * grid).astype("<i8").tobytes()
    cell = np.rint(_cell(atoms) * grid).astype("<i8").tobytes()
    return digest(print_.composition, rounded, cell, np.asarray(atoms.pbc, dtype=np.uint8).tobytes())


class _Periodic(Fingerprint):
    """As `Fingerprint`, with the distances to the nearest images."""

    def __init__(self, atoms: Atoms) -> None:
        super().__init__(np.asarray(atoms.numbers, dtype=np.int64) * 2, np.asarray(atoms.positions, dtype=np.float64))
        i, j = np.triu_indices(len(atoms), 1)
        all_ = atoms.get_all_distances(mic=True)[i, j]
        low, high = np.minimum(atoms.numbers[i], atoms.numbers[j]), np.maximum(atoms.numbers[i], atoms.numbers[j])
        ordered = np.asarray(all_[np.lexsort((all_, high, low))], dtype=np.float64)
        self.__dict__["distances"] = ordered
        self.__dict__["size"] = float(np.sqrt((ordered**2).mean())) if len(ordered) else 0.0


def _print_of(atoms: Atoms) -> Fingerprint:
    return _Periodic(atoms) if atoms.pbc.any() else fingerprint(atoms)


def _cell(atoms: Atoms) -> FloatArray:
    return np.asarray(atoms.cell.cellpar() if atoms.pbc.any() else np.zeros(6), dtype=np.float64)


class HeldOut:
    """Structures of a test set, and what may not be trained on because of them.

    Parameters
    ----------
    frames
        The test set; annotations (region, parent, frame_id) count where they are there.
    """

    def __init__(self, frames: Iterable[Atoms]) -> None:
        self._exact: set[str] = set()
        self._prints: dict[str, list[tuple[Fingerprint, Atoms]]] = {}
        self._parts: dict[str, list[tuple[IntArray, IntArray]]] = {}
        for atoms in frames:
            self._exact.add(content_hash(atoms))
            if len(atoms) <= _LARGEST:
                print_ = _print_of(atoms)
                self._prints.setdefault(print_.composition, []).append((print_, atoms))
            if (part := _part(atoms)) is not None:
                self._parts.setdefault(part[0], []).append(part[1:])

    def refuses(self, atoms: Atoms) -> str:
        """Why a structure may not be trained on, "" if it may.

        It may not if it is one of the test set, whatever its orientation, handedness, order of atoms and core
        (distances to 0.01 Å), or if both were cut from one frame and an atom of the core of one is among the atoms of
        the other: a larger fragment that confirms one, say.
        """
        if content_hash(atoms) in self._exact:
            return "it is in the test set"
        if len(atoms) <= _LARGEST and self._prints:
            print_ = _print_of(atoms)
            for other, its in self._prints.get(print_.composition, []):
                same_box = np.array_equal(its.pbc, atoms.pbc) and np.allclose(_cell(its), _cell(atoms), atol=TOLERANCE)
                if same_box and print_.matches(other):
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
