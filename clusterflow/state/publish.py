"""Files that are there whole or not at all, and of which the first one wins.

A result is written under a temporary name in the folder where it will live, forced to the disk, and only then given
its final name, in one step that fails if the name is taken. A crash at any moment leaves nothing or the whole file
under the final name, and at worst a temporary file (its name begins with ``.tmp-``) that nobody reads.

JSON files carry a format number and the SHA-256 of their body, in canonical spelling, so that a single changed byte is
noticed when the file is read. Folders carry the same for each of their files in ``manifest.json``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from clusterflow.core.frames import canonical_json
from clusterflow.errors import StateError
from clusterflow.state.disk import (
    TEMPORARY,
    disk,
    fsync_file,
    fsync_folder,
    make_folder,
    storage_error,
    temporary_name,
    write_durably,
)

FORMAT: Final = 1
"""Format number of published JSON files; a reader refuses a newer one."""
MANIFEST: Final = "manifest.json"
"""File of a published folder that lists its files with size and SHA-256."""

REMEDY: Final = (
    "Restore it from a backup. Without one: `clusterflow fsck RUN_FOLDER --rebuild` sets aside what is damaged, and "
    "the next run computes that anew, and nothing else."
)
"""What to do about a published file or folder that is damaged or lost."""

_NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_STALE_CLAIM = 30.0  # s after which a claim whose owner died in mid-rename is broken
_CHUNK = 1 << 20


# -- one JSON file ------------------------------------------------------------------------------------------------


def encode(body: Any) -> bytes:
    """The bytes of a published JSON file: one line, canonical, with format number and checksum of the body.

    Raises
    ------
    StateError
        The body is not JSON data (NaN, infinity or another type of object somewhere in it).
    """
    try:
        text = canonical_json(body)
    except (TypeError, ValueError) as error:
        raise StateError(
            f"A result cannot be stored as JSON: {error}.",
            todo="This is a mistake in the stage that made it: it must check its numbers before it hands them over.",
        ) from error
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return f'{{"body":{text},"format":{FORMAT},"sha256":"{checksum}"}}\n'.encode()


def publish_json(path: Path, data: Any) -> bool:
    """Publishes JSON data under ``path``. True if this call did it, False if the file was there already.

    Floats are kept to the last bit. Any number of processes, on any number of hosts, may publish the same path at once:
    exactly one gets True.

    Raises
    ------
    StateError
        No space, no permission, read-only or failing disk; or the data is not JSON.
    """
    return publish_bytes(path, encode(data))


def read_json(path: Path) -> Any:
    """The body of a published JSON file, verified.

    Raises
    ------
    StateError
        The file is missing, damaged, or of a newer format.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise StateError(
            f"There is no file '{Path(path).name}'.",
            where=str(path),
            todo=f"It was moved or deleted, or never published. {REMEDY}",
        ) from None
    except OSError as error:
        raise storage_error(error, path, "read") from error
    return decode(raw, path)


def decode(raw: bytes, path: Path) -> Any:
    """The body of the bytes of a published JSON file, verified; ``path`` is for the message."""
    try:
        document = json.loads(raw)
        version, body = document["format"], document["body"]
        if isinstance(version, int) and version > FORMAT:
            raise StateError(
                f"'{path.name}' has format {version}; this clusterflow knows formats up to {FORMAT}.",
                where=str(path),
                todo="Use the version of clusterflow that wrote it, or a newer one.",
            )
        if encode(body) == raw:
            return body
        reason = f"its {len(raw)} bytes do not match its checksum"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"its {len(raw)} bytes are not what clusterflow writes ({type(error).__name__})"
    raise StateError(
        f"'{path.name}' is damaged: {reason}.",
        where=str(path),
        todo=f"{REMEDY} If this happens more than once, suspect the disk.",
    )


def publish_bytes(path: Path, data: bytes) -> bool:
    """As `publish_json`, for bytes that are not altered or checked."""
    path = Path(path)
    temporary = temporary_name(path)
    try:
        if path.exists():
            return False
        make_folder(path.parent)
        write_durably(temporary, data)
        won = _give_name(temporary, path)
        fsync_folder(path.parent)
        return won
    except OSError as error:
        raise storage_error(error, path, "written") from error
    finally:
        with contextlib.suppress(OSError):
            disk().unlink(temporary)


# -- a folder -----------------------------------------------------------------------------------------------------


def publish_folder(tmp: Path, final: Path) -> bool:
    """Publishes the folder ``tmp`` as ``final``, with a manifest of its files. True if this call did it.

    ``tmp`` is gone afterwards in either case: it became ``final``, or it lost against one that was there. It may lie on
    another file system (node-local scratch); then it is copied next to ``final`` first.

    Raises
    ------
    StateError
        As for `publish_json`; also if ``tmp`` holds anything but files and folders (a link would point nowhere on
        another machine). ``tmp`` is left as it is.
    """
    tmp, final = Path(tmp), Path(final)
    try:
        if final.exists() and any(final.iterdir()):
            disk().remove_tree(tmp)
            return False
        files = {}
        for file in _files(tmp):
            if file.name == MANIFEST and file.parent == tmp:
                continue
            fsync_file(file)
            files[file.relative_to(tmp).as_posix()] = _fingerprint(file)
        manifest = tmp / MANIFEST
        disk().unlink(manifest)
        write_durably(manifest, encode({"files": files}))
        for folder in [tmp, *(p for p in tmp.rglob("*") if p.is_dir())]:
            fsync_folder(folder)
        make_folder(final.parent)
        return _move_folder(tmp, final)
    except OSError as error:
        raise storage_error(error, final, "written") from error


