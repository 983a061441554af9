import json

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core import keys
from clusterflow.core.data import Prediction
from clusterflow.errors import InputError, ScienceError
from clusterflow.evaluate.metrics import Metrics, compare, energy_errors, force_errors, thresholded_mae


def water(energy=-14.0, forces=None, region=True, system="water"):
    atoms = molecule("H2O")
    if region:
        atoms.set_array(keys.REGION, np.array(["core", "mantle", "termination"]))
    if system:
        atoms.info[keys.SYSTEM] = system
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((3, 3)) if forces is None else forces)
    return atoms


class TestThresholdedMae:
    def test_worked_example(self):
        """|x| = 1 … 100: P_95 = 95.05 by linear interpolation, so 96 … 100 count: 98."""
        signs = np.where(np.arange(100) % 2, 1, -1)
        assert thresholded_mae(np.arange(1, 101) * signs, 95) == pytest.approx(98.0)

    def test_an_error_equal_to_the_percentile_counts(self):
        assert thresholded_mae([1.0, 2.0, 3.0], 50) == pytest.approx(2.5)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.floats(0, 100), st.floats(0, 100))
    def test_limits_and_order(self, values, a, b):
        x = np.abs(values)
        assert thresholded_mae(values, 0) == pytest.approx(x.mean(), abs=1e-9)
        assert thresholded_mae(values, 100) == pytest.approx(x.max(), abs=1e-9)
        low, high = sorted((a, b))
        assert thresholded_mae(values, low) <= thresholded_mae(values, high) + 1e-9

    def test_bad_input(self):
        with pytest.raises(InputError, match="no errors"):
            thresholded_mae([])
        with pytest.raises(InputError, match="percentile of MAE_P is 101"):
            thresholded_mae([1.0], 101)


def test_force_metrics_in_mev():
    e = force_errors(np.array([[0.003, -0.004, 0.0]]))
    assert (e.mae, e.maximum, e.n_atoms, e.n_components) == (pytest.approx(7 / 3), pytest.approx(4.0), 1, 3)
    assert e.rmse == pytest.approx(np.sqrt(25 / 3))
    assert force_errors(np.full((2, 3), np.nan)) is None
    assert force_errors(np.zeros((0, 3))) is None


def test_energy_offset_and_spread():
    e = energy_errors([0.010, 0.014, np.nan])
    assert (e.average, e.std, e.mae, e.n_frames) == (pytest.approx(12.0), pytest.approx(2.0), pytest.approx(12.0), 2)
    assert e.rmse**2 == pytest.approx(e.average**2 + e.std**2)
    assert energy_errors([0.010]).std == 0.0
    assert energy_errors([np.nan]) is None


def test_sign_is_model_minus_reference_per_atom():
    m = compare([water(energy=-14.0)], [Prediction(-14.3, np.zeros((3, 3)))])
    assert m.energy.average == pytest.approx(-100.0)


def test_groups():
    forces = np.array([[0.1, 0, 0], [0, 0.02, 0], [0, 0, 0.03]])  # O, H, H
    frames = [water(), water(system="ice", region=False)]
    m = compare(frames, [Prediction(-14.0, forces), Prediction(-14.03, 2 * forces)])
    assert list(m.forces_by_element) == ["H", "O"]
    assert m.forces_by_element["O"].maximum == pytest.approx(200.0)
    assert m.forces_by_element["H"].n_components == 12
    assert list(m.forces_by_region) == ["core", "mantle", "termination"]
    assert m.forces_by_region["mantle"].maximum == pytest.approx(20.0)
    assert m.forces_by_region["core"].n_atoms == 1
    assert list(m.forces_by_system) == ["ice", "water"]
    assert m.energy_by_system["ice"].average == pytest.approx(-10.0)
    assert m.forces.n_atoms == 6
    everything = np.concatenate([forces, 2 * forces]) * 1000
    assert m.forces.mae_p == pytest.approx(thresholded_mae(everything, 95))


def test_missing_labels_are_left_out_and_empty_groups_absent():
    half = np.zeros((3, 3))
    half[1] = np.nan
    no_energy = water(forces=half, system="a")
    no_energy.calc.results["energy"] = float("nan")
    bare = molecule("CH4")
    bare.info[keys.SYSTEM] = "b"
    m = compare([no_energy, bare], [Prediction(1.0, np.ones((3, 3))), Prediction(1.0, np.ones((5, 3)))])
    assert m.energy is None
    assert m.forces.n_atoms == 2
    assert set(m.forces_by_element) == {"H", "O"}
    assert set(m.forces_by_region) == {"core", "termination"}
    assert set(m.forces_by_system) == {"a"}
    assert m.energy_by_system == {}
    assert compare([bare], [Prediction(0.0, np.zeros((5, 3)))]).forces is None
    assert compare([], []) == Metrics(n_frames=0)


def test_json_and_text():
    m = compare([water()], [Prediction(-14.3, np.full((3, 3), 0.05))])
    assert Metrics.from_json(json.loads(json.dumps(m.to_json(), allow_nan=False))) == m
    assert Metrics.from_json(json.loads(json.dumps(Metrics(0).to_json()))) == Metrics(0)
    table = m.to_text()
    assert "MAE_P95" in table
    assert "-100.00" in table
    assert len({len(line) for line in table.splitlines() if line.startswith("  ")}) <= 2
    assert "no labels" in Metrics(3).to_text()


def test_a_model_that_predicts_nan_is_an_error_and_not_a_missing_label():
    broken = np.zeros((3, 3))
    broken[0, 0] = np.nan
    with pytest.raises(ScienceError, match="1 values that are NaN") as caught:
        compare([water(), water()], [Prediction(0.0, np.zeros((3, 3))), Prediction(0.0, broken)])
    assert "frame 1" in caught.value.where


def test_predictions_that_do_not_match():
    with pytest.raises(InputError, match="2 labelled frames but 1"):
        compare([water(), water()], [Prediction(0.0, np.zeros((3, 3)))])
    with pytest.raises(InputError, match=r"shape \(5, 3\), but it has 3 atoms"):
        compare([water()], [Prediction(0.0, np.zeros((5, 3)))])
