"""The campaign file that `clusterflow new` writes, and what it says of other choices."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ase.io import read

from clusterflow.config.load import load_campaign
from clusterflow.config.template import campaign_template

ZIF8 = Path(__file__).parents[2] / "configs" / "structures" / "ZIF-8_primitive_gfn1.extxyz"


def text(*, blocks: bool) -> str:
    return campaign_template(ZIF8, read(ZIF8), name="zif", file="zif.yaml", blocks=blocks)


@pytest.mark.parametrize("blocks", [True, False])
def test_every_kind_of_extraction_is_named(blocks: bool) -> None:
    for kind in ("building_blocks", "certified", "sphere", "whole"):
        assert f"kind: {kind}" in text(blocks=blocks)
    assert "carboxylate" not in text(blocks=blocks)


def test_every_mantle_is_named() -> None:
    line = next(line for line in text(blocks=True).splitlines() if "mantle: {" in line)
    for mantle in ("none", "neighbours", "linkers", "anchors", "'2 shells'", "4 Å"):
        assert mantle in line


def test_a_linear_learner_and_a_committee_are_named_and_valid(tmp_path: Path) -> None:
    """Every line that is commented out in `score:` and `train:`, in place of what it replaces."""
    written = text(blocks=True)
    for comment, replaced in (
        ("# kind: committee ", "components: [1, 10]\n"),
        ("# kind: linear ", "model: {preset: base} "),
        ("# committee: 4 ", ""),
    ):
        assert comment in written
        written = written.replace(comment, comment[2:]).replace(replaced, "\n" if replaced.endswith("\n") else "")
    (tmp_path / "zif.yaml").write_text(written.replace("      # Table SI.1", "  # Table SI.1"), encoding="utf-8")
    config = load_campaign(tmp_path / "zif.yaml")
    assert (config.train.kind, config.train.committee, config.score.kind) == ("linear", 4, "committee")


@pytest.mark.parametrize("kind", ["certified", "sphere", "whole"])
def test_commented_kinds_are_valid(kind: str, tmp_path: Path) -> None:
    written = text(blocks=True)
    start, end = written.index("extract:\n"), written.index("label: ")
    found = re.search(rf"# (kind: {kind})\b", written[start:end])
    assert found
    (tmp_path / "zif.yaml").write_text(
        f"{written[:start]}extract:\n  {found.group(1)}\n\n{written[end:]}", encoding="utf-8"
    )
    assert load_campaign(tmp_path / "zif.yaml").extract.kind == kind
