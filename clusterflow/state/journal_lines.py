"""The lines of a journal: how an event becomes one, and how a whole file of them is verified.

The first event, of kind "journal", carries the format of those that follow. A later version of clusterflow that writes
otherwise appends such an event when it opens an older journal; what stands before it is read as what it would be today
(`UPGRADES`), so an older campaign opens, and its lines are never rewritten.

A driver that was stopped for a while (SIGSTOP, a computer that slept) between asking for its lease and writing may add
a line after another driver has taken over. Its epoch gives it away: lines of an older epoch that the lines of a newer
one do not build upon are not part of the journal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from clusterflow.core.frames import canonical_json
from clusterflow.errors import JournalError

FORMAT: Final = 1
"""Format of the lines that this version writes."""
START: Final = "0" * 64
"""What stands for the checksum of the line before the first."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line. ``seq`` counts from 0; ``time`` is ISO 8601 in UTC; ``epoch`` is the lease under which it was written;
    ``prev`` and ``checksum`` (SHA-256, hex) chain the lines."""

    seq: int
    time: str
    epoch: int
    kind: str
    data: Mapping[str, Any]
    prev: str
    checksum: str


UPGRADES: Final[dict[int, Callable[[Event], Event]]] = {}
"""Format → what turns an event of that format into one of the next. Empty: there has been one format so far."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What is in the bytes of a journal: ``events`` up to the first damage, each as this version would have written
    it; ``good``: bytes up to the end of the last of them, of ``size`` in all; ``version``: the format of what stands at
    the end; ``stale``: lines that are left out because their driver no longer owned the campaign; ``error``: the
    damage, None if there is none (a torn last line is none)."""

    events: list[Event]
    good: int
    size: int
    version: int
    stale: int = 0
    error: JournalError | None = None


def seal(**fields: Any) -> tuple[Event, bytes]:
    """The event with its checksum, its data as it will be read back (tuples become lists), and its line."""
    try:
        text = canonical_json(fields)
    except (TypeError, ValueError) as error:
        raise JournalError(
            f"An event of kind '{fields['kind']}' is not JSON data: {error}.",
            where=f"event {fields['seq']}",
            todo="This is a mistake in clusterflow: please report it with the campaign file.",
        ) from error
    line, checksum = _line(text)
    return Event(**json.loads(text), checksum=checksum), line


_HEAD: Final = b'{"checksum":"'
_REST: Final = len(_HEAD) + 64
"""Where the rest of a line begins."""


def _line(text: str) -> tuple[bytes, str]:
    """The line, and its checksum, of the canonical JSON of all other fields ("checksum" sorts before them)."""
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return _HEAD + f'{checksum}",{text[1:]}\n'.encode(), checksum


def scan(raw: bytes, path: Path) -> Scan:
    """Reads and verifies everything up to the first damage; ``path`` is for the messages.

    Raises
    ------
    JournalError
        The format is newer than this version of clusterflow: nothing in it may be judged.
    """
    lines = raw.split(b"\n")
    lines.pop()
    events: list[Event] = []
    good, version, stale = 0, FORMAT, 0
    for number, line in enumerate(lines):
        if number == 0:
            _refuse_newer(_stated_format(line), path)
        event = event_of(line)
        if event is None:
            why = "it does not match its checksum"
            return Scan(events, good, len(raw), version, stale, _damaged(path, number, why))
        last = events[-1].epoch if events else 0
        if event.epoch < last:
            stale += 1
        else:
            if event.epoch > last and _builds_on(event, events):
                stale += len(events) - event.seq
                del events[event.seq :]
            if event.seq != len(events) or event.prev != (events[-1].checksum if events else START):
                why = f"it has number {event.seq} or does not follow from the line before"
                return Scan(events, good, len(raw), version, stale, _damaged(path, number, why))
            if number == 0 and event.kind != "journal":
                why = "it is not the beginning of a journal"
                return Scan(events, good, len(raw), version, stale, _damaged(path, number, why))
            if event.kind == "journal":
                version = int(event.data["format"])
                _refuse_newer(version, path)
            events.append(_upgraded(event, version))
        good += len(line) + 1
    return Scan(events, good, len(raw), version, stale)


def event_of(line: bytes) -> Event | None:
    """The event of a line without its newline; None if it is not one, or does not match its own checksum."""
    rest = line[_REST:]
    if not line.startswith(_HEAD) or not rest.startswith(b'",'):
        return None
    if hashlib.sha256(b"{" + rest[2:]).hexdigest().encode() != line[len(_HEAD) : _REST]:
        return None
    try:
        event = Event(**json.loads(line))
        return None if event.kind == "journal" and not isinstance(event.data["format"], int) else event
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _builds_on(event: Event, events: list[Event]) -> bool:
    """Whether the first line of a new epoch follows from an earlier line than the last: its driver had not seen what
    the one before it added since."""
    return 0 < event.seq < len(events) and events[event.seq - 1].checksum == event.prev


def _upgraded(event: Event, version: int) -> Event:
    for step in range(version, FORMAT):
        event = replace(UPGRADES[step](event), seq=event.seq, prev=event.prev, checksum=event.checksum)
    return event


def _damaged(path: Path, number: int, why: str) -> JournalError:
    return JournalError(
        f"Line {number + 1} of the journal is damaged: {why}.",
        where=f"{path}, line {number + 1}",
        todo=f"Restore the file from a backup. Without one: `clusterflow fsck {path.parent} --rebuild` keeps its first "
        f"{number} lines and sets the whole aside; the next run finds published results and labels again, and does the "
        "rest anew.",
    )


def _stated_format(line: bytes) -> int:
    """The format that a first line states, before anything else in it is judged; 0 if it states none."""
    try:
        version = json.loads(line)["data"]["format"]
    except (ValueError, TypeError, KeyError):
        return 0  # not the beginning of a journal at all: the caller says so
    return version if isinstance(version, int) else 0


def _refuse_newer(version: int, path: Path) -> None:
    if version > FORMAT:
        raise JournalError(
            f"The journal has format {version}; this clusterflow knows formats up to {FORMAT}.",
            where=str(path),
            todo="Use the version of clusterflow that wrote it, or a newer one.",
        )
