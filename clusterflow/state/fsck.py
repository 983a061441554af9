"""Is everything in a run folder what was once written there? And setting aside what is not.

`examine` reads and changes nothing: the chain of the journal, every published result against its manifest, every label
against its checksum and its key, the copies of the structures, and what the journal says is done but is not there.
`set_damage_aside` moves the damaged (never deletes it) and journals that it must be computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import InputError, StateError
from clusterflow.state.disk import TEMPORARY, disk, fsync_folder, make_folder, storage_error, write_durably
from clusterflow.state.journal import Journal, read_events, scan_journal
from clusterflow.state.journal_lines import Scan
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.lease import Lease, owner
from clusterflow.state.publish import read_json, set_aside, verify_folder
from clusterflow.state.recipe import read_recipe
from clusterflow.state.snapshot import Snapshot, fold

DAMAGED: Final = "damaged"
"""Folder, in the run folder and in the label store, where damaged files are kept."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    ``damaged``: not what was written; ``lost``: the journal says that it is done, and it is not there; ``leftover``:
    unfinished or set aside, read by nobody. ``kind`` and ``key``: of the task that would be computed again, "" if none
    would. ``movable``: it can be set aside and is then made again.
    """

    level: Literal["damaged", "lost", "leftover"]
    what: str
    path: Path
    kind: str = ""
    key: str = ""
    movable: bool = False


@dataclass(slots=True)
class Examination:
    """What was verified, by kind of thing, and what is wrong."""

    events: int = 0
    results: int = 0
    labels: int = 0
    inputs: int = 0
    not_in_journal: int = 0
    """Published, but not in the journal: their driver died. The next run finds those that it wants."""
    in_flight: int = 0
    """Sent and not ended when the last driver ended: the next run sends them again, unless they are published."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def damage(self) -> list[Finding]:
        """All but leftovers."""
        return [f for f in self.findings if f.level != "leftover"]

    @property
    def needs_run(self) -> bool:
        """Whether more must be made anew than what follows from journal and results at once."""
        return bool(self.again) or any(f.path.suffix == ".jsonl" for f in self.damage)

    @property
    def again(self) -> dict[str, int]:
        """What a run would compute again: kind of task → how many."""
        kinds = [k for k, _ in {(f.kind, f.key) for f in self.damage if f.key}]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def examine(folder: CampaignFolder) -> Examination:
    """Verifies everything in the run folder, and the label store that it uses.

    Raises
    ------
    JournalError
        The journal is of a newer format.
    StateError
        A file cannot be read at all (permission, a failing disk), or the label store is of a newer format.
    """
    found = Examination()
    scan = scan_journal(folder.journal)
    found.events = len(scan.events)
    if scan.error is not None:
        found.findings.append(Finding("damaged", scan.error.what, folder.journal))
    _inputs(folder, scan, found)
    snapshot = fold(scan.events)
    results = _results(folder, found)
    labels = _labels(folder, found)
    bad = {f.key for f in found.findings}
    for key, outcome in snapshot.outcomes.items():
        there = labels if outcome.kind == "label" else results
        if outcome.status == "done" and key not in there and key not in bad:
            label = folder.labels / key[:2] / f"{key}.json"
            path = label if outcome.kind == "label" else folder.result(outcome.kind, key)
            found.findings.append(Finding("lost", "it is done, and is not there", path, outcome.kind, key))
    _model_copy(folder, snapshot, found)
    mine = labels if folder.labels == folder.root / "labels" else set()  # of a shared store, others want the rest
    found.not_in_journal = len((results | mine) - set(snapshot.outcomes))
    ended = {*snapshot.outcomes, *results, *labels}
    found.in_flight = sum(key not in ended for key in snapshot.sent)
    if scan.stale:
        what = f"{scan.stale} of its lines are of a driver that had been taken over"
        found.findings.append(Finding("leftover", what, folder.journal))
    torn = folder.journal.stat().st_size - scan.good
    if scan.error is None and torn > 0 and not driver_lives(folder):
        what = f"its last line is torn ({torn} bytes); the next run cuts it off"
        found.findings.append(Finding("leftover", what, folder.journal))
    found.findings += _leftovers(folder)
    return found


def set_damage_aside(folder: CampaignFolder, found: Examination) -> list[Path]:
    """Moves what is damaged into a folder ``damaged/``, shortens a damaged journal to its good lines (the whole is kept
    there too), and journals what must be computed again. Returns where the damaged things are now.

    Raises
    ------
    LeaseError
        A driver is running.
    StateError
        The disk is full or fails.
    """
    epoch = max((e.epoch for e in scan_journal(folder.journal).events), default=0)
    with Lease.acquire(folder.root, after_epoch=epoch) as lease:
        moved = []
        if any(f.path == folder.journal for f in found.damage):
            moved.append(_shorten_journal(folder))
        for finding in found.damage:
            if finding.movable and finding.path.exists():
                of_labels = finding.path.is_relative_to(folder.labels)  # which may lie on another file system
                room = folder.labels / DAMAGED if of_labels else folder.root / DAMAGED / finding.kind
                moved.append(set_aside(finding.path, room))
        with Journal.open(folder.journal, lease.epoch, guard=lease.check) as journal:
            done = fold(read_events(folder.journal)).outcomes
            keys = sorted({f.key for f in found.damage if f.key in done})
            if keys:
                journal.append("retry", keys=keys, why="damaged or lost")
    return moved


def driver_lives(folder: CampaignFolder) -> bool:
    """Whether a driver runs the campaign, as far as can be told: then unfinished files may be its own."""
    known = owner(folder.root)
    return known is not None and known["alive"] is not False


