"""NequIP keeps the contracts of Potential and Featurizer."""

import pytest

from clusterflow.core.protocols import Featurizer, Potential
from clusterflow.testing.potential_contract import check_featurizer, check_potential, tiny_labelled_frames
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
from clusterflow.train.nequip_potential import NequIPPotential
from clusterflow.train.nequip_train import NequIPTrainer


@pytest.fixture(scope="module")
def potential(tmp_path_factory) -> NequIPPotential:
    frames = tiny_labelled_frames(6, seed=1)
    trainer = NequIPTrainer(
        NequIPModelSettings.preset("small", layers=2, features=4),
        NequIPTrainingSettings(max_epochs=3),
        ("H", "C", "O"),
    )
    workdir = tmp_path_factory.mktemp("model")
    model = trainer.train(frames[:4], frames[4:], start=None, seed=1, workdir=workdir)
    return NequIPPotential.load(model.path, device="cpu")


def test_nequip_is_a_potential(potential: Potential):
    check_potential(potential, tiny_labelled_frames(4, seed=2), unknown_element="Fe", tolerance=2e-5)


def test_nequip_is_a_featurizer(potential: Featurizer):
    assert isinstance(potential, Featurizer)
    check_featurizer(potential, tiny_labelled_frames(2, seed=2), tolerance=2e-5)
