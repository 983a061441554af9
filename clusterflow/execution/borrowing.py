"""Labels from the bank and into it. The bank helps where it can; nothing that is wrong with it stops a campaign."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ase import Atoms

from clusterflow.config.label import Label as LabelSection
from clusterflow.core import keys
from clusterflow.core.data import Label, Task
from clusterflow.core.frames import read_frames
from clusterflow.errors import InputError, StateError
from clusterflow.execution.workplace import section
from clusterflow.state.bank import Bank, Loan
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder


def borrowed(task: Task, folder: CampaignFolder) -> tuple[Label, Mapping[str, Any]] | None:
    """The label of a task from the bank, turned as the fragment is, now in the campaign's own store; and its origin."""
    place = folder.bank
    if place is None:
        return None
    atoms = _fragment(task, folder)
    if atoms is None:
        return None
    loan = _searched(place, atoms, section(LabelSection, task.payload["reference"]).build().level_of_theory)
    if loan.label is None:
        return None
    LabelStore(folder.labels).put(task.key, atoms, loan.label, origin=loan.origin)
    return loan.label, loan.origin


def lend(task: Task, folder: CampaignFolder) -> dict[str, Any]:
    """Adds a label that was just computed to the bank; notes on what did not go well, for the journal."""
    place = folder.bank
    found = LabelStore(folder.labels).get(task.key) if place is not None else None
    if place is None or found is None:
        return {}
    atoms, label = found
    notes: list[str] = []
    try:
        bank = Bank(place)
        loan = bank.find(atoms, level_of_theory=label.level_of_theory, charge=label.charge, spin=label.spin)
        notes += [f"an entry was refused: {why}" for why in loan.refused]
        if loan.label is None:  # else somebody else was faster
            bank.put(atoms, label, {"campaign": folder.root.name, "user": _user(), "label": task.key})
    except StateError as error:
        notes.append(f"the label was not added: {error.what}")
    return {"bank_notes": notes} if notes else {}


def _searched(place: Path, atoms: Atoms, level: str) -> Loan:
    try:
        return Bank(place).find(
            atoms, level_of_theory=level, charge=int(atoms.info[keys.CHARGE]), spin=int(atoms.info[keys.SPIN])
        )
    except StateError:  # not mounted, say; the label is computed, and `lend` tells
        return Loan()


def _fragment(task: Task, folder: CampaignFolder) -> Atoms | None:
    file = folder.result(task.payload["source_kind"], task.payload["source"]) / "fragments.extxyz"
    try:
        return _frames(file)[int(task.payload["index"])]
    except (InputError, IndexError):  # damaged or lost: the worker that needs it says so
        return None


@lru_cache(maxsize=4)
def _frames(file: Path) -> list[Atoms]:
    """Published files never change."""
    return read_frames(file)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        return str(os.getuid())
