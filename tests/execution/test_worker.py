"""One task, whatever happens."""

import json
import os

import pytest

from clusterflow.execution.messages import encode_task
from clusterflow.execution.worker import _choose_gpu, execute, execute_remotely
from clusterflow.testing.engine_contract import toy
from clusterflow.testing.fakes import run_toy


def test_marker_exists_while_the_task_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterflow.execution.worker.die_with_parent", lambda: None)
    marker = tmp_path / "task.json"
    seen = []

    def spy(task, folder):
        seen.append(json.loads(marker.read_text())["pid"])
        return run_toy(task, folder)

    monkeypatch.setattr("clusterflow.testing.fakes.run_toy", spy)
    answer = execute_remotely("clusterflow.testing.fakes:run_toy", encode_task(toy("echo")), str(tmp_path), str(marker))
    assert "result" in json.loads(answer)
    assert seen == [os.getpid()]
    assert not marker.exists()


def test_unwritable_marker_does_not_stop_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterflow.execution.worker.die_with_parent", lambda: None)
    marker = tmp_path / "no such folder" / "task.json"
    answer = execute_remotely("clusterflow.testing.fakes:run_toy", encode_task(toy("echo")), str(tmp_path), str(marker))
    assert "result" in json.loads(answer)


@pytest.mark.parametrize("do", ["crash", "quit"])
def test_unexpected_exceptions_become_answers_with_traceback(tmp_path, do):
    error = json.loads(execute(run_toy, encode_task(toy(do)), str(tmp_path)))["error"]
    assert error["class"] == "ExecutionError"
    assert "Traceback" in error["where"]


def test_gpu_by_rank(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "before")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "before")
    monkeypatch.setenv("CLUSTERFLOW_GPUS", "")
    _choose_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "before"
    monkeypatch.setenv("CLUSTERFLOW_GPUS", "GPU-aa,GPU-bb")
    for rank, expected in ((0, "GPU-aa"), (1, "GPU-bb"), (2, "GPU-aa")):
        monkeypatch.setenv("PARSL_WORKER_RANK", str(rank))
        _choose_gpu()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == os.environ["ROCR_VISIBLE_DEVICES"] == expected
