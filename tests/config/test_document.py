"""What a YAML file is, and on which of its lines it names what an error is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ase.build import bulk
from typer.testing import CliRunner

from clusterflow.cli.main import app
from clusterflow.config.document import MACHINE_KINDS, lines_told, locate, naming_line, read_yaml, sort_of
from clusterflow.config.load import load_campaign, load_properties
from clusterflow.core.frames import write_frames
from clusterflow.errors import ClusterflowError, ConfigError, InputError, StateError
from clusterflow.execution.machines.load import KINDS, load_machine

ROOT = Path(__file__).parents[2]
CAMPAIGN = """\
name: a
systems:
  - name: crystal
    structure: a.extxyz
  - name: defective
    structure: a.extxyz
    build: [{kind: missing_linker}]
"""
PROPERTIES = """\
name: p
potential: {calculator: "ase.calculators.emt:EMT"}
structures:
  - {name: a, structure: a.extxyz}
properties:
  - kind: energy_volume
"""


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_every_file_shipped_is_of_its_sort() -> None:
    assert set(MACHINE_KINDS) == set(KINDS)
    for file in (ROOT / "hpc").glob("*.yaml"):
        assert sort_of(read_yaml(file))[0] == "machine", file  # type: ignore[index]
    for file in (ROOT / "configs").glob("*.yaml"):
        sort = "property" if "properties" in read_yaml(file) else "campaign"
        assert sort_of(read_yaml(file))[0] == sort, file  # type: ignore[index]
    assert sort_of({}) is None
    assert sort_of({"name": "a"}) is None


@pytest.mark.parametrize(
    ("text", "load", "said", "todo"),
    [
        ("kind: local\n", load_campaign, "is a machine file, and a campaign file is needed", "doctor --machine"),
        ("lanes: {}\n", load_properties, "is a machine file, and a property file is needed", "`machine: x.yaml`"),
        (PROPERTIES, load_campaign, "has the key `properties`", "clusterflow property "),
        (CAMPAIGN, load_properties, "has the key `systems`", "clusterflow run "),
        (CAMPAIGN, load_machine, "is a campaign file, and a machine file is needed", "clusterflow run "),
        (PROPERTIES, load_machine, "is a property file, and a machine file is needed", "clusterflow property "),
    ],
)
def test_a_file_of_another_sort_is_recognised(
    tmp_path: Path, text: str, load: Callable[[Path], object], said: str, todo: str
) -> None:
    file = write(tmp_path, "x.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert said in caught.value.what
    assert todo in caught.value.todo
    assert f"{file}, line " in caught.value.where


def test_structures_and_folders_are_no_yaml(tmp_path: Path) -> None:
    write_frames(tmp_path / "cu.extxyz", [bulk("Cu")])
    with pytest.raises(ConfigError, match="is a structure file") as caught:
        load_campaign(tmp_path / "cu.extxyz")
    assert "clusterflow new " in caught.value.todo
    with pytest.raises(ConfigError, match="is a folder"):
        load_properties(tmp_path)
    (tmp_path / "journal.jsonl").touch()
    with pytest.raises(ConfigError, match="is a folder") as caught:
        load_campaign(tmp_path)
    assert f"clusterflow status {tmp_path}" in caught.value.todo


@pytest.mark.parametrize("given", ["x.yaml", "a.extxyz", "m/model.json", "net.pth"])
def test_a_file_for_a_potential(tmp_path: Path, given: str) -> None:
    file = write(tmp_path, "p.yaml", PROPERTIES.replace('{calculator: "ase.calculators.emt:EMT"}', given))
    with pytest.raises(ConfigError) as caught:
        load_properties(file)
    assert "line 2, potential" in caught.value.what
    assert "a potential is a folder with model.json" in caught.value.what
    assert "ase.calculators.emt:EMT" in caught.value.what
    assert (f"give '{tmp_path / 'm'}'" in caught.value.what) == given.endswith("model.json")


def test_the_line_that_names_what_an_error_is_about(tmp_path: Path) -> None:
    campaign = write(tmp_path, "c.yaml", CAMPAIGN)
    path = str(tmp_path / "a.extxyz")
    assert naming_line(campaign, path) == f"{campaign}, line 4, systems.0.structure"
    # two systems have this file: the name decides
    assert naming_line(campaign, f"system 'defective', {path}") == f"{campaign}, line 6, systems.1.structure"
    assert naming_line(campaign, "system 'defective'") == f"{campaign}, line 5, systems.1"
    for other in ("", f"{path}.gz", str(tmp_path), "system 'other'", f"{campaign}, line 3", "/elsewhere"):
        assert naming_line(campaign, other) == "", other
    run = write(tmp_path, "p.yaml", PROPERTIES)
    assert naming_line(run, "property 'energy_volume' of structure 'b'") == f"{run}, line 6, properties.0"
    two = write(
        tmp_path, "q.yaml", PROPERTIES.replace("properties:", "  - {name: b, structure: a.extxyz}\nproperties:")
    )
    assert naming_line(two, f"system 'b', {path}") == f"{two}, line 5, structures.1.structure"
    assert naming_line(two, "structure 'b', Cu") == f"{two}, line 5, structures.1"
    assert naming_line(tmp_path / "gone.yaml", path) == ""


@pytest.mark.parametrize("kind", [InputError, StateError])
def test_only_errors_of_input_get_a_line(tmp_path: Path, kind: type[ClusterflowError]) -> None:
    file = write(tmp_path, "c.yaml", CAMPAIGN)
    with pytest.raises(kind) as caught, lines_told(file):
        raise kind("It is wrong.", where="system 'crystal'")
    assert (f"{file}, line 3" in caught.value.where) == (kind is InputError)


@pytest.mark.parametrize(
    ("command", "text", "line"),
    [
        ("check", CAMPAIGN.replace("a.extxyz", "gone.cif"), "line 4, systems.0.structure: "),
        ("run", CAMPAIGN.replace("a.extxyz", "gone.cif"), "line 4, systems.0.structure: "),
        ("run", CAMPAIGN + "machine: gone.yaml\n", "line 7, machine: "),
        ("plan", CAMPAIGN + "machine: gone.yaml\n", "line 7, machine: "),
        ("property", PROPERTIES.replace("a.extxyz", "gone.cif"), "line 4, structures.0.structure: "),
        ("property", PROPERTIES.replace("potential: {c", "machine: gone.yaml\npotential: {c"), "line 2, machine: "),
        ("property", PROPERTIES.replace('{calculator: "ase.calculators.emt:EMT"}', "gone"), "line 2, potential: "),
        ("run", CAMPAIGN + "start: {kind: dataset, file: gone.extxyz}\n", "line 7, start.file: "),
    ],
)
def test_missing_files_are_told_with_the_line_that_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, text: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "a.extxyz", [bulk("Cu", cubic=True).repeat(2)])
    file = write(tmp_path, "x.yaml", text.replace("    build: [{kind: missing_linker}]\n", ""))
    if command in ("run", "check"):
        file.write_text(file.read_text() + "label: {kind: xtb}\nextract: {kind: whole}\n", encoding="utf-8")
    said = CliRunner().invoke(app, [command, str(file)])
    assert said.exit_code == 2, said.output
    assert f"{file}, {line}{tmp_path}" in said.output
    assert "Did you mean" not in said.output  # the file itself is no machine


def test_a_key_merged_from_an_anchor_has_the_line_of_what_merges_it(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "c.yaml",
        "name: a\nsystems:\n  - &b\n    name: one\n    structure: a.extxyz\n  - <<: *b\n    name: two\n",
    )
    trail, line, here = locate(read_yaml(file), ("systems", 1, "structure"))
    assert (trail, line, here) == (["systems", 1, "structure"], 6, "a.extxyz")
