"""Writing so that it is on the disk, and saying what is wrong when it cannot be."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from clusterflow.errors import StateError


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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """All of the data: the operating system may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def make_folder(folder: Path) -> None:
    """Creates a folder and those above it as far as they are missing, durably."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        fsync_folder(new.parent)


def fsync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. File systems that cannot do that for folders say EINVAL: they need not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def fsync_file(file: Path) -> None:
    """Makes what somebody else wrote into a file durable."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
