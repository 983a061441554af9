"""The calibration stage with real scores and labels; only the potential is a stand-in."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.campaign.calibrations import calibration_rows, calibration_text, noise_statement, standing_alarms
from clusterflow.campaign.event_log import event_text
from clusterflow.campaign.status import campaign_status
from clusterflow.core import keys
from clusterflow.core.data import Prediction
from clusterflow.evaluate.metrics import compare
from clusterflow.execution import calibrating, stages
from clusterflow.score.gmm import GaussianMixtureNovelty
from clusterflow.state.journal import Event
from clusterflow.state.snapshot import Outcome, Snapshot


class Springs:
    """Features from distances; its forces are wrong by as much as an atom is displaced."""

    def features(self, atoms):
        d = atoms.get_all_distances() + 9.0 * np.eye(len(atoms))
        return np.exp(-3.0 * (d[..., None] - np.array([1.0, 1.5, 2.2, 3.0])) ** 2).sum(axis=1)

    def predict_with_features(self, atoms):
        return Prediction(0.0, atoms.arrays["wrong"]), self.features(atoms)


def labelled(n, sigma, seed, *, factor=1.0):
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = molecule("C6H6")
        away = rng.normal(0.0, 1.0, (12, 3)) * sigma * rng.uniform(0.2, 1.8, (12, 1))
        atoms.positions += away
        atoms.set_array("wrong", factor * away)
        atoms.set_array(keys.REGION, np.array(["core"] * 6 + ["termination"] * 6))
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((12, 3)))
        frames.append(atoms)
    return frames


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Runs the stage on given validation and other frames; returns its summary and what it has published."""
    potential = Springs()
    training = labelled(20, 0.05, 0)
    density = GaussianMixtureNovelty(potential, components=(1, 2)).fit(training)
    numbers = np.concatenate([a.numbers for a in training])
    scores = np.concatenate([density.score(a) for a in training])
    np.savez(tmp_path / "training.npz", numbers=numbers, novelty=scores)
    monkeypatch.setattr(calibrating, "potential_of", lambda *_: potential)
    monkeypatch.setattr(calibrating, "novelty_of", lambda *_: density)

    def run(validation, other, *, new=False, core_only=False):
        sets = {"v": validation, "o": other}
        place = SimpleNamespace(out=tmp_path, labelled=lambda k: sets[k[0]] if k else [], result=lambda *_: tmp_path)
        payload = {
            "model": "m", "mixture": "d", "validation": ["v"], "labels": ["o"], "core_only": core_only,
            "confidence": 0.9, "iteration": 3, "new": new,
        }  # fmt: skip
        summary = calibrating.calibrate(payload, place)
        json.dumps(summary, allow_nan=False)
        return summary, json.loads((tmp_path / "calibration.json").read_text())

    return run


def test_a_sound_calibration_covers_and_raises_no_alarm(stage):
    summary, published = stage(labelled(25, 0.05, 1), labelled(25, 0.05, 2), new=True)
    assert 0.8 < summary["coverage"] < 0.99
    assert summary["spearman"] > 0.2
    assert summary["alarms"] == []
    assert summary["structures"] == 25
    assert set(published["reliability"]) == {"all", "C", "H"}
    assert "90% bounds hold for" in calibration_text(summary)


def test_a_potential_without_features_of_its_own_is_asked_twice(stage, monkeypatch):
    whole = stage(labelled(12, 0.05, 1), labelled(12, 0.05, 2))
    monkeypatch.delattr(Springs, "predict_with_features")
    monkeypatch.setattr(Springs, "predict", lambda _, f: [Prediction(0.0, a.arrays["wrong"]) for a in f], raising=False)
    assert stage(labelled(12, 0.05, 1), labelled(12, 0.05, 2)) == whole


def test_only_atoms_that_are_trained_on_count(stage):
    _, published = stage(labelled(12, 0.05, 1), labelled(12, 0.05, 2), core_only=True)
    assert set(published["reliability"]) == {"all", "C"}
    assert published["reliability"]["all"]["n_atoms"] == 72
    assert set(published["calibration"]["curves"]) == {"C"}


