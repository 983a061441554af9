"""The journal of a campaign: an append-only file of JSON lines, written by its one driver.

Each line carries its number, the driver's epoch, a kind, its data, the checksum of the line before and its own, so
that a change, a loss or an insertion anywhere breaks the chain and is noticed. A line counts once it ends with a
newline; a driver that dies in mid-write leaves at most one torn line at the end, which readers ignore and the next
driver cuts off (and keeps as ``journal.torn-<n>``). Times are information: nothing is ever decided by them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import JournalError, StateError
from clusterflow.state import journal_lines
from clusterflow.state.disk import disk, fsync_folder, make_folder, storage_error, write_all, write_durably
from clusterflow.state.journal_lines import START, Event, Scan, event_of, scan, seal

__all__ = ["Event", "Journal", "decisions_digest", "no_search_for_cycles", "read_events", "scan_journal"]


def read_events(path: str | Path) -> list[Event]:
    """All events of a journal, verified. For anyone, also while the driver writes; a torn last line is left out.

    Raises
    ------
    JournalError
        A line is damaged, missing or out of order; the message names it.
    StateError
        There is no journal, or it cannot be read.
    """
    found = scan_journal(path)
    if found.error is not None:
        raise found.error
    return found.events


def scan_journal(path: str | Path) -> Scan:
    """As `read_events`, but damage is part of the answer and what stands before it is given; for `clusterflow fsck`.

    Raises
    ------
    JournalError
        The journal is of a newer format.
    StateError
        There is no journal, or it cannot be read.
    """
    raw = _read(Path(path))
    with no_search_for_cycles():
        return scan(raw, Path(path))


@contextlib.contextmanager
def no_search_for_cycles() -> Iterator[None]:
    """Inside the context Python's collector rests: events hold no cycles, and looking for some among hundreds of
    thousands takes a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def decisions_digest(events: Iterable[Event]) -> str:
    """Hash of what was decided: kind and data of the decision events, in order, without times, epochs and numbers.

    A campaign that was interrupted and resumed has the digest of one that was not.
    """
    return digest(*(canonical_json([e.kind, e.data]) for e in events if e.kind == "decision"))


class Journal:
    """The driver's end of the journal. Use `Journal.open`; one at a time, under a `Lease`."""

    def __init__(
        self, path: Path, descriptor: int, epoch: int, last: Event | None, size: int, guard: Callable[[], None] | None
    ) -> None:
        self.path, self.epoch = path, epoch
        self.last = last
        """The last event of all."""
        self._descriptor, self._size, self._guard = descriptor, size, guard
        self._lock = threading.RLock()
        self._waiting: list[tuple[Event, bytes]] | None = None  # inside `batch`
        self._broken = ""

    @classmethod
    def open(
        cls, path: str | Path, epoch: int, *, guard: Callable[[], None] | None = None, known: Scan | None = None
    ) -> Self:
        """Opens a journal for appending, or starts one; cuts a torn last line off.

        ``epoch`` is that of the owner's lease; ``guard`` (`Lease.check`) is called before every write and raises if the
        campaign has been taken over. ``known``: what `scan_journal` has found, so that it need not be read again.

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
            size = 0 if new else path.stat().st_size
            found = known if known is not None and known.size == size else scan(b"" if new else path.read_bytes(), path)
            if found.error is not None:
                raise found.error
            last, good = (found.events[-1] if found.events else None), found.good
            if torn := good < found.size:
                _keep_torn(path, path.read_bytes()[good:])
            descriptor = disk().append_to(path)
        except OSError as error:
            raise storage_error(error, path, "opened") from error
        try:
            if torn:
                disk().truncate(descriptor, good)
                disk().sync(descriptor)
            if new:
                fsync_folder(path.parent)
            if last is not None and last.epoch > epoch:
                raise JournalError(
                    f"The journal was last written in epoch {last.epoch}, this driver holds epoch {epoch}.",
                    where=str(path),
                    todo="Another driver has taken the campaign over; if none runs, run the same command again.",
                )
            journal = cls(path, descriptor, epoch, last, good, guard)
            if last is None or found.version < journal_lines.FORMAT:
                journal.append("journal", format=journal_lines.FORMAT)
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
            last = self._waiting[-1][0] if self._waiting else self.last
            event, line = seal(
                seq=last.seq + 1 if last else 0,
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                epoch=self.epoch,
                kind=kind,
                data=data,
                prev=last.checksum if last else START,
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
        if size != self._size and self._added_by_a_stale_driver(size):
            self._size = size
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
        self.last = sealed[-1][0]

    def _added_by_a_stale_driver(self, size: int) -> bool:
        """Whether all that was added meanwhile are whole lines of an older epoch: every reader leaves them out."""
        if size < self._size:
            return False
        added = os.pread(self._descriptor, size - self._size, self._size)
        lines = added.split(b"\n")
        return not lines.pop() and all((e := event_of(line)) is not None and e.epoch < self.epoch for line in lines)

    def _take_back(self) -> None:
        """Removes what a failed write left; a full disk allows that."""
        try:
            disk().truncate(self._descriptor, self._size)
            disk().sync(self._descriptor)
        except OSError:
            self._broken = "a line could not be written whole"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise StateError(
            f"There is no journal '{path.name}'.", where=str(path), todo="Give the run folder of a campaign."
        ) from None
    except OSError as error:
        raise storage_error(error, path, "read") from error


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
