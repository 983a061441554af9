"""Keeps a group of processes from outliving its driver. Runs as a script, on the standard library alone.

``supervise.py watch SPEC -- COMMAND…`` starts the command and becomes the ancestor of everything that descends from
it, daemons included. When the command ends, when the driver dies (by ``kill -9`` too) or on SIGTERM, it ends all of
them. An orphan (the child of a worker that was killed) is ended at once: nobody waits for it, and it would compete
with the retry.

``supervise.py exec SPEC -- COMMAND…`` becomes the command, which the kernel kills when the driver dies.

SPEC is a JSON file: ``log`` (output of the command), ``environment`` (added to its environment), and for ``watch`` also
``driver`` ("pid:start") and ``status`` (a file that says which process this is, and later how it ended).

Linux only: it needs /proc and prctl.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

PERIOD = 0.4  # s between two looks
GRACE = 2.0  # s between SIGTERM and SIGKILL
MARK = "CLUSTERFLOW_POOL"
"""Environment variable that every process of a pool inherits; by it leftovers are found."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def die_with_parent() -> None:
    """Has the kernel kill this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start_ticks(pid: int) -> str:
    """Start of a process in clock ticks since boot; "" if it does not exist or is dead but not yet collected."""
    _, state, start = _stat(pid)
    return "" if state in ("", "Z", "X") else start


def descendants(root: int) -> list[int]:
    """All living processes that descend from one, parents first."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        parent, state, _ = _stat(pid)
        if state not in ("", "Z", "X"):
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def marked(prefix: str) -> dict[int, str]:
    """All living processes of this user whose pool mark begins with ``prefix``, with their mark."""
    needle, found = f"{MARK}={prefix}".encode(), {}
    for pid in _all_pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - few imports: this is a script too
                entries = file.read().split(b"\0")
        except OSError:
            continue
        mark = next((e for e in entries if e.startswith(needle)), None)
        if mark is not None and pid != os.getpid() and start_ticks(pid):
            found[pid] = mark.decode(errors="replace").partition("=")[2]
    return found


def end_tree(root: int, *, grace: float = GRACE, itself: bool = False) -> None:
    """Ends all descendants of a process (and the process, if asked): SIGTERM, then SIGKILL after ``grace`` s."""
    _end(lambda: descendants(root) + ([root] if itself and start_ticks(root) else []), grace, collect=False)


def end_marked(prefix: str, *, grace: float = GRACE) -> int:
    """Ends all processes whose pool mark begins with ``prefix``; returns how many there were."""
    count = len(marked(prefix))
    if count:
        _end(lambda: marked(prefix), grace, collect=False)
    return count


def _end(find: Any, grace: float, *, collect: bool) -> None:
    deadline = time.monotonic() + grace
    told: set[int] = set()
    while pids := find():
        late = time.monotonic() >= deadline
        for pid in pids:
            if late or pid not in told:
                told.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        if time.monotonic() > deadline + 10:
            return  # stuck in the kernel (a dead network mount): nothing more can be done
        if collect:
            _collect()
        time.sleep(0.02)


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _stat(pid: int) -> tuple[int, str, str]:
    """Parent, state letter and start of a process; (0, "", "") if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            text = file.read()
        fields = text[text.rindex(")") + 2 :].split()
        return int(fields[1]), fields[0], fields[19]
    except (OSError, ValueError, IndexError):
        return 0, "", ""


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _collect() -> dict[int, int]:
    """Collects ended children of this process: pid → exit status."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def _children() -> list[int]:
    """Children of this process."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", encoding="ascii") as file:  # noqa: PTH123
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without that file
        return [pid for pid in _all_pids() if _stat(pid)[0] == me]


def _watch(spec: dict[str, Any], command: list[str]) -> int:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    asked: list[int] = []
    for number in _SIGNALS:
        signal.signal(number, lambda n, _frame: asked.append(n))
    child = os.fork()
    if child == 0:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        die_with_parent()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _become(command, spec)
    _write(spec["status"], {"pid": os.getpid(), "start": start_ticks(os.getpid()), "driver": spec["driver"]})
    driver, _, driver_start = spec["driver"].partition(":")
    code: int | None = None
    while code is None and not asked and start_ticks(int(driver)) == driver_start:
        for orphan in _children():
            if orphan != child:
                end_tree(orphan, grace=0.0, itself=True)
        code = _collect().get(child)
        if code is None:
            time.sleep(PERIOD)
    _end(lambda: descendants(os.getpid()), GRACE, collect=True)
    _write(spec["status"], {"exit_code": code, "asked": bool(asked)})
    return 0 if code is None else code if code >= 0 else 128 - code


def _become(command: list[str], spec: dict[str, Any]) -> None:
    """Becomes the command, detached from the terminal; never returns."""
    with contextlib.suppress(OSError):
        os.setsid()
    out = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    try:
        os.execvpe(command[0], command, {**os.environ, **spec["environment"]})
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    os._exit(127)


def _write(path: str, data: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        with open(f"{path}.tmp", "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(data, file)
        os.replace(f"{path}.tmp", path)  # noqa: PTH105


def main(arguments: list[str]) -> int:
    """Entry point of the script."""
    parent = os.getppid()
    mode, path, _, *command = arguments
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        spec = json.load(file)
    os.environ.update(spec["environment"])
    if mode == "watch":
        return _watch(spec, command)
    die_with_parent()
    if os.getppid() == parent:  # else the driver died before the kernel was told
        _become(command, spec)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
