"""The reference page says what the code does."""

from __future__ import annotations

from pathlib import Path

from clusterflow.config.reference import reference_page


def test_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
    assert page.read_text(encoding="utf-8") == reference_page(), "run python -m clusterflow.config.reference > " + str(
        page
    )


def test_page_names_every_section_and_unit() -> None:
    page = reference_page()
    for word in ("kind openmm", "kind gpaw", "kind dataset", "min_distance_factor", "`[600 K, 600 K]`", "`0.5 fs`"):
        assert word in page
