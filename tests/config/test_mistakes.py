"""Every mistake is told in plain words, and with the line of the key that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from clusterflow.config.campaign import Campaign
from clusterflow.config.load import _message, _models_in, load_campaign, load_properties, stored
from clusterflow.config.mistakes import PATTERNS, PLAIN
from clusterflow.config.properties import PropertyRun
from clusterflow.config.score import Score
from clusterflow.errors import ConfigError, StateError
from clusterflow.execution.machines.load import KINDS, load_machine

WRONG: list[Any] = [
    None, "zzz", "", [], {}, [1], [1, 2, 3, 4], {"a": 1}, -1, 0, 1.5, 1e9, True, float("nan"), float("inf"), 10**30,
    "1 zz", "-x", "a\nb", "_", {"kind": "zzz"}, [{"kind": "zzz"}], [None], ["a", "a"], "x" * 5000, [{}], {"x": None},
]  # fmt: skip
RAW = (
    "Input should", "Value error", "Field required", "String should", "List should", "Tuple should", "Extra inputs",
    "unable to", "Unable to", "dictionary", "valid ", "Input is", "Input tag", "instance of", "<class", "Assertion",
    "tuple", "None", "unexpected", "argument must",
)  # fmt: skip
"""As pydantic and Python say it."""
TOLD_BY_NAME = {"extra_forbidden", "literal_error", "missing", "string_pattern_mismatch", "too_long", "too_short",
                "union_tag_invalid", "value_error"}  # fmt: skip


def sections() -> Iterator[type[BaseModel]]:
    """All that a campaign, a property file and a machine file can hold."""
    found: list[type[BaseModel]] = []
    waiting: list[type[BaseModel]] = [Campaign, PropertyRun, *KINDS.values()]
    while waiting:
        section = waiting.pop()
        if section not in found:
            found.append(section)
            waiting += [m for f in section.model_fields.values() for m in _models_in(f.annotation)]
    return iter(found)


def test_every_kind_of_error_that_a_section_can_raise_is_told_in_plain_words() -> None:
    seen = set()
    for section in sections():
        for name in section.model_fields:
            for wrong in WRONG:
                try:
                    section.model_validate({name: wrong})
                except ValidationError as error:
                    told = error.errors()
                else:
                    continue
                for e in told:
                    seen.add(e["type"])
                    text = _message(e, [name], wrong, {name: wrong}, section)
                    raw = [r for r in RAW if r in text]
                    assert not raw, f"{section.__name__}.{name} = {wrong!r}: {text}"
    assert seen <= set(PLAIN) | TOLD_BY_NAME
    assert len(seen) > 20  # so many kinds were tried
    assert set(PLAIN) - seen <= {"string_too_short", "string_too_long"} or seen >= set(PLAIN)


def test_every_pattern_has_words() -> None:
    patterns = set()
    for section in sections():
        for field in section.model_fields.values():
            patterns |= {m.pattern for m in field.metadata if getattr(m, "pattern", None)}
    assert patterns
    assert patterns <= set(PATTERNS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stop: {iterations: many}", "stop.iterations: a whole number is needed here (given: 'many')"),
        ("stop: {iterations: 1.5}", "stop.iterations: a whole number is needed here (given: 1.5)"),
        ("stop: {iterations: }", "stop.iterations: a whole number is needed here (given: nothing)"),
        ("stop: 3", "stop: this is a section: write keys with their values below it (given: 3)"),
        ("stop: [3]", "stop: this is a section: write keys with their values below it (given: a list)"),
        ("stop: {core_hours: long}", "stop.core_hours: a number is needed here (given: 'long')"),
        ("stop: {core_hours: .inf}", "stop.core_hours: this must be a finite number (given: inf)"),
        ("stop: {core_hours: -1}", "stop.core_hours: this must be greater than 0 (given: -1)"),
        ("stop: {noise_floor: perhaps}", "stop.noise_floor: this is either true or false (given: 'perhaps')"),
        ("train: {committee: 9}", "train.committee: this must be less than or equal to 8 (given: 9)"),
        ("score: {components: [1, 2, 3]}", "score.components: a list of at most 2 is needed here (given: 3)"),
        ("score: {components: [1]}", "score.components: a list of more entries is needed here (given: 1)"),
        ("score: {components: 1}", "score.components: a list is needed here, such as [a, b] (given: 1)"),
        ("controls: {arms: []}", "controls.arms: a list of at least 1 is needed here (given: none)"),
        ("labels_folder: 3", "labels_folder: the path of a file or folder is needed here (given: 3)"),
        ("machine: 3", "machine: a text is needed here; put quotes around it if it looks like a number (given: 3)"),
        ("extract: {caps: 3}", "extract.caps: this is a section"),
        ("label: {xc: a b}", "label.xc: this may have letters, digits, _, + and - (given: 'a b')"),
        ("label: {kind: }", "label.kind: nothing is not possible"),
        ("train: {model: {preset: [base]}}", "train.model.preset: a list is not possible"),
        ("extract: {cuts: [{name: a, between: [C, N], cost: no}]}", "a number is needed here (given: 'no'); or never"),
    ],
)  # fmt: skip
def test_what_is_said(tmp_path: Path, text: str, said: str) -> None:
    assert said in told(tmp_path, text)


def told(tmp_path: Path, text: str) -> str:
    file = tmp_path / "campaign.yaml"
    file.write_text(f"name: a\nsystems: [{{name: x, structure: a.extxyz}}]\n{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_campaign(file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"kind": "gmm", "components": "many"},
            "gmm.components: a list is needed here, such as [a, b] (given: 'many')",
        ),
        ({"kind": "gmm", "depth": 3}, "gmm.depth: unknown key"),
    ],
)
def test_a_configuration_that_another_version_kept(tmp_path: Path, data: dict[str, Any], said: str) -> None:
    with pytest.raises(StateError, match="cannot be used") as caught:
        stored(Score, data, tmp_path / "config.json")
    assert said in str(caught.value)
    assert str(tmp_path / "config.json") in str(caught.value)


STREAMING = "loop:\n  kind: streaming\n"
ARMS = "controls:\n  share: 0.5\n  arms: [random]\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{STREAMING}explore:\n  walkers: 3\n  temperature: {{}}\n", "  temperature: {}"),
        (f"{STREAMING}select:\n  per_frame: 1\n  kind: cbad\n", "  kind: cbad"),
        ("select: {kind: cbad}\nextract:\n  tolerance: 0.1 eV/Å\n  kind: certified\n", "  kind: certified"),
        ("train:\n  committee: 1\nstop:\n  iterations: 2\n  noise_floor: true\n", "  noise_floor: true"),
        (f"{STREAMING}{ARMS}", "controls:"),
        (f"extract:\n  kind: certified\n{ARMS}", "controls:"),
        (f"train:\n  committee: 2\nscore: {{kind: committee}}\n{ARMS}", "controls:"),
        ("controls:\n  arms: [random]\n  share: 0.1\nselect: {fragments: 2}\n", "  share: 0.1"),
        ("score:\n  kind: committee\n", "  kind: committee"),
        ("train:\n  batch_size: 2\n  committee: 3\n", "  committee: 3"),
        ("select:\n  fragments: 3\n  ranking: sum_below_threshold\n", "  ranking: sum_below_threshold"),
        ("select:\n  ranking: coverage\n  per_frame: 1\n", "  per_frame: 1"),
        ("select:\n  fragments: 3\n  core_seconds: 3 s\n", "  core_seconds: 3 s"),
        ("score:\n  kind: gmm\n  components: [3, 1]\n", "  components: [3, 1]"),
        ("explore:\n  temperature:\n    first: 300 K\n    last: 200 K\n", "    last: 200 K"),
        ("train:\n  batch_size: 2\n  noise_weights: true\n", "  noise_weights: true"),
        ("label:\n  kind: ase\n  calculator: a.__b:C\n", "  calculator: a.__b:C"),
    ],
)
def test_the_line_of_a_mistake_that_keys_make_together(tmp_path: Path, text: str, line: str) -> None:
    found = told(tmp_path, text)
    number = 3 + text.splitlines().index(line)
    assert f"has 1 mistake:\n  line {number}, " in found
    assert f"\n    {number} | {line}\n" in found


@pytest.mark.parametrize(
    ("systems", "line"),
    [
        ("  - name: x\n    structure: a.cif\n  - structure: b.cif\n    name: x\n", 6),
        (
            "  - name: x\n    structure: a.cif\n    ensemble:\n      kind: nvt\n      temperature: 900 K\n"
            "explore: {temperature: {}}\n",
            7,
        ),
        ("  - name: x\n    structure: a.cif\n    build:\n      - kind: supercell\n        repeat: [1, 1, 0]\n", 7),
        (
            "  - name: x\n    structure: a.cif\n    build:\n      - kind: substitution\n        element: Zr\n"
            "        by: Hf\n        count: 2\n        fraction: 0.5\n",
            9,
        ),
    ],
)
def test_the_line_of_a_mistake_in_a_list(tmp_path: Path, systems: str, line: int) -> None:
    file = tmp_path / "campaign.yaml"
    file.write_text(f"name: a\nsystems:\n{systems}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_campaign(file)
    assert f"1 mistake:\n  line {line}, " in str(caught.value)


PROPERTIES = "name: a\npotential: m\nstructures:\n  - {structure: a.cif, name: x}\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("  - {structure: b.cif, name: x}\nproperties: [{kind: energy_volume}]\n", 5),
        ("properties:\n  - kind: energy_volume\n  - kind: heat_capacity\n    structures: [y]\n", 7),
        ("properties:\n  - kind: heat_capacity\n    precisions: [float64, float64]\n", 7),
        (
            "  - {structure: b.cif, name: y}\nproperties:\n  - kind: heat_capacity\n    structures: [x]\n"
            "    references: [{structure: y, temperature: 300 K, value: 1 J/g/K}]\n",
            9,
        ),
    ],
)
def test_the_line_of_a_mistake_in_a_property_file(tmp_path: Path, text: str, line: int) -> None:
    file = tmp_path / "properties.yaml"
    file.write_text(PROPERTIES + text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_properties(file)
    assert f"1 mistake:\n  line {line}, " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kind: local\ncores: 2\nlanes:\n  label:\n    cores_per_worker: 4\n", 5),
        ("kind: local\ncores: 2\nlanes:\n  label: {cores: many}\n", 4),
    ],
)
def test_the_line_of_a_mistake_in_a_machine_file(tmp_path: Path, text: str, line: int) -> None:
    file = tmp_path / "machine.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_machine(file)
    assert f"1 mistake:\n  line {line}, " in str(caught.value)
