import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core import keys
from clusterflow.errors import InputError
from clusterflow.train.core_mask import core_atoms, mask_forces


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
