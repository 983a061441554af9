import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core import keys
from clusterflow.errors import InputError, LevelOfTheoryError, TrainError
from clusterflow.train import nequip_loop, nequip_train
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
from clusterflow.train.nequip_potential import NequIPPotential
from clusterflow.train.nequip_train import NequIPTrainer

ELEMENTS = ("H", "C", "O", "Zn")


def history(model):
    return json.loads((model.path / "history.json").read_text())


def force_mae(potential, frames):
    errors = [p.forces - a.get_forces() for p, a in zip(potential.predict(frames), frames, strict=True)]
    return float(np.mean(np.abs(np.concatenate(errors))))


def test_the_folder_explains_itself(trained, frames, quick, tiny_settings):
    assert sorted(p.name for p in trained.iterdir()) == ["history.json", "model.json", "weights.safetensors"]
    document = json.loads((trained / "model.json").read_text())
    assert document["elements"] == list(ELEMENTS)
    assert document["level_of_theory"] == "Morse"
    assert NequIPModelSettings.from_json(document["settings"]) == tiny_settings
    assert set(document["versions"]) == {"nequip", "e3nn", "torch"}
    record = json.loads((trained / "history.json").read_text())
    assert [e["epoch"] for e in record["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert record["stop_reason"] == "max_epochs: 6"
    assert record["reproducible"] is True
    work = trained.parent
    assert json.loads((work / "progress.json").read_text())["epoch"] == 6
    assert len([line for line in (work / "train.log").read_text().splitlines() if line.startswith("epoch")]) == 6
    assert sorted(p.name for p in work.iterdir()) == ["model", "progress.json", "train.log"]


def test_it_prints_nothing(frames, tiny_settings, quick, tmp_path, capfd):
    NequIPTrainer(tiny_settings, replace(quick, max_epochs=1), ELEMENTS).train(
        frames[:4], frames[4:6], start=None, seed=1, workdir=tmp_path
    )
    assert capfd.readouterr() == ("", "")


def test_masked_forces_do_not_touch_the_weights(frames, tiny_settings, quick, tmp_path):
    """Garbage on mantle and termination atoms changes nothing with core_only, and does without."""
    clean, garbage = [], []
    for atoms in frames[:6]:
        region = np.array(["core", "core", "mantle", "termination", "core"])
        forces = atoms.get_forces()
        for target, wrong in ((clean, 0.0), (garbage, 50.0)):
            copy = atoms.copy()
            copy.set_array(keys.REGION, region)
            noise = np.where(region[:, None] == "core", 0.0, wrong)
            copy.calc = SinglePointCalculator(copy, energy=atoms.get_potential_energy(), forces=forces + noise)
            target.append(copy)

    def identity(data, core_only):
        trainer = NequIPTrainer(tiny_settings, replace(quick, max_epochs=2, core_only=core_only), ELEMENTS)
        workdir = tmp_path / f"{core_only}-{data is garbage}"
        return trainer.train(data[:4], data[4:], start=None, seed=1, workdir=workdir).model_id

    assert identity(clean, True) == identity(garbage, True)
    assert identity(clean, False) != identity(garbage, False)


def test_an_interrupted_training_ends_with_the_same_weights(
    frames, tiny_settings, quick, trained, tmp_path, monkeypatch
):
    """Stopped dead in its fourth epoch, after the restart file of the third was written."""
    run, calls = nequip_loop.Loop.train_epoch, []

    def dies(self):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(self)

    begin = nequip_loop.Loop.run
    monkeypatch.setattr(nequip_loop.Loop, "run", lambda self, **kw: begin(self, **kw, save_every=0.0))
    monkeypatch.setattr(nequip_loop.Loop, "train_epoch", dies)
    trainer = NequIPTrainer(tiny_settings, quick, ELEMENTS)
    arguments = {"start": None, "seed": 3, "workdir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        trainer.train(frames[:8], frames[8:], **arguments)
    restart = tmp_path / nequip_train.RESTART_FILE
    content = bytearray(restart.read_bytes())
    content[-3] ^= 1  # in the last tensor
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / restart.name).write_bytes(content)
    fresh = nequip_loop.Loop.restore
    told = []
    monkeypatch.setattr(nequip_loop.Loop, "restore", lambda self, path: told.append(fresh(self, path)) or told[-1])
    calls[:] = [1, 1, 1]
    with pytest.raises(KeyboardInterrupt):
        trainer.train(frames[:8], frames[8:], **{**arguments, "workdir": tmp_path / "damaged"})
    assert told == [False]
    calls[:] = [1, 1, 1, 1]
    model = trainer.train(frames[:8], frames[8:], **arguments)
    assert len(calls) == 7, "three epochs are left after the three that were saved and the one that was lost"
    assert history(model)["resumed"] == 1
    assert model.model_id == json.loads((trained / "model.json").read_text())["model_id"]
    assert [e["val_loss"] for e in history(model)["epochs"]] == [
        e["val_loss"] for e in json.loads((trained / "history.json").read_text())["epochs"]
    ]


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"not a restart file"])
def test_a_damaged_restart_file_means_a_fresh_start(content, frames, tiny_settings, quick, trained, tmp_path):
    (tmp_path / nequip_train.RESTART_FILE).write_bytes(content)
    trainer = NequIPTrainer(tiny_settings, quick, ELEMENTS)
    model = trainer.train(frames[:8], frames[8:], start=None, seed=3, workdir=tmp_path)
    assert model.model_id == json.loads((trained / "model.json").read_text())["model_id"]
    assert history(model)["resumed"] == 0


