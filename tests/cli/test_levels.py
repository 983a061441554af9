"""Levels of theory and potentials as forces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from clusterflow.cli.levels import potential_level, reference_level
from clusterflow.errors import InputError, LabelError
from clusterflow.extract.locality import difference_row
from clusterflow.label.xtb import XTBReference
from clusterflow.state.labels import LabelStore
from clusterflow.testing.potential_contract import tiny_labelled_frames
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
from clusterflow.train.nequip_train import NequIPTrainer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = tiny_labelled_frames(6, seed=1)
    trainer = NequIPTrainer(
        NequIPModelSettings.preset("small", layers=2, features=4, r_max=4.0),
        NequIPTrainingSettings(learning_rate=0.01, max_epochs=2, ema_decay=0.9),
        ("H", "C", "O"),
    )
    workdir = tmp_path_factory.mktemp("trained")
    return Path(trainer.train(frames[:4], frames[4:], start=None, seed=3, workdir=workdir).path)


def test_a_reference_level_gives_the_forces_of_its_labels() -> None:
    atoms = molecule("CH3OH")
    level = reference_level("gfn2")
    assert np.allclose(level.forces(atoms, 0, 0), XTBReference(method="GFN2-xTB").label(atoms).prediction.forces)
    assert level.row is None
    cation = level.forces(atoms, 1, 1)
    assert not np.allclose(cation, level.forces(atoms, 0, 0), atol=0.1)  # charge and spin reach the level


def test_a_store_keeps_what_was_computed_and_what_failed(tmp_path: Path) -> None:
    atoms = molecule("CH3OH")
    level = reference_level("gfn1", tmp_path / "labels")
    first = level.forces(atoms, 0, 0)
    assert LabelStore(tmp_path / "labels").count() == 1
    assert np.array_equal(reference_level("gfn1", tmp_path / "labels").forces(atoms, 0, 0), first)
    with pytest.raises(LabelError, match="electrons"):
        level.forces(atoms, 0, 1)


def test_a_potential_has_hessian_rows_of_its_own(model: Path) -> None:
    atoms = molecule("CH3OH")
    level = potential_level(model)
    assert level.identity.startswith("potential ")
    assert level.row is not None
    exact = level.row(atoms, 1, 0, 0)
    assert exact.shape == (3, 6, 3)
    assert np.allclose(exact, difference_row(level.forces, step=1e-3)(atoms, 1, 0, 0), atol=1e-4)
    assert np.abs(exact).max() > 1e-2
    with pytest.raises(InputError, match="does not know Zn"):
        level.check_elements(["H", "Zn"])


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no level 'pbe'"):
        reference_level("pbe")
    with pytest.raises(InputError, match="no model folder"):
        potential_level(tmp_path / "none")
