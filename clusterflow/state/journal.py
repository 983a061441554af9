"""The journal of a campaign: an append-only file of JSON lines, written by its one driver.

Each line carries its number, the driver's epoch, a kind, its data, the checksum of the line before and its own, so
that a change, a loss or an insertion anywhere breaks the chain and is noticed. A line counts once it ends with a
newline; a driver that dies in mid-write leaves at most one torn line at the end, which readers ignore and the next
driver cuts off (and keeps as ``journal.torn-<n>``). Times are information: nothing is ever decided by them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import JournalError, StateError
from clusterflow.state.disk import disk, fsync_folder, make_folder, storage_error, write_all, write_durably

FORMAT: Final = 1
"""Format of the lines; the first event, of kind "journal", carries it."""
_START: Final = "0" * 64


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


def read_events(path: str | Path) -> list[Event]:
    """All events of a journal, verified. For anyone, also while the driver writes; a torn last line is left out.

    Raises
    ------
    JournalError
        A line is damaged, missing or out of order; the message names it.
    StateError
        There is no journal, or it cannot be read.
    """
    return _verify(_read(Path(path)), Path(path))[0]


def decisions_digest(events: Iterable[Event]) -> str:
    """Hash of what was decided: kind and data of the decision events, in order, without times, epochs and numbers.

    A campaign that was interrupted and resumed has the digest of one that was not.
    """
    return digest(*(canonical_json([e.kind, e.data]) for e in events if e.kind == "decision"))


class Journal:
    """The driver's end of the journal. Use `Journal.open`; one at a time, under a `Lease`."""

    def __init__(
        self, path: Path, descriptor: int, epoch: int, events: list[Event], size: int, guard: Callable[[], None] | None
    ) -> None:
        self.path, self.epoch = path, epoch
        self.events = events
        """Everything in the journal, in order; grows with each append."""
        self._descriptor, self._size, self._guard = descriptor, size, guard
        self._lock = threading.RLock()
        self._waiting: list[tuple[Event, bytes]] | None = None  # inside `batch`
        self._broken = ""

    @classmethod
    def open(cls, path: str | Path, epoch: int, *, guard: Callable[[], None] | None = None) -> Self:
        """Opens a journal for appending, or starts one; cuts a torn last line off.

        ``epoch`` is that of the owner's lease; ``guard`` (`Lease.check`) is called before every write and raises if the
        campaign has been taken over.

        Raises
        ------
        JournalError
            The journal is damaged, or an event of a later epoch is in it.
        StateError
            It cannot be read or written.
        """
        path = Path(path)
        if guard is not None:
            guard()
        try:
            make_folder(path.parent)
            new = not path.exists()
            raw = b"" if new else path.read_bytes()
            events, good = _verify(raw, path)
            if good < len(raw):
                _keep_torn(path, raw[good:])
            descriptor = disk().append_to(path)
        except OSError as error:
            raise storage_error(error, path, "opened") from error
        try:
            if good < len(raw):
                disk().truncate(descriptor, good)
                disk().sync(descriptor)
            if new:
                fsync_folder(path.parent)
            if events and events[-1].epoch > epoch:
                raise JournalError(
                    f"The journal was last written in epoch {events[-1].epoch}, this driver holds epoch {epoch}.",
                    where=str(path),
                    todo="Another driver has taken the campaign over; if none runs, run the same command again.",
                )
            journal = cls(path, descriptor, epoch, events, good, guard)
            if not events:
                journal.append("journal", format=FORMAT)
        except OSError as error:
            os.close(descriptor)
            raise storage_error(error, path, "opened") from error
        except StateError:
            os.close(descriptor)
            raise
        return journal

    def append(self, kind: str, /, **data: Any) -> Event:
        """Writes one event and returns it once it is on the disk (inside `batch`: at the end of the batch).

        Raises
        ------
        StateError
            The disk is full or fails. The journal is as it was before, or, if even that could not be ensured, refuses
            everything that follows; either way a new run resumes.
        LeaseError
            The guard says that another driver owns the campaign.
        """
        with self._lock:
            self._require_whole()
            last = self._waiting[-1][0] if self._waiting else self.events[-1] if self.events else None
            event, line = _seal(
                seq=last.seq + 1 if last else 0,
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                epoch=self.epoch,
                kind=kind,
                data=data,
                prev=last.checksum if last else _START,
            )
            if self._waiting is not None:
                self._waiting.append((event, line))
            else:
                self._write([(event, line)])
            return event

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Events appended inside are written together, with one wait for the disk, when the block ends (also by an
        error: what was appended had happened)."""
        with self._lock:
            if self._waiting is not None:  # a batch inside a batch is part of it
                yield
                return
            self._waiting = []
            try:
                yield
            finally:
                sealed, self._waiting = self._waiting, None
                if sealed:
                    self._write(sealed)

    def close(self) -> None:
        """Closes the file; what was appended is on the disk already."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _require_whole(self) -> None:
        if self._broken or self._descriptor < 0:
            raise StateError(
                f"The journal can no longer be written: {self._broken or 'it has been closed'}.",
                where=str(self.path),
                todo="Mend the cause and run the same command again: it resumes from the last whole line.",
            )

    def _write(self, sealed: list[tuple[Event, bytes]]) -> None:
        if self._guard is not None:
            self._guard()
        size = os.fstat(self._descriptor).st_size
        if size != self._size:
            self._broken = f"somebody else changed its length from {self._size} to {size} bytes"
            self._require_whole()
        data = b"".join(line for _, line in sealed)
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            self._take_back()
            raise storage_error(error, self.path, "written") from error
        try:
            disk().sync(self._descriptor)
        except OSError as error:
            # After a failed fsync nobody knows what the disk holds: only reading it afresh can tell.
            self._broken = "the disk failed to confirm the last lines"
            raise storage_error(error, self.path, "written") from error
        self._size += len(data)
        self.events.extend(event for event, _ in sealed)

    def _take_back(self) -> None:
        """Removes what a failed write left; a full disk allows that."""
        try:
            disk().truncate(self._descriptor, self._size)
            disk().sync(self._descriptor)
        except OSError:
            self._broken = "a line could not be written whole"