def test_a_warm_start_begins_where_its_start_model_ended(frames, tiny_settings, quick, trained, tmp_path):
    settings = replace(quick, max_epochs=2, refit_shifts=False)
    trainer = NequIPTrainer(tiny_settings, settings, ELEMENTS)
    model = trainer.train(frames[:8], frames[8:], start=trained, seed=5, workdir=tmp_path)
    before = json.loads((trained / "history.json").read_text())
    best = before["epochs"][before["best_epoch"] - 1]
    assert history(model)["epoch_0"]["val_loss"] == pytest.approx(best["val_loss"], rel=1e-6)
    rates = [e["learning_rate"] for e in history(model)["epochs"]]
    assert rates == pytest.approx([0.1 * quick.learning_rate, 0.19 * quick.learning_rate])


def test_a_warm_start_is_never_worse_than_its_start_model(frames, tiny_settings, quick, trained, tmp_path):
    wild = replace(quick, max_epochs=3, learning_rate=2.0, warmup_epochs=0, refit_shifts=False)
    model = NequIPTrainer(tiny_settings, wild, ELEMENTS).train(
        frames[:8], frames[8:], start=trained, seed=5, workdir=tmp_path
    )
    assert model.metrics["val_loss"] <= history(model)["start_model"]["val_loss"]
    assert model.metrics["best_epoch"] == 0.0
    assert NequIPPotential.load(model.path).predict(frames[:1])[0].energy == pytest.approx(
        NequIPPotential.load(trained).predict(frames[:1])[0].energy
    )


def test_new_compositions_move_the_shifts_and_not_the_forces(frames, tiny_settings, quick, trained, tmp_path):
    """The same labels on another energy scale: after the refit the start model fits as well as before."""
    moved = []
    for atoms in frames:
        copy = atoms.copy()
        energy = atoms.get_potential_energy() + 2.0 * len(atoms)
        copy.calc = SinglePointCalculator(copy, energy=energy, forces=atoms.get_forces())
        moved.append(copy)
    trainer = NequIPTrainer(tiny_settings, replace(quick, max_epochs=1), ELEMENTS)
    record = history(trainer.train(moved[:8], moved[8:], start=trained, seed=5, workdir=tmp_path))
    change = record["shift_change_eV"]
    assert 2 * change["H"] + change["C"] + 2 * change["O"] == pytest.approx(10.0, abs=0.1)
    assert change["Zn"] == 0.0
    assert record["start_model"]["val_energy_mae_eV_per_atom"] > 1.9
    assert record["epoch_0"]["val_energy_mae_eV_per_atom"] < 0.5  # what six epochs left
    assert record["epoch_0"]["val_force_mae_eV_per_A"] == pytest.approx(record["start_model"]["val_force_mae_eV_per_A"])


