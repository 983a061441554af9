"""One driver per campaign: a lease with an epoch number.

::

    lease/epoch-3.json       who owned or owns epoch 3: host, process, since when
    lease/heartbeat-3        rewritten every few seconds while that owner lives
    lease/released-3.json    left when it ended in an orderly way

The owner is whoever created the file with the highest epoch; the file system lets exactly one process do that, and no
lock is held that a crash or a network file system could leave behind. On the owner's own host a contender looks whether
the process lives. From elsewhere it can only judge the heartbeat, and does so by comparing two times that the same
file system gave, never by two clocks.

An owner that was taken over finds a higher epoch at its next `Lease.check` and stops before it writes.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import socket
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from clusterflow.errors import LeaseError, StateError
from clusterflow.state.disk import disk, replace_bytes
from clusterflow.state.publish import publish_json, read_json

HEARTBEAT: Final = 10.0
"""Seconds between two heartbeats."""
_EPOCH = re.compile(r"epoch-(\d+)\.json")


class Lease:
    """The right to drive a campaign. Use `Lease.acquire`, as a context manager or with `release`."""

    def __init__(self, folder: Path, epoch: int, identity: tuple[int, int], heartbeat: float) -> None:
        self.folder, self.epoch = folder, epoch
        self._identity = identity
        self._pid = os.getpid()
        self._stop = threading.Event()
        self._sign_of_life()
        self._thread = threading.Thread(target=self._beat, args=(heartbeat,), name="lease-heartbeat", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(
        cls, folder: str | Path, *, stale_after: float = 120.0, after_epoch: int = 0, heartbeat: float = HEARTBEAT
    ) -> Self:
        """Takes the lease of the campaign in ``folder``.

        Parameters
        ----------
        stale_after
            An owner on another host whose heartbeat is older (s) counts as dead.
        after_epoch
            The new epoch is above this one too: give the last epoch of the journal, in case ``lease/`` was deleted.
        heartbeat
            Seconds between signs of life.

        Raises
        ------
        LeaseError
            Another driver lives; the message names its host and process, and what to do.
        StateError
            The folder cannot be written.
        """
        room = Path(folder) / "lease"
        while True:
            highest = _highest(room)
            if highest:
                _require_dead(room, highest, stale_after, Path(folder))
            epoch = max(highest, after_epoch) + 1
            path = room / f"epoch-{epoch}.json"
            if not publish_json(path, _self_description(epoch)):
                continue  # somebody was faster: look at that one
            if _highest(room) != epoch:
                disk().unlink(path)
                continue
            return cls(room, epoch, _identity(path), heartbeat)

    def check(self) -> None:
        """Returns if this is still the owner; called before every write to the journal.

        Raises
        ------
        LeaseError
            Another driver has taken over, or the lease has been released or deleted.
        """
        try:
            highest = _highest(self.folder)
            mine = highest == self.epoch and _identity(self.folder / f"epoch-{self.epoch}.json") == self._identity
        except (OSError, StateError) as error:
            raise LeaseError(
                f"The lease of this campaign (epoch {self.epoch}) cannot be confirmed: {error}",
                where=str(self.folder),
                todo="Check the disk or the mount, then run the same command again: it resumes.",
            ) from error
        if self._stop.is_set():
            raise LeaseError(f"The lease (epoch {self.epoch}) has been released.", where=str(self.folder))
        if not mine:
            raise LeaseError(
                f"Another driver has taken this campaign over: it holds epoch {highest}, this one held {self.epoch}."
                if highest > self.epoch
                else f"The lease of this driver (epoch {self.epoch}) was deleted while it ran.",
                where=str(self.folder),
                todo="This driver stops without writing anything more. `clusterflow status` shows the other one.",
            )

    def release(self) -> None:
        """Ends ownership in an orderly way; harmless when repeated, or in a forked child."""
        if self._stop.is_set() or os.getpid() != self._pid:
            return
        self._stop.set()
        self._thread.join(timeout=5)
        with contextlib.suppress(StateError, OSError):  # the process ends anyway, which says the same
            publish_json(self.folder / f"released-{self.epoch}.json", {"time": _now()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def _beat(self, period: float) -> None:
        while not self._stop.wait(period):
            self._sign_of_life()

    def _sign_of_life(self) -> None:
        # A full disk must not end the thread: the next beat may succeed, and `check` decides who owns.
        with contextlib.suppress(StateError):
            replace_bytes(self.folder / f"heartbeat-{self.epoch}", f"{_now()}\n".encode())


def owner(folder: str | Path) -> Mapping[str, Any] | None:
    """Who holds the lease of a campaign, as far as can be told without touching it: ``epoch``, ``host``, ``pid``,
    ``since``, ``released``, and ``alive`` (None: on another host, where only its heartbeat can tell); None if it was
    never held. For `clusterflow status`."""
    room = Path(folder) / "lease"
    highest = _highest(room)
    if not highest:
        return None
    released = (room / f"released-{highest}.json").exists()
    known = _read_owner(room, highest)
    here = known["machine"] == _machine()
    alive = False if released else process_start(known["pid"]) == known["start"] if here else None
    return {**known, "released": released, "alive": alive}


def process_start(pid: int) -> str:
    """When a process began, as text that stays the same while it lives; "" if there is no such process.

    Taken as clock ticks since boot where /proc tells: unlike a time of day that does not shift when the clock is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, ValueError, IndexError):
        pass
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


