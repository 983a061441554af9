"""Tasks, results and errors survive the way to a worker and back."""

import inspect

import pytest

from clusterflow import errors
from clusterflow.core.data import Task, TaskResult
from clusterflow.errors import ClusterflowError, ExecutionError
from clusterflow.execution.messages import (
    decode_answer,
    encode_task,
    error_from_json,
    error_to_json,
    result_from_json,
    result_to_json,
    task_from_json,
    task_to_json,
)


def test_round_trips():
    task = Task("label", "ab" * 32, "label", {"source": "k", "x": [0.1, None]}, time_limit=12.5)
    assert task_from_json(task_to_json(task)) == task
    result = TaskResult("ab" * 32, {"energy": -0.1}, 1.5, 4, 300.25)
    assert result_from_json(result_to_json(result)) == result


ALL = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, ClusterflowError)]


@pytest.mark.parametrize("cls", ALL, ids=lambda c: c.__name__)
def test_every_error_class_arrives_as_it_was(cls):
    sent = cls("12 of 14 atoms", where="fragment 3", todo="look")
    got = error_from_json(error_to_json(sent))
    assert type(got) is cls
    assert (got.what, got.where, got.todo) == (sent.what, sent.where, sent.todo)


@pytest.mark.parametrize("name", ["Nonsense", "annotations", "_rebuild"])
def test_unknown_error_class_is_not_looked_for_elsewhere(name):
    assert type(error_from_json({"class": name, "what": "x", "where": "", "todo": ""})) is ExecutionError


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"result": {"key": "k"}}', '{"result": null}', '{"error": {}}'])
def test_answer_that_makes_no_sense_is_an_error_too(text):
    with pytest.raises(ExecutionError, match="makes no sense"):
        decode_answer(text)


def test_payload_that_is_not_json():
    with pytest.raises(ExecutionError, match="not JSON data"):
        encode_task(Task("label", "k", "label", {"energy": float("nan")}))