def _seal(**fields: Any) -> tuple[Event, bytes]:
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


def _line(text: str) -> tuple[bytes, str]:
    """The line, and its checksum, of the canonical JSON of all other fields ("checksum" sorts before them)."""
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"checksum":"{checksum}",{text[1:]}\n'.encode(), checksum


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StateError(
            f"There is no journal '{path.name}'.", where=str(path), todo="Give the run folder of a campaign."
        ) from None
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _verify(raw: bytes, path: Path) -> tuple[list[Event], int]:
    """The events, and the number of bytes up to the end of the last whole line."""
    lines = raw.split(b"\n")
    good = len(raw) - len(lines.pop())
    events: list[Event] = []
    prev, epoch = _START, 0
    if lines:
        _check_format(lines[0], path)
    for number, line in enumerate(lines):
        try:
            fields = json.loads(line)
            event = Event(**fields)
            del fields["checksum"]
            whole = _line(canonical_json(fields))[0] == line + b"\n"
        except (ValueError, TypeError, KeyError, RecursionError):
            whole = False
        if not whole:
            raise _damaged(path, number, "it does not match its checksum")
        if event.seq != number or event.prev != prev:
            raise _damaged(path, number, f"it has number {event.seq} or does not follow from the line before")
        if event.epoch < epoch:
            raise _damaged(path, number, f"its epoch {event.epoch} is older than {epoch} of the line before")
        if number == 0 and event.kind != "journal":
            raise _damaged(path, number, "it is not the beginning of a journal")
        prev, epoch = event.checksum, event.epoch
        events.append(event)
    return events, good


def _damaged(path: Path, number: int, why: str) -> JournalError:
    return JournalError(
        f"Line {number + 1} of the journal is damaged: {why}.",
        where=f"{path}, line {number + 1}",
        todo=f"Restore the file from a backup. Without one: copy it, then keep its first {number} lines "
        f"(`head -n {number}`) and resume; published results and labels are found again, the rest is done anew.",
    )


def _check_format(line: bytes, path: Path) -> None:
    """Refuses a newer format, before anything else in it is judged."""
    try:
        version = json.loads(line)["data"]["format"]
    except (ValueError, TypeError, KeyError):
        return  # not the beginning of a journal at all: the caller says so
    if isinstance(version, int) and version > FORMAT:
        raise JournalError(
            f"The journal has format {version}; this clusterflow knows formats up to {FORMAT}.",
            where=str(path),
            todo="Use the version of clusterflow that wrote it, or a newer one.",
        )


def _keep_torn(path: Path, piece: bytes) -> None:
    """Keeps the piece of a torn line for inspection; a disk too full for that is no reason not to go on."""
    for number in range(10_000):
        target = path.with_name(f"{path.stem}.torn-{number}")
        try:
            write_durably(target, piece)
        except FileExistsError:
            continue
        except OSError:
            with contextlib.suppress(OSError):
                disk().unlink(target)
        return
