"""Toy tasks with known outcomes, for tests of engines and of dispatch. Workers import `run_toy` by name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from clusterflow.errors import LabelError


def run_toy(task: dict[str, Any], folder: str) -> dict[str, Any]:
    """Does what ``payload["do"]`` says and answers as a real task would.

    ``echo`` returns the payload; ``sleep`` waits ``seconds``; ``environment`` reports what the worker sees; ``fail``
    raises a `LabelError`, ``crash`` a ZeroDivisionError, ``quit`` SystemExit; ``die`` kills its own process; ``child``
    starts a grandchild that would run for ``seconds`` and waits for it; ``count`` notes in a file that it ran.
    """
    payload = task["payload"]
    began = time.perf_counter()
    summary = _ACTIONS[payload["do"]](payload, Path(folder))
    return {
        "key": task["key"],
        "summary": summary,
        "wall_time": time.perf_counter() - began,
        "cores": int(os.environ.get("CLUSTERFLOW_CORES", "1")),
        "peak_memory_MB": 0.0,
    }


def _echo(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {"payload": payload, "folder": str(folder)}


def _sleep(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    began = time.time()
    if "note" in payload:
        (folder / f"{payload['note']}.pid").write_text(str(os.getpid()))
    time.sleep(payload["seconds"])
    return {"began": began, "ended": time.time(), "pid": os.getpid()}


def _environment(payload: dict[str, Any], _folder: Path) -> dict[str, Any]:
    wanted = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CLUSTERFLOW_CORES")
    time.sleep(payload.get("seconds", 0.0))
    return {"pid": os.getpid(), **{name: os.environ.get(name, "") for name in wanted}}


def _fail(_payload: dict[str, Any], _folder: Path) -> dict[str, Any]:
    raise LabelError("SCF did not converge in 333 steps.", where="fragment 7", todo="Use a smaller mixer.")


def _crash(payload: dict[str, Any], _folder: Path) -> dict[str, Any]:
    return {"never": 1 // payload.get("zero", 0)}


def _quit(_payload: dict[str, Any], _folder: Path) -> dict[str, Any]:
    sys.exit("a library called sys.exit")


def _die(_payload: dict[str, Any], _folder: Path) -> dict[str, Any]:
    os.kill(os.getpid(), 9)
    return {}


def _child(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    # Its own session, as MPI launchers do it: no signal to the worker's group reaches it.
    script = f"import time; time.sleep({float(payload['seconds'])})"
    child = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    (folder / f"{payload['note']}.pids").write_text(f"{os.getpid()} {child.pid}")
    child.wait()
    return {"child": child.pid}


def _count(_payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    with (folder / "count.txt").open("a") as file:
        file.write("1\n")
    return {}


_ACTIONS = {
    "echo": _echo,
    "sleep": _sleep,
    "environment": _environment,
    "fail": _fail,
    "crash": _crash,
    "quit": _quit,
    "die": _die,
    "child": _child,
    "count": _count,
}
