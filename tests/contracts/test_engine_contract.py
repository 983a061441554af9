"""Both engines keep the same contract, check by check."""

import pytest

from clusterflow.execution.machines import default_machine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.execution.serial_engine import SerialEngine
from clusterflow.testing.engine_contract import ENGINE_CHECKS
from clusterflow.testing.fakes import run_toy


@pytest.fixture(scope="module", params=["serial", "parsl"])
def engine_and_folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"campaign of {request.param}")  # with spaces, as users have them
    engine = (
        SerialEngine(run_toy, folder)
        if request.param == "serial"
        else ParslEngine(default_machine(), folder, run_toy, run_id="contract 1")
    )
    yield engine, folder
    engine.close(cancel=True)


@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda c: c.__name__)
def test_contract(check, engine_and_folder):
    check(*engine_and_folder)
