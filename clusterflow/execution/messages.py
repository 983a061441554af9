"""What crosses between the driver and a worker: JSON text, both ways.

Nothing is pickled but this text: a task leaves as JSON and comes back as JSON, whether the work succeeded or failed, so
the serial and the parallel engine see exactly the same data, and an error arrives as the class it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from clusterflow import errors
from clusterflow.core.data import Task, TaskResult
from clusterflow.core.frames import canonical_json
from clusterflow.errors import ClusterflowError, ExecutionError


def task_to_json(task: Task) -> dict[str, Any]:
    """JSON data of a task."""
    return {
        "kind": task.kind,
        "key": task.key,
        "lane": task.lane,
        "payload": dict(task.payload),
        "time_limit": float(task.time_limit),
    }


def task_from_json(data: Mapping[str, Any]) -> Task:
    """The inverse of `task_to_json`."""
    return Task(
        kind=str(data["kind"]),
        key=str(data["key"]),
        lane=str(data["lane"]),
        payload=dict(data["payload"]),
        time_limit=float(data["time_limit"]),
    )


def result_to_json(result: TaskResult) -> dict[str, Any]:
    """JSON data of a result."""
    return {
        "key": result.key,
        "summary": dict(result.summary),
        "wall_time": float(result.wall_time),
        "cores": int(result.cores),
        "peak_memory_MB": float(result.peak_memory_MB),
    }


def result_from_json(data: Mapping[str, Any]) -> TaskResult:
    """The inverse of `result_to_json`."""
    return TaskResult(
        key=str(data["key"]),
        summary=dict(data["summary"]),
        wall_time=float(data["wall_time"]),
        cores=int(data["cores"]),
        peak_memory_MB=float(data["peak_memory_MB"]),
    )


def encode_task(task: Task) -> str:
    """Text of a task for a worker.

    Raises
    ------
    ExecutionError
        Its payload is not JSON data.
    """
    try:
        return canonical_json(task_to_json(task))
    except (TypeError, ValueError) as error:
        raise ExecutionError(
            f"The payload of task {name_of(task)} is not JSON data: {error}.",
            where=f"task {task.key}",
            todo="This is a mistake in clusterflow: please report it with the campaign file.",
        ) from error


def error_to_json(error: ClusterflowError) -> dict[str, Any]:
    """JSON data of an error: class, the three parts of its message, and what the failed work had cost."""
    said = {"class": type(error).__name__, "what": error.what, "where": error.where, "todo": error.todo}
    return {**said, "core_seconds": error.core_seconds}


def error_from_json(data: Mapping[str, Any]) -> ClusterflowError:
    """The inverse of `error_to_json`; an unknown class becomes an `ExecutionError`."""
    found = getattr(errors, data["class"], None)
    cls = found if isinstance(found, type) and issubclass(found, ClusterflowError) else ExecutionError
    error = cls(data["what"], where=data["where"], todo=data["todo"])
    error.core_seconds = float(data.get("core_seconds", 0.0))
    return error


def decode_answer(text: str) -> TaskResult:
    """The result in a worker's answer.

    Raises
    ------
    ClusterflowError
        The error that the answer holds instead.
    """
    try:
        answer = json.loads(text)
        if "error" not in answer:
            return result_from_json(answer["result"])
        error = error_from_json(answer["error"])
    except (ValueError, TypeError, KeyError) as problem:
        raise ExecutionError(
            f"A worker's answer makes no sense: {type(problem).__name__}: {problem}.",
            where=text[:500],
            todo="This is a mistake in the function that ran the task: please report it.",
        ) from problem
    raise error


def name_of(task: Task) -> str:
    """How messages call a task."""
    return f"'{task.kind}' {task.key[:12]}"
