import json

import numpy as np
import pytest

from clusterflow.errors import InputError, ScienceError
from clusterflow.score.mixture import ElementMixture, fit_elements, largest_number_of_components


def three_clouds(n=600, d=8, seed=0):
    """Three correlated Gaussian clouds in d dimensions, 50:30:20."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 3, (3, d))
    mixing = rng.normal(0, 0.4, (3, d, d))
    which = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    return centres[which] + np.einsum("nd,nde->ne", rng.normal(size=(n, d)), mixing[which])


@pytest.mark.parametrize("covariance", ["full", "tied", "diag"])
def test_score_equals_sklearn(covariance):
    """Our density, Jacobian included, is that of sklearn's mixture carried over to the space of the features."""
    from sklearn.mixture import GaussianMixture

    x = three_clouds()
    m = fit_elements({"C": x}, components=(3, 3), covariance=covariance, seed=5)["C"]
    reference = GaussianMixture(m.n_components, covariance_type="full")
    reference.weights_, reference.means_ = m.weights, m.means * m.scale + m.mean
    reference.covariances_ = m.covariances * np.outer(m.scale, m.scale)
    reference.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(reference.covariances_)).transpose(0, 2, 1)
    probe = np.concatenate([x, three_clouds(50, seed=1) * 1.7])
    np.testing.assert_allclose(-m.score(probe), reference.score_samples(probe), rtol=1e-9, atol=1e-9)


def test_density_integrates_to_one_in_feature_space():
    """Importance sampling in two dimensions with very different units: ∫ exp(−score) dx = 1."""
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(3, 0.5, (100, 2))]) * [50.0, 1e-3] + [7.0, -2.0]
    m = fit_elements({"O": x}, components=(1, 4))["O"]
    low, high = x.min(0) - 4 * x.std(0), x.max(0) + 4 * x.std(0)
    grid = [np.linspace(a, b, 500) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = np.prod([g[1] - g[0] for g in grid])
    assert np.exp(-m.score(points)).sum() * cell == pytest.approx(1.0, abs=0.01)


def test_pca_keeps_a_density_over_the_whole_space_and_sees_what_leaves_the_plane():
    rng = np.random.default_rng(4)
    plane = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 5))
    x = plane + 0.01 * rng.normal(size=(400, 5))
    m = fit_elements({"C": x}, pca=2, components=(1, 1))["C"]
    assert m.axes.shape == (2, 5)
    np.testing.assert_allclose(m.axes @ m.axes.T, np.eye(2), atol=1e-12)
    normal = np.linalg.svd((x - x.mean(0)) / m.scale)[2][-1] * m.scale  # the direction that never varied
    assert m.score(x[:1] + 2.0 * normal)[0] > m.score(x).max() + 50.0
    full = fit_elements({"C": x}, components=(1, 1))["C"]
    assert m.score(x).mean() == pytest.approx(full.score(x).mean(), abs=0.5)  # the same density, nearly


def test_pca_by_fraction_keeps_enough_variance():
    x = three_clouds()
    m = fit_elements({"C": x}, pca=0.95)["C"]
    z = (x - m.mean) / m.scale
    assert np.var(z @ m.axes.T, axis=0).sum() / np.var(z, axis=0).sum() >= 0.95
    assert len(m.axes) < 8
    assert len(fit_elements({"C": x}, pca=99)["C"].axes) == 8


def test_bic_finds_the_number_of_clouds_and_keeps_its_curve():
    x = three_clouds(n=1500)
    m = fit_elements({"C": x}, components=(1, 7))["C"]
    assert m.n_components == 3
    assert set(m.bic) == set(range(1, 8))
    assert min(m.bic, key=m.bic.__getitem__) == 3


def test_bic_is_that_of_the_density_in_feature_space():
    x = three_clouds()
    m = fit_elements({"C": x}, components=(2, 2))["C"]
    d, k = 8, 2
    parameters = k - 1 + k * d + k * d * (d + 1) // 2
    assert m.bic[2] == pytest.approx(2 * m.score(x).sum() + parameters * np.log(len(x)), rel=1e-10)


def test_scores_follow_the_units_of_the_features_and_order_is_kept():
    """Rescaling features changes every novelty by the same Σ ln(factor): the ranking has no unit."""
    x, factor = three_clouds(), np.array([30.0, 0.5, 5.0, 1.0, 2.0, 7.0, 0.4, 20.0])
    a = fit_elements({"C": x}, seed=1)["C"]
    b = fit_elements({"C": x * factor}, seed=1)["C"]
    np.testing.assert_allclose(b.score(x * factor) - a.score(x), np.log(factor).sum(), atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 20])
