"""The `extract:` section builds the rules that it describes."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from clusterflow.config.extract import Extract
from clusterflow.errors import InputError
from clusterflow.extract.rules import BuildingBlockRule, WholeStructure
from clusterflow.extract.sphere import SphericalCut
from clusterflow.extract.termination import Caps

SECTION = TypeAdapter(Extract)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (
            {
                "kind": "building_blocks",
                "mantle": {"node": "linkers", "linker": "2 shells", "molecule": "4 Å"},
                "core": "sites",
                "caps": {"carboxylate C-C": "CH3"},
                "cap_lengths": {"C(carboxylate)": "1.11 Å"},
                "open_shell": "flag",
                "max_atoms": 300,
            },
            BuildingBlockRule(
                {"node": "linkers", "linker": 2, "molecule": 4.0},
                core="sites",
                caps=Caps({"carboxylate C-C": "CH3"}, {"C(carboxylate)": 1.11}),
                open_shell="flag",
                max_atoms=300,
            ),
        ),
        ({"kind": "sphere"}, SphericalCut(5.0)),
        (
            {"kind": "sphere", "radius": "0.6 nm", "core_radius": "2 Å", "cap_lengths": {"Si": "1.5 Å"}},
            SphericalCut(6.0, core_radius=2.0, caps=Caps(lengths={"Si": 1.5})),
        ),
        ({"kind": "whole", "open_shell": "flag"}, WholeStructure(open_shell="flag")),
    ],
)
def test_rules(given: dict[str, object], rule: object) -> None:
    built = SECTION.validate_python(given).build()
    assert type(built) is type(rule)
    assert built.name == rule.name
    # What a frozen configuration holds builds the same.
    again = SECTION.validate_python(SECTION.validate_python(given).model_dump(mode="json")).build()
    assert again.name == rule.name


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "sphere", "radius": "5 eV"},
        {"kind": "sphere", "radius": "0 Å"},
        {"kind": "building_blocks", "mantle": {"node": "linker"}},
        {"kind": "building_blocks", "caps": {"metal-O": "OH"}},
        {"kind": "building_blocks", "core": "atoms"},
    ],
)
def test_values_that_are_not_allowed(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SECTION.validate_python(given)


def test_an_unknown_kind_of_cap_is_named() -> None:
    section = SECTION.validate_python({"kind": "building_blocks", "cap_lengths": {"C(ring)": "1.1 Å"}})
    with pytest.raises(InputError, match=r"'C\(ring\)' is no kind of cap"):
        section.build()