def _self_description(epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "start": process_start(os.getpid()),
        "user": _user(),
        "since": _now(),
    }


def _machine() -> str:
    """Identifies the running system and its process numbers: containers may share a host name but not these."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _highest(room: Path) -> int:
    """The highest epoch there is, 0 if none."""
    try:
        names = [p.name for p in room.iterdir()]
    except FileNotFoundError:
        return 0
    return max((int(m.group(1)) for m in map(_EPOCH.fullmatch, names) if m), default=0)


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _read_owner(room: Path, epoch: int) -> dict[str, Any]:
    unknown = {"epoch": epoch, "host": "", "machine": "", "pid": 0, "start": "", "user": "", "since": ""}
    try:
        known: dict[str, Any] = read_json(room / f"epoch-{epoch}.json")
    except StateError:
        return unknown  # damaged: only its heartbeat can tell whether that driver lives
    return {**unknown, **known}


def _require_dead(room: Path, epoch: int, stale_after: float, campaign: Path) -> None:
    """Returns if the owner of an epoch is gone; raises `LeaseError` if it lives or may live."""
    if (room / f"released-{epoch}.json").exists():
        return
    known = _read_owner(room, epoch)
    age = _heartbeat_age(room, epoch)
    who = f"process {known['pid']} of {known['user']} on host {known['host']}, since {known['since']}"
    if not known["pid"]:
        who = f"'epoch-{epoch}.json' is damaged and does not say which"
    if known["machine"] == _machine():
        if process_start(known["pid"]) != known["start"]:
            return
        raise LeaseError(
            f"Another driver runs this campaign: {who}.",
            where=str(campaign.absolute()),
            todo=f"Watch it with `clusterflow status {campaign}`, or stop it with `kill {known['pid']}` (it ends "
            "cleanly), then run the same command again.",
        )
    if age > stale_after:
        return
    raise LeaseError(
        f"Another driver may run this campaign: {who}; its last sign of life is {age:.0f} s old.",
        where=str(campaign.absolute()),
        todo=(f"Stop it there with `kill {known['pid']}`. " if known["pid"] else "")
        + f"If that host is gone or was restarted, wait {max(1.0, stale_after - age):.0f} s and run the same command "
        "again.",
    )


def _heartbeat_age(room: Path, epoch: int) -> float:
    """Age of the last heartbeat in s, both times given by the file system itself."""
    probe = room / f"probe-{os.getpid()}-{time.monotonic_ns()}"
    try:
        replace_bytes(probe, json.dumps(os.getpid()).encode())
        now = probe.stat().st_mtime
    finally:
        with contextlib.suppress(OSError):
            disk().unlink(probe)
    for name in (f"heartbeat-{epoch}", f"epoch-{epoch}.json"):
        with contextlib.suppress(FileNotFoundError):
            return now - (room / name).stat().st_mtime
    return 0.0
