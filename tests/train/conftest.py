"""Tiny labelled data and one tiny trained model for the tests of the training."""

from pathlib import Path

import pytest

from clusterflow.testing.potential_contract import tiny_labelled_frames
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
from clusterflow.train.nequip_train import NequIPTrainer

ELEMENTS = ("H", "C", "O", "Zn")  # Zn occurs in no frame: an element of a later iteration


@pytest.fixture(scope="session")
def frames():
    return tiny_labelled_frames(10, seed=1)


@pytest.fixture(scope="session")
def tiny_settings():
    return NequIPModelSettings.preset("small", layers=2, features=4, r_max=4.0)


@pytest.fixture(scope="session")
def quick():
    return NequIPTrainingSettings(learning_rate=0.01, max_epochs=6, ema_decay=0.9)


@pytest.fixture(scope="session")
def trained(frames, tiny_settings, quick, tmp_path_factory) -> Path:
    """Folder of a model after six epochs: not accurate, but a smooth, non-trivial potential."""
    trainer = NequIPTrainer(tiny_settings, quick, ELEMENTS)
    workdir = tmp_path_factory.mktemp("trained")
    return trainer.train(frames[:8], frames[8:], start=None, seed=3, workdir=workdir).path
