"""A model folder says what it is; what a campaign starts from is checked before anything runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from clusterflow.core.protocols import Featurizer, Potential
from clusterflow.errors import InputError, StateError
from clusterflow.testing.potential_contract import tiny_labelled_frames
from clusterflow.train.learners import POTENTIALS, TRAINERS, load_potential, make_trainer
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.linear_potential import LinearPotential
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
from clusterflow.train.nequip_export import _periodic_example, _write_checkpoint
from clusterflow.train.nequip_potential import NequIPPotential
from clusterflow.train.start_model import import_start_model

LINEAR = LinearModelSettings(cutoff=4.0, radial=4, density=3, l_max=2, channels=3, features=3)


@pytest.fixture(scope="module")
def linear(frames, tmp_path_factory) -> Path:
    trainer = make_trainer("linear", LINEAR.to_json(), LinearTrainingSettings().to_json(), ["H", "C", "O"], threads=1)
    workdir = tmp_path_factory.mktemp("linear")
    return trainer.train(frames[:6], frames[6:], start=None, seed=1, workdir=workdir).path


def test_a_folder_says_what_it_is(trained, linear, tmp_path) -> None:
    assert set(TRAINERS) == set(POTENTIALS)
    assert isinstance(load_potential(linear), LinearPotential)
    assert isinstance(load_potential(trained), NequIPPotential)
    for folder in (trained, linear):
        potential = load_potential(folder, dtype="float64")
        assert isinstance(potential, Potential)
        assert isinstance(potential, Featurizer)
    silent = tmp_path / "silent"  # written before there were kinds
    shutil.copytree(trained, silent)
    document = json.loads((silent / "model.json").read_text())
    del document["kind"]
    (silent / "model.json").write_text(json.dumps(document))
    assert isinstance(load_potential(silent), NequIPPotential)


def test_folders_that_are_none(linear, tmp_path) -> None:
    with pytest.raises(InputError, match="no model folder"):
        load_potential(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StateError, match=r"model\.json is missing"):
        load_potential(tmp_path / "empty")
    new = tmp_path / "new"
    shutil.copytree(linear, new)
    text = (new / "model.json").read_text()
    (new / "model.json").write_text(text.replace('"kind": "linear"', '"kind": "mace"'))
    with pytest.raises(StateError, match="of the kind 'mace'"):
        load_potential(new)
    with pytest.raises(StateError, match="no learner 'mace'"):
        make_trainer("mace", {}, {}, ["H"], threads=1)


def test_a_linear_start_model(linear, frames, tmp_path) -> None:
    told = {"kind": "linear", "model": LINEAR.to_json()}
    identity, elements = import_start_model(linear, tmp_path / "copy", elements=["H", "O"], **told)
    assert elements == ("H", "C", "O")
    copy = load_potential(tmp_path / "copy")
    assert (copy.model_id, copy.level_of_theory) == (identity, "")
    np.testing.assert_array_equal(
        copy.predict(frames[:1])[0].forces, load_potential(linear).predict(frames[:1])[0].forces
    )
    with pytest.raises(InputError, match="does not know Zn; it knows H, C, O"):
        import_start_model(linear, tmp_path / "no", elements=["H", "Zn"], **told)
    with pytest.raises(InputError, match="l_max: 2 there, 4 here"):
        import_start_model(
            linear, tmp_path / "no", elements=["H"], kind="linear", model={**LINEAR.to_json(), "l_max": 4}
        )
    with pytest.raises(InputError, match="no model to start from"):
        import_start_model(tmp_path / "nowhere", tmp_path / "no", elements=["H"], **told)
    file = tmp_path / "model.ckpt"
    file.write_text("x")
    with pytest.raises(InputError, match="not a model folder"):
        import_start_model(file, tmp_path / "no", elements=["H"], **told)
    with pytest.raises(InputError, match="of the kind 'linear', but `train:` trains 'nequip'"):
        import_start_model(linear, tmp_path / "no", elements=["H"], kind="nequip", model={})
    assert not (tmp_path / "no").exists()


def test_nequip_folder_and_checkpoint_start_alike(trained, tiny_settings, quick, frames, tmp_path) -> None:
    """The folder of an earlier model and the checkpoint that NequIP's tools read give the same predictions, and
    fine-tuning on labels of another level begins where they are."""
    told = {"kind": "nequip", "model": tiny_settings.to_json(), "elements": ["H", "C", "O"]}
    _, elements = import_start_model(trained, tmp_path / "folder", **told)
    assert elements == ("H", "C", "O", "Zn")
    checkpoint = _write_checkpoint(trained, tmp_path, _periodic_example(frames, 4.0))
    assert import_start_model(checkpoint, tmp_path / "file", **told)[1] == elements
    expected = load_potential(trained).predict(frames[:2])
    for name in ("folder", "file"):
        for mine, its in zip(load_potential(tmp_path / name).predict(frames[:2]), expected, strict=True):
            assert mine.energy == pytest.approx(its.energy, abs=1e-4)
            np.testing.assert_allclose(mine.forces, its.forces, atol=1e-4)
    relevelled = tiny_labelled_frames(4, seed=9)
    for atoms in relevelled:
        atoms.info["level_of_theory"] = "another"
    trainer = make_trainer("nequip", tiny_settings.to_json(), quick.to_json(), elements, threads=1)
    tuned = trainer.train(relevelled[:2], relevelled[2:], start=tmp_path / "file", seed=1, workdir=tmp_path / "tuned")
    history = json.loads((tuned.path / "history.json").read_text())
    assert history["warm_start"]
    assert tuned.metrics["val_loss"] <= history["start_model"]["val_loss"]

    with pytest.raises(InputError, match=r"cutoff is 4 Å; .* says 4\.5 Å"):
        import_start_model(checkpoint, tmp_path / "no", **{**told, "model": NequIPModelSettings().to_json()})
    wide = NequIPModelSettings.from_json({**tiny_settings.to_json(), "features": 8})
    with pytest.raises(InputError, match="arrays of weights differ"):
        import_start_model(checkpoint, tmp_path / "no", **{**told, "model": wide.to_json()})
    with pytest.raises(InputError, match="does not know Zr"):
        import_start_model(checkpoint, tmp_path / "no", **{**told, "elements": ["Zr"]})
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"no pickle at all")
    with pytest.raises(InputError, match=r"cannot load .broken\.ckpt"):
        import_start_model(broken, tmp_path / "no", **told)
    with pytest.raises(InputError, match="neither a model folder nor"):
        import_start_model(Path(__file__), tmp_path / "no", **told)


def test_threads_of_the_machine_win(tiny_settings) -> None:
    trainer = make_trainer(
        "nequip", tiny_settings.to_json(), NequIPTrainingSettings(threads=1).to_json(), ["H"], threads=3
    )
    assert trainer.settings.threads == 3
