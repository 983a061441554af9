"""Keeps a group of processes from outliving its driver. Runs as a script, on the standard library alone.

``supervise.py watch SPEC -- COMMAND…`` starts the command and becomes the ancestor of everything that descends from
it, daemons included. When the command ends, when the driver dies (by ``kill -9`` too) or on SIGTERM, it ends all of
them. An orphan (the child of a worker that was killed) is ended at once: nobody waits for it, and it would compete
with the retry.

``supervise.py exec SPEC -- COMMAND…`` becomes the command, which the kernel kills when the driver dies.

It also ends all of them when the command can do no more work without saying so: a worker has died with its task and
nobody has noticed for ``lost_after`` s, or the command has no child left for that long. (Parsl's manager spins for ever
when the server process below it is killed.)

SPEC is a JSON file: ``log`` (output of the command), ``environment`` (added to its environment), ``without`` (prefixes
of variables to remove from it), and for ``watch`` also ``status`` (a file that says which process this is, and later
how it ended), ``driver`` ("pid:start"; not on other nodes, where the driver cannot be seen), ``lost_after``, and
``gpus`` (how many, if the scheduler does not name them). "{node}" in paths is the node and the rank on it.

Beside ``status`` lie the markers of running tasks, ``task-*.json``; one that was renamed to ``….json.end`` is a task to
end.

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
CHECK = 4.0  # s between two looks at markers and children
LOST_AFTER = 20.0  # s, if the specification does not say
MARK = "CLUSTERFLOW_POOL"
"""Environment variable that every process of a pool inherits; by it leftovers are found."""
GPUS = "CLUSTERFLOW_GPUS"
"""Environment variable of a worker pool: the GPUs that its workers share, by comma."""
BEGAN = "CLUSTERFLOW_BEGAN"
"""Environment variable of a pool of workers: Unix time when its supervisor began."""

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
    me = {"pid": os.getpid(), "start": start_ticks(os.getpid()), "driver": spec.get("driver", "")}
    _write(spec["status"], {**me, "node": os.uname().nodename, "began": time.time()})
    health = _Health(os.path.dirname(spec["status"]), float(spec.get("lost_after", LOST_AFTER)))  # noqa: PTH120
    code, why = None, ""
    while code is None and not asked and not why and _driver_lives(spec):
        for orphan in _children():
            if orphan != child:
                end_tree(orphan, grace=0.0, itself=True)
        why = health.look(child)
        code = _collect().get(child)
        if code is None:
            time.sleep(PERIOD)
    _end(lambda: descendants(os.getpid()), GRACE, collect=True)
    _write(spec["status"], {"exit_code": code, "asked": bool(asked), **({"why": why} if why else {})})
    return 0 if code is None else code if code >= 0 else 128 - code


def _driver_lives(spec: dict[str, Any]) -> bool:
    if "driver" not in spec:
        return True
    driver, _, start = spec["driver"].partition(":")
    return bool(start_ticks(int(driver)) == start)


class _Health:
    """Notices what a manager of workers does not report: a worker that died with its task, and workers all gone."""

    def __init__(self, folder: str, lost_after: float) -> None:
        self._folder, self._lost_after = folder, lost_after
        self._since: dict[str, float] = {}
        self._had_children = False
        self._next = 0.0

    def look(self, command: int) -> str:
        """What is wrong, "" while nothing is; ends tasks on request on the way."""
        now = time.monotonic()
        if now < self._next:
            return ""
        self._next = now + CHECK
        seen = {}
        for marker, task in self._tasks():
            gone = start_ticks(task["pid"]) != task["start"]
            if marker.endswith(".end"):
                if not gone:
                    end_tree(task["pid"], grace=1.0, itself=True)
                with contextlib.suppress(OSError):
                    os.unlink(marker)  # noqa: PTH108
            elif gone:
                seen[marker] = "a worker died with its task, and nobody noticed"
        if any(_stat(pid)[0] == command for pid in descendants(command)):
            self._had_children = True
        elif self._had_children:
            seen["children"] = "all its worker processes are gone"
        self._since = {name: self._since.get(name, now) for name in seen}
        return next((seen[n] for n, t in self._since.items() if now - t > self._lost_after), "")

    def _tasks(self) -> list[tuple[str, dict[str, Any]]]:
        """Markers of tasks on this node."""
        found = []
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):  # noqa: PTH208
                if name.startswith("task-") and name.endswith((".json", ".json.end")):
                    path = f"{self._folder}/{name}"
                    with contextlib.suppress(OSError, ValueError, KeyError), open(path, encoding="utf-8") as file:  # noqa: PTH123
                        task = json.load(file)
                        if task["node"] == os.uname().nodename and task["pid"] and task["start"]:
                            found.append((path, task))
        return found


def _become(command: list[str], spec: dict[str, Any]) -> None:
    """Becomes the command, detached from the terminal; never returns."""
    with contextlib.suppress(OSError):
        os.setsid()
    out = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    try:
        os.execvpe(command[0], command, _environment(spec))
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    os._exit(127)


def _environment(spec: dict[str, Any]) -> dict[str, str]:
    """Of the command. GPUs are those that the scheduler gave, else the first ``gpus`` of the node."""
    without = tuple(spec.get("without", ()))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(without)} if without else {**os.environ}
    if "gpus" in spec:
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        environment[GPUS] = given or ",".join(str(n) for n in range(spec["gpus"]))
    return {**environment, BEGAN: str(time.time()), **spec["environment"]}


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
    rank = os.environ.get("SLURM_PROCID") or os.environ.get("PBS_NODENUM") or "0"
    here = f"{os.uname().nodename}.{rank}"
    spec.update({k: spec[k].replace("{node}", here) for k in ("log", "status") if k in spec})
    os.environ.update(spec["environment"])
    if mode == "watch":
        return _watch(spec, command)
    die_with_parent()
    if os.getppid() == parent:  # else the driver died before the kernel was told
        _become(command, spec)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