def _inputs(folder: CampaignFolder, scan: Scan, found: Examination) -> None:
    for copy in sorted(folder.inputs.glob("*.extxyz")):
        recipe = copy.with_suffix(".json")
        if not recipe.is_file():  # the seed dataset, or a crash before its record: the next run makes both again
            continue
        try:
            read_recipe(recipe, copy)
            found.inputs += 1
        except (StateError, InputError) as error:
            found.findings.append(Finding("damaged", error.what, copy))
    opened = [e for e in scan.events if e.kind == "opened"]
    if opened and folder.config.is_file():
        try:
            same = digest(canonical_json(json.loads(folder.config.read_text(encoding="utf-8"))))
        except ValueError:
            same = ""
        if same not in {e.data["config"] for e in opened}:
            what = "it is not the configuration of any run; the next run writes it anew"
            found.findings.append(Finding("damaged", what, folder.config, movable=True))


def _results(folder: CampaignFolder, found: Examination) -> set[str]:
    """Keys of the results that are whole."""
    whole = set()
    for path in sorted(folder.tasks.glob("*/*")):
        if path.name.startswith(TEMPORARY):
            continue
        kind, key = path.parent.name, path.name
        try:
            sums = verify_folder(path)
            told = read_json(path / "result.json")
            if "result.json" not in sums or (told["task"], told["key"]) != (kind, key):
                raise StateError(f"It is the result of {told['task']} {told['key'][:16]}.")
            whole.add(key)
        except (KeyError, TypeError) as error:
            found.findings.append(
                Finding("damaged", f"no result of clusterflow: {error!r}", path, kind, key, movable=True)
            )
        except StateError as error:
            _refuse_newer(error)
            found.findings.append(Finding("damaged", _why(error), path, kind, key, movable=True))
    found.results = len(whole)
    return whole


def _labels(folder: CampaignFolder, found: Examination) -> set[str]:
    """Keys of the labels that are whole."""
    if not folder.labels.is_dir():
        return set()
    store = LabelStore.unchecked(folder.labels)
    marker = folder.labels / "format.json"
    try:
        if marker.is_file():  # a store without one gets one from the next run
            store.require_known_format()
    except StateError as error:
        _refuse_newer(error)
        found.findings.append(Finding("damaged", error.what, marker, movable=True))
    whole = set()
    for key in list(store.keys()):
        try:
            store.get(key)
            whole.add(key)
        except StateError as error:
            _refuse_newer(error)
            path = folder.labels / key[:2] / f"{key}.json"
            found.findings.append(Finding("damaged", _why(error), path, "label", key, movable=True))
    for key in list(store.failures()):
        path = folder.labels / "failures" / key[:2] / f"{key}.json"
        try:
            read_json(path)
        except StateError as error:
            found.findings.append(
                Finding("damaged", f"the record of a failed label: {_why(error)}", path, "label", key, movable=True)
            )
    found.labels = len(whole)
    return whole


def _refuse_newer(error: StateError) -> None:
    """Raises it if it is about a file of a newer version, which is not damaged."""
    if "this clusterflow knows formats up to" in error.what:
        raise error


def _why(error: StateError) -> str:
    """What is wrong, without the name of the file, which stands beside it."""
    return error.what.split(" is damaged: ")[-1].split(" is wrong: ")[-1]


def _model_copy(folder: CampaignFolder, snapshot: Snapshot, found: Examination) -> None:
    """The copy of the final model for the user, against the result that it was copied from."""
    final = str(snapshot.decisions.get("stop", {}).get("model", ""))
    result = folder.result("train", final)
    if not final or not folder.model.is_dir() or any(f.path == result for f in found.findings) or not result.is_dir():
        return
    known = {n.removeprefix("model/"): sha for n, sha in verify_folder(result).items() if n.startswith("model/")}
    wrong = [
        name
        for name, sha in known.items()
        if not (file := folder.model / name).is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha
    ]
    if wrong:
        what = f"{', '.join(wrong[:5])}: not the final model; it is copied again"
        found.findings.append(Finding("damaged", what, folder.model, movable=True))


def _leftovers(folder: CampaignFolder) -> Iterator[Finding]:
    places: dict[str, Iterable[Path]] = {
        "unfinished": [p for r in (folder.root, folder.labels) if r.is_dir() for p in r.rglob(f"{TEMPORARY}*")],
        "half of a file": folder.root.glob("*.part"),
        "the torn last line of a journal": folder.root.glob(f"{folder.journal.stem}.torn-*"),
        "scratch of a task that did not end": [p for p in folder.work.glob("*") if p.is_dir()],
        "set aside earlier": [*folder.root.glob(f"{DAMAGED}/*"), *folder.labels.glob(f"{DAMAGED}/*")],
    }
    for what, paths in places.items():
        for path in sorted(set(paths)):
            yield Finding("leftover", what, path)


def _shorten_journal(folder: CampaignFolder) -> Path:
    """Keeps the good lines; the whole file goes to ``damaged/``. A crash in between leaves the damaged one in place."""
    raw = folder.journal.read_bytes()
    good = scan_journal(folder.journal).good
    room = folder.root / DAMAGED
    short = folder.root / f"{TEMPORARY}{folder.journal.name}"
    try:
        make_folder(room)
        number = sum(1 for _ in room.glob(f"{folder.journal.stem}*"))
        kept = room / f"{folder.journal.stem}.{number}.jsonl"
        write_durably(kept, raw)
        fsync_folder(room)
        disk().unlink(short)
        write_durably(short, raw[:good])
        disk().replace(short, folder.journal)
        fsync_folder(folder.root)
    except OSError as error:
        raise storage_error(error, folder.journal, "shortened") from error
    return kept
