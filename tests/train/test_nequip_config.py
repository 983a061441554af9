import numpy as np
import pytest
from ase.build import molecule

from clusterflow.errors import InputError
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings


@pytest.mark.parametrize(
    ("name", "r_max", "layers", "features", "length"), [("base", 4.5, 5, 16, 8), ("extended", 5.0, 4, 32, 16)]
)
def test_presets_are_those_of_table_si_1(name, r_max, layers, features, length):
    s = NequIPModelSettings.preset(name)
    assert (s.r_max, s.layers, s.features, s.readout_neurons) == (r_max, layers, features, length)
    assert (s.l_max, s.parity, s.resnet, s.invariant_layers, s.invariant_neurons) == (1, True, True, 2, 32)
    assert s.reach == r_max * layers


def test_training_defaults_are_those_of_si_2():
    s = NequIPTrainingSettings.relaxed()
    assert (s.learning_rate, s.batch_size, s.plateau_factor, s.plateau_patience) == (0.004, 5, 0.75, 25)
    assert (s.force_weight, s.energy_weight, s.min_delta, s.stop_patience, s.learning_rate_floor) == (
        1.0,
        100.0,
        1e-5,
        250,
        1e-5,
    )
    assert s == NequIPTrainingSettings()
    early = NequIPTrainingSettings.aggressive()
    assert early.learning_rate > s.learning_rate
    assert early.stop_patience < s.stop_patience
    assert early.plateau_patience < s.plateau_patience


def test_settings_survive_json():
    model, training = NequIPModelSettings.preset("small"), NequIPTrainingSettings.aggressive(core_only=True)
    assert NequIPModelSettings.from_json(model.to_json()) == model
    assert NequIPTrainingSettings.from_json(training.to_json()) == training


def test_what_weighs_by_noise_is_named_only_where_it_is_used():
    """Keys of trainings are hashes of this: an option that is off must not change them."""
    assert {"label_noise", "noise_scale"}.isdisjoint(NequIPTrainingSettings().to_json())
    noisy = NequIPTrainingSettings(label_noise={"Zr": 0.02})
    assert NequIPTrainingSettings.from_json(noisy.to_json()) == noisy
    assert noisy.weighs_forces
    water = molecule("H2O")
    np.testing.assert_array_equal(NequIPTrainingSettings().force_weights(water), np.ones(3))
    weights = NequIPTrainingSettings(label_noise={"O": 0.05}).force_weights(water)
    np.testing.assert_allclose(weights, [0.5, 1.0, 1.0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"r_max": -1.0}, "r_max"),
        ({"layers": 0}, "layers"),
        ({"readout_neurons": 1}, "readout_neurons"),
        ({"dtype": "float16"}, "float16"),
        ({"l_max": -1}, "l_max"),
        ({"widht": 3}, "widht"),
    ],
)
def test_impossible_models_are_refused(change, match):
    with pytest.raises(InputError, match=match):
        NequIPModelSettings.preset("base", **change)


def test_an_unknown_preset_lists_the_known():
    with pytest.raises(InputError, match="base, extended, small"):
        NequIPModelSettings.preset("large")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"energy_weight": 0.0, "force_weight": 0.0}, "nothing to learn"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"schedule": "step"}, "step"),
        ({"time_limit": -1.0}, "-1"),
        ({"noise_scale": 0.0}, "noise_scale"),
        ({"label_noise": {"O": -0.1}}, "noise of O"),
    ],
)
def test_impossible_trainings_are_refused(change, match):
    with pytest.raises(InputError, match=match):
        NequIPTrainingSettings(**change)
