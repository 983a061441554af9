"""Temperature ramps and CBAD in the campaign file."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterflow.config.campaign import Campaign
from clusterflow.config.load import load_campaign
from clusterflow.config.section import to_json
from clusterflow.errors import ConfigError

BASE = "name: r\nsystems:\n  - {name: water, structure: w.xyz}\n"


def load(tmp_path: Path, text: str) -> Campaign:
    (tmp_path / "c.yaml").write_text(BASE + text)
    return load_campaign(tmp_path / "c.yaml")


def test_a_ramp_brings_the_walkers_of_the_paper(tmp_path: Path) -> None:
    explore = load(tmp_path, "explore: {temperature: {}}\n").explore
    assert (explore.walkers, explore.pool) == (50, "all")
    assert (explore.steps.first, explore.steps.maximum) == (2000, 2000)
    assert explore.temperature is not None
    assert explore.temperature.temperatures() == tuple(range(100, 1001, 100))
    own = load(tmp_path, "explore: {temperature: {}, walkers: 7, pool: last}\n").explore
    assert (own.walkers, own.pool) == (7, "last")
    assert load(tmp_path, "explore: {walkers: 7}\n").explore.steps.first == 200


def test_a_ramp_survives_the_journal(tmp_path: Path) -> None:
    config = load(tmp_path, "explore: {temperature: {last: 600 K}}\nselect: {kind: cbad, resolution: {bond: 0.1 Å}}\n")
    assert Campaign.model_validate(to_json(config)) == config
    assert config.select.kind == "cbad"


def test_select_is_by_novelty_unless_said(tmp_path: Path) -> None:
    assert load(tmp_path, "select: {fragments: 3}\n").select.kind == "novelty"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("explore: {temperature: {}}\nloop: {kind: streaming}\n", "the streaming loop has no iterations of walks"),
        ("select: {kind: cbad}\nloop: {kind: streaming}\n", "looks at all walks of an iteration together"),
        ("select: {kind: cbad}\nextract: {kind: certified}\n", "certified fragments are built around single atoms"),
        ("explore: {temperature: {first: 500 K, last: 300 K}}\n", "300 K, is below 500 K"),
        ("explore: {temperature: {max_unstable: 1.5}}\n", "less than or equal to 1"),
        ("explore: {temperature: {step: 0 K}}\n", "must be positive"),
        ("select: {kind: cbad, resolution: {bond: 0 Å}}\n", "must be positive"),
        ("select: {kind: cbad, resolution: {dihedral: 200}}\n", "less than or equal to 180"),
        ("select: {kind: cbad, ranking: mean_without_h}\n", "unknown key 'ranking'"),
        ("select: {kind: cbat}\n", "did you mean 'cbad'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)


def test_two_temperatures_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "name: r\nsystems:\n  - {name: w, structure: w.xyz, ensemble: {kind: nvt, temperature: 300 K}}\n"
        "explore: {temperature: {}}\n"
    )
    with pytest.raises(ConfigError, match="leave one of the two out"):
        load_campaign(tmp_path / "c.yaml")
