"""`score:` of each kind, and the noise of labels in `train:` and `stop:`."""

import json

import pytest
from pydantic import ValidationError

from clusterflow.campaign.convergence import IterationRecord, noise_of, stop_reason
from clusterflow.campaign.tasks import Payloads
from clusterflow.config.campaign import Campaign
from clusterflow.config.section import to_json
from clusterflow.config.stop import Stop
from clusterflow.score.distance import DistanceNovelty
from clusterflow.score.entropy import EntropyNovelty
from clusterflow.score.gmm import GaussianMixtureNovelty
from clusterflow.testing.toy_campaign import TOY_INPUTS


def campaign(**sections):
    return Campaign.model_validate({"name": "toy", "systems": [{"name": "a", "structure": "a.cif"}], **sections})


@pytest.mark.parametrize(
    ("score", "kind"),
    [
        ({}, GaussianMixtureNovelty),
        ({"components": [1, 3]}, GaussianMixtureNovelty),
        ({"kind": "distance", "neighbours": 3}, DistanceNovelty),
        ({"kind": "entropy", "bandwidth": 0.4}, EntropyNovelty),
    ],
)
def test_each_kind_of_score_builds_its_own(score, kind):
    config = campaign(score=score)
    made = config.score.build(None, 3)
    assert type(made) is kind
    assert made.seed == 3
    assert made.unit == config.score.unit
    assert Campaign.model_validate(json.loads(json.dumps(to_json(config)))) == config


def test_an_unknown_kind_of_score_is_refused():
    with pytest.raises(ValidationError, match="oracle"):
        campaign(score={"kind": "oracle"})
    with pytest.raises(ValidationError, match="components"):
        campaign(score={"kind": "distance", "components": [1, 3]})


def test_the_task_of_a_gaussian_mixture_is_that_of_older_versions():
    payload = Payloads(campaign(), TOY_INPUTS).novelty(0, "m", ["a"])
    assert payload["score"] == {"kind": "gmm", "components": [1, 10], "pca": None}
    assert set(Payloads(campaign(), TOY_INPUTS).evaluation("m", "d", ["a"])) == {
        "model", "mixture", "labels", "core_only",
    }  # fmt: skip


NOISE = {"label_noise": {"O": "20 meV/Å", "Zn": "0.03 eV/Å"}}


def test_the_linear_learner_can_stop_at_the_noise_of_its_labels_too():
    """What the message of `stop: {noise_floor: true}` asks for must be allowed there."""
    train = {"kind": "linear"}
    with pytest.raises(ValidationError, match=r"needs the noise of the labels.* train: label_noise"):
        campaign(train=train, stop={"noise_floor": True})
    noisy = campaign(train={**train, **NOISE}, stop={"noise_floor": True})
    payloads = Payloads(noisy, TOY_INPUTS)
    assert payloads.evaluation("m", "d", ["a"])["label_noise"] == {"O": 0.02, "Zn": 0.03}
    fit = Payloads(campaign(train=train), TOY_INPUTS).train(0, ["a"], ["b"], start=None, final=False, attempt=0)
    assert payloads.train(0, ["a"], ["b"], start=None, final=False, attempt=0) == fit
    with pytest.raises(ValidationError, match="names no elements: Xx"):
        campaign(train={**train, "label_noise": {"Xx": "1 meV/Å"}})


def test_noise_goes_to_the_evaluation_and_to_the_loss_only_if_it_is_wanted():
    plain = Payloads(campaign(train=NOISE), TOY_INPUTS)
    assert plain.evaluation("m", "d", ["a"])["label_noise"] == {"O": 0.02, "Zn": 0.03}
    settings = plain.train(0, ["a"], ["b"], start=None, final=False, attempt=0)["settings"]
    assert "label_noise" not in settings
    weighted = Payloads(campaign(train={**NOISE, "noise_weights": True, "noise_scale": "40 meV/Å"}), TOY_INPUTS)
    settings = weighted.train(0, ["a"], ["b"], start=None, final=False, attempt=0)["settings"]
    assert settings["label_noise"] == {"O": 0.02, "Zn": 0.03}
    assert settings["noise_scale"] == 0.04
    config = campaign(train=NOISE)
    assert Campaign.model_validate(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"train": {"noise_weights": True}}, "noise_weights needs label_noise: measure it"),
        ({"train": {"label_noise": {"Xx": "1 meV/Å"}}}, "no elements: Xx"),
        ({"train": {"label_noise": {"O": 20}}}, "the unit is missing"),
        ({"stop": {"noise_floor": True}}, "give it as train: label_noise"),
    ],
)
def test_noise_that_makes_no_sense_is_refused(sections, words):
    with pytest.raises(ValidationError, match=words):
        campaign(**sections)


def test_a_campaign_ends_when_the_potential_is_as_good_as_its_labels():
    def record(rmse):
        told = {"rmse": rmse, "noise_floor": 20.0, "at_noise_floor": rmse <= 20.0 * 2**0.5}
        return IterationRecord(1, "m", "d", "e", 9, 9, 90.0, **noise_of(told))

    stop = Stop(iterations=5, noise_floor=True)
    assert stop_reason(stop, [record(29.0)], core_hours=0.0) == ""
    assert stop_reason(stop, [record(28.0)], core_hours=0.0) == (
        "the potential is as good as its labels: test force RMSE 28.0 meV/Å, of which 20.0 is their noise"
    )
    assert stop_reason(Stop(iterations=5), [record(1.0)], core_hours=0.0) == ""
    unknown = IterationRecord(1, "m", "d", "e", 9, 9, 90.0, **noise_of({"rmse": 1.0}))
    assert stop_reason(stop, [unknown], core_hours=0.0) == ""
