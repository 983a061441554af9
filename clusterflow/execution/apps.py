"""The one table that turns tasks into work, and what every piece of work has in common.

`run_task` is what engines run, in this process or in a worker: it looks whether the result is published already, works
in a scratch folder, measures, and publishes; the first publisher wins. It returns a small JSON summary and raises only
`ClusterflowError`s, which survive the way back.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterflow.core.data import Task, TaskResult
from clusterflow.core.memory import forget_peak_memory, peak_memory_MB
from clusterflow.errors import ClusterflowError, ExecutionError, LabelError, LabelTimeoutError, ScienceError, StateError
from clusterflow.execution.borrowing import borrowed, lend
from clusterflow.execution.messages import result_to_json, task_from_json
from clusterflow.execution.stages import STAGES, label, label_summary
from clusterflow.execution.supply import RESUMABLE
from clusterflow.execution.workplace import Workplace
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import publish_folder, publish_json, read_json

_RESULT = "result.json"


def published(task: Task, folder: CampaignFolder) -> TaskResult | None:
    """The result of a task that a worker has published already, perhaps for a driver that died.

    Raises
    ------
    LabelError
        The label is on record as failed.
    """
    if task.kind == "label":
        store = LabelStore(folder.labels)
        found = store.get(task.key)
        if found is not None:
            return TaskResult(task.key, label_summary(found[1]), found[1].wall_time, found[1].cores, 0.0)
        lent = borrowed(task, folder)
        if lent is not None:
            label_, origin = lent
            return TaskResult(task.key, {**label_summary(label_), "bank": origin}, label_.wall_time, label_.cores, 0.0)
        failure = store.get_failure(task.key)
        if failure is not None:
            raise LabelError(failure["what"], where=failure.get("where", ""), todo=failure.get("todo", ""))
        return None
    path = folder.result(task.kind, task.key) / _RESULT
    if not path.is_file():
        return None
    data = read_json(path)
    return TaskResult(task.key, data["summary"], data["wall_time"], data["cores"], data["peak_memory_MB"])


def run_task(task_json: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Does one task of the campaign in ``folder``; returns the JSON form of a `TaskResult`.

    Raises
    ------
    ScienceError
        The work itself failed; it is recorded and not repeated.
    StateError
        Results cannot be read or written (disk full, files missing): the campaign must stop.
    ExecutionError
        Anything unforeseen, with its traceback in the scratch folder.
    """
    task = task_from_json(task_json)
    place = CampaignFolder(Path(folder))
    done = published(task, place)
    if done is not None:
        return result_to_json(done)
    scratch = place.scratch(task.kind, task.key)
    begin = time.perf_counter()
    try:
        return _guarded(task, place, scratch)
    except ClusterflowError as error:
        error.core_seconds = (time.perf_counter() - begin) * task.payload.get("reference", {}).get("ranks", 1)
        raise


def _guarded(task: Task, place: CampaignFolder, scratch: Path) -> dict[str, Any]:
    """The work, with every error turned into one of ours."""
    try:
        if task.kind not in RESUMABLE:  # these go on from their own checkpoints
            shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        return _work(task, place, scratch)
    except LabelTimeoutError:
        raise  # another campaign that shares the labels may have more time
    except LabelError as error:
        LabelStore(place.labels).put_failure(
            task.key, {"what": error.what, "where": error.where or str(scratch), "todo": error.todo}
        )
        raise
    except ClusterflowError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StateError(
                f"No space left (or no permission) to write: {error.strerror}.",
                where=str(error.filename or scratch),
                todo="Free space or raise the quota, then `clusterflow run` again: nothing published is lost.",
            ) from None
        raise _unforeseen(task, scratch, error) from None
    except Exception as error:
        raise _unforeseen(task, scratch, error) from None


def _work(task: Task, folder: CampaignFolder, scratch: Path) -> dict[str, Any]:
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    begin = time.perf_counter()
    forget_peak_memory()
    if task.kind == "label":
        summary = label(task.payload, Workplace(folder, scratch, scratch, threads), task.key)
        summary |= lend(task, folder)
        with folder.computed.open("a", encoding="utf-8") as log:  # one write: whole lines even from many workers
            log.write(f"{task.key} {os.uname().nodename} {os.getpid()}\n")
        shutil.rmtree(scratch, ignore_errors=True)
        wall, cores = summary["seconds"], summary["cores"]
        return result_to_json(TaskResult(task.key, summary, wall, cores, summary["peak_memory_MB"]))
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    summary = STAGES[task.kind](task.payload, Workplace(folder, scratch, out, threads))
    result = TaskResult(task.key, summary, time.perf_counter() - begin, threads, peak_memory_MB())
    publish_json(
        out / _RESULT,
        {
            "task": task.kind,
            "key": task.key,
            "payload": dict(task.payload),
            "summary": dict(result.summary),
            "wall_time": result.wall_time,
            "cores": result.cores,
            "peak_memory_MB": result.peak_memory_MB,
        },
    )
    final = folder.result(task.kind, task.key)
    publish_folder(out, final)
    shutil.rmtree(scratch, ignore_errors=True)
    again = published(task, folder)  # the first publisher's, should two have worked on it
    return result_to_json(again or result)


_SCIENCE = ("label", "explore", "train", "relax", "hessian", "dynamics", "vibrations")
"""Kinds of task whose unforeseen errors are the work's own, not the machinery's."""


def _unforeseen(task: Task, scratch: Path, error: BaseException) -> ClusterflowError:
    """An error of ours that says where its traceback is; science stages count it as their own failure."""
    text = "".join(traceback.format_exception(error))
    log = scratch / "traceback.txt"
    where = str(log)
    try:
        log.write_text(text, encoding="utf-8")
    except OSError:
        where = text[-1500:]
    kind = ScienceError if task.kind in _SCIENCE else ExecutionError
    return kind(
        f"The {task.kind} task {task.key[:16]} met an unforeseen {type(error).__name__}: {error}",
        where=where,
        todo="Read the traceback there; `clusterflow doctor` tests each part. Please report it if it looks like ours.",
    )
