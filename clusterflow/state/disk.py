"""Writing so that it is on the disk, and saying what is wrong when it cannot be.

Every call by which the state of a campaign changes on the disk goes through one `Disk`, so that tests can put another
in its place: one that crashes at the n-th call, or that remembers what would be left after a loss of power.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clusterflow.errors import StateError

TEMPORARY: Final = ".tmp-"
"""Names that begin so are unfinished; they may be deleted when nothing runs."""


class Disk:
    """The system calls that change a disk, one method each. They raise OSError as the system does."""

    def create(self, path: Path) -> int:
        """Descriptor of a new file; FileExistsError if the name is taken."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def append_to(self, path: Path) -> int:
        """Descriptor of a file, made if need be, to whose end everything is written."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, data: memoryview) -> int:
        """How many bytes were taken: it may be fewer than given."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Returns when the content of the file, or the names in the folder, are on the disk."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def link(self, source: Path, target: Path) -> None:
        """A second name; FileExistsError if it is taken."""
        os.link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        """Another name; an empty folder or a file of that name is replaced."""
        source.rename(target)

    def replace(self, source: Path, target: Path) -> None:
        """Another name; a file of that name is replaced."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def make_folder(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def remove_tree(self, path: Path) -> None:
        shutil.rmtree(path)

    def copy_tree(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target)


_disk = Disk()


def disk() -> Disk:
    """The one in use."""
    return _disk


@contextlib.contextmanager
def replaced_by(other: Disk) -> Iterator[None]:
    """Inside the context everything goes through another `Disk`. For tests."""
    global _disk  # noqa: PLW0603 - one disk per process is what is meant
    before, _disk = _disk, other
    try:
        yield
    finally:
        _disk = before


def storage_error(error: OSError, path: Path, what: str) -> StateError:
    """The `StateError` for an OSError: what the disk said, with numbers, and what to do."""
    path = Path(path)
    number = error.errno
    if number in (errno.ENOSPC, errno.EDQUOT):
        reason = "no space left on the disk" if number == errno.ENOSPC else "the disk quota is used up"
        todo = "Free some space (or have the quota raised), then run the same command again: it resumes."
    elif number == errno.EFBIG:
        reason, todo = "the file would be larger than allowed here", "Raise the limit (`ulimit -f`) and run again."
    elif number == errno.EROFS:
        reason, todo = "the file system is read-only", "Mount it writable, or choose another run folder."
    elif number in (errno.EACCES, errno.EPERM):
        reason, todo = "permission denied", "Give yourself write access to that folder, or choose another run folder."
    elif number in (errno.EIO, errno.ESTALE):
        reason, todo = "the disk or its server reports an error", "Check the disk or the mount before you run again."
    else:
        reason = (error.strerror or str(error) or type(error).__name__).lower()
        todo = "Check that the folder exists and can be written, then run again."
    return StateError(f"'{path.name}' could not be {what}: {reason}.", where=f"{path}{_free(path)}", todo=todo)


def _free(path: Path) -> str:
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            return f" ({shutil.disk_usage(folder).free / 1e6:.0f} MB free)"
    return ""


def write_durably(path: Path, data: bytes) -> None:
    """Creates a file that must not exist, with this content, on the disk and not only in memory."""
    descriptor = _disk.create(path)
    try:
        write_all(descriptor, data)
        _disk.sync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """All of the data: the operating system may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[_disk.write(descriptor, view) :]


def replace_bytes(path: Path, data: bytes) -> None:
    """Replaces a file as a whole, durably; the last writer wins. For what is renewed, such as a heartbeat.

    Raises
    ------
    StateError
        No space, no permission, read-only or failing disk; then the file is as it was.
    """
    temporary = temporary_name(path)
    try:
        write_durably(temporary, data)
        _disk.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path, "written") from error
    finally:
        with contextlib.suppress(OSError):
            if temporary.exists():
                _disk.unlink(temporary)


def replace_file(finished: Path, path: Path) -> None:
    """Gives a file that somebody else has written its final name, durably; a file of that name is replaced.

    Raises
    ------
    StateError
        As for `replace_bytes`.
    """
    try:
        fsync_file(finished)
        _disk.replace(finished, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise storage_error(error, path, "written") from error


def temporary_name(path: Path) -> Path:
    """A name next to ``path`` that no other process, here or on another host, will choose."""
    host = "".join(c for c in socket.gethostname() if c.isalnum() or c in "-_")[:24]
    return path.parent / f"{TEMPORARY}{path.name[:80]}-{host}-{os.getpid()}-{secrets.token_hex(6)}"


def make_folder(folder: Path) -> None:
    """Creates a folder and those above it as far as they are missing, durably."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        _disk.make_folder(new)
        fsync_folder(new.parent)


def fsync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. File systems that cannot do that for folders say EINVAL: they need not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _disk.sync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def fsync_file(file: Path) -> None:
    """Makes what somebody else wrote into a file durable."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _disk.sync(descriptor)
    finally:
        os.close(descriptor)
