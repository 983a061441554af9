"""The reference page says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterflow.config.reference import property_page, reference_page


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("configuration.md", reference_page(), ""), ("property-file.md", property_page(), "properties ")],
)
def test_page_is_current(name: str, text: str, words: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / name
    assert page.read_text(encoding="utf-8") == text, f"run python -m clusterflow.config.reference {words}> {page}"


def test_page_names_every_section_and_unit() -> None:
    page = reference_page()
    for word in ("kind openmm", "kind gpaw", "kind dataset", "min_distance_factor", "`[600 K, 600 K]`", "`0.5 fs`"):
        assert word in page
