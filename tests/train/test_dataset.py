import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core import keys
from clusterflow.errors import InputError, LevelOfTheoryError, StructureError
from clusterflow.train import dataset
from clusterflow.train.core_mask import mask_forces

ELEMENTS = ("H", "C", "O")


def labelled(atoms, energy, forces):
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def brute_force_pairs(atoms, cutoff):
    """Every image within five cells, by hand (the atoms lie up to three cells apart)."""
    shifts = itertools.product(*[range(-5, 6) if p else (0,) for p in atoms.pbc])
    found = []
    for shift in shifts:
        vectors = atoms.positions[None] + np.array(shift) @ atoms.cell.array - atoms.positions[:, None]
        length = np.linalg.norm(vectors, axis=2)
        found += [(i, j, *np.round(vectors[i, j], 6)) for i, j in np.argwhere((length < cutoff) & (length > 1e-9))]
    return sorted(found)


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, True), (True, True, False)])
def test_neighbours_are_all_pairs_within_the_cutoff_in_any_cell(pbc):
    rng = np.random.default_rng(0)
    positions = rng.uniform(-4, 9 if any(pbc) else 0, (5, 3))
    atoms = Atoms("OCHHO", positions, cell=[[5, 0, 0], [2.0, 4.5, 0], [-1.5, 1.0, 5.5]], pbc=pbc)
    pairs, vectors = dataset.neighbours(atoms, 4.2)
    found = sorted((i, j, *np.round(v, 6)) for (i, j), v in zip(pairs.T, vectors, strict=True))
    expected = brute_force_pairs(atoms, 4.2)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=2e-6)


def test_a_molecule_without_a_cell_has_neighbours_too():
    pairs, vectors = dataset.neighbours(molecule("H2O"), 2.0)
    assert pairs.shape == (2, 6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1).min(), 0.9686, atol=1e-3)


def test_shifts_are_the_atomic_energies_when_the_data_determine_them():
    truth = {"H": -3.0, "C": -40.0, "O": -75.0}
    frames = []
    for name in ("H2O", "CH4", "CO2", "HCOOH"):
        atoms = molecule(name)
        frames.append(labelled(atoms, sum(truth[s] for s in atoms.symbols), np.ones((len(atoms), 3))))
    found = dataset.statistics(frames, ELEMENTS, 4.0)
    for element, energy in truth.items():
        assert found.shifts[element] == pytest.approx(energy, abs=0.2)  # the ridge moves them by this much at most


@given(energy=st.floats(-1e4, 1e4), elements=st.permutations(["H", "O", "C", "Zn"]))
@settings(max_examples=30, deadline=None)
def test_shifts_of_one_composition_still_sum_to_its_energy(energy, elements):
    water = labelled(molecule("H2O"), energy, np.ones((3, 3)))
    found = dataset.statistics([water, water], elements, 4.0)
    assert all(np.isfinite(list(found.shifts.values())))
    assert 2 * found.shifts["H"] + found.shifts["O"] == pytest.approx(energy, abs=1e-6 + 1e-3 * abs(energy))
    assert found.shifts["Zn"] == pytest.approx(energy / 3, abs=1e-6)  # no data: the mean


def test_scales_are_the_force_rms_of_each_element_and_ignore_masked_forces():
    forces = np.array([[3.0, 3.0, 3.0], [1.0, -1.0, 1.0], [1.0, 1.0, -1.0]])  # water: O, H, H
    water = labelled(molecule("H2O"), -10.0, forces)
    found = dataset.statistics([water], ELEMENTS, 4.0)
    assert found.scales["O"] == pytest.approx(3.0)
    assert found.scales["H"] == pytest.approx(1.0)
    assert found.scales["C"] == pytest.approx(found.force_rms) == pytest.approx(np.sqrt((27 + 6) / 9))

    water.set_array(keys.REGION, np.array(["mantle", "core", "core"]))
    masked = dataset.statistics(mask_forces([water]), ELEMENTS, 4.0)
    assert masked.force_rms == pytest.approx(1.0)
    assert masked.scales["O"] == pytest.approx(1.0)


def test_mean_number_of_neighbours():
    water = labelled(molecule("H2O"), -10.0, np.ones((3, 3)))
    assert dataset.statistics([water], ELEMENTS, 4.0).avg_num_neighbors == pytest.approx(2.0)


def test_statistics_survive_json():
    found = dataset.statistics([labelled(molecule("H2O"), -10.0, np.ones((3, 3)))], ELEMENTS, 4.0)
    assert dataset.Statistics.from_json(found.to_json()) == found


def test_levels_must_not_be_mixed():
    water = labelled(molecule("H2O"), -10.0, np.ones((3, 3)))
    other = water.copy()
    water.info[keys.LEVEL], other.info[keys.LEVEL] = "PBE/fd", "GFN1-xTB"
    assert dataset.check_levels([water, water]) == "PBE/fd"
    with pytest.raises(LevelOfTheoryError, match=r"1 frames at 'GFN1-xTB'; 2 frames at 'PBE/fd'"):
        dataset.check_levels([water, other, water])
    del other.info[keys.LEVEL]
    with pytest.raises(LevelOfTheoryError, match="no stated level"):
        dataset.check_levels([water, other])


def test_bad_labels_are_refused():
    water = molecule("H2O")
    with pytest.raises(InputError, match="no energy and no forces"):
        dataset.labels(water)
    with pytest.raises(InputError, match="energy nan"):
        dataset.labels(labelled(water, np.nan, np.ones((3, 3))))
    with pytest.raises(InputError, match="1 of them infinite"):
        dataset.labels(labelled(water, -1.0, np.diag([np.inf, 1.0, 1.0])))


def test_unknown_elements_are_named():
    with pytest.raises(InputError, match=r"does not know N, Na; it knows H, C, O"):
        dataset.type_indices(Atoms("NaN", [[0, 0, 0], [2, 0, 0]]), ELEMENTS)


@pytest.mark.parametrize(
    ("elements", "match"), [((), "empty"), (("H", "Qq"), "not elements: Qq"), (("H", "H"), "twice")]
)
def test_bad_element_lists_are_refused(elements, match):
    with pytest.raises(InputError, match=match):
        dataset.check_elements(elements)


def test_blown_up_and_cell_less_frames_are_refused():
    water = molecule("H2O")
    water.positions[1, 2] = np.nan
    with pytest.raises(StructureError, match=r"1 of 3 atoms .* \[1\]"):
        dataset.neighbours(water, 4.0)
    with pytest.raises(StructureError, match="no cell vector"):
        dataset.neighbours(Atoms("H2", [[0, 0, 0], [0, 0, 1]], pbc=True), 4.0)


def test_the_mean_weight_is_over_all_labelled_components():
    import torch
    from nequip.data import AtomicDataDict as Key

    from clusterflow.train.dataset import FORCE_WEIGHT, mean_force_weight

    def graph(weights, masked=()):
        forces = torch.zeros((len(weights), 3), dtype=torch.float64)
        forces[list(masked)] = float("nan")
        return {Key.FORCE_KEY: forces, FORCE_WEIGHT: torch.tensor(weights, dtype=torch.float64)}

    assert mean_force_weight([graph([1.0, 1.0]), graph([1.0])]) == 1.0
    assert mean_force_weight([graph([0.5, 0.1]), graph([0.0])]) == pytest.approx(0.2)
    assert mean_force_weight([graph([0.5, 0.1], masked=[1])]) == 0.5
    assert mean_force_weight([graph([0.0])]) == 1.0
