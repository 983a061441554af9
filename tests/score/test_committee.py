"""Disagreement of a committee against what it is by definition, and its contract."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.core.data import Prediction
from clusterflow.errors import InputError, ScienceError
from clusterflow.score.committee import CommitteeDisagreement
from clusterflow.testing.potential_contract import tiny_labelled_frames
from clusterflow.testing.uncertainty_contract import check_uncertainty
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.linear_potential import LinearPotential
from clusterflow.train.linear_train import LinearTrainer


class Constant:
    """A potential whose force on every atom is the same."""

    cutoff, reach, model_id, elements = 1.0, 2.0, "constant", ("H", "O", "C")

    def __init__(self, *force: float) -> None:
        self.force = np.array(force)

    def predict(self, frames):
        return [Prediction(0.0, np.tile(self.force, (len(a), 1))) for a in frames]

    def calculator(self):
        raise NotImplementedError


THREE = (Constant(0.0, 0.0, 0.0), Constant(3.0, 4.0, 0.0), Constant(0.0, 0.0, 1.0))


def test_measures_are_what_they_say() -> None:
    water = molecule("H2O")
    largest = CommitteeDisagreement(THREE).fit([water])
    np.testing.assert_allclose(largest.score(water), np.sqrt(26.0))
    spread = CommitteeDisagreement(THREE, measure="deviation").fit([water])
    forces = np.array([m.force for m in THREE])
    np.testing.assert_allclose(spread.score(water), np.sqrt(((forces - forces.mean(0)) ** 2).sum(1).mean()))
    assert largest.unit == "eV/Å"
    assert (largest.known_up_to("O"), largest.known_up_to("Zn")) == (1.0, -np.inf)


def test_what_was_never_trained_on_is_unknown() -> None:
    fitted = CommitteeDisagreement(THREE).fit([molecule("H2O")])
    methanol = molecule("CH3OH")
    assert np.isinf(fitted.score(methanol)[methanol.numbers == 6]).all()
    assert np.isfinite(fitted.score(methanol)[methanol.numbers != 6]).all()
    assert np.isinf(fitted.score(Atoms("ZnO", [[0, 0, 0], [0, 0, 2.0]]))).all()  # no member can say anything
    only_core = CommitteeDisagreement(THREE).fit([methanol], atoms=[methanol.numbers == 8])
    assert np.isinf(only_core.score(methanol)[methanol.numbers != 8]).all()


def test_a_member_that_says_nonsense_makes_an_atom_unknown() -> None:
    fitted = CommitteeDisagreement((*THREE, Constant(np.nan, 0.0, 0.0))).fit([molecule("H2O")])
    assert np.isinf(fitted.score(molecule("H2O"))).all()


def test_it_survives_json() -> None:
    fitted = CommitteeDisagreement(THREE, measure="deviation", threshold=0.5).fit([molecule("H2O")])
    again = CommitteeDisagreement.from_json(json.loads(json.dumps(fitted.to_json())), THREE)
    assert again == fitted


def test_bad_committees_are_refused() -> None:
    with pytest.raises(InputError, match="committee of 1"):
        CommitteeDisagreement(THREE[:1])
    with pytest.raises(InputError, match="no measure"):
        CommitteeDisagreement(THREE, measure="mean")
    with pytest.raises(InputError, match="threshold"):
        CommitteeDisagreement(THREE, threshold=0.0)
    with pytest.raises(ScienceError, match="not been fitted"):
        CommitteeDisagreement(THREE).score(molecule("H2O"))
    with pytest.raises(ScienceError, match="no frame"):
        CommitteeDisagreement(THREE).fit([])


def test_a_committee_of_linear_potentials_keeps_the_contract(tmp_path) -> None:
    frames = tiny_labelled_frames(12, seed=5)
    trainer = LinearTrainer(
        LinearModelSettings(cutoff=4.0, radial=6, density=4, l_max=2, channels=4, features=4),
        LinearTrainingSettings(),
        ("H", "C", "O"),
    )
    members = []
    for k, part in enumerate((frames[:10], frames[2:10], frames[:7])):
        model = trainer.train(part, frames[10:], start=None, seed=k, workdir=tmp_path / str(k))
        members.append(LinearPotential.load(model.path))
    check_uncertainty(lambda: CommitteeDisagreement(tuple(members)), frames[:10], unseen_element="Zn", tolerance=1e-6)
