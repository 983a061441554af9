"""The serial engine: every task runs at once, in this process. For tests, for debugging, and as the measure of the
parallel one: it gives the same results and the same errors."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path

from clusterflow.core.data import Task, TaskResult
from clusterflow.errors import ClusterflowError, ExecutionError
from clusterflow.execution.messages import decode_answer, encode_task
from clusterflow.execution.worker import RunTask, execute


class SerialEngine:
    """Runs tasks in `submit`; ``folder`` is that of the campaign and is handed to each of them."""

    def __init__(self, run: RunTask, folder: str | Path) -> None:
        self._run, self._folder = run, str(Path(folder).absolute())
        self._closed = False
        _one_thread()

    def submit(self, task: Task) -> Future[TaskResult]:
        """Runs the task and returns a future that is done.

        Ctrl-C is not an outcome of the task: it passes through.

        Raises
        ------
        ExecutionError
            The engine has been closed, or the payload is not JSON data.
        """
        if self._closed:
            raise ExecutionError("The engine has been closed; it takes no more tasks.", where=f"task {task.key}")
        text = encode_task(task)
        future: Future[TaskResult] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(decode_answer(execute(self._run, text, self._folder)))
        except ClusterflowError as error:
            future.set_exception(error)
        return future

    def close(self, *, cancel: bool = False) -> None:  # noqa: ARG002 - nothing is ever pending
        """Takes no more tasks."""
        self._closed = True


def _one_thread() -> None:
    """As many threads as a worker of the parallel engine has, so that both add numbers in the same order.

    What the user set in OMP_NUM_THREADS counts. Libraries that are loaded already listen to threadpoolctl only.
    """
    from threadpoolctl import threadpool_limits

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    threadpool_limits(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))
