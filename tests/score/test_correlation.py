import json

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.stats import pearsonr, spearmanr

from clusterflow.core.data import Prediction
from clusterflow.errors import InputError
from clusterflow.score.correlation import ALL, correlations_by_element, force_error_norms, rank_correlation


def test_equals_scipy_with_ties():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, 200).astype(float)
    y = x + rng.normal(0, 5, 200)
    c = rank_correlation(x, y)
    assert c.spearman == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert c.pearson == pytest.approx(pearsonr(x, y).statistic, abs=1e-12)
    assert c.spearman_low < c.spearman < c.spearman_high
    json.dumps(c.to_json(), allow_nan=False)


def test_infinite_novelty_ranks_first_and_pearson_leaves_it_out():
    x = np.array([1.0, 2.0, 3.0, np.inf, np.inf])
    y = np.array([0.1, 0.2, 0.3, 5.0, 6.0])
    c = rank_correlation(x, y)
    assert c.n_infinite == 2
    assert c.spearman == pytest.approx(spearmanr([1, 2, 3, 9, 9], y).statistic)
    assert c.pearson == pytest.approx(1.0)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """Bivariate normal with ρ = 0.5: Spearman's coefficient is 6/π asin(ρ/2)."""
    truth, hits = 6 / np.pi * np.arcsin(0.25), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, y = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 80).T
        c = rank_correlation(x, y, seed=seed, resamples=200)
        hits += c.spearman_low <= truth <= c.spearman_high
    assert 50 <= hits <= 60


def test_drawing_whole_frames_widens_the_interval_of_correlated_atoms():
    rng = np.random.default_rng(1)
    frame = np.repeat(np.arange(8), 50)
    x = rng.normal(size=8)[frame] + 0.1 * rng.normal(size=400)
    y = rng.normal(size=8)[frame] + 0.1 * rng.normal(size=400)
    alone, grouped = rank_correlation(x, y), rank_correlation(x, y, groups=frame)
    assert grouped.n_groups == 8
    assert grouped.spearman_high - grouped.spearman_low > 3 * (alone.spearman_high - alone.spearman_low)


def test_tiny_and_constant_samples():
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([], []) is None
    three = rank_correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert three.spearman == pytest.approx(0.5)
    assert three.spearman_low is None
    flat = rank_correlation([1.0] * 20, np.arange(20.0))
    assert (flat.spearman, flat.spearman_low, flat.pearson) == (None, None, None)
    infinite = rank_correlation([np.inf] * 5, np.arange(5.0))
    assert (infinite.spearman, infinite.pearson) == (None, None)


def test_atoms_without_label_are_left_out_and_seed_decides():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=50), rng.normal(size=50)
    y[:10] = np.nan
    a = rank_correlation(x, y, seed=4)
    assert a.n_atoms == 40
    assert a == rank_correlation(x, y, seed=4)


def test_bad_input():
    with pytest.raises(InputError, match="3 novelties"):
        rank_correlation([1.0, 2.0, 3.0], [1.0])
    with pytest.raises(InputError, match="1 NaN"):
        rank_correlation([1.0, np.nan, 3.0], [1.0, 1.0, 2.0])
    with pytest.raises(InputError, match=r"confidence of 95"):
        rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], confidence=95)
    with pytest.raises(InputError, match="1 frames, 0 novelties"):
        correlations_by_element([molecule("H2O")], [], [])


def test_by_element_over_frames():
    rng = np.random.default_rng(5)
    frames, novelty, predictions = [], [], []
    for _ in range(6):
        atoms = molecule("CH3COOH")
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((8, 3)))
        size = rng.uniform(0.1, 2.0, 8)
        direction = rng.normal(size=(8, 3))
        forces = size[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        frames.append(atoms)
        novelty.append(size**3)  # monotonous, not linear
        predictions.append(Prediction(0.0, forces))
        np.testing.assert_allclose(force_error_norms(atoms, predictions[-1]), size)
    found = correlations_by_element(frames, novelty, predictions)
    assert set(found) == {ALL, "C", "H", "O"}
    assert found["C"].n_atoms == 12
    assert found["C"].n_groups == 6
    assert found[ALL].spearman == pytest.approx(1.0)
    assert 0.5 < found[ALL].pearson < 1.0
    assert correlations_by_element([], [], []) == {}
    unlabelled = molecule("H2O")
    assert np.isnan(force_error_norms(unlabelled, Prediction(0.0, np.zeros((3, 3))))).all()
