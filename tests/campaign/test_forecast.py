"""What `check` and `plan` say of a campaign before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.campaign.forecast import _said_of_charges, forecast
from clusterflow.config.campaign import Campaign
from clusterflow.core.frames import write_frames

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def campaign(structure: Path, **changes: Any) -> Campaign:
    data = {"name": "toy", "systems": [{"name": "x", "structure": str(structure)}], "label": {"kind": "xtb"}}
    return Campaign.model_validate({**data, **changes})


def test_cations_of_azolates_are_explained() -> None:
    told = forecast(campaign(STRUCTURES / "ZIF-8_primitive_gfn1.extxyz"))
    assert {row[7] for row in told.fragments} == {2, 3}
    (said,) = told.charges
    assert said.startswith("note: fragments of x are cations on purpose: wherever the second metal of an azolate")


def test_nothing_is_said_of_neutral_fragments() -> None:
    told = forecast(campaign(STRUCTURES / "MOF-5_primitive.extxyz"))
    assert {row[7] for row in told.fragments} == {0}
    assert told.charges == ()


def test_other_ions_are_named() -> None:
    assert "oxidation state" in _said_of_charges("x", [0, -1], azolates=False)
    assert "oxidation state" in _said_of_charges("x", [2, -1], azolates=True)


@pytest.mark.parametrize("extract", [{"kind": "whole"}, {"kind": "sphere"}])
def test_rules_without_blocks(tmp_path: Path, extract: dict[str, str]) -> None:
    water: Atoms = molecule("H2O")
    write_frames(tmp_path / "water.extxyz", [water])
    assert forecast(campaign(tmp_path / "water.extxyz", extract=extract)).charges == ()
