"""Distance, entropy and the extrapolation flag on points whose answer is known."""

import json

import numpy as np
import pytest
from ase import Atoms

from clusterflow.errors import InputError, ScienceError, StateError
from clusterflow.score.clouds import fit_clouds
from clusterflow.score.distance import DistanceNovelty
from clusterflow.score.entropy import BANDWIDTHS, EntropyNovelty, best_bandwidth
from clusterflow.score.extrapolation import TrainedRange, extrapolation, trained_ranges
from clusterflow.score.gmm import GaussianMixtureNovelty
from clusterflow.score.kinds import novelty_from_json


class Stored:
    """The features of an atom are its position: any cloud of points can be drawn."""

    def features(self, atoms):
        return atoms.positions


def cloud(n, d_scale=(1.0, 5.0, 0.2), seed=0, element="C"):
    x = np.random.default_rng(seed).normal(size=(n, 3)) * d_scale
    return Atoms(f"{element}{n}", x)


@pytest.mark.parametrize("kind", [DistanceNovelty, EntropyNovelty, GaussianMixtureNovelty])
def test_scores_rise_along_every_direction_and_do_not_depend_on_the_unit_of_a_feature(kind):
    fitted = kind(Stored()).fit([cloud(400)])
    for axis, scale in enumerate((1.0, 5.0, 0.2)):
        ray = np.zeros((6, 3))
        ray[:, axis] = scale * np.array([0.0, 2.0, 4.0, 6.0, 10.0, 20.0])
        score = fitted.score(Atoms("C6", ray))
        assert (np.diff(score) > 0).all(), axis
    one = fitted.score(cloud(50, seed=3))
    stretched = kind(Stored()).fit([cloud(400, (90.0, 5.0, 2.0))]).score(cloud(50, (90.0, 5.0, 2.0), seed=3))
    shift = np.median(stretched - one)  # a density has a unit; a distance and δH have none
    np.testing.assert_allclose(stretched - shift, one, atol=2e-3 * np.abs(one).max())
    if kind is not GaussianMixtureNovelty:
        assert abs(shift) < 1e-3


def test_whitening_takes_scale_and_correlation_out():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 2)) @ np.array([[3.0, 2.9], [0.0, 0.4]])
    z = fit_clouds({"O": x}, most=5000, seed=0)["O"].coordinates(x)
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.1)


def test_distance_is_that_to_the_nearest_atoms_and_leaves_an_atom_itself_out():
    grid = Atoms("C4", [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    near = DistanceNovelty(Stored(), neighbours=1).fit([grid]).nearest["C"]
    x = np.array([[0.0, 0.0, 0.0], [7.0, 0.0, 0.0]])
    points, y = near.cloud.points, near.cloud.coordinates(x)
    expected = np.sort(np.linalg.norm(y[:, None] - points[None], axis=2), axis=1)
    np.testing.assert_allclose(near.score(x), [expected[0, 1], expected[1, 0]], atol=1e-4)


def test_entropy_is_zero_beside_one_training_atom_and_negative_among_many():
    fitted = EntropyNovelty(Stored(), bandwidth=0.1).fit([cloud(300, (1, 1, 1))])
    k = fitted.kernels["C"]
    many = EntropyNovelty(Stored(), bandwidth=5.0).fit([cloud(300, (1, 1, 1))]).kernels["C"]
    assert many.score(np.zeros((1, 3)))[0] == pytest.approx(-np.log(300), abs=0.2)
    lonely = np.array([[40.0, 0.0, 0.0]])
    nearest = np.linalg.norm(k.cloud.coordinates(lonely) - k.cloud.points, axis=1).min()
    assert k.score(lonely)[0] == pytest.approx(nearest**2 / (2 * 0.1**2), rel=1e-3)


def test_bandwidth_follows_the_number_of_points():
    points = np.random.default_rng(0).normal(size=(700, 2))
    wide, narrow = best_bandwidth(points[:15], 0), best_bandwidth(points, 0)
    assert narrow < wide
    assert narrow in BANDWIDTHS
    assert BANDWIDTHS[0] < narrow < BANDWIDTHS[-1]


@pytest.mark.parametrize("kind", [DistanceNovelty, EntropyNovelty, GaussianMixtureNovelty])
def test_json_round_trip_by_kind(kind):
    fitted = kind(Stored(), seed=4).fit([cloud(60), cloud(40, element="O", seed=2)])
    back = novelty_from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)), Stored())
    probe = cloud(30, seed=9)
    assert type(back) is kind
    np.testing.assert_array_equal(back.score(probe), fitted.score(probe))
    assert back.known_up_to("O") == fitted.known_up_to("O")
    assert back.known_up_to("Zr") == -np.inf


