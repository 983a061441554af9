"""Every `Uncertainty` of the package under one conformance suite, with a real (if simple) featurizer."""

import numpy as np
import pytest
from ase.build import molecule

from clusterflow.score.distance import DistanceNovelty
from clusterflow.score.entropy import EntropyNovelty
from clusterflow.score.gmm import GaussianMixtureNovelty
from clusterflow.testing.uncertainty_contract import check_uncertainty


class RadialFeatures:
    """Gaussians of the distances to all other atoms: invariant, smooth, no model needed."""

    centres = np.array([1.0, 1.4, 2.0, 2.6, 3.4])

    def features(self, atoms):
        d = atoms.get_all_distances()
        g = np.exp(-4.0 * (d[..., None] - self.centres) ** 2)
        g[np.arange(len(atoms)), np.arange(len(atoms))] = 0.0
        return (g * atoms.numbers[None, :, None]).sum(axis=1)


def training_frames(n=12, sigma=0.04):
    frames = []
    rng = np.random.default_rng(3)
    for name in ("CH3COOH", "C6H6", "CH3OH"):
        for _ in range(n):
            atoms = molecule(name)
            atoms.positions += rng.normal(0.0, sigma, (len(atoms), 3))
            frames.append(atoms)
    return frames


@pytest.mark.parametrize("settings", [{}, {"pca": 3}, {"pca": 0.9}, {"covariance": "diag"}, {"components": (2, 4)}])
def test_gaussian_mixture_novelty(settings):
    check_uncertainty(
        lambda: GaussianMixtureNovelty(RadialFeatures(), seed=7, **settings), training_frames(), unseen_element="Zr"
    )


@pytest.mark.parametrize("settings", [{}, {"neighbours": 1}, {"max_atoms": 40}])
def test_distance_novelty(settings):
    check_uncertainty(
        lambda: DistanceNovelty(RadialFeatures(), seed=7, **settings), training_frames(), unseen_element="Zr"
    )


@pytest.mark.parametrize("settings", [{}, {"bandwidth": 0.3}, {"max_atoms": 40}])
def test_entropy_novelty(settings):
    check_uncertainty(
        lambda: EntropyNovelty(RadialFeatures(), seed=7, **settings), training_frames(), unseen_element="Zr"
    )


class Careless:
    """Breaks the contract on purpose: larger = better known."""

    unit = "nats"

    def __init__(self, inner):
        self.inner = inner

    def fit(self, frames):
        return Careless(self.inner.fit(frames))

    def score(self, atoms):
        return -self.inner.score(atoms)


def test_the_suite_notices_a_reversed_sign():
    with pytest.raises(AssertionError, match="less known"):
        check_uncertainty(
            lambda: Careless(GaussianMixtureNovelty(RadialFeatures())), training_frames(), unseen_element="Zr"
        )