def test_few_atoms_give_a_finite_density_that_still_orders(n):
    rng = np.random.default_rng(n)
    many = rng.normal(size=(300, 8))
    few = rng.normal(size=(n, 8)) + 4.0
    m = fit_elements({"C": many, "Zr": few}, components=(1, 10))["Zr"]
    assert m.n_components == 1
    assert np.isfinite(m.score(few)).all()
    assert m.score(few + 3.0).min() > m.score(few).max()


def test_few_atoms_are_regularised_so_that_unseen_atoms_of_the_same_kind_are_not_absurd():
    """12 atoms in 8 dimensions: the bare covariance would call every new sample impossible (thousands of nats)."""
    rng = np.random.default_rng(8)
    worst = []
    for _ in range(10):
        x = rng.normal(size=(212, 8)) @ np.diag(10.0 ** -np.linspace(0, 1, 8))
        m = fit_elements({"Zr": x[:12]})["Zr"]
        worst.append(np.median(m.score(x[12:])) - np.median(m.score(x[:12])))
    assert np.median(worst) < 30.0


def test_number_of_components_is_limited_by_the_atoms():
    assert largest_number_of_components(1, 1, 8, 10) == 1
    assert largest_number_of_components(17, 17, 8, 10) == 1
    assert largest_number_of_components(36, 36, 8, 10) == 2
    assert largest_number_of_components(10_000, 10_000, 8, 10) == 10
    assert largest_number_of_components(10_000, 2, 8, 10) == 2
    x = three_clouds(n=40)
    assert max(fit_elements({"C": x}, components=(5, 10))["C"].bic) == 2


def test_constant_features_and_identical_atoms():
    x = three_clouds()
    x[:, 3] = 0.7
    m = fit_elements({"C": x})["C"]
    assert np.isfinite(m.score(x)).all()
    odd = x[:1].copy()
    odd[0, 3] += 1.0
    assert m.score(odd)[0] > m.score(x).max() + 100.0
    same = np.ones((30, 4))
    assert np.isfinite(fit_elements({"C": same})["C"].score(same)).all()
    assert np.isfinite(fit_elements({"C": np.zeros((5, 4))})["C"].score(np.zeros((1, 4)))).all()


def test_json_round_trip_gives_the_same_bits():
    x = three_clouds()
    m = fit_elements({"C": x}, pca=5)["C"]
    back = ElementMixture.from_json(json.loads(json.dumps(m.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(back.score(x), m.score(x))
    assert back.bic == m.bic
    assert back.quantiles == m.quantiles


def test_same_seed_same_bits_and_other_elements_do_not_matter_for_the_seed():
    x, y = three_clouds(), three_clouds(seed=9)
    a = fit_elements({"C": x, "O": y}, seed=3)
    b = fit_elements({"O": y, "C": x}, seed=3)
    np.testing.assert_array_equal(a["C"].score(x), b["C"].score(x))
    c = fit_elements({"C": x}, seed=3)["C"]
    np.testing.assert_allclose(c.score(x), a["C"].score(x), atol=0.05)


def test_quantiles_are_those_of_the_training_atoms():
    x = three_clouds()
    m = fit_elements({"C": x})["C"]
    assert m.quantiles["1"] == pytest.approx(m.score(x).max())
    assert m.quantiles["0.5"] == pytest.approx(np.median(m.score(x)))


def test_more_atoms_than_the_limit_are_thinned():
    x = three_clouds(n=3000)
    m = fit_elements({"C": x}, max_atoms=500, components=(3, 3))["C"]
    assert (m.n_atoms, m.n_used) == (3000, 500)
    full = fit_elements({"C": x}, components=(3, 3))["C"]
    assert m.score(x).mean() == pytest.approx(full.score(x).mean(), abs=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": (0, 3)}, "number of components is 0 to 3"),
        ({"components": (4, 3)}, "4 to 3"),
        ({"pca": 0}, "pca is 0"),
        ({"pca": 1.5}, "pca is 1.5"),
        ({"covariance": "round"}, "'round'"),
        ({"regularisation": 0.0}, "regularisation is 0.0"),
        ({"max_atoms": 1}, "max_atoms is 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        fit_elements({"C": three_clouds(20)}, **settings)


def test_bad_features():
    x = three_clouds(50)
    m = fit_elements({"C": x})["C"]
    with pytest.raises(ScienceError, match="8 features, but 5"):
        m.score(x[:, :5])
    broken = x.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ScienceError, match="1 of 50 C atoms"):
        fit_elements({"C": broken})
    with pytest.raises(ScienceError, match="1 of 50 C atoms"):
        m.score(broken)
    with pytest.raises(ScienceError, match="equally many features"):
        fit_elements({"C": x, "O": x[:, :3]})
    with pytest.raises(ScienceError, match="equally many features"):
        fit_elements({})
