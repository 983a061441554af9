"""NequIP keeps the contract of Trainer."""

from clusterflow.testing.potential_contract import check_trainer, tiny_labelled_frames
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
from clusterflow.train.nequip_potential import NequIPPotential
from clusterflow.train.nequip_train import NequIPTrainer


def test_nequip_is_a_trainer(tmp_path):
    frames = tiny_labelled_frames(6, seed=1)
    check_trainer(
        lambda: NequIPTrainer(
            NequIPModelSettings.preset("small", layers=2, features=4),
            NequIPTrainingSettings(max_epochs=4, batch_size=2, device="cpu"),
            ("H", "C", "O"),
        ),
        lambda folder: NequIPPotential.load(folder, device="cpu"),
        frames[:4],
        frames[4:],
        tmp_path,
    )