def test_an_alarm_reaches_the_log_and_the_status(stage):
    summary, published = stage(labelled(25, 0.05, 1), labelled(15, 0.05, 2, factor=6.0), new=True)
    assert published["alarms"][0]["kind"] == "coverage"
    snapshot = Snapshot()
    snapshot.outcomes["k"] = Outcome("done", "calibrate", summary)
    (warning,) = campaign_status(snapshot).warnings
    assert warning.startswith("iteration 3, new labels: force errors of all atoms exceed their bounds too often")
    assert "WARNING" in calibration_text(summary)
    line = event_text(Event(7, "", 1, "done", {"task": "calibrate", "summary": summary}, "", ""))
    assert 'warning="force errors of all atoms exceed' in line
    later = {**summary, "iteration": 4, "alarms": []}
    snapshot.outcomes["l"] = Outcome("done", "calibrate", later)
    assert standing_alarms(snapshot) == []


def test_too_few_labels_are_no_failure(stage):
    summary, published = stage(labelled(1, 0.05, 1), labelled(3, 0.05, 2))
    assert "cannot calibrate" in summary["refused"]
    assert published["calibration"] is None
    assert calibration_text(summary).startswith("not calibrated: 12 held-out atoms of 1 independent structures")
    few, _ = stage(labelled(4, 0.05, 1), labelled(3, 0.05, 2))
    assert few["coverage"] is None
    assert "no 90% bounds yet, they take 9" in calibration_text(few)


def test_fragments_of_one_walk_count_as_one(stage):
    """25 fragments of five walks: five things to learn from, too few for a bound."""
    frames, new = labelled(25, 0.05, 1), labelled(25, 0.05, 2)
    for k, atoms in enumerate(frames):
        atoms.info[keys.WALK] = f"walk {k % 5}"
        atoms.info[keys.FRAME] = f"frame {k}"
    summary, published = stage(frames, new, new=True)
    assert summary["structures"] == 5
    assert summary["coverage"] is None
    assert published["reliability"]["all"]["n_groups"] == 25
    assert "on 5 independent structures" in calibration_text(summary)
    for atoms in frames:  # starting fragments: no walk, but some of one frame
        del atoms.info[keys.WALK]
        atoms.info[keys.FRAME] = f"frame {int(atoms.info[keys.FRAME].split()[1]) // 2}"
    assert stage(frames, new)[0]["structures"] == 13


def test_the_noise_of_labels_is_set_against_the_error():
    frames = labelled(2, 0.05, 0)
    metrics = compare(frames, [Prediction(0.0, a.arrays["wrong"]) for a in frames])
    found = stages._noise_floor({"C": 0.03, "H": 0.03}, frames, metrics)
    assert found["noise_floor"] == pytest.approx(30.0 / 3**0.5)
    assert found["at_noise_floor"] is False
    assert stages._noise_floor({"C": 0.03}, frames, metrics) == {}
    assert stages._noise_floor(None, frames, metrics) == {}
    snapshot = Snapshot()
    assert campaign_status(snapshot).noise == ""
    snapshot.decisions["evaluated/0"] = {"evaluation": "e", "iteration": 0, "n_training": 9}
    summary = {"mae": 20.0, "mae_p95": 60.0, "rmse": 25.0, "noise_floor": 20.0, "at_noise_floor": True}
    snapshot.outcomes["e"] = Outcome("done", "evaluate", summary)
    assert noise_statement(snapshot) == (
        "test force RMSE 25.0 meV/Å, of which 20.0 is noise of the labels and 15.0 the potential's: as good as its "
        "labels; more training is of no use"
    )
    snapshot.outcomes["e"] = Outcome("done", "evaluate", {**summary, "rmse": 90.0, "at_noise_floor": False})
    assert noise_statement(snapshot).endswith("above the noise")


def test_campaigns_of_older_versions_have_none():
    snapshot = Snapshot()
    snapshot.outcomes["e"] = Outcome("done", "evaluate", {"mae": 1.0})
    assert calibration_rows(snapshot) == []
    assert campaign_status(snapshot).warnings == []