def test_divergence_is_an_error_with_numbers(frames, tiny_settings, quick, tmp_path):
    explosive = replace(quick, learning_rate=1e30, max_epochs=50)
    with pytest.raises(TrainError, match=r"loss became (nan|inf) in epoch \d+ at learning rate 1e\+30"):
        NequIPTrainer(tiny_settings, explosive, ELEMENTS).train(
            frames[:8], frames[8:], start=None, seed=1, workdir=tmp_path
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stop_patience": 2, "min_delta": 1e6}, "no improvement"),
        ({"plateau_patience": 0, "learning_rate": 2e-7, "learning_rate_floor": 1.9e-7}, "learning rate"),
        ({"time_limit": 1e-6}, "time limit"),
    ],
)
def test_training_stops_for_its_stated_reasons(change, reason, frames, tiny_settings, tmp_path):
    settings = NequIPTrainingSettings(max_epochs=60, **change)
    model = NequIPTrainer(tiny_settings, settings, ELEMENTS).train(
        frames[:2], frames[2:4], start=None, seed=1, workdir=tmp_path
    )
    assert history(model)["stop_reason"].startswith(reason)
    assert history(model)["reproducible"] == (reason != "time limit")
    assert 1 <= model.metrics["epochs"] < 60


def test_bad_data_and_starts_are_refused(frames, tiny_settings, quick, trained, tmp_path):
    trainer = NequIPTrainer(tiny_settings, quick, ELEMENTS)
    mixed = [*frames[:3], frames[3].copy()]
    mixed[3].info[keys.LEVEL] = "PBE"
    mixed[3].calc = frames[3].calc
    with pytest.raises(LevelOfTheoryError, match="Morse"):
        trainer.train(mixed, frames[8:], start=None, seed=1, workdir=tmp_path)
    with pytest.raises(InputError, match="does not know O; it knows H, C"):
        NequIPTrainer(tiny_settings, quick, ("H", "C")).train(
            frames[:4], frames[8:], start=None, seed=1, workdir=tmp_path
        )
    other = NequIPTrainer(replace(tiny_settings, features=6), quick, ELEMENTS)
    with pytest.raises(InputError, match="features 4 → 6"):
        other.train(frames[:4], frames[8:], start=trained, seed=1, workdir=tmp_path)
    relabelled = []
    for atoms in frames[:6]:
        copy = atoms.copy()
        copy.calc = atoms.calc
        copy.info[keys.LEVEL] = "PBE"
        relabelled.append(copy)
    with pytest.raises(LevelOfTheoryError, match="trained at 'Morse'"):
        trainer.train(relabelled[:4], relabelled[4:], start=trained, seed=1, workdir=tmp_path)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_it_learns_real_chemistry(tmp_path):
    """GFN1-xTB formic acid: the force error on unseen frames falls to a quarter of the forces within seconds."""
    from tblite.ase import TBLite

    rng = np.random.default_rng(0)
    frames = []
    for _ in range(26):
        atoms = molecule("HCOOH")
        atoms.rattle(0.05, rng=rng)
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    settings = NequIPTrainingSettings(
        learning_rate=0.02,
        batch_size=2,
        energy_weight=10.0,
        schedule="cosine",
        max_epochs=80,
        ema_decay=0.99,
        device="cpu",
    )
    trainer = NequIPTrainer(NequIPModelSettings.preset("small"), settings, ("H", "C", "O"))
    model = trainer.train(frames[:16], frames[16:20], start=None, seed=1, workdir=tmp_path)
    test = frames[20:]
    typical = float(np.mean(np.abs(np.concatenate([a.get_forces() for a in test]))))
    assert force_mae(NequIPPotential.load(model.path), test) < 0.25 * typical


def test_patience_does_not_end_a_cosine_run(frames, tmp_path):
    """A warm start at a high rate gets worse before it gets better, and the end of the cosine must be reached."""
    common = {"max_epochs": 12, "stop_patience": 2, "min_delta": 10.0, "device": "cpu", "learning_rate": 1e-3}
    epochs = {}
    for schedule in ("plateau", "cosine"):
        trainer = NequIPTrainer(
            NequIPModelSettings.preset("small"), NequIPTrainingSettings(schedule=schedule, **common), ELEMENTS
        )
        model = trainer.train(frames[:4], frames[4:6], start=None, seed=1, workdir=tmp_path / schedule)
        epochs[schedule] = model.metrics["epochs"]
    assert epochs["cosine"] == 12
    assert epochs["plateau"] < 12
