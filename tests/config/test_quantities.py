"""Units in, one unit inside, the same text out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterflow.config.extract import BuildingBlocks
from clusterflow.config.quantities import UNITS, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("600 K", "temperature", 600.0),
        ("0.5 fs", "time", 0.5),
        ("2 ps", "time", 2000.0),
        ("1.5 GPa", "pressure", 1.5),
        ("-1500 MPa", "pressure", -1.5),
        ("1 bar", "pressure", 1e-4),
        ("4 Å", "length", 4.0),
        ("4Å", "length", 4.0),
        ("0.4 nm", "length", 4.0),
        ("60 meV/Å", "force", 0.06),
        ("90 min", "duration", 5400.0),
        ("1e3 meV", "energy", 1.0),
    ],
)
def test_values(text: str, dimension: str, value: float) -> None:
    assert parse_quantity(text, dimension) == pytest.approx(value)


@given(st.floats(min_value=-1e6, max_value=1e6), st.sampled_from(sorted(UNITS)))
def test_text_with_unit_reads_back_exactly(value: float, dimension: str) -> None:
    unit = next(iter(UNITS[dimension]))
    assert parse_quantity(f"{value!r} {unit}", dimension) == value


@pytest.mark.parametrize("bad", [True, None, [1], "K", "1 2 K", "inf K", "nan K", "1e999 K"])
def test_what_is_no_quantity(bad: object) -> None:
    with pytest.raises(ValueError, match="temperature"):
        parse_quantity(bad, "temperature")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("none", "none"), ("anchors", "anchors"), ("2 shells", 2), ("4 Å", 4.0), ("neighbours", "neighbours")],
)
def test_mantles(given: str, kept: str | float) -> None:
    section = BuildingBlocks.model_validate({"mantle": {"node": given}})
    assert section.mantle == {"node": kept}
    assert BuildingBlocks.model_validate(section.model_dump(mode="json")) == section


def test_unknown_mantle_names_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match=r"neighbours.*anchors.*shells.*radius"):
        BuildingBlocks.model_validate({"mantle": {"node": "everything"}})
