"""Where a walk goes on after its worker died: files in its working folder, each with the frames since the one before.

What an engine keeps to itself, the state of its random numbers above all, cannot be read back. So a walk is divided
into segments of `SEGMENT` steps, and at the end of each, whether it is saved or not, everything random begins anew from
the seed and the step. A walk that was interrupted, however often, is then the walk that was not, bit
by bit (on equal hardware). Saved are the ends of segments, at most one in `SAVE_EVERY` s.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray

SEGMENT = 1000
"""Steps. At most so many, and what fits into `SAVE_EVERY`, are walked again."""
SAVE_EVERY = 60.0
"""s between two files, so that writing costs nothing that could be noticed."""
_FORMAT = 1
_PLAIN = (bool, int, float, str)
"""What a frame is told by its walk; all else (arrays of the structure's file, say) is taken from the start again."""
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True, slots=True)
class Standing:
    """A walk at the end of a segment: steps done, energy (eV) at the last check, all frames but the start, whether the
    last of them only stands for the last sane configuration, and what the dynamics goes on from."""

    step: int
    energy: float
    frames: Sequence[Atoms]
    last_is_extra: bool
    dynamics: Mapping[str, FloatArray]


class Checkpoints:
    """The files of one walk in ``folder``; ``key`` identifies it, and those of another walk are ignored."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._last, self._kept = 0, 0
        """Step of the newest file, and how many frames it and those before it hold."""
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last file is old enough for another."""
        return time.monotonic() - self._saved >= SAVE_EVERY

    def save(self, standing: Standing) -> None:
        """Adds a file; it is there whole or not at all."""
        frames = standing.frames[self._kept :]
        told = {
            "format": _FORMAT,
            "key": self._key,
            "step": standing.step,
            "previous": self._last,
            "energy": standing.energy,
            "last_is_extra": standing.last_is_extra,
            "info": [{k: v for k, v in f.info.items() if isinstance(v, _PLAIN)} for f in frames],
        }
        arrays: dict[str, Any] = {f"dynamics.{n}": a for n, a in standing.dynamics.items()}
        if frames:
            arrays["positions"] = np.array([f.positions for f in frames])
            arrays["momenta"] = np.array([f.get_momenta() for f in frames])
            arrays["cells"] = np.array([f.cell.array for f in frames])
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".walk.{os.getpid()}.tmp"
        with temporary.open("wb") as file:
            np.savez(file, told=np.array(json.dumps(told)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path(standing.step))
        self._last, self._kept = standing.step, len(standing.frames) - standing.last_is_extra
        self._saved = time.monotonic()

    def load(self, start: Atoms) -> Standing | None:
        """The newest standing that can be read, with all files that it needs; None: the walk begins at its start."""
        for step in sorted((int(p.stem.split("-")[1]) for p in self._files()), reverse=True):
            with contextlib.suppress(*_DAMAGED):
                found = self._load(step, start)
                self._last, self._kept = step, len(found.frames) - found.last_is_extra
                return found
        return None

    def clear(self) -> None:
        """The walk has ended: nothing goes on from here."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _load(self, step: int, start: Atoms) -> Standing:
        told, arrays = self._read(step)
        frames = [list(_frames(start, told, arrays))]
        previous = told["previous"]
        while previous:
            earlier, held = self._read(previous)
            part = list(_frames(start, earlier, held))
            frames.append(part[:-1] if earlier["last_is_extra"] else part)
            previous = earlier["previous"]
        dynamics = {n.removeprefix("dynamics."): a for n, a in arrays.items() if n.startswith("dynamics.")}
        whole = [f for part in reversed(frames) for f in part]
        return Standing(step, float(told["energy"]), whole, bool(told["last_is_extra"]), dynamics)

    def _read(self, step: int) -> tuple[dict[str, Any], dict[str, FloatArray]]:
        """A file of this walk; one of `_DAMAGED` if it is not whole (zip knows the checksum of each array), or not of
        this walk."""
        with np.load(self._path(step), allow_pickle=False) as file:
            told: dict[str, Any] = json.loads(str(file["told"]))
            arrays = {name: file[name] for name in file.files if name != "told"}
        if (told["format"], told["key"], told["step"]) != (_FORMAT, self._key, step) or told["previous"] >= step:
            raise ValueError
        return told, arrays

    def _path(self, step: int) -> Path:
        return self._folder / f"walk-{step:012d}.npz"

    def _files(self) -> list[Path]:
        return [p for p in self._folder.glob("walk-*.npz") if p.stem.split("-")[1].isdigit()]


def _frames(start: Atoms, told: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> Iterator[Atoms]:
    """The frames of one file."""
    for i, info in enumerate(told["info"]):
        atoms: Atoms = start.copy()
        atoms.set_constraint()
        if atoms.pbc.any():
            atoms.set_cell(arrays["cells"][i], scale_atoms=False)
        atoms.positions[:] = arrays["positions"][i]
        atoms.set_momenta(arrays["momenta"][i])
        atoms.info.update(info)
        yield atoms
