import numpy as np
import pytest
from ase.build import molecule

from clusterflow.core.data import Prediction
from clusterflow.evaluate.report import collect


def test_parity_keeps_pairs_together_and_thins_reproducibly(labelled_frames):
    predictions = [Prediction(a.calc.results["energy"] + 1.0, a.calc.results["forces"] * 2) for a in labelled_frames]
    p = collect.parity(labelled_frames, predictions, max_points=50)
    assert set(p.forces) == {"C", "H", "O", "Zn"}
    for pairs in p.forces.values():
        assert len(pairs.reference) <= 50
        np.testing.assert_allclose(pairs.predicted, 2 * np.array(pairs.reference), atol=2e-4)
    assert p == collect.parity(labelled_frames, predictions, max_points=50)
    assert p.n_components == 3 * sum(len(a) for a in labelled_frames)
    assert set(p.energies) == {"mof5", "mof5, missing linker"}
    for pairs in p.energies.values():
        # 1 eV too much in 29 or 89 atoms; constant energies per composition are gone.
        shift = np.array(pairs.predicted) - np.array(pairs.reference)
        assert set(np.round(shift, 5)) <= {round(1 / 29, 5), round(1 / 89, 5)}
        assert np.abs(pairs.reference).max() < 0.1
    assert collect.parity([], []) == collect.Parity()


def test_energies_are_relative_to_the_mean_of_their_composition():
    arrays = {"numbers": np.array([1, 1, 8, 1, 8, 1, 6]), "n_atoms": np.array([3, 3, 1]), "reference": np.zeros((7, 3)),
              "predicted": np.zeros((7, 3)), "energy_reference": np.array([-30.0, -30.6, -150.0]),
              "energy_predicted": np.array([-29.7, -30.3, -149.0])}  # fmt: skip
    pairs = collect.parity_of(arrays).energies["all frames"]
    assert pairs.reference == pytest.approx((0.1, -0.1, 0.0))
    assert pairs.predicted == pytest.approx((0.2, 0.0, 1.0))


def test_frames_without_label_leave_no_points():
    atoms = molecule("H2O")
    p = collect.parity([atoms], [Prediction(0.0, np.zeros((3, 3)))])
    assert (p.forces, p.energies, p.n_components) == ({}, {}, 0)


def test_novelty_histograms_count_every_atom_once():
    rng = np.random.default_rng(0)
    known = rng.normal(0, 1, 500)
    new = np.concatenate([rng.normal(1, 1, 100), [-1e5], [1e6, 2e6], [np.inf] * 3])
    h = collect.novelty_histograms(2, "O", known, new)
    assert h.training.edges == h.explored.edges
    assert sum(h.training.counts) == 500
    assert sum(h.explored.counts) == 101
    assert (h.explored.above, h.explored.infinite) == (2, 3)
    assert h.training.edges[-1] < 60
    unseen = collect.novelty_histograms(2, "Zr", [], [np.inf, np.inf])
    assert unseen.training is None
    assert unseen.explored.infinite == 2
    same = collect.novelty_histograms(0, "C", [1.0, 1.0], [1.0])
    assert sum(same.training.counts) == 2
    assert collect.novelty_histograms(0, "C", [1.0], []).explored is None


def test_feature_map_shows_the_direction_that_varies_most():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 1)) * np.array([[1.0, 1.0, 1.0, 0.0]]) + 0.05 * rng.normal(size=(400, 4))
    x[:, 3] = 5.0
    m = collect.feature_map(1, "C", x, x[:10] + 1.0, x[:0])
    assert sum(map(sum, m.density)) == 400
    assert m.explained[0] > 0.9
    assert len(m.explored) == 10
    assert m.selected == ()
    first = np.array([p[0] for p in collect.feature_map(1, "C", x, x, x[:0]).explored])
    assert abs(np.corrcoef(first, x[:, 0])[0, 1]) > 0.99
    flat = collect.feature_map(1, "C", np.ones((3, 1)), np.ones((2, 1)), np.ones((1, 1)))
    assert sum(map(sum, flat.density)) == 3


def test_points_of_a_feature_map_know_their_atoms():
    """Atoms that are drawn stay when points are thinned out, and keep their places."""
    x = np.random.default_rng(2).normal(size=(300, 4))
    atoms = np.full((300, 2), -1)
    atoms[100:120] = [(2, k) for k in range(20)]
    m = collect.feature_map(
        1, "C", x, x, x[110:112], max_points=50, explored_atoms=atoms, selected_atoms=atoms[110:112]
    )
    assert len(m.explored) == len(m.explored_atoms) == 50
    drawn = [(p, a) for p, a in zip(m.explored, m.explored_atoms, strict=True) if a[0] >= 0]
    assert [a for _, a in drawn] == [(2, k) for k in range(20)]
    assert m.selected_atoms == ((2, 10), (2, 11))
    assert m.selected == tuple(p for p, a in drawn if a in m.selected_atoms)
    plain = collect.feature_map(1, "C", x, x, x[:0], max_points=50)
    assert set(plain.explored_atoms) == {(-1, -1)}


@pytest.mark.parametrize("n", [0, 3, 10])
def test_thinned_keeps_all_of_a_few(n):
    assert list(collect.thinned(n, 10)) == list(range(n))


def test_thinned_is_sorted_and_repeatable():
    index = collect.thinned(1000, 10)
    assert len(set(index)) == 10
    assert list(index) == sorted(index)
    assert list(index) == list(collect.thinned(1000, 10))
