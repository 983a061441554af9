import logging

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from clusterflow.core.protocols import SecondDerivatives
from clusterflow.errors import InputError, ScienceError
from clusterflow.physics import hessian, sparse_hessian
from clusterflow.train import nequip_hessian, nequip_model
from clusterflow.train.dataset import Statistics
from clusterflow.train.nequip_config import NequIPModelSettings
from clusterflow.train.nequip_model import ModelConfig
from clusterflow.train.nequip_potential import NequIPPotential

ELEMENTS = ("H", "C", "O")


def random_potential(*, dtype="float64", seed=0, **settings):
    """A potential with random weights: smooth, and as sensitive to far neighbours as its architecture allows."""
    config = ModelConfig(
        NequIPModelSettings.preset("small", **{"features": 4, **settings}),
        ELEMENTS,
        Statistics(6.0, dict.fromkeys(ELEMENTS, -1.0), dict.fromkeys(ELEMENTS, 1.0), 1.0),
    )
    model = nequip_model.build_model(config, seed=seed, dtype=dtype).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return NequIPPotential(model, config, f"random {seed} {settings}", device="cpu", threads=1)


def forces_of(potential):
    return lambda atoms: potential.predict([atoms])[0].forces


@pytest.fixture(scope="module")
def double(trained):
    return NequIPPotential.load(trained, device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def molecule_and_crystal(frames):
    """Formic acid alone and in a triclinic cell."""
    return [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in frames[:2]]


@pytest.fixture(scope="module")
def chain():
    """Forty atoms along a periodic tube of 64 Å: neighbours 1.6 Å apart, in all directions."""
    n = 40
    positions = np.zeros((n, 3))
    positions[:, 0] = 1.6 * np.arange(n)
    positions += np.random.default_rng(5).uniform(-0.35, 0.35, (n, 3))
    numbers = np.random.default_rng(6).choice((1, 6, 8), n)
    return Atoms(numbers, positions, cell=np.diag([1.6 * n, 12.0, 12.0]), pbc=True)


@pytest.fixture(scope="module")
def short():
    """A model whose strict reach, 2 · 1 · 3 Å, is a tenth of the chain."""
    return random_potential(layers=1, r_max=3.0)


@pytest.fixture(scope="module")
def two_layers():
    return random_potential(layers=2, r_max=2.5)


def by_steps(potential, atoms, indices=None):
    """Central differences at the best of some steps is what a user would take; here the errors of each."""
    rows = potential.hessian_rows(atoms, indices)
    errors = [
        np.abs(rows - hessian.central_difference_rows(forces_of(potential), atoms, indices, step=step)).max()
        for step in (1e-3, 1e-4, 1e-5)
    ]
    return rows, errors


def test_equals_central_differences_at_their_best_step(double, molecule_and_crystal):
    for atoms in molecule_and_crystal:
        rows, errors = by_steps(double, atoms)
        assert np.abs(rows).max() > 0.1, "the test must have something to compare"
        assert min(errors) < 1e-6


def test_a_cell_smaller_than_the_cutoff_has_its_own_images(double):
    atoms = Atoms(
        "CO", positions=[[0, 0, 0], [1.1, 0.2, 0.1]], cell=[[2.9, 0, 0], [0.4, 3.1, 0], [0.1, 0.3, 3.3]], pbc=True
    )
    rows, errors = by_steps(double, atoms)
    assert np.abs(rows).max() > 0.1
    assert min(errors) < 1e-6
    assert hessian.acoustic_residual(rows) < 1e-10


def test_symmetric_translation_invariant_and_turning_with_the_structure(double, molecule_and_crystal):
    atoms = molecule_and_crystal[0]
    rows = double.hessian_rows(atoms)
    assert hessian.asymmetry(rows) < 1e-11
    assert hessian.acoustic_residual(rows) < 1e-11
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    turned = Atoms(atoms.numbers, atoms.positions @ turn.T)
    expected = np.einsum("ac,icjd,bd->iajb", turn, rows, turn)
    np.testing.assert_allclose(double.hessian_rows(turned), expected, atol=1e-10)


def test_matrix_rows_and_products_are_one_hessian(double, molecule_and_crystal):
    atoms = molecule_and_crystal[1]
    n = len(atoms)
    square = double.hessian(atoms)
    assert square.shape == (3 * n, 3 * n)
    np.testing.assert_allclose(
        double.hessian_rows(atoms, [4, 1]).reshape(6, -1), square[[12, 13, 14, 3, 4, 5]], atol=1e-10
    )
    vectors = np.random.default_rng(0).normal(size=(7, n, 3))
    expected = (vectors.reshape(7, -1) @ square).reshape(7, n, 3)
    np.testing.assert_allclose(double.hessian_vector(atoms, vectors), expected, atol=1e-10)
    assert double.hessian_rows(atoms, []).shape == (0, 3, n, 3)
    assert double.hessian_vector(atoms, vectors[:0]).shape == (0, n, 3)


def test_the_potential_is_one_with_second_derivatives(double, molecule_and_crystal):
    assert isinstance(double, SecondDerivatives)
    atoms = molecule_and_crystal[0]
    np.testing.assert_array_equal(hessian.potential_rows(double, atoms, [2]), double.hessian_rows(atoms, [2]))


@pytest.mark.parametrize(
    "settings",
    [{"layers": 3}, {"layers": 2, "parity": False}, {"layers": 2, "resnet": False}, {"layers": 2, "l_max": 0}],
)
def test_the_rearranged_model_has_the_same_derivatives(settings, chain):
    potential = random_potential(r_max=2.8, **settings)
    model = potential._model
    quick = nequip_hessian.second_order_model(model)
    assert quick is not None
    data = potential._graph(chain)
    as_it_is = nequip_hessian.hessian_rows(model, data, np.array([3, 20]), 3, rearrange=False)
    rearranged = nequip_hessian.hessian_rows(model, data, np.array([3, 20]), 3)
    assert np.abs(as_it_is).max() > 0.01
    np.testing.assert_allclose(rearranged, as_it_is, atol=1e-12)


def test_a_model_that_cannot_be_rearranged_is_used_as_it_is(molecule_and_crystal, caplog):
    potential = random_potential(layers=2, l_max=2, features=2, r_max=3.0)
    with caplog.at_level(logging.INFO):
        _, errors = by_steps(potential, molecule_and_crystal[0], [1])
    assert min(errors) < 1e-6
    assert "model as it is" in caplog.text


def test_a_rearranged_model_that_is_wrong_is_not_used(molecule_and_crystal, monkeypatch, caplog):
    from clusterflow.train import nequip_second_order

    wrong = nequip_second_order._path
    monkeypatch.setattr(nequip_second_order, "_path", lambda *a: (wrong(*a)[0], 1.01 * wrong(*a)[1]))
    potential = random_potential(layers=2, r_max=3.0, seed=7)
    _, errors = by_steps(potential, molecule_and_crystal[0], [1])
    assert min(errors) < 1e-6
    assert "not used" in caplog.text


def test_chunks_change_nothing_and_the_choice_is_logged(double, molecule_and_crystal, caplog, monkeypatch):
    atoms = molecule_and_crystal[1]
    whole = double.hessian_rows(atoms)
    for chunk in (1, 4, 1000):
        np.testing.assert_allclose(double.hessian_rows(atoms, chunk=chunk), whole, atol=1e-11)
    for free, name in ((10**12, "vectorised"), (4 * 10**6, "chunked"), (10**4, "row by row")):
        monkeypatch.setattr(nequip_hessian, "free_memory_bytes", lambda free=free: free)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            np.testing.assert_allclose(double.hessian_rows(atoms), whole, atol=1e-11)
        assert f"products {name}" in caplog.text


def test_plan_respects_memory_and_what_pays():
    def chosen(vectors, **changes):
        return nequip_hessian.plan(
            vectors, **{"edges": 100, "bytes_each": 10**6, "bytes_free": 10**9, "device": "cpu", **changes}
        )

    assert chosen(30).name == "vectorised"
    assert chosen(318).chunk * 100 <= nequip_hessian.BATCH_EDGES["cpu"]
    assert chosen(318, device="cuda:0").chunk == 318
    assert chosen(318, bytes_free=20 * 10**6).chunk == 10
    assert chosen(318, bytes_free=0).name == "row by row"
    assert chosen(318, edges=10**6).chunk == 1
    assert chosen(61).chunk == 31, "two equal chunks rather than 50 and 11"


def test_running_out_of_memory_means_smaller_chunks(double, molecule_and_crystal, monkeypatch, caplog):
    atoms, kept = molecule_and_crystal[1], nequip_hessian._Kept
    whole = double.hessian_rows(atoms)

    def limited(most):
        def make(model, data, copies, quick):
            if copies > most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
            return kept(model, data, copies, quick)

        return make

    monkeypatch.setattr(nequip_hessian, "_Kept", limited(2))
    np.testing.assert_allclose(double.hessian_rows(atoms, chunk=16), whole, atol=1e-11)
    assert "out of memory" in caplog.text

    def refuse(self, displacements):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(kept, "products", refuse)
    with pytest.raises(ScienceError, match="does not fit into memory"):
        double.hessian_rows(atoms, [0])


def test_rows_from_a_part_of_the_cell_are_those_of_the_whole(two_layers, chain):
    data = two_layers._graph(chain)
    part = nequip_hessian.within_hops(data, np.array([7]), 4)
    assert part.sum() < 0.5 * len(chain), "the part must be one"
    far = nequip_hessian.hessian_products(two_layers._model, data, one_atom(chain, 7))
    assert np.abs(far[:, part]).max() > 0.1
    np.testing.assert_array_equal(far[:, ~part], 0.0)
    np.testing.assert_allclose(two_layers.hessian_rows(chain, [7])[0], far, atol=1e-12)
    # As many hops as layers, the reach of one energy, would not do.
    small = nequip_hessian.within_hops(data, np.array([7]), 2)
    cut = nequip_hessian.subgraph(data, small)
    wrong = nequip_hessian.hessian_products(two_layers._model, cut, one_atom(chain[small], int(small[:7].sum())))
    assert np.abs(wrong - far[:, small]).max() > 1e-4


def one_atom(atoms, i):
    vectors = np.zeros((3, len(atoms), 3))
    vectors[range(3), i, range(3)] = 1.0
    return vectors


def test_rows_of_atoms_far_apart_come_from_several_parts(two_layers, chain):
    data = two_layers._graph(chain)
    parts = nequip_hessian._parts(data, np.array([30, 2, 3, 2]), 2)
    assert [places.tolist() for places, _ in parts] == [[0], [1, 2, 3]]
    rows = two_layers.hessian_rows(chain, [30, 2, 3, 2])
    for k, i in enumerate((30, 2, 3, 2)):
        expected = nequip_hessian.hessian_products(two_layers._model, data, one_atom(chain, i))
        np.testing.assert_allclose(rows[k], expected, atol=1e-12)


def test_sparse_equals_dense_when_the_radius_covers_the_strict_reach(short, chain):
    reach = sparse_hessian.strict_reach(1, 3.0)
    dense = short.hessian(chain)
    found = sparse_hessian.sparse_hessian(lambda v: short.hessian_vector(chain, v), chain, reach)
    assert np.abs(found.matrix.toarray() - dense).max() < 1e-8
    assert found.matrix.nnz < 0.5 * dense.size
    assert found.colours < len(chain) / 2
    apart = np.kron(chain.get_all_distances(mic=True), np.ones((3, 3)))
    assert np.abs(dense[apart > 3.0]).max() > 1e-6, "a radius of one cutoff would not cover it"
    np.testing.assert_array_equal(dense[apart > reach], 0.0)


def test_probes_tell_the_error_of_a_shorter_radius(two_layers, chain):
    dense = two_layers.hessian(chain)

    def products(v):
        return two_layers.hessian_vector(chain, v)

    for radius in (2.0, 4.0):
        found = sparse_hessian.sparse_hessian(products, chain, radius)
        truth = np.linalg.norm(dense - found.matrix.toarray())
        error = sparse_hessian.probe_error(products, found.matrix, len(chain), rng=np.random.default_rng(1))
        assert truth > 1e-4
        assert 0.5 < error.value / truth < 2.0
        assert abs(error.value - truth) < 5.0 * error.standard_error


def test_single_precision_is_good_to_a_thousandth(trained, double, molecule_and_crystal):
    single = NequIPPotential.load(trained, device="cpu", dtype="float32")
    for atoms in molecule_and_crystal:
        exact = double.hessian_rows(atoms)
        assert np.abs(single.hessian_rows(atoms) - exact).max() < 1e-3 * np.abs(exact).max()


def test_nothing_is_kept_of_a_hessian(double, molecule_and_crystal):
    double.hessian(molecule_and_crystal[0])
    assert double._seen == []
    before = double.predict(molecule_and_crystal)
    double.hessian_vector(molecule_and_crystal[0], np.ones((1, len(molecule_and_crystal[0]), 3)))
    after = double.predict(molecule_and_crystal)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a.forces, b.forces)
    assert double.features(molecule_and_crystal[0]).shape[1] == double.feature_width


def test_impossible_requests_are_refused(double, molecule_and_crystal):
    atoms = molecule_and_crystal[0]
    with pytest.raises(InputError, match="no atom 99"):
        double.hessian_rows(atoms, [99])
    with pytest.raises(InputError, match="have the shape"):
        double.hessian_vector(atoms, np.zeros((len(atoms), 3)))
    with pytest.raises(InputError, match="does not know Xe"):
        double.hessian(Atoms("Xe2", positions=[[0, 0, 0], [0, 0, 2.0]]))
    with pytest.raises(InputError, match="without atoms"):
        double.hessian(Atoms())
    lonely = double.hessian(Atoms("C", positions=[[0, 0, 0]]))
    np.testing.assert_array_equal(lonely, np.zeros((3, 3)))
