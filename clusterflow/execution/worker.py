"""The worker's side: runs one task and answers with JSON, whatever happens.

`execute` is what the engines call, the parallel one in a worker process and the serial one in its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clusterflow.core.frames import canonical_json
from clusterflow.errors import ClusterflowError, ExecutionError
from clusterflow.execution.messages import error_to_json
from clusterflow.execution.supervise import GPUS, die_with_parent, start_ticks

RunTask = Callable[[dict[str, Any], str], dict[str, Any]]
"""``run(task, folder)``: JSON forms of a `Task` and of a `TaskResult`; folder = that of the campaign."""

MPI = "CLUSTERFLOW_MPI"
"""Environment variable of a worker pool: what starts MPI ranks, a list of words as JSON."""


def execute(run: RunTask, task: str, folder: str) -> str:
    """Runs a task given as text; the answer is ``{"result": …}`` or ``{"error": …}`` as text.

    An exception that is not a `ClusterflowError` is a mistake in the code, not in the science; it becomes an
    `ExecutionError` with the traceback's end, so that one bad task never ends a worker.
    """
    data = json.loads(task)
    try:
        try:
            answer = {"result": run(data, folder)}
            return canonical_json(answer)
        except ClusterflowError as error:
            return canonical_json({"error": error_to_json(error)})
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1] if frames else None
        place = f"{last.filename}, line {last.lineno}, in {last.name}" if last else "unknown"
        unexpected = ExecutionError(
            f"Task '{data['kind']}' {data['key'][:12]} ended with {type(error).__name__}: {str(error)[:2000]}",
            where=f"{place}\n{''.join(traceback.format_exception(error))[-4000:]}",
            todo="This is probably a mistake in clusterflow or in a package it uses: please report it with this text.",
        )
        return canonical_json({"error": error_to_json(unexpected)})


def execute_remotely(run: str, task: str, folder: str, marker: str) -> str:
    """`execute` in a worker process of a pool. ``run`` is "module:function"; ``marker`` is a file that exists while the
    task runs and names the process, so that the driver can end a task that overruns its limit."""
    die_with_parent()
    _choose_gpu()
    module, _, function = run.partition(":")
    path = Path(marker)
    with contextlib.suppress(OSError):  # only the time limit depends on it
        me = {"pid": os.getpid(), "start": start_ticks(os.getpid()), "node": os.uname().nodename}
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(me))
        partial.rename(path)
    try:
        return execute(getattr(importlib.import_module(module), function), task, folder)
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _choose_gpu() -> None:
    """Shows this worker one of the pool's GPUs, by its rank; before any package looks for one."""
    gpus = [g for g in os.environ.get(GPUS, "").split(",") if g]
    if gpus:
        gpu = gpus[int(os.environ.get("PARSL_WORKER_RANK", "0")) % len(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        os.environ["ROCR_VISIBLE_DEVICES"] = gpu
