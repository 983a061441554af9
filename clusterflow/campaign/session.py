"""Opening a campaign: owner lease, journal, frozen configuration, and what may not change between runs."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from clusterflow import __version__
from clusterflow.campaign.inputs import gather_inputs
from clusterflow.campaign.tasks import Inputs
from clusterflow.config.campaign import Campaign
from clusterflow.config.properties import PropertyRun
from clusterflow.config.section import to_json
from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import ConfigError, LevelOfTheoryError, StateError
from clusterflow.state.bank import Bank
from clusterflow.state.disk import disk, fsync_folder, make_folder, replace_bytes
from clusterflow.state.fragments import require_fragments
from clusterflow.state.journal import Journal, scan_journal
from clusterflow.state.journal_lines import Scan
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.lease import Lease
from clusterflow.state.snapshot import Snapshot, fold

_MIN_FREE = 200_000_000
"""Bytes: below this a campaign is not opened, since its first result might not fit."""


@dataclass(slots=True)
class Session:
    """An opened campaign, owned by this process. ``changes`` lists what differs from the configuration of last time."""

    config: Campaign
    folder: CampaignFolder
    inputs: Inputs
    lease: Lease
    journal: Journal
    snapshot: Snapshot
    changes: list[str]
    resumed: bool


@contextlib.contextmanager
def open_session(config: Campaign, environment: Mapping[str, Any]) -> Iterator[Session]:
    """Opens (or resumes) the campaign of this configuration for as long as the context lasts.

    Raises
    ------
    LeaseError
        Another process is running it.
    LevelOfTheoryError
        Its labels are of another level.
    StateError
        The disk is full, or the journal is damaged.
    """

    def prepare(folder: CampaignFolder, snapshot: Snapshot) -> tuple[Inputs, str]:
        require_fragments(folder, snapshot)
        _refuse_properties(folder)
        inputs, _ = gather_inputs(config, folder)
        _refuse_other_level(snapshot, inputs, folder)
        _refuse_other_loop(snapshot, config, folder)
        _point_to_labels(config, folder, snapshot)
        _point_to_bank(config, folder)
        return inputs, inputs.level_of_theory

    with owned_folder(config, environment, prepare) as held:
        yield Session(
            config, held.folder, held.inputs, held.lease, held.journal, held.snapshot, held.changes, held.resumed
        )


T = TypeVar("T")


@dataclass(slots=True)
class Held(Generic[T]):
    """A run folder that this process owns, with what was prepared in it; the rest as `Session`."""

    config: Campaign | PropertyRun
    folder: CampaignFolder
    inputs: T
    lease: Lease
    journal: Journal
    snapshot: Snapshot
    changes: list[str]
    resumed: bool


@contextlib.contextmanager
def owned_folder(
    config: Campaign | PropertyRun,
    environment: Mapping[str, Any],
    prepare: Callable[[CampaignFolder, Snapshot], tuple[T, str]],
) -> Iterator[Held[T]]:
    """Owns the run folder of a configuration while the context lasts: lease, journal, and a record of what was opened.

    ``prepare`` gathers inputs and refuses what cannot go on, before anything is journaled; it returns the inputs and
    the level that they are at. Raises as `open_session`.
    """
    folder = CampaignFolder(config.run_folder.absolute())
    _make(folder.root)
    resumed = folder.journal.is_file()
    known = _read_journal(folder)
    last = max((e.epoch for e in known.events), default=0) if known else 0
    lease = Lease.acquire(folder.root, after_epoch=last)
    try:
        if resumed and (lease.epoch > last + 1 or known is None or known.size != folder.journal.stat().st_size):
            known = _read_journal(folder)  # another driver may have written meanwhile
        snapshot = fold(known.events if known else [])
        changes = _changes(folder, config)
        inputs, level = prepare(folder, snapshot)
        data = to_json(config)
        journal = Journal.open(folder.journal, lease.epoch, guard=lease.check, known=known)
        known = None  # what it says is in the snapshot
        try:
            opened = journal.append(
                "opened",
                version=__version__,
                config=digest(canonical_json(data)),
                level_of_theory=level,
                changes=changes,
            )
            snapshot.apply(opened)
            _replace(folder.config, data)
            _replace(folder.environment, dict(environment))
            yield Held(config, folder, inputs, lease, journal, snapshot, changes, resumed)
        finally:
            journal.close()
    finally:
        lease.release()


def forget_failures(session: Session | Held[Any]) -> int:
    """Forgets every recorded failure, in the journal and in the label store; returns how many there were."""
    keys = [k for k, o in session.snapshot.outcomes.items() if o.status == "failed"]
    store = LabelStore(session.folder.labels)
    for key in keys:
        if session.snapshot.outcomes[key].kind == "label":
            store.clear_failure(key)
    if keys:
        session.snapshot.apply(session.journal.append("retry", keys=keys))
    return len(keys)


def _read_journal(folder: CampaignFolder) -> Scan | None:
    """Everything in the journal; None: there is none yet."""
    if not folder.journal.is_file():
        return None
    found = scan_journal(folder.journal)
    if found.error is not None:
        raise found.error
    return found


def _make(root: Path) -> None:
    try:
        make_folder(root)
        root.chmod(0o700)  # labels and models are the user's own until they share them
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise StateError(
            f"The run folder cannot be made: {error.strerror}.",
            where=str(root),
            todo="Set `folder:` in the campaign file to a place where you may write.",
        ) from None
    if free < _MIN_FREE:
        raise StateError(
            f"Only {free / 1e6:.0f} MB are free where the campaign lives; it needs at least {_MIN_FREE / 1e6:.0f} MB.",
            where=str(root),
            todo="Free space, or set `folder:` to another disk; nothing that is published is lost.",
        )


def _refuse_properties(folder: CampaignFolder) -> None:
    if "properties" in read_config(folder):
        raise ConfigError(
            "A property run lives in this folder; a campaign needs one of its own.",
            where=str(folder.root),
            todo="Give the campaign another `name:` or `folder:`.",
        )


def read_config(folder: CampaignFolder) -> dict[str, Any]:
    """The configuration of last time as JSON data; empty if there is none, or if it is damaged."""
    try:
        found = json.loads(folder.config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_other_level(snapshot: Snapshot, inputs: Inputs, folder: CampaignFolder) -> None:
    before = snapshot.label_level
    if before and before != inputs.level_of_theory:
        raise LevelOfTheoryError(
            f"This campaign has labels at '{before}'; its configuration now asks for '{inputs.level_of_theory}'.",
            where=str(folder.root),
            todo="Set `label:` back, or give the campaign another name: levels of theory are never mixed.",
        )


def _refuse_other_loop(snapshot: Snapshot, config: Campaign, folder: CampaignFolder) -> None:
    """The decisions of one loop mean nothing to the other; before the first training there are none."""
    if "split/0" not in snapshot.decisions or not folder.config.is_file():
        return
    before = json.loads(folder.config.read_text(encoding="utf-8")).get("loop", {}).get("kind", "synchronous")
    if before != config.loop.kind:
        raise ConfigError(
            f"This campaign began with the {before} loop; the file now says `loop: {{kind: {config.loop.kind}}}`.",
            where=str(folder.root),
            todo=f"Set it back to {before}, or give the campaign another name and the same `labels_folder:`: "
            "it finds the labels that are there.",
        )


def _changes(folder: CampaignFolder, config: Campaign | PropertyRun) -> list[str]:
    """Lines "key: before → after" for everything that differs from last time."""
    if not folder.config.is_file():
        return []
    try:
        before = _flat(json.loads(folder.config.read_text(encoding="utf-8")))
    except ValueError:
        return [f"{folder.config.name} was damaged, so what differs from last time is not known; it is written anew"]
    after = _flat(to_json(config))
    return [
        f"{key}: {before.get(key, '(not there)')} → {after.get(key, '(not there)')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}{name}.").items()}
    if isinstance(value, list) and any(isinstance(v, dict) for v in value):
        return {k: v for i, inner in enumerate(value) for k, v in _flat(inner, f"{prefix}{i}.").items()}
    return {prefix.rstrip("."): value}


def _point_to_labels(config: Campaign, folder: CampaignFolder, snapshot: Snapshot) -> None:
    """Where the labels are; a campaign that has some cannot move to another folder."""
    wanted = (config.labels_folder or folder.root / "labels").absolute()
    if folder.labels.absolute() == wanted:
        return
    if any(o.kind == "label" for o in snapshot.outcomes.values()):
        raise ConfigError(
            f"This campaign keeps its labels in '{folder.labels}'; the file now says '{wanted}'.",
            where=str(folder.root),
            todo="Set `labels_folder:` back, or start another campaign: it finds what the shared folder has.",
        )
    if config.labels_folder is None:
        disk().unlink(folder.labels_pointer)
        fsync_folder(folder.root)
    else:
        make_folder(wanted)
        replace_bytes(folder.labels_pointer, f"{wanted}\n".encode())


def _point_to_bank(config: Campaign, folder: CampaignFolder) -> None:
    """Where workers find the bank; it may be given, changed or left out at any time."""
    if config.bank is None:
        if folder.bank_pointer.is_file():
            disk().unlink(folder.bank_pointer)
            fsync_folder(folder.root)
        return
    wanted = config.bank.absolute()
    Bank(wanted)  # says now what is wrong with it
    if folder.bank != wanted:
        replace_bytes(folder.bank_pointer, f"{wanted}\n".encode())


def _replace(path: Path, data: Mapping[str, Any]) -> None:
    replace_bytes(path, json.dumps(data, indent=1, ensure_ascii=False).encode())
