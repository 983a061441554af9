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


def test_a_path_is_a_model_beside_the_file(tmp_path: Path) -> None:
    run = load(tmp_path, "  - kind: energy_volume\n", potential="runs/mof5")
    assert isinstance(run.potential, Model)
    assert run.potential.folder == tmp_path / "runs/mof5"
    with pytest.raises(InputError, match=r"neither model.json nor model/model.json"):
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
