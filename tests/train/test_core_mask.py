from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core import keys
from clusterflow.core.data import Certificate, Fragment
from clusterflow.core.frames import fragment_to_atoms
from clusterflow.errors import InputError
from clusterflow.train.core_mask import certificate_weights, core_atoms, force_weights, mask_forces


@pytest.fixture
def fragment():
    atoms = molecule("CH3OH")
    forces = np.arange(18.0).reshape(6, 3)
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0, forces=forces)
    atoms.set_array(keys.REGION, np.array(["core", "core", "mantle", "termination", "mantle", "core"]))
    return atoms


def test_only_core_forces_are_left(fragment):
    (masked,) = mask_forces([fragment])
    forces = masked.get_forces()
    assert np.isnan(forces[[2, 3, 4]]).all()
    np.testing.assert_array_equal(forces[[0, 1, 5]], fragment.get_forces()[[0, 1, 5]])
    assert masked.get_potential_energy() == -5.0
    assert np.isfinite(fragment.get_forces()).all(), "the frame itself is not changed"


def test_a_frame_without_regions_is_all_core():
    assert core_atoms(molecule("H2O")).all()


def test_unknown_regions_and_empty_cores_are_refused(fragment):
    fragment.arrays[keys.REGION][0] = "mantel"
    with pytest.raises(InputError, match="mantel"):
        mask_forces([fragment])
    fragment.set_array(keys.REGION, np.array(["mantle"] * 6))
    with pytest.raises(InputError, match="no core atom"):
        mask_forces([fragment])


def test_certificates_weight_forces_by_their_bounds():
    atoms = Atoms("H4", positions=np.eye(4, 3))
    np.testing.assert_array_equal(certificate_weights(atoms), np.ones(4))
    certificate = Certificate(
        bound=np.array([0.0, 0.1, 0.3, np.inf]),
        estimate=np.array([0.0, 0.05, 0.1, np.inf]),
        tolerance=0.1,
        confidence=0.95,
        confirmations=30,
        method="test",
        passed=True,
        required=np.array([True, True, False, False]),
        indicators=np.zeros((4, 2)),
        environments=("H()",) * 4,
    )
    fragment = Fragment(
        atoms, np.array([True, True, False, False]), np.array([0, 1, 2, -1]), (), "test", 0, 0, certificate=certificate
    )
    weights = certificate_weights(fragment_to_atoms(fragment))
    np.testing.assert_allclose(weights, [1.0, 0.5, 0.1, 0.0])
    labelled = fragment_to_atoms(fragment)
    np.testing.assert_allclose(force_weights(labelled, certificates=True), weights)
    np.testing.assert_array_equal(force_weights(labelled, certificates=False), np.ones(4))
    noisy = force_weights(labelled, certificates=True, noise={"H": 0.05, "O": 9.0}, scale=0.05)
    np.testing.assert_allclose(noisy, [1 / 2, 1 / 3, 1 / 11, 0.0])  # 1 / (1 + (e/tolerance)² + (σ/scale)²)
    np.testing.assert_allclose(force_weights(labelled, certificates=False, noise={"H": 0.1}, scale=0.05), 0.2)
    np.testing.assert_array_equal(force_weights(labelled, certificates=False, noise={"O": 0.1}), np.ones(4))
    unsure = replace(certificate, bound=np.full(4, np.inf), confidence=0.0, passed=False)
    weights = certificate_weights(fragment_to_atoms(replace(fragment, certificate=unsure)))
    np.testing.assert_allclose(weights, [1.0, 0.5, 0.2, 0.0])
