"""The steps of `build:`, from YAML data to atoms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from clusterflow.config.section import to_json
from clusterflow.config.systems import System
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def system(*steps: dict[str, Any], structure: str = "UiO-66_conventional") -> System:
    return System.model_validate({"name": "a", "structure": STRUCTURES / f"{structure}.extxyz", "build": steps})


@pytest.mark.parametrize(
    ("steps", "composition"),
    [
        ([{"kind": "missing_linker"}], "C186H110O128Zr24"),
        ([{"kind": "missing_linker_pair", "pair": 7}], "C180H108O128Zr24"),
        ([{"kind": "missing_node"}], "C108H72O96Zr18"),
        ([{"kind": "topology", "net": "bcu", "axis": "a"}], "C144H96O128Zr24"),
        ([{"kind": "topology", "net": "scu"}], "C84H64O96Zr18"),
        ([{"kind": "substitution", "element": "Zr", "by": "Hf", "count": 1}], "C192H112HfO128Zr23"),
        (
            [{"kind": "substitution", "element": "Zr", "by": "Hf", "fraction": 0.5, "whole_nodes": True}],
            "C192H112Hf12O128Zr12",
        ),
        (
            [{"kind": "topology", "net": "reo"}, {"kind": "substitution", "element": "Zr", "by": "Hf", "fraction": 1}],
            "C108H72Hf18O96",
        ),
        ([{"kind": "supercell", "repeat": [2, 1, 1]}, {"kind": "missing_linker"}], "C378H222O256Zr48"),
    ],
)
def test_steps(steps: list[dict[str, Any]], composition: str) -> None:
    config = system(*steps)
    atoms = config.atoms()
    assert formula(atoms) == composition
    assert config.atoms() == atoms
    assert System.model_validate(to_json(config)) == config


def test_random_defects_in_a_supercell() -> None:
    step = {
        "kind": "random_defects",
        "linkers": 0.2,
        "nodes": 0.13,
        "metal": {"element": "Zr", "by": "Hf", "fraction": 0.2},
    }
    config = system({"kind": "supercell", "repeat": [2, 2, 2]}, {**step, "seed": 3}, structure="UiO-66_primitive")
    assert config.atoms() == config.atoms()
    assert config.atoms().symbols.formula.count()["Hf"] > 0
    other = system({"kind": "supercell", "repeat": [2, 2, 2]}, {**step, "seed": 4}, structure="UiO-66_primitive")
    assert config.atoms() != other.atoms()
    final = system(
        {"kind": "supercell", "repeat": [2, 2, 2]},
        {"kind": "random_defects", "linkers": 0.5, "nodes": 0.125, "fractions": "final"},
        structure="UiO-66_primitive",
    )
    assert len(final.atoms()) == 66 * 7 + 8 * 24


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"kind": "substitution", "element": "Zr", "by": "Hf"}, "either fraction or count"),
        (
            {"kind": "substitution", "element": "Zr", "by": "Hf", "count": 1, "fraction": 0.1},
            "either fraction or count",
        ),
        ({"kind": "substitution", "element": "Zr", "by": "Hf", "fraction": 1.1}, "less than or equal to 1"),
        ({"kind": "random_defects", "linkers": -0.1}, "greater than or equal to 0"),
        ({"kind": "random_defects", "fractions": "all"}, "'drawn' or 'final'"),
        ({"kind": "topology", "net": "pcu"}, "'bcu', 'reo' or 'scu'"),
        ({"kind": "missing_node", "count": 0}, "greater than or equal to 1"),
    ],
)
def test_steps_that_cannot_be(step: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        system(step)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"kind": "missing_linker", "count": 25}, "25 linkers cannot be chosen"),
        ({"kind": "missing_linker_pair", "pair": 8}, "no pair 8"),
        ({"kind": "missing_node", "count": 5}, "5 nodes cannot be chosen"),
        ({"kind": "substitution", "element": "Hf", "by": "Zr", "count": 1}, "no Hf"),
    ],
)
def test_steps_that_do_not_apply_name_the_system(step: dict[str, Any], words: str) -> None:
    with pytest.raises(StructureError, match=words) as caught:
        system(step).atoms()
    assert "system 'a'" in caught.value.where


def test_a_net_that_is_not_there() -> None:
    with pytest.raises(StructureError, match="net fcu"):
        system({"kind": "topology", "net": "reo"}, structure="MOF-5_primitive").atoms()
