"""A bank of labels: a folder that campaigns and users share, searched before any label is sent.

A label store finds what is the same to the last digit; the bank also finds a fragment that was turned, moved or
numbered otherwise (no atom off by more than 1e-4 Å), and turns the forces with it. Mirror images, other charges, spins,
levels of theory and method versions are other labels. Entries are only ever added, whole, under the hash of what they
are; a damaged one is passed over with a message. Only finite structures are kept.

::

    bank/format.json                      what this folder is
    bank/ab/SHELF/EXTENTS-KEY.json        one label each; SHELF is a hash of composition, charge, spin and level
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms

from clusterflow.core.data import Label, Prediction
from clusterflow.core.frames import atoms_from_json, atoms_to_json, digest
from clusterflow.errors import StateError
from clusterflow.physics.superposition import extents, superpose
from clusterflow.state.disk import make_folder, storage_error
from clusterflow.state.labels import METHOD_VERSION, label_from_json, label_key, label_to_json
from clusterflow.state.publish import publish_json, read_json

FORMAT: Final = 1
TOLERANCE: Final = 1e-4
"""Å: how far any atom may be off in a fragment that counts as the same."""
_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Loan:
    """What a search gave: the ``label`` for the structure as it was asked for (None: there is none), where it came from
    (``origin``, JSON data), and the entries that were ``refused``, with reasons."""

    label: Label | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


class Bank:
    """A bank folder; made if it is not there. Any number of processes may search and add at once.

    Raises
    ------
    StateError
        The folder holds something else, is of a newer format, or cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        marker = self.folder / "format.json"
        if not marker.is_file():
            held = self.folder.is_dir() and any(not p.name.startswith(".tmp-") for p in self.folder.iterdir())
            if held and not marker.is_file():  # asked again: another process may just have made the bank
                raise StateError(
                    "This folder is not a bank of labels: it holds other things and no format.json.",
                    where=str(self.folder),
                    todo="Give `bank:` an empty folder, one that does not exist yet, or a bank.",
                )
            publish_json(marker, {"holds": "bank", "version": FORMAT})
            self._seal(marker)
        told = read_json(marker)
        if told.get("holds") != "bank":
            raise StateError(
                f"This folder holds {told.get('holds', 'something else')}, not a bank.",
                where=str(self.folder),
                todo="Give `bank:` a folder of its own; a label store goes under `labels_folder:`.",
            )
        if told["version"] > FORMAT:
            raise StateError(
                f"The bank has format {told['version']}; this clusterflow knows formats up to {FORMAT}.",
                where=str(self.folder),
                todo="Use a newer clusterflow, or another bank.",
            )

    def find(self, atoms: Atoms, *, level_of_theory: str, charge: int, spin: int) -> Loan:
        """The label of a structure, if the bank has it in any orientation and order of atoms."""
        if atoms.pbc.any() or not len(atoms):
            return Loan()
        shelf = self._shelf(atoms, level_of_theory, charge, spin)
        own = extents(atoms.positions)
        refused = []
        for path in self._near(shelf, own):
            try:
                stored, label, source = self._read(path, level_of_theory, charge, spin)
            except StateError as error:
                refused.append(f"{error.what} Delete it: {path}")
                continue
            found = superpose(
                np.asarray(stored.numbers, dtype=np.int64),
                stored.positions,
                np.asarray(atoms.numbers, dtype=np.int64),
                atoms.positions,
                tolerance=TOLERANCE,
            )
            if found is not None:
                forces = label.prediction.forces[found.order] @ found.rotation
                turned = replace(label, prediction=Prediction(label.prediction.energy, forces, None))
                origin = {"entry": str(path), "deviation_A": found.deviation, "source": source}
                return Loan(turned, origin, tuple(refused))
        return Loan(refused=tuple(refused))

    def put(self, atoms: Atoms, label: Label, source: Mapping[str, Any]) -> bool:
        """Adds a label with where it came from; False if it is there already, or the structure is periodic.

        Raises
        ------
        StateError
            No permission, no space, or numbers that are not finite.
        """
        if atoms.pbc.any() or not len(atoms):
            return False
        key = label_key(atoms, level_of_theory=label.level_of_theory, charge=label.charge, spin=label.spin)
        shelf = self._shelf(atoms, label.level_of_theory, label.charge, label.spin)
        name = "_".join(f"{x:.{_DECIMALS}f}" for x in extents(atoms.positions))
        path = shelf / f"{name}-{key}.json"
        if path.is_file():
            return False
        self._make_open(shelf.parent, shelf)
        body = {"key": key, "atoms": atoms_to_json(atoms), "label": label_to_json(label), "source": dict(source)}
        added = publish_json(path, body)
        self._seal(path)
        return added

    def entries(self) -> Iterator[Path]:
        """All files, in a fixed order."""
        yield from sorted(p for p in self.folder.glob("??/*/*.json") if not p.name.startswith(".tmp-"))

    def examine(self, path: Path) -> str:
        """What is wrong with an entry, "" if nothing is."""
        try:
            body = read_json(path)
            label = label_from_json(body["label"])
            self._read(path, label.level_of_theory, label.charge, label.spin)
        except StateError as error:
            return error.what
        except (KeyError, TypeError, ValueError) as error:
            return f"it is not a label ({type(error).__name__}: {error})"
        return ""

    def _shelf(self, atoms: Atoms, level: str, charge: int, spin: int) -> Path:
        kinds, counts = np.unique(np.asarray(atoms.numbers), return_counts=True)
        composition = " ".join(f"{z}:{n}" for z, n in zip(kinds.tolist(), counts.tolist(), strict=True))
        name = digest("bank", composition, level, str(int(charge)), str(int(spin)), str(METHOD_VERSION))
        return self.folder / name[:2] / name

    def _near(self, shelf: Path, own: np.ndarray) -> Iterator[Path]:
        """Entries that may be the same by the extents in their names."""
        try:
            names = sorted(p.name for p in os.scandir(shelf) if p.name.endswith(".json"))
        except FileNotFoundError:
            return
        except OSError:  # no permission: as if it were not there
            return
        slack = TOLERANCE + 10.0**-_DECIMALS
        for name in names:
            if name.startswith(".tmp-"):
                continue
            try:
                told = np.array([float(x) for x in name.split("-")[0].split("_")])
            except ValueError:
                continue
            if told.shape == (3,) and (np.abs(told - own) <= slack).all():
                yield shelf / name

    def _read(self, path: Path, level: str, charge: int, spin: int) -> tuple[Atoms, Label, Any]:
        """An entry, verified: its checksum, its key, and that it is of this level, charge and spin."""
        body = read_json(path)
        try:
            atoms, label = atoms_from_json(body["atoms"]), label_from_json(body["label"])
            key = label_key(atoms, level_of_theory=label.level_of_theory, charge=label.charge, spin=label.spin)
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"'{path.name}' is not a label ({type(error).__name__}: {error}).", where=str(path)
            ) from error
        if path.stem.split("-")[-1] != key or (label.level_of_theory, label.charge, label.spin) != (
            level,
            charge,
            spin,
        ):
            raise StateError(f"'{path.name}' holds the label of something else.", where=str(path))
        if label.prediction.forces.shape != (len(atoms), 3) or not np.isfinite(label.prediction.forces).all():
            raise StateError(f"'{path.name}' has unusable forces.", where=str(path))
        return atoms, label, body.get("source", {})

    def _seal(self, file: Path) -> None:
        """For whom the bank is readable, the file is; and for nobody to change."""
        with contextlib.suppress(OSError):  # not ours, or a file system without permissions
            file.chmod(stat.S_IMODE(self.folder.stat().st_mode) & 0o444)

    def _make_open(self, *folders: Path) -> None:
        """Makes folders as open as the bank itself, so that whoever may write to it may add to them."""
        for folder in folders:
            if folder.is_dir():
                continue
            try:
                make_folder(folder)
            except OSError as error:
                raise storage_error(error, folder, "made") from error
            with contextlib.suppress(OSError):  # somebody else made it in the same moment
                folder.chmod(stat.S_IMODE(self.folder.stat().st_mode))
