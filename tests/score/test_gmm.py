import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.errors import InputError, ScienceError
from clusterflow.score.gmm import GaussianMixtureNovelty


class PairFeatures:
    """Four Gaussians of the distances to all other atoms."""

    def features(self, atoms):
        d = atoms.get_all_distances()
        g = np.exp(-3.0 * (d[..., None] - np.array([1.0, 1.5, 2.2, 3.0])) ** 2)
        g[np.arange(len(atoms)), np.arange(len(atoms))] = 0.0
        return g.sum(axis=1)


def rattled(name, n, sigma, seed):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        atoms = molecule(name)
        atoms.positions += rng.normal(0, sigma, (len(atoms), 3))
        out.append(atoms)
    return out


@pytest.fixture(scope="module")
def fitted():
    return GaussianMixtureNovelty(PairFeatures(), seed=1).fit(rattled("C6H6", 25, 0.03, 0))


def test_each_atom_is_scored_by_the_mixture_of_its_element(fitted):
    atoms = rattled("C6H6", 1, 0.03, 5)[0]
    x = PairFeatures().features(atoms)
    score = fitted.score(atoms)
    for element in ("C", "H"):
        mine = np.array(atoms.get_chemical_symbols()) == element
        np.testing.assert_array_equal(score[mine], fitted.mixtures[element].score(x[mine]))


def test_the_broken_place_is_the_novel_one(fitted):
    """One stretched C–H bond in benzene: the atoms there lead, the far side stays as it was."""
    atoms = molecule("C6H6")
    before = fitted.score(atoms)
    h = 6
    assert atoms[h].symbol == "H"
    c = int(np.argmin(atoms.get_distances(h, range(6))))
    atoms.positions[h] += 0.5 * (atoms.positions[h] - atoms.positions[c]) / atoms.get_distance(h, c)
    after = fitted.score(atoms)
    assert after[h] > before[h] + 20
    assert after[h] == after[atoms.numbers == 1].max()
    far = int(np.argmax(atoms.get_distances(h, range(len(atoms)))))
    assert after[far] < after[h]


def test_an_element_never_seen_has_likelihood_zero(fitted):
    atoms = molecule("C6H6")
    atoms.symbols[0] = "Si"
    score = fitted.score(atoms)
    assert np.isposinf(score[0])
    assert np.isfinite(score[1:]).all()


def test_held_out_frames_of_the_same_kind_look_known(fitted):
    seen = np.concatenate([fitted.score(a) for a in rattled("C6H6", 25, 0.03, 0)])
    new = np.concatenate([fitted.score(a) for a in rattled("C6H6", 25, 0.03, 77)])
    other = np.concatenate([fitted.score(a) for a in rattled("C2H6", 5, 0.03, 7)])
    assert np.median(new) - np.median(seen) < 2.0
    assert other.min() > np.quantile(seen, 0.99)


def test_settings_and_mixtures_survive_json(fitted):
    data = json.loads(json.dumps(fitted.to_json(), allow_nan=False))
    back = GaussianMixtureNovelty.from_json(data, PairFeatures())
    atoms = rattled("C6H6", 1, 0.1, 2)[0]
    np.testing.assert_array_equal(back.score(atoms), fitted.score(atoms))
    assert back.components == (1, 10)
    unfitted = GaussianMixtureNovelty(PairFeatures(), pca=0.9)
    again = GaussianMixtureNovelty.from_json(json.loads(json.dumps(unfitted.to_json())), PairFeatures())
    assert again.mixtures is None
    assert again.pca == 0.9


def test_fit_leaves_the_original_unfitted(fitted):
    new = GaussianMixtureNovelty(PairFeatures())
    new.fit(rattled("C6H6", 3, 0.03, 0))
    with pytest.raises(ScienceError, match="has not been fitted"):
        new.score(molecule("C6H6"))


class BrokenFeatures:
    def features(self, atoms):
        return np.zeros((len(atoms) + 1, 3))


def test_bad_input():
    with pytest.raises(ScienceError, match="no frame"):
        GaussianMixtureNovelty(PairFeatures()).fit([])
    with pytest.raises(InputError, match="range of the number of components"):
        GaussianMixtureNovelty(PairFeatures(), components=(3, 1))
    with pytest.raises(ScienceError, match=r"\(3, 3\) for 2 atoms"):
        GaussianMixtureNovelty(BrokenFeatures()).fit([Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])])
