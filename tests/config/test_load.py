"""Bad campaign files: each message names file, line, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterflow.config.campaign import Campaign
from clusterflow.config.load import describes_properties, load_campaign, load_properties
from clusterflow.config.section import to_json
from clusterflow.errors import ConfigError
from clusterflow.execution.machines import load_machine

GOOD = """\
name: a
systems:
  - name: crystal
    structure: a.extxyz
    ensemble: {kind: npt, temperature: 600 K, pressure: [-1.5 GPa, 1.5 GPa]}
explore:
  walkers: 4
label:
  kind: gpaw
  time_limit: 2 h
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_good_file_and_its_frozen_form(tmp_path: Path) -> None:
    config = load_campaign(write(tmp_path, GOOD))
    assert config.systems[0].structure == tmp_path / "a.extxyz"
    assert config.label.time_limit == 7200.0
    assert config.systems[0].ensemble.pressure == (-1.5, 1.5)  # type: ignore[union-attr]
    assert Campaign.model_validate(to_json(config)) == config


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "temperature: 600 K",
            "temperatur: 600 K",
            ["line 5", "unknown key 'temperatur'", "did you mean 'temperature'"],
        ),
        ("600 K", "600", ["line 5", "the unit is missing", "600 K"]),
        ("600 K", "600 fs", ["line 5", "'fs' is not a unit of temperature", "'fs' is a unit of time"]),
        ("1.5 GPa]", "1.5 gpa]", ["line 5", "did you mean 'GPa'"]),
        ("600 K", "-5 K", ["line 5", "must be positive"]),
        ("[-1.5 GPa, 1.5 GPa]", "[2 GPa, 1 GPa]", ["line 5", "range", "2 is above 1"]),
        ("walkers: 4", "walkers: 0", ["line 7", "explore.walkers", "greater than or equal to 1", "0"]),
        ("kind: gpaw", "kind: gpwa", ["line 9", "'gpwa' is not possible", "did you mean 'gpaw'", "xtb"]),
        ("time_limit: 2 h", "time_limit: soon", ["line 10", "'soon' is not a duration"]),
        ("name: a\n", "nam: a\n", ["unknown key 'nam'", "did you mean 'name'", "'name' is missing"]),
        ("name: a\n", "name: a/b\n", ["line 1", "name", "a/b"]),
        ("name: a\n", "name: a\nstart: {displacement: 0.5 nm}\n", ["line 2", "displaced by 5 Å", "at most 0.5 Å"]),
        ("  - name: crystal\n", "  - name: crystal\n    weight: 0\n", ["line 4", "weight", "greater than 0"]),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_campaign(path)
    text = str(caught.value)
    assert str(path) in text
    for word in words:
        assert word in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("extract", "words", "absent"),
    [
        ("{mantle: anchors}", ["extract.mantle", "`mantle: {node: anchors, linker: anchors}`"], "dictionary"),
        ("{mantle: }", ["`mantle: {node: neighbours, linker: neighbours}`"], "dictionary"),
        ("{mantle: {nodes: none}}", ["unknown key 'nodes'; did you mean 'node'?", "node, linker, molecule"], "'none'"),
        ("{kind: certified, mantle: {node: none}}", ["unknown key 'mantle'; it goes under `start:`"], "did you mean"),
        ("{kind: certified, caps: {}}", ["unknown key 'caps'; it goes under `start:`"], "did you mean"),
        ("{kind: certified, cuts: []}", ["unknown key 'cuts'; it goes under `start:`"], "did you mean"),
        ("{kind: certified, max_cost: 2}", ["unknown key 'max_cost'; it goes under `start:`"], "did you mean"),
        ("{kind: certified, open_shell: flag}", ["unknown key 'open_shell'; it goes under `start:`"], "did you mean"),
        ("{kind: certified, max_atom: 9}", ["unknown key 'max_atom'; did you mean 'max_atoms'?"], "goes under"),
        ("{kind: certified, tolerance: 100}", ["write '100 meV/Å' or '100 eV/Å'"], "if you mean"),
        ("{caps: {carboxylate: CH3}}", ["extract.caps", "'carboxylate' is no name of a cut", "'carboxylate C-C'?",
                                        "metal-O, "], "is not possible"),
        ("{caps: {mine: CH3}, cuts: [{name: ours, between: [C, N], cost: 2}]}", ["'mine'", "cuts: ours, "], "possible"),
    ],
)  # fmt: skip
def test_mistakes_of_extract(tmp_path: Path, extract: str, words: list[str], absent: str) -> None:
    path = write(tmp_path, f"{GOOD}extract:\n  {extract}\n")
    with pytest.raises(ConfigError) as caught:
        load_campaign(path)
    text = str(caught.value)
    for word in ["line 12", *words]:
        assert word in text
    assert absent not in text


def test_caps_of_cuts_in_the_table_and_of_new_ones(tmp_path: Path) -> None:
    cuts = "cuts: [{name: ours, between: [C, N], cost: 2}]"
    config = load_campaign(write(tmp_path, f"{GOOD}extract: {{caps: {{ours: CH3, metal-O: OH2}}, {cuts}}}\n"))
    assert config.extract.caps == {"ours": "CH3", "metal-O": "OH2"}  # type: ignore[union-attr]
    assert Campaign.model_validate(to_json(config)) == config


