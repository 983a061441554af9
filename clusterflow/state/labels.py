"""The label store: every reference calculation ever done, found by what was computed.

The key of a label is a hash of the structure, its charge and spin, the level of theory and the version of the method
that turns these into numbers; so the same calculation is never done twice, in one campaign or across campaigns that
share the folder. Any number of workers may write at once: files are published whole and the first wins.

::

    labels/format.json           what this folder is
    labels/ab/abcdef….json       one label each, in 256 subfolders
    labels/failures/ab/….json    calculations that fail for good, with the reason; delete one to have it tried again
    labels/damaged/              files that failed their checksum, moved here on request
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from ase import Atoms

from clusterflow.core.data import Label, Prediction
from clusterflow.core.frames import atoms_from_json, atoms_to_json, content_hash, digest
from clusterflow.errors import StateError
from clusterflow.state.disk import disk, fsync_folder, storage_error
from clusterflow.state.publish import REMEDY, publish_json, read_json, set_aside

METHOD_VERSION: Final = 1
"""Raise it when the same input would give another label (a mended mistake in how a level of theory is run)."""
FORMAT: Final = 1

_KEY = re.compile(r"[0-9a-f]{16,64}")


def label_key(atoms: Atoms, *, level_of_theory: str, charge: int, spin: int) -> str:
    """Key (64 hex digits) of the label of a structure; charge in e, spin = number of unpaired electrons."""
    return digest(content_hash(atoms), level_of_theory, str(int(charge)), str(int(spin)), str(METHOD_VERSION))


class LabelStore:
    """A folder of labels. Cheap to make; holds nothing in memory.

    Raises
    ------
    StateError
        The folder is of a newer format, or cannot be created.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self._marker.is_file():
            publish_json(self._marker, {"holds": "labels", "version": FORMAT})
        self.require_known_format()

    @classmethod
    def unchecked(cls, folder: str | Path) -> Self:
        """A store as it is found, perhaps damaged; writes nothing. For `clusterflow fsck`."""
        store = cls.__new__(cls)
        store.folder = Path(folder)
        return store

    @property
    def _marker(self) -> Path:
        return self.folder / "format.json"

    def require_known_format(self) -> None:
        """Returns if this version of clusterflow can read the folder.

        Raises
        ------
        StateError
            It is of a newer format, or does not say of which.
        """
        version = read_json(self._marker)["version"]
        if version > FORMAT:
            raise StateError(
                f"The label folder has format {version}; this clusterflow knows formats up to {FORMAT}.",
                where=str(self.folder),
                todo="Use the version of clusterflow that wrote it, a newer one, or another label folder.",
            )

    def get(self, key: str) -> tuple[Atoms, Label] | None:
        """Structure and label of a key, bit by bit as they were put, or None.

        Raises
        ------
        StateError
            The file is damaged, or is not the label of this key. `quarantine` moves it away.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        body = read_json(path)
        try:
            atoms = atoms_from_json(body["atoms"])
            label = label_from_json(body["label"])
            found = label_key(atoms, level_of_theory=label.level_of_theory, charge=label.charge, spin=label.spin)
        except (KeyError, TypeError, ValueError) as error:
            raise self._wrong(path, f"it is not a label ({type(error).__name__}: {error})") from error
        if found != key:
            raise self._wrong(path, f"its content has the key {found}")
        return atoms, label

    def put(self, key: str, atoms: Atoms, label: Label, *, origin: Mapping[str, Any] | None = None) -> bool:
        """Publishes a label; True if it was new, False if the key was there (that one stays). ``origin``: JSON data on
        where it came from, if it was not computed for this structure.

        Raises
        ------
        StateError
            The key is not that of this structure and label, a number is not finite, or the disk fails.
        """
        path = self._path(key)
        expected = label_key(atoms, level_of_theory=label.level_of_theory, charge=label.charge, spin=label.spin)
        if key != expected:
            raise StateError(
                f"A label of {len(atoms)} atoms was to be stored under a key that is not its own.",
                where=f"{path}; its key is {expected}",
                todo="This is a mistake in clusterflow: please report it with the campaign file.",
            )
        if label.prediction.forces.shape != (len(atoms), 3):
            raise StateError(
                f"A label of {len(atoms)} atoms has forces of shape {label.prediction.forces.shape}.", where=str(path)
            )
        body: dict[str, Any] = {"key": key, "atoms": atoms_to_json(atoms), "label": label_to_json(label)}
        return publish_json(path, body | ({"origin": dict(origin)} if origin else {}))

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def keys(self) -> Iterator[str]:
        """Keys of all labels, sorted."""
        return _keys_in(self.folder)

    def count(self) -> int:
        """How many labels there are."""
        return sum(1 for _ in self.keys())

    def put_failure(self, key: str, reason: Mapping[str, Any]) -> bool:
        """Records that this calculation fails and would fail again, with the reason (JSON data)."""
        return publish_json(self._path(key, "failures"), {"key": key, "reason": dict(reason)})

    def get_failure(self, key: str) -> dict[str, Any] | None:
        """The recorded reason, or None; a label that exists all the same counts more."""
        path = self._path(key, "failures")
        if not path.is_file() or key in self:
            return None
        reason: dict[str, Any] = read_json(path)["reason"]
        return reason

    def clear_failure(self, key: str) -> bool:
        """Forgets a recorded failure, so that the calculation is tried again; True if there was one."""
        path = self._path(key, "failures")
        if not path.is_file():
            return False
        try:
            disk().unlink(path)
            fsync_folder(path.parent)
        except OSError as error:
            raise storage_error(error, path, "deleted") from error
        return True

    def failures(self) -> Iterator[str]:
        """Keys of all recorded failures, sorted."""
        return _keys_in(self.folder / "failures")

    def quarantine(self, key: str) -> Path:
        """Moves a damaged label to ``damaged/``, so that it counts as absent and is computed again; returns where."""
        return set_aside(self._path(key), self.folder / "damaged")

    def _path(self, key: str, *room: str) -> Path:
        if not _KEY.fullmatch(key):
            raise StateError(f"'{key}' is not a label key: 16 to 64 hex digits are.", where=str(self.folder))
        return self.folder.joinpath(*room, key[:2], f"{key}.json")

    def _wrong(self, path: Path, why: str) -> StateError:
        return StateError(
            f"The label file '{path.name}' is wrong: {why}.",
            where=str(path),
            todo=REMEDY,
        )


def label_to_json(label: Label) -> dict[str, Any]:
    """JSON data of a label, at full precision."""
    p = label.prediction
    return {
        "energy_eV": float(p.energy),
        "forces_eV_per_A": np.asarray(p.forces, dtype=np.float64).tolist(),
        "stress_eV_per_A3": None if p.stress is None else np.asarray(p.stress, dtype=np.float64).tolist(),
        "level_of_theory": label.level_of_theory,
        "charge": int(label.charge),
        "spin": int(label.spin),
        "scf_steps": int(label.scf_steps),
        "wall_time_s": float(label.wall_time),
        "cores": int(label.cores),
        "peak_memory_MB": float(label.peak_memory_MB),
        "ladder": list(label.steps),
    }


def label_from_json(data: Mapping[str, Any]) -> Label:
    """The inverse of `label_to_json`."""
    stress = data["stress_eV_per_A3"]
    return Label(
        prediction=Prediction(
            energy=float(data["energy_eV"]),
            forces=np.asarray(data["forces_eV_per_A"], dtype=np.float64).reshape(-1, 3),
            stress=None if stress is None else np.asarray(stress, dtype=np.float64).reshape(3, 3),
        ),
        level_of_theory=str(data["level_of_theory"]),
        charge=int(data["charge"]),
        spin=int(data["spin"]),
        scf_steps=int(data["scf_steps"]),
        wall_time=float(data["wall_time_s"]),
        cores=int(data["cores"]),
        peak_memory_MB=float(data["peak_memory_MB"]),
        steps=tuple(str(s) for s in data["ladder"]),
    )


def _keys_in(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        return
    for shard in sorted(p for p in folder.iterdir() if len(p.name) == 2 and p.is_dir()):
        yield from sorted(p.stem for p in shard.glob("*.json") if _KEY.fullmatch(p.stem) and p.stem[:2] == shard.name)
