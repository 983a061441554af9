"""`max_cost` and `cuts` of the `extract:` section."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from clusterflow.config.extract import BuildingBlocks, Extract
from clusterflow.config.section import to_json
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.physics.cut_table import CUTS, DEFAULT_MAX_COST
from clusterflow.testing.structures import polyphenyl


def rule(**given: object) -> BuildingBlockRule:
    built = BuildingBlocks.model_validate(given).build()
    assert isinstance(built, BuildingBlockRule)
    return built


def test_the_default_is_the_built_in_table() -> None:
    assert (rule().cuts, rule().max_cost) == (CUTS, DEFAULT_MAX_COST)
    assert "cuts" not in rule().name
    assert "max_cost" not in rule().name


def test_rows_and_cost_reach_the_rule_and_its_name() -> None:
    rows = [{"name": "biaryl C-C", "cost": 0.5}, {"name": "P-N", "between": ["P", "N"], "cost": "never"}]
    own = rule(max_cost=2.5, cuts=rows)
    assert own.max_cost == 2.5
    assert own.cuts[0].rule.name == "P-N"
    assert len({own.name, rule().name, rule(max_cost=2.5).name, rule(cuts=rows).name}) == 4
    assert len(rule(cuts=rows).blocks_of(polyphenyl(3)).kinds) == 3
    assert len(rule().blocks_of(polyphenyl(3)).kinds) == 1


def test_it_survives_the_campaign_file() -> None:
    section = BuildingBlocks.model_validate(
        {"max_cost": 3, "cuts": [{"name": "x", "between": ["C sp2", "*"], "cost": 1.5, "ends": ["cap", "bare"]}]}
    )
    again = TypeAdapter(Extract).validate_python(to_json(section))
    assert again == section
    assert again.build() == section.build()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "biaryl", "cost": 1}, "biaryl C-C"),
        ({"name": "x", "between": ["C sp9", "N"], "cost": 1}, "sp9"),
        ({"name": "x", "between": ["C", "N"]}, "has no cost"),
        ({"name": "x", "between": ["C", "N"], "cost": -2}, "cannot cost"),
        ({"name": "x", "between": ["C", "N"], "cost": 1, "ends": ["cap", "cup"]}, "protonate"),
    ],
)
def test_bad_rows_are_told(row: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BuildingBlocks.model_validate({"cuts": [row]})
