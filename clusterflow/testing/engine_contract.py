"""What every `Engine` must do. Each check raises AssertionError; run them all for a new engine::

    @pytest.mark.parametrize("check", ENGINE_CHECKS)
    def test_contract(check, engine, folder):
        check(engine, folder)

The engine runs `clusterflow.testing.fakes.run_toy` for the campaign folder ``folder`` on at least the four lanes. The
checks leave it open and may share it; `check_closed` closes it and comes last.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from clusterflow.core.data import Task, TaskResult
from clusterflow.core.frames import canonical_json, digest
from clusterflow.core.protocols import Engine
from clusterflow.errors import ExecutionError, LabelError

WAIT = 180.0
"""Seconds that a check waits for a task at most; the first one may wait for worker processes."""


def toy(do: str, *, lane: str = "local", time_limit: float = 120.0, **payload: Any) -> Task:
    """A task for `run_toy`, keyed by its content."""
    body = {"do": do, **payload}
    return Task("toy", digest("toy", lane, canonical_json(body)), lane, body, time_limit)


def _error(future: Future[TaskResult]) -> BaseException:
    error = future.exception(timeout=WAIT)
    if error is None:
        raise AssertionError(f"the task should have failed; it gave {future.result()}")
    return error


def check_result_is_exact(engine: Engine, folder: Path) -> None:
    """Floats to the last bit, nesting, text beyond ASCII, None; tuples arrive as lists; the campaign's folder too."""
    payload: dict[str, Any] = {
        "e": 0.1 + 0.2,
        "tiny": 5e-324,
        "list": [1, [2.5, "Å"]],
        "pair": (1, 2),
        "none": None,
        "yes": True,
    }
    task = toy("echo", **payload)
    result = engine.submit(task).result(timeout=WAIT)
    assert isinstance(result, TaskResult)
    assert result.key == task.key
    assert result.summary["payload"] == {**payload, "do": "echo", "pair": [1, 2]}
    assert result.summary["folder"] == str(folder.absolute())


def check_every_lane_works(engine: Engine, folder: Path) -> None:  # noqa: ARG001
    """One task per lane, all at once."""
    futures = {lane: engine.submit(toy("echo", lane=lane, n=1)) for lane in ("md", "label", "train", "local")}
    for lane, future in futures.items():
        assert future.result(timeout=WAIT).summary["payload"]["n"] == 1, lane


def check_science_error_comes_back(engine: Engine, folder: Path) -> None:  # noqa: ARG001
    """Class and all three parts of its message."""
    error = _error(engine.submit(toy("fail", lane="label")))
    assert type(error) is LabelError
    assert (error.what, error.where, error.todo) == (
        "SCF did not converge in 333 steps.",
        "fragment 7",
        "Use a smaller mixer.",
    )


def check_mistakes_in_code_are_reported(engine: Engine, folder: Path) -> None:  # noqa: ARG001
    """Any other exception, and sys.exit, is an ExecutionError with the place where it happened; work goes on."""
    for do, text in (("crash", "ZeroDivisionError"), ("quit", "SystemExit")):
        error = _error(engine.submit(toy(do)))
        assert type(error) is ExecutionError
        assert text in error.what
        assert "fakes.py, line" in error.where
    assert engine.submit(toy("echo", after="crash")).result(timeout=WAIT).key


def check_tasks_are_not_remembered(engine: Engine, folder: Path) -> None:
    """The same task twice runs twice: what has been done is known by the journal, not by the engine."""
    note = folder / "count.txt"
    before = len(note.read_text().split()) if note.exists() else 0
    for _ in range(2):
        engine.submit(toy("count")).result(timeout=WAIT)
    assert len(note.read_text().split()) == before + 2


def check_bad_tasks_are_refused(engine: Engine, folder: Path) -> None:  # noqa: ARG001
    """A payload that is not JSON data."""
    try:
        engine.submit(Task("toy", "k", "local", {"do": "echo", "bad": {1, 2}}))
    except ExecutionError as error:
        assert "not JSON data" in error.what  # noqa: PT017 - the checks do without pytest
    else:
        raise AssertionError("a set was accepted as payload")


def check_closed(engine: Engine, folder: Path) -> None:  # noqa: ARG001
    """Closing waits for what was submitted; afterwards nothing is accepted; closing again is harmless."""
    future = engine.submit(toy("echo", last=True))
    engine.close()
    assert future.done()
    assert future.result().summary["payload"]["last"] is True
    engine.close(cancel=True)
    try:
        engine.submit(toy("echo"))
    except ExecutionError as error:
        assert "closed" in error.what  # noqa: PT017
    else:
        raise AssertionError("a closed engine took a task")


ENGINE_CHECKS: tuple[Callable[[Engine, Path], None], ...] = (
    check_result_is_exact,
    check_every_lane_works,
    check_science_error_comes_back,
    check_mistakes_in_code_are_reported,
    check_tasks_are_not_remembered,
    check_bad_tasks_are_refused,
    check_closed,
)
