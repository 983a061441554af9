"""A disk that remembers, at each call that changes it, what a crash would leave behind.

A killed process leaves all that it has written; a loss of power may leave less: only what was synchronised is promised.
So each moment has several possible ends, the `Image`s of `RecordingDisk.images`:

- ``kept``: everything written so far is there (the process was killed);
- ``torn``: the same, and the write that was under way is there by half;
- ``lost``: only what was synchronised: contents by a sync of their file, names by a sync of their folder;
- ``names``: every name is there, but contents that were not synchronised are empty (delayed allocation);
- ``zeros``: the same, but they have their length and are filled with zeros.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from clusterflow.state.disk import Disk

MODES: Final = ("kept", "torn", "lost", "names", "zeros")

_UNFINISHED: Final = re.compile(r"/\.tmp-|\.part$|/work/")

P = ParamSpec("P")
R = TypeVar("R")
Tree = Mapping[str, bytes | None]
"""Relative path → content; None for a folder."""


class Unsynchronised(Disk):
    """Does not wait for the disk: for tests of anything but a loss of power."""

    def sync(self, descriptor: int) -> None:
        pass


@dataclass(slots=True)
class Image:
    """What may be on the disk after a crash: before the ``number``-th call (from 1), which would have been ``call``,
    and as late as before the ``last``-th."""

    number: int
    call: str
    mode: str
    tree: Tree
    last: int

    @property
    def name(self) -> str:
        """For messages of tests."""
        return f"{self.mode} before {self.number}: {self.call}"

    def write(self, folder: Path) -> None:
        """Makes a folder of it."""
        folder.mkdir(parents=True)
        for name, content in self.tree.items():
            if content is None:
                (folder / name).mkdir()
            else:
                (folder / name).write_bytes(content)


def distinct(images: Iterable[Image], *, but: str) -> list[Image]:
    """One image of each state that a driver can tell apart: unfinished files and those below ``but`` do not count."""
    found: dict[str, Image] = {}
    for image in images:
        seal = _seal(image.tree, but=but + "/")
        found.setdefault(seal, image).last = image.last
    return list(found.values())


def _seal(tree: Tree, *, but: str = "") -> str:
    """Hash of the finished files."""
    finished = sorted((n, c) for n, c in tree.items() if not (_UNFINISHED.search(n) or (but and n.startswith(but))))
    return hashlib.sha256(repr(finished).encode()).hexdigest()


def _one_at_a_time(call: Callable[Concatenate[RecordingDisk, P], R]) -> Callable[Concatenate[RecordingDisk, P], R]:
    """The same call, with the lock of its disk."""

    @functools.wraps(call)
    def locked(disk: RecordingDisk, /, *arguments: P.args, **more: P.kwargs) -> R:
        with disk.lock:
            return call(disk, *arguments, **more)

    return locked


class RecordingDisk(Disk):
    """Records what this thread does; what is below ``root`` at the beginning counts as synchronised.

    Nothing is really synchronised: a test that records need not wait for a disk. ``number`` counts the calls, ``calls``
    counts them by kind. ``images`` are distinct: a state that two moments have in common is kept once, and ``names``
    and ``zeros`` only if they differ in more than unfinished files, which nobody reads. Calls wait for each other: what
    the thread of a heartbeat replaces must not vanish while the tree is read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: dict[str, int] = {}
        self.images: list[Image] = []
        self._thread = threading.get_ident()
        self.lock = threading.RLock()
        self._pins: dict[int, int] = {}  # an open descriptor keeps an inode's number from being used again
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._seen: dict[str, Image] = {}
        self.number = 0
        for folder, _, files in os.walk(root):
            self._remember_names(Path(folder))
            for file in files:
                path = Path(folder) / file
                self._contents[self._pin(path)] = path.read_bytes()

    def close(self) -> None:
        """Gives the descriptors back."""
        for descriptor in self._pins.values():
            os.close(descriptor)
        self._pins.clear()

    def finish(self) -> None:
        """The moment after the last call."""
        self._moment("end", "")

    # -- the calls

    @_one_at_a_time
    def create(self, path: Path) -> int:
        self._moment("create", path)
        return super().create(path)

    @_one_at_a_time
    def append_to(self, path: Path) -> int:
        self._moment("append_to", path)
        return super().append_to(path)

    @_one_at_a_time
    def write(self, descriptor: int, data: memoryview) -> int:
        self._moment("write", _path(descriptor), torn=(descriptor, bytes(data[: len(data) // 2])))
        return super().write(descriptor, data)

    @_one_at_a_time
    def sync(self, descriptor: int) -> None:
        path = _path(descriptor)
        self._moment("sync", path)
        if path.is_dir():
            self._remember_names(path)
        else:
            self._contents[self._pin(path)] = path.read_bytes()

    @_one_at_a_time
    def truncate(self, descriptor: int, size: int) -> None:
        self._moment("truncate", _path(descriptor))
        super().truncate(descriptor, size)

    @_one_at_a_time
    def link(self, source: Path, target: Path) -> None:
        self._moment("link", target)
        super().link(source, target)

    @_one_at_a_time
    def rename(self, source: Path, target: Path) -> None:
        self._moment("rename", target)
        super().rename(source, target)

    @_one_at_a_time
    def replace(self, source: Path, target: Path) -> None:
        self._moment("replace", target)
        super().replace(source, target)

    @_one_at_a_time
    def unlink(self, path: Path) -> None:
        self._moment("unlink", path)
        super().unlink(path)

    @_one_at_a_time
    def make_folder(self, path: Path) -> None:
        self._moment("make_folder", path)
        super().make_folder(path)

    @_one_at_a_time
    def remove_tree(self, path: Path) -> None:
        self._moment("remove_tree", path)
        super().remove_tree(path)

    @_one_at_a_time
    def copy_tree(self, source: Path, target: Path) -> None:
        self._moment("copy_tree", target)
        super().copy_tree(source, target)

    # -- what is on the disk

    def _moment(self, call: str, path: Path | str, *, torn: tuple[int, bytes] | None = None) -> None:
        if threading.get_ident() != self._thread:
            return
        self.number += 1
        self.calls[call] = self.calls.get(call, 0) + 1
        what = f"{call} {Path(path).relative_to(self.root)}" if path else call
        now = dict(self._present(self.root, ""))
        self._add(what, "kept", now)
        if torn is not None:
            descriptor, half = torn
            name = str(_path(descriptor).relative_to(self.root))
            self._add(what, "torn", {**now, name: (now[name] or b"") + half})
        self._add(what, "lost", dict(self._promised(self.root.stat().st_ino, "")))
        for mode in ("names", "zeros"):
            self._add(what, mode, {n: self._certain(n, c, zeros=mode == "zeros") for n, c in now.items()})

    def _add(self, what: str, mode: str, tree: Tree) -> None:
        seal = _seal(tree)
        exact = hashlib.sha256(repr(sorted(tree.items())).encode()).hexdigest()
        known = self._seen.get(exact) or (self._seen.get(seal) if mode in ("names", "zeros") else None)
        if known is not None:
            known.last = self.number
            return
        image = Image(self.number, what, mode, tree, self.number)
        self._seen[exact] = image
        self._seen.setdefault(seal, image)
        self.images.append(image)

    def _present(self, folder: Path, prefix: str) -> Iterator[tuple[str, bytes | None]]:
        for path in sorted(folder.iterdir()):
            name = prefix + path.name
            if path.is_dir():
                yield name, None
                yield from self._present(path, name + "/")
            else:
                yield name, path.read_bytes()

    def _promised(self, folder: int, prefix: str) -> Iterator[tuple[str, bytes | None]]:
        for name, inode in sorted(self._names.get(folder, {}).items()):
            if stat.S_ISDIR(os.fstat(self._pins[inode]).st_mode):
                yield prefix + name, None
                yield from self._promised(inode, prefix + name + "/")
            else:
                yield prefix + name, self._contents.get(inode, b"")

    def _certain(self, name: str, content: bytes | None, *, zeros: bool) -> bytes | None:
        if content is None:
            return None
        certain = self._contents.get((self.root / name).stat().st_ino, b"")
        return certain + bytes(max(0, len(content) - len(certain))) if zeros else certain

    def _remember_names(self, folder: Path) -> None:
        self._names[self._pin(folder)] = {p.name: self._pin(p) for p in folder.iterdir()}

    def _pin(self, path: Path) -> int:
        inode = path.stat().st_ino
        if inode not in self._pins:
            self._pins[inode] = os.open(path, os.O_PATH)
        return inode


def _path(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()