def test_every_path_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hpc").mkdir()
    (tmp_path / "hpc" / "mine.yaml").write_text("kind: local\ncores: 3\n", encoding="utf-8")
    paths = "folder: results\nlabels_folder: labels\nmachine: hpc/mine.yaml\n"
    start = "start: {kind: dataset, file: seed.extxyz}\n"
    path = write(tmp_path, GOOD + paths + start)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = load_campaign(path)
    assert config.run_folder == tmp_path / "results"
    assert config.labels_folder == tmp_path / "labels"
    assert config.start.file == tmp_path / "seed.extxyz"  # type: ignore[union-attr]
    assert config.machine == str(tmp_path / "hpc" / "mine.yaml")
    assert load_machine(config.machine).total_cores() == 3
    assert Campaign.model_validate(to_json(config)) == config


def test_names_absolute_paths_and_home_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load_campaign(write(tmp_path, GOOD)).machine == "local"
    assert load_campaign(write(tmp_path, GOOD + "machine: /etc/m.yaml\n")).machine == "/etc/m.yaml"
    assert load_campaign(write(tmp_path, GOOD + "machine: ~/m.yaml\n")).machine == "/home/somebody/m.yaml"
    assert load_campaign(write(tmp_path, GOOD + "folder: ~/a\n")).run_folder == Path("/home/somebody/a")


def test_a_machine_file_that_is_not_there_is_said_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("kind: local\n", encoding="utf-8")
    config = load_campaign(write(tmp_path, GOOD + "machine: clutser.yaml\n"))
    with pytest.raises(ConfigError) as caught:
        load_machine(config.machine)
    assert str(tmp_path / "clutser.yaml") in caught.value.what
    assert f"Did you mean '{tmp_path / 'cluster.yaml'}'?" in caught.value.todo
    assert "folder of that file" in caught.value.todo


def test_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"Did you mean .*campaign\.yaml"):
        load_campaign(tmp_path / "campaing.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [a\nsystems:", ["not valid YAML", "line"]),
        ("\tname: a", ["not valid YAML", "line 1", "tabs"]),
        ("name: a\nname: b\n", ["not valid YAML", "line 2", "duplicate key"]),
        ("label:\n kind: xtb\n  method: GFN1-xTB\n", ["line 3", "2 |  kind: xtb", "3 |   method"]),
        ("", ["holds nothing"]),
        ("- a\n- b\n", ["no mapping"]),
        ("name: !!python/object/apply:os.system ['true']\nsystems: []\n", ["1 | name"]),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_campaign(write(tmp_path, text))
    for word in words:
        assert word in str(caught.value)


def test_several_mistakes_come_in_one_message_by_line(tmp_path: Path) -> None:
    text = GOOD.replace("600 K", "600").replace("walkers: 4", "walkers: none").replace("kind: gpaw", "modus: fd")
    with pytest.raises(ConfigError) as caught:
        load_campaign(write(tmp_path, text))
    message = str(caught.value)
    assert "has 3 mistakes" in message
    assert message.index("line 5") < message.index("line 7") < message.index("line 9")


def test_two_systems_of_one_name(tmp_path: Path) -> None:
    text = GOOD.replace("explore:", "  - {name: crystal, structure: b.cif}\nexplore:")
    with pytest.raises(ConfigError, match="two systems have the same name: crystal"):
        load_campaign(write(tmp_path, text))


def test_every_configuration_shipped_is_valid() -> None:
    folder = Path(__file__).parents[2] / "configs"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for path in files:
        used = load_properties(path).structures if describes_properties(path) else load_campaign(path).systems
        for system in used:
            assert system.structure.is_file(), f"{path}: {system.structure}"


def test_structures_shipped_state_the_source_and_licence_of_their_readme() -> None:
    folder = Path(__file__).parents[2] / "configs"
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (folder / "structures" / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    known = {cells[0]: (cells[2], cells[3].partition(",")[0]) for cells in rows}
    known["UiO-66_conventional.extxyz"] = known["UiO-66_primitive.extxyz"]  # a supercell of it
    for path in sorted(folder.glob("*.yaml")):
        for system in () if describes_properties(path) else load_campaign(path).systems:
            source, licence = known[system.structure.name]
            assert system.licence == licence, path
            assert system.source is not None
            assert system.source.split()[0] in source, path
            assert system.source.split()[2].partition(" ")[0] in source, path


def test_what_the_streaming_loop_cannot_do_is_a_plain_list(tmp_path: Path) -> None:
    assert load_campaign(write(tmp_path, GOOD)).only_synchronous() == []
    told = load_campaign(write(tmp_path, GOOD + "controls: {arms: [random], share: 0.5}\n")).only_synchronous()
    assert [at for _, at in told] == [("controls",)]
    assert "loop: {kind: synchronous}" in told[0][0]


def test_schema_knows_every_section() -> None:
    schema = Campaign.model_json_schema()
    assert set(schema["properties"]) >= {"systems", "start", "explore", "score", "select", "extract", "label", "train"}
    assert schema["additionalProperties"] is False
