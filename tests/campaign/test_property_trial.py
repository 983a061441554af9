"""One force call for each structure, before a property run begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from typer.testing import CliRunner

from clusterflow.campaign.property_session import gather_property_inputs
from clusterflow.campaign.property_trial import require_all_work, stress_needed, try_potential
from clusterflow.cli.main import app
from clusterflow.config.load import load_properties
from clusterflow.config.potential import Calculator, Model
from clusterflow.core.frames import write_frames
from clusterflow.errors import InputError

RUN = """\
name: trial
potential: {calculator: "ase.calculators.emt:EMT"}
structures:
  - {name: cu, structure: cu.extxyz}
  - {name: zinc, structure: zn.extxyz}
  - {name: water, structure: water.extxyz}
properties:
  - {kind: energy_volume, structures: [cu, zinc]}
  - {kind: heat_capacity, structures: [cu, water]}
"""


CALCULATORS = """\
import time
import numpy as np
from ase.calculators.calculator import Calculator


class NoStress(Calculator):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms, *_):
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


class NaN(NoStress):
    def calculate(self, atoms, *_):
        self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), np.nan)}


class Reads(NoStress):
    def __init__(self, path):
        super().__init__()
        open(path).close()


class Slow(NoStress):
    def calculate(self, *_):
        time.sleep(600)


class Fatal(NoStress):
    def calculate(self, *_):
        print("no such basis set", flush=True)
        raise SystemExit(3)  # as a Fortran library may end its process
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_frames(tmp_path / "cu.extxyz", [bulk("Cu", cubic=True)])
    write_frames(tmp_path / "zn.extxyz", [bulk("Zn")])
    write_frames(tmp_path / "water.extxyz", [molecule("H2O")])
    (tmp_path / "run.yaml").write_text(RUN, encoding="utf-8")
    return tmp_path / "run.yaml"


def test_a_dry_run_names_the_structure_that_cannot_be_computed(file: Path) -> None:
    said = CliRunner().invoke(app, ["property", str(file), "--dry-run"])
    assert said.exit_code == 2, said.output
    assert "cu (4 atoms): works: largest force 0.000 eV/Å" in said.output
    assert "water (3 atoms): works: largest force" in said.output
    assert (
        "cannot compute 1 of 3 structures:\n  zinc (Zn2): NotImplementedError: No EMT-potential for Zn" in said.output
    )
    assert f"{file}, line 5, structures.1: structure 'zinc'" in said.output
    assert said.output.index("nothing was computed") < said.output.index("force call")  # the tasks come first
    some = CliRunner().invoke(app, ["property", "heat_capacity", str(file), "--dry-run"])
    assert some.exit_code == 0, some.output
    assert "zinc" not in some.output.partition("force call")[2]


def test_which_structures_need_stress(file: Path) -> None:
    config = load_properties(file)
    inputs = gather_property_inputs(config)
    assert stress_needed(config, inputs) == {"cu": "energy_volume", "zinc": "energy_volume", "water": ""}
    assert stress_needed(config, inputs, ["heat_capacity"]) == {"cu": "heat_capacity", "water": ""}


@pytest.fixture
def calculators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trial_calculators.py").write_text(CALCULATORS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")


@pytest.mark.usefixtures("calculators")
def test_stress_size_and_equal_structures() -> None:
    potential = Calculator(calculator="trial_calculators:NoStress")
    cu = bulk("Cu", cubic=True)
    structures = {"a": cu, "b": cu.copy(), "large": cu.repeat(3), "molecule": molecule("H2O")}
    trials = try_potential(potential, structures, {"b": "energy_volume"}, large=100)
    assert [(t.structures, t.outcome) for t in trials] == [
        (("molecule",), "works"), (("a", "b"), "fails"), (("large",), "not tried"),
    ]  # fmt: skip
    assert trials[1].told == "it gives no stress, which energy_volume needs to relax the cell"
    assert trials[2].told == "more than 100 atoms"
    with pytest.raises(InputError, match=r"cannot compute 2 of 4 structures:\n  a, b \(Cu4\): it gives no stress") as e:
        require_all_work(trials, "x")
    assert e.value.where == "structure 'a'"
    require_all_work([t for t in trials if t.outcome != "fails"], "x")


@pytest.mark.usefixtures("calculators")
@pytest.mark.parametrize(
    ("name", "outcomes", "told"),
    [
        ("NaN", ["fails", "fails"], "its energy or forces are not finite numbers"),
        ("Slow", ["not tried", "not tried"], "one force call did not end in the 5 s that it had"),
        ("Fatal", ["fails", "not tried"], "its process ended with status 3: no such basis set"),
    ],
)
def test_calculators_that_give_nothing(name: str, outcomes: list[str], told: str) -> None:
    structures = {"h": Atoms("H"), "h2": molecule("H2")}
    start = {"start": 3.0, "each": 1.0} if name == "Slow" else {}
    found = try_potential(Calculator(calculator=f"trial_calculators:{name}"), structures, {}, **start)
    assert [t.outcome for t in found] == outcomes
    assert found[0].told == told


@pytest.mark.usefixtures("calculators")
def test_paths_among_the_arguments_count_from_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parameters.txt").touch()
    monkeypatch.chdir(tmp_path)
    potential = Calculator(calculator="trial_calculators:Reads", arguments={"path": "parameters.txt"})
    assert [t.outcome for t in try_potential(potential, {"h": Atoms("H")}, {})] == ["works"]


def test_a_damaged_model(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    trials = try_potential(Model(folder=tmp_path), {"h": Atoms("H")}, {})
    assert trials[0].outcome == "fails"