def verify_folder(final: Path, *, only: Collection[str] = ()) -> Mapping[str, str]:
    """Compares a published folder, or ``only`` some of its files, with its manifest; returns relative name → SHA-256.

    Files that the manifest does not list (notes of the user) do not matter.

    Raises
    ------
    StateError
        The folder or its manifest is missing or damaged, or a file is missing, shorter, longer or changed.
    """
    final = Path(final)
    if not final.is_dir():
        raise StateError(
            f"There is no published result '{final.name}'.",
            where=str(final),
            todo=f"It was moved or deleted. {REMEDY}",
        )
    files = read_json(final / MANIFEST)["files"]
    files = {name: known for name, known in files.items() if not only or name in only}
    wrong = []
    for name, known in files.items():
        file = final / name
        try:
            found = _fingerprint(file)
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        except OSError as error:
            raise storage_error(error, file, "read") from error
        if found["bytes"] != known["bytes"]:
            wrong.append(f"{name} has {found['bytes']} bytes instead of {known['bytes']}")
        elif found["sha256"] != known["sha256"]:
            wrong.append(f"{name} has changed")
    if wrong:
        raise StateError(
            f"The published result '{final.name}' is damaged: {'; '.join(wrong[:5])}"
            + (f"; and {len(wrong) - 5} more." if len(wrong) > 5 else "."),
            where=str(final),
            todo=REMEDY,
        )
    return {name: known["sha256"] for name, known in files.items()}


def set_aside(path: Path, folder: Path) -> Path:
    """Moves a damaged file or folder into ``folder`` for inspection, under a name that is free; returns where it is."""
    try:
        make_folder(folder)
        for number in range(10_000):
            target = folder / (path.name if number == 0 else f"{path.stem}.{number}{path.suffix}")
            if not target.exists():
                disk().rename(path, target)
                fsync_folder(folder)
                fsync_folder(path.parent)
                return target
    except OSError as error:
        raise storage_error(error, path, "moved") from error
    raise StateError(f"'{folder}' holds 10000 files called '{path.name}'.", where=str(folder), todo="Empty it.")


# -- names ----------------------------------------------------------------------------------------------------------


def _give_name(temporary: Path, path: Path) -> bool:
    """Gives a finished file its final name unless that is taken; True if it was free."""
    try:
        disk().link(temporary, path)
        return True
    except OSError as error:
        # Over NFS the answer to a link that succeeded can get lost; the retried request then says "exists".
        with contextlib.suppress(OSError):
            if temporary.stat().st_nlink == 2:
                return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno not in _NO_LINK:
            raise
    return _claim_and_rename(temporary, path)


def _claim_and_rename(temporary: Path, path: Path) -> bool:
    """`_give_name` where there are no hard links: the right to rename belongs to whoever creates the claim file."""
    claim = path.parent / f"{TEMPORARY}claim-{path.name}"
    while True:
        if path.exists():
            return False
        try:
            write_durably(claim, f"{socket.gethostname()} {os.getpid()}\n".encode())
        except FileExistsError:
            _break_stale_claim(claim, temporary)
            time.sleep(0.02)
            continue
        try:
            if path.exists():
                return False
            disk().rename(temporary, path)
            return True
        finally:
            disk().unlink(claim)


def _break_stale_claim(claim: Path, temporary: Path) -> None:
    """Removes the claim of a process that died between claim and rename (a matter of milliseconds when it lives)."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(temporary)  # the file system's own clock, to which the age of the claim is compared
        if temporary.stat().st_mtime - claim.stat().st_mtime > _STALE_CLAIM:
            disk().unlink(claim)


def _move_folder(tmp: Path, final: Path) -> bool:
    """Renames a complete folder unless a non-empty one is there; the loser is removed."""
    try:
        disk().rename(tmp, final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            disk().remove_tree(tmp)
            return False
        if error.errno != errno.EXDEV:
            raise
        near = temporary_name(final)
        try:
            disk().copy_tree(tmp, near)
            for file in _files(near):
                fsync_file(file)
            for folder in [near, *(p for p in near.rglob("*") if p.is_dir())]:
                fsync_folder(folder)
            verify_folder(near)
            won = _move_folder(near, final)
        except OSError:
            shutil.rmtree(near, ignore_errors=True)
            raise
        disk().remove_tree(tmp)
        return won
    fsync_folder(final.parent)
    if tmp.parent != final.parent:
        fsync_folder(tmp.parent)
    return True


def _files(folder: Path) -> Iterator[Path]:
    """All files under a folder, in a fixed order."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise StateError(
                f"'{path.name}' is neither a file nor a folder and cannot be part of a published result.",
                where=str(path),
                todo="The stage that made it must copy what a link points to, or leave it out.",
            )
        if path.is_file():
            yield path


def _fingerprint(file: Path) -> dict[str, Any]:
    h, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            h.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": h.hexdigest()}