def test_a_kind_of_a_later_version_is_refused():
    with pytest.raises(StateError, match="kind 'oracle'"):
        novelty_from_json({"kind": "oracle"}, Stored())


def test_bad_settings_and_use_before_a_fit():
    with pytest.raises(InputError, match="distance to 0"):
        DistanceNovelty(Stored(), neighbours=0)
    with pytest.raises(InputError, match="width -1"):
        EntropyNovelty(Stored(), bandwidth=-1.0)
    with pytest.raises(ScienceError, match="not been fitted"):
        DistanceNovelty(Stored()).score(cloud(3))
    with pytest.raises(ScienceError, match="no frame"):
        EntropyNovelty(Stored()).fit([])
    with pytest.raises(ScienceError, match="3 features, but 2"):
        EntropyNovelty(Stored()).fit([cloud(9)]).score_features(np.zeros((1, 2)), ["C"])


def test_one_atom_of_an_element_is_enough_for_a_score():
    for kind in (DistanceNovelty, EntropyNovelty):
        fitted = kind(Stored()).fit([cloud(20), cloud(1, element="Zr", seed=5)])
        probe = cloud(1, element="Zr", seed=5)
        far = Atoms("Zr", probe.positions + 10.0)
        assert np.isfinite(fitted.score(far)[0])
        assert fitted.score(far)[0] > fitted.score(probe)[0]


def test_training_atoms_are_inside_and_what_leaves_the_range_is_outside():
    x = {"C": cloud(500).positions, "O": cloud(3, seed=1).positions}
    ranges = trained_ranges(x)
    inside = extrapolation(ranges, x["C"], ["C"] * 500)
    assert not inside.outside.any()
    assert inside.leverage.max() == pytest.approx(1.0)
    probe = np.array([[0.0, 0, 0], [9.0, 0, 0], [0.0, 0, 0]])
    found = extrapolation(ranges, probe, ["C", "C", "Zr"])
    assert list(found.outside) == [False, True, True]
    assert list(found.dimensions) == [0, 1, 3]
    assert np.isposinf(found.leverage[2])


def test_leverage_sees_a_corner_that_no_single_feature_leaves():
    rng = np.random.default_rng(2)
    a = rng.uniform(-1, 1, 400)
    line = np.column_stack([a, a + 0.01 * rng.normal(size=400)])
    found = extrapolation(trained_ranges({"C": line}), np.array([[0.9, -0.9], [0.9, 0.9]]), ["C", "C"])
    assert list(found.dimensions) == [0, 0]
    assert list(found.outside) == [True, False]


def test_ranges_survive_json():
    ranges = trained_ranges({"C": cloud(40).positions})
    back = {e: TrainedRange.from_json(json.loads(json.dumps(r.to_json()))) for e, r in ranges.items()}
    probe = cloud(20, (4, 4, 4), seed=3).positions
    a, b = extrapolation(ranges, probe, ["C"] * 20), extrapolation(back, probe, ["C"] * 20)
    np.testing.assert_array_equal(a.leverage, b.leverage)
