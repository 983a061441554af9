"""The linear learner keeps the contracts of Trainer, Potential and Featurizer."""

from clusterflow.testing.potential_contract import (
    check_featurizer,
    check_potential,
    check_trainer,
    tiny_labelled_frames,
)
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.linear_potential import LinearPotential
from clusterflow.train.linear_train import LinearTrainer

SETTINGS = LinearModelSettings(cutoff=4.0, radial=6, density=4, l_max=2, channels=4, features=4)


def _trainer():
    return LinearTrainer(SETTINGS, LinearTrainingSettings(), ("H", "C", "O"))


def test_linear_is_a_trainer(tmp_path):
    frames = tiny_labelled_frames(6, seed=1)
    check_trainer(_trainer, LinearPotential.load, frames[:4], frames[4:], tmp_path)


def test_linear_is_a_potential_and_a_featurizer(tmp_path):
    frames = tiny_labelled_frames(8, seed=2)
    model = _trainer().train(frames[:6], frames[6:], start=None, seed=1, workdir=tmp_path)
    potential = LinearPotential.load(model.path)
    check_potential(potential, frames[6:], unknown_element="Zn", tolerance=1e-8)
    check_featurizer(potential, frames[6:], tolerance=1e-7)
