"""The serial engine beyond its contract (tests/contracts/test_engine_contract.py)."""

import pytest

from clusterflow.execution.serial_engine import SerialEngine
from clusterflow.testing.engine_contract import toy
from clusterflow.testing.fakes import run_toy


def test_future_is_done_when_submit_returns(tmp_path):
    assert SerialEngine(run_toy, tmp_path).submit(toy("echo")).done()


def test_ctrl_c_is_not_an_outcome(tmp_path):
    def interrupted(task, folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SerialEngine(interrupted, tmp_path).submit(toy("echo"))


def test_result_that_is_not_json_is_an_error_not_a_crash(tmp_path):
    from clusterflow.errors import ExecutionError

    future = SerialEngine(lambda task, folder: {"summary": {1, 2}}, tmp_path).submit(toy("echo"))
    assert isinstance(future.exception(), ExecutionError)
    assert "TypeError" in future.exception().what
