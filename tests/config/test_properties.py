"""The property file: what it takes, and what it says of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterflow.config.load import load_properties
from clusterflow.config.potential import Calculator, Model
from clusterflow.config.properties import PropertyRun
from clusterflow.config.section import to_json
from clusterflow.errors import ConfigError, InputError

HEAD = """\
name: test
potential: {potential}
structures: [{{name: a, structure: a.extxyz}}, {{name: b, structure: b.extxyz}}]
properties:
"""
EMT = "{calculator: 'ase.calculators.emt:EMT'}"


def load(tmp_path: Path, properties: str, potential: str = EMT) -> PropertyRun:
    path = tmp_path / "run.yaml"
    path.write_text(HEAD.format(potential=potential) + properties, encoding="utf-8")
    return load_properties(path)


def test_short_forms_and_defaults(tmp_path: Path) -> None:
    run = load(tmp_path, "  - kind: energy_volume\n  - {kind: heat_capacity, lowest: 0.1 THz}\n")
    assert isinstance(run.potential, Calculator)
    assert [p.name for p in run.properties] == ["energy_volume", "heat_capacity"]
    assert run.properties[0].fmax == 1e-3
    assert run.properties[1].lowest == pytest.approx(3.33564)  # type: ignore[union-attr]
    assert run.run_folder == Path("runs/test")
    assert PropertyRun.model_validate(to_json(run)) == run


def test_folder_and_machine_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = load(tmp_path, "  - kind: energy_volume\nfolder: out\nmachine: ../hpc/slurm.yaml\n")
    assert run.run_folder == tmp_path / "out"
    assert Path(run.machine) == tmp_path / "../hpc/slurm.yaml"
    assert load(tmp_path, "  - kind: energy_volume\nmachine: local\n").machine == "local"


def test_a_path_is_a_model_beside_the_file(tmp_path: Path) -> None:
    run = load(tmp_path, "  - kind: energy_volume\n", potential="runs/mof5")
    assert isinstance(run.potential, Model)
    assert run.potential.folder == tmp_path / "runs/mof5"
    with pytest.raises(InputError, match=r"there is no such folder"):
        run.potential.model_folder()
    (tmp_path / "runs/mof5/model").mkdir(parents=True)
    (tmp_path / "runs/mof5/model/model.json").write_text("{}")
    assert run.potential.model_folder() == tmp_path / "runs/mof5/model"


def test_properties_are_chosen_by_name_or_kind(tmp_path: Path) -> None:
    run = load(tmp_path, "  - {kind: energy_volume, name: coarse}\n  - {kind: energy_volume, name: fine, points: 41}\n")
    assert [p.name for p in run.chosen(("fine",))] == ["fine"]
    assert len(run.chosen(("energy_volume",))) == len(run.chosen(())) == 2


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ("  - {kind: energy_volme}", "did you mean 'energy_volume'"),
        ("  - {kind: energy_volume, point: 9}", "did you mean 'points'"),
        ("  - {kind: energy_volume, points: 5}", "greater than or equal to 7"),
        ("  - {kind: energy_volume, range: [1.1, 0.9]}", r"range is \[low, high\] of relative volumes"),
        ("  - {kind: energy_volume, fmax: 0.001}", "the unit is missing: write '0.001 meV/Å' or '0.001 eV/Å'"),
        ("  - kind: energy_volume\n  - kind: energy_volume", "two properties have the same name: energy_volume"),
        ("  - {kind: energy_volume, structures: [c]}", "names the structure 'c'; there are a, b"),
        ("  - {kind: heat_capacity, repeats: [[2, 2, 2], [1, 1, 1]]}", "a series of growing cells"),
        ("  - {kind: heat_capacity, temperature: 300}", "write '300 K'"),
        ("  - {kind: heat_capacity, precisions: [float64, float32]}", "precisions is for trained models"),
        (
            "  - kind: heat_capacity\n    scaling: 1.1\n"
            "    references: [{structure: a, temperature: 300 K, value: 1 J/g/K}]",
            "either scaling or references",
        ),
        (
            "  - {kind: heat_capacity, references: [{structure: a, temperature: 300 K, value: 25}]}",
            "write '25 J/g/K'",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, properties: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        load(tmp_path, properties + "\n")
    assert "line" in error.value.where


def test_code_cannot_be_smuggled_in(tmp_path: Path) -> None:
    for word in ("os.system", "builtins:__import__", "a b:C"):
        with pytest.raises(ConfigError):
            load(tmp_path, "  - kind: energy_volume\n", potential=f"{{calculator: '{word}'}}")


def test_grids_of_conditions_are_lists_in_the_end(tmp_path: Path) -> None:
    text = (
        "  - kind: pressure_volume\n"
        "    pressures: [{from: -1 GPa, to: 1 GPa, points: 5}, 0 MPa, 250 MPa]\n"
        "    volumes: [0.94, {from: 0.9, to: 0.94, points: 3}]\n"
        "  - {kind: thermal_expansion, temperatures: [{from: 100 K, to: 300 K, points: 3}, 250 K]}\n"
    )
    run = load(tmp_path, text)
    curve, expansion = run.properties
    assert curve.pressures == (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0)  # type: ignore[union-attr]
    assert curve.volumes == (0.9, 0.92, 0.94)  # type: ignore[union-attr]
    assert expansion.temperatures == (100.0, 200.0, 250.0, 300.0)  # type: ignore[union-attr]
    assert PropertyRun.model_validate(to_json(run)) == run
    assert curve.segment_steps == (20_000,) * 5  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ("  - {kind: pressure_volume, pressures: [{from: -1 GPa, to: 1, points: 5}]}", "write '1 GPa'"),
        ("  - {kind: pressure_volume, pressures: [{from: -1 GPa, points: 5}]}", r"a grid is \{from: …, to: …, points"),
        ("  - {kind: pressure_volume, pressures: [0 GPa], volumes: [1.0]}", "5 pressures and volumes or more"),
        ("  - {kind: pressure_volume, volumes: [8900]}", "volumes are relative to the structure's"),
        ("  - {kind: pressure_volume, volumes: [wide]}", "a number is needed here"),
        ("  - {kind: pressure_volume, duration: 1 ps}", "gives 20 samples .* 40 are the least"),
        ("  - {kind: pressure_volume, tolerances: 1 GPa}", "did you mean 'tolerance'"),
        ("  - {kind: thermal_expansion, temperatures: [100 K, 200 K]}", "three or more to fit a slope"),
        ("  - {kind: vibrational_spectrum, duration: 2 ps}", "need runs of 4.8 ps or more"),
        ("  - {kind: vibrational_spectrum, sampling: 8 fs}", "resolve wavenumbers up to 1668 cm⁻¹, not 4000"),
        ("  - {kind: vibrational_spectrum, resolution: 0 cm^-1}", "resolution must be above zero"),
    ],
)
def test_mistakes_in_properties_from_dynamics_are_named(tmp_path: Path, properties: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        load(tmp_path, properties + "\n")
    assert "clusterflow property FILE --dry-run" in error.value.todo
    assert "precisions" not in error.value.what  # keys of other kinds are not offered


def test_a_potential_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "mof5").mkdir()
    with pytest.raises(InputError, match=r"no trained potential in .*mof-5': there is no such folder") as error:
        Model(folder=tmp_path / "mof-5").model_folder()
    assert f"Did you mean '{tmp_path / 'mof5'}'?" in error.value.todo
    with pytest.raises(InputError, match=r"neither model.json nor model/model.json"):
        Model(folder=tmp_path / "mof5").model_folder()
    (tmp_path / "mof5" / "journal.jsonl").touch()
    with pytest.raises(InputError) as error:
        Model(folder=tmp_path / "mof5").model_folder()
    assert "has not finished: `clusterflow run`" in error.value.todo
