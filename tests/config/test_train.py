"""The `train:` and `score:` sections: kinds, defaults, and combinations that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from clusterflow.config.campaign import Campaign
from clusterflow.config.section import to_json
from clusterflow.config.train import Linear, NequIP


def campaign(**changes: Any) -> Campaign:
    return Campaign.model_validate({"name": "toy", "systems": [{"name": "a", "structure": "a.cif"}], **changes})


def test_the_kind_chooses_and_nequip_is_the_default() -> None:
    assert isinstance(campaign().train, NequIP)
    assert isinstance(campaign(train={"batch_size": 2}).train, NequIP)
    linear = campaign(train={"kind": "linear", "model": {"cutoff": "4.5 Å"}, "energy_weight": 10}).train
    assert isinstance(linear, Linear)
    assert linear.build_model().cutoff == 4.5
    settings = linear.build_settings(final=True)
    assert (settings.energy_weight, settings.regularisation) == (10.0, None)
    assert type(linear).model_validate(to_json(linear)) == linear


def test_a_second_try_is_gentler() -> None:
    given = Linear(regularisation=1e-6)
    first, second = (given.build_settings(final=False, damping=d).regularisation for d in (1.0, 0.5))
    assert second == 16 * first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"kind": "mace"}}, "nequip"),
        ({"train": {"kind": "linear", "batch_size": 5}}, "batch_size"),
        ({"train": {"committee": 9}}, "less than or equal to 8"),
        ({"train": {"committee": 3}}, "score: {kind: committee}"),
        ({"score": {"kind": "committee"}}, "train.committee to 2 or more"),
        ({"train": {"committee": 2}, "score": {"kind": "committee", "threshold": "0 eV/Å"}}, "positive"),
        ({"train": {"committee": 2}, "score": {"kind": "committee", "threshold": 1}}, "unit is missing"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        campaign(**changes)


def test_a_committee_for_both_learners_and_loops() -> None:
    for kind in ("nequip", "linear"):
        for loop in ("synchronous", "streaming"):
            c = campaign(train={"kind": kind, "committee": 4}, score={"kind": "committee"}, loop={"kind": loop})
            assert (c.train.committee, c.score.kind) == (4, "committee")
            assert c.score.threshold == 1.0
