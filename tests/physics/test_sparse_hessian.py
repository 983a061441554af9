import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from clusterflow.errors import InputError, StructureError
from clusterflow.physics import sparse_hessian as sparse


@pytest.fixture
def tube():
    """Sixty atoms scattered along a periodic tube, much longer than wide."""
    rng = np.random.default_rng(2)
    positions = rng.uniform(0.0, 1.0, (60, 3)) * [60.0, 3.0, 3.0]
    return Atoms("Ar60", positions=positions, cell=np.diag([60.0, 20.0, 20.0]), pbc=[True, False, False])


def coupled(atoms, reach, seed=3):
    """A symmetric matrix with random blocks for all pairs closer than ``reach``, and its products."""
    pattern = sparse.pairs_within(atoms, reach).toarray()
    m = np.random.default_rng(seed).normal(size=(3 * len(atoms), 3 * len(atoms)))
    h = (m + m.T) * np.kron(pattern, np.ones((3, 3)))
    calls = []

    def products(vectors):
        calls.append(len(vectors))
        return (vectors.reshape(len(vectors), -1) @ h).reshape(vectors.shape)

    return h, products, calls


def test_pairs_are_those_of_the_nearest_images(tube):
    atoms = bulk("Ar", "fcc", a=5.3).repeat((3, 2, 1))
    for structure, radius in ((tube, 5.0), (atoms, 4.5), (atoms, 9.0)):
        expected = structure.get_all_distances(mic=True) < radius
        np.testing.assert_array_equal(sparse.pairs_within(structure, radius).toarray() == 1, expected)


@pytest.mark.parametrize("radius", [2.0, 5.0, 11.0])
def test_no_row_has_two_columns_of_one_colour(tube, radius):
    pattern = sparse.pairs_within(tube, radius)
    colours = sparse.colour_atoms(pattern)
    assert set(colours) == set(range(colours.max() + 1))
    for row in pattern.toarray():
        seen = colours[row == 1]
        assert len(set(seen)) == len(seen)
    assert colours.max() + 1 >= np.diff(pattern.indptr).max()  # the atoms of one row all differ


def test_colours_do_not_depend_on_the_length_of_the_cell():
    counts = []
    for length in (10, 20, 40):
        atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((length, 1, 1))
        counts.append(int(sparse.colour_atoms(sparse.pairs_within(atoms, 6.0)).max()) + 1)
    assert counts[2] <= 1.3 * counts[0]
    assert counts[2] < 4 * 40 / 2


def test_a_radius_that_covers_the_reach_recovers_every_block(tube):
    h, products, calls = coupled(tube, 4.0)
    found = sparse.sparse_hessian(products, tube, 4.0)
    np.testing.assert_allclose(found.matrix.toarray(), h, atol=1e-12)
    assert found.products == 3 * found.colours == sum(calls)
    assert found.colours < len(tube) / 2
    assert found.matrix.nnz < 0.5 * h.size
    error = sparse.probe_error(products, found.matrix, len(tube), rng=np.random.default_rng(0))
    assert error.value < 1e-10


def test_more_colours_than_go_at_once_are_put_together(tube):
    h, products, calls = coupled(tube, 200.0)
    found = sparse.sparse_hessian(products, tube, 200.0)
    assert found.colours == len(tube)
    assert len(calls) > 1
    np.testing.assert_allclose(found.matrix.toarray(), h, atol=1e-12)


def test_probes_measure_what_truncation_costs(tube):
    h, products, _ = coupled(tube, 6.0)
    found = sparse.sparse_hessian(products, tube, 4.0)
    truth = np.linalg.norm(h - found.matrix.toarray())
    assert truth > 1.0
    error = sparse.probe_error(products, found.matrix, len(tube), probes=64, rng=np.random.default_rng(4))
    assert 0.5 < error.value / truth < 2.0
    assert abs(error.value - truth) < 4.0 * error.standard_error
    assert error.relative == pytest.approx(truth / np.linalg.norm(h), rel=0.3)
    np.testing.assert_array_equal(found.matrix.toarray(), found.matrix.toarray().T)


def test_the_standard_error_is_that_of_many_repetitions(tube):
    _, products, _ = coupled(tube, 6.0)
    matrix = sparse.sparse_hessian(products, tube, 4.0).matrix
    rng = np.random.default_rng(5)
    found = [sparse.probe_error(products, matrix, len(tube), probes=8, rng=rng) for _ in range(100)]
    scatter = np.std([e.value for e in found])
    assert np.mean([e.standard_error for e in found]) == pytest.approx(scatter, rel=0.3)


def test_strict_reach_is_twice_that_of_an_energy():
    assert sparse.strict_reach(3, 4.5) == pytest.approx(27.0)


def test_impossible_requests_are_refused(tube):
    _, products, _ = coupled(tube, 3.0)
    for radius in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="truncation radius"):
            sparse.sparse_hessian(products, tube, radius)
    with pytest.raises(InputError, match="without atoms"):
        sparse.sparse_hessian(products, Atoms(), 4.0)
    with pytest.raises(InputError, match="standard error"):
        sparse.probe_error(products, np.zeros((180, 180)), 60, probes=1, rng=np.random.default_rng(0))
    tube.cell[0] = 0.0
    with pytest.raises(StructureError, match="no cell vector"):
        sparse.pairs_within(tube, 3.0)
