import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from clusterflow.core.protocols import Potential, SecondDerivatives
from clusterflow.errors import InputError, ScienceError
from clusterflow.physics import hessian
from clusterflow.testing.analytic_potentials import EinsteinCrystal, LennardJones


@pytest.fixture
def argon():
    """Eight atoms away from their sites."""
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True).repeat((2, 1, 1))
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.05, atoms.positions.shape)
    return atoms


@pytest.fixture
def pair():
    """Two argon atoms, finite, along a general direction."""
    return Atoms("Ar2", positions=[[0.0, 0.0, 0.0], [2.2, -1.9, 2.8]])


def forces_of(potential):
    return lambda atoms: potential.predict([atoms])[0].forces


def lennard_jones_pair(vector, epsilon, sigma):
    """d²E/dx2 dx2 (3, 3) of one pair: u'' along the bond, u'/r across."""
    r = np.linalg.norm(vector)
    along = np.outer(vector, vector) / r**2
    s6 = (sigma / r) ** 6
    first = -24 * epsilon * (2 * s6**2 - s6) / r
    second = 24 * epsilon * (26 * s6**2 - 7 * s6) / r**2
    return second * along + first / r * (np.eye(3) - along)


def test_harmonic_forces_give_the_stiffness_exactly_at_any_step():
    atoms = Atoms("He3", positions=np.random.default_rng(1).normal(size=(3, 3)))
    potential = EinsteinCrystal(sites=np.zeros((3, 3)), stiffness=1.7)
    for step in (1e-3, 0.5):
        rows = hessian.central_difference_rows(forces_of(potential), atoms, step=step)
        np.testing.assert_allclose(rows.reshape(9, 9), 1.7 * np.eye(9), atol=1e-10)


def test_a_lennard_jones_pair_has_the_hessian_on_paper(pair):
    potential = LennardJones()
    block = lennard_jones_pair(pair.positions[1] - pair.positions[0], potential.epsilon, potential.sigma)
    expected = np.block([[block, -block], [-block, block]])
    found = hessian.central_difference_rows(forces_of(potential), pair, step=1e-4).reshape(6, 6)
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_the_error_falls_with_the_square_of_the_step(pair):
    potential = LennardJones()
    block = lennard_jones_pair(pair.positions[1] - pair.positions[0], potential.epsilon, potential.sigma)
    errors = [
        np.abs(hessian.central_difference_rows(forces_of(potential), pair, [1], step=h)[0, :, 1] - block).max()
        for h in (0.08, 0.04, 0.02)
    ]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4.0, rel=0.1)


def test_some_rows_are_rows_of_the_whole_in_the_order_asked_for(argon):
    forces = forces_of(LennardJones(cutoff=5.0))
    whole = hessian.central_difference_rows(forces, argon)
    np.testing.assert_array_equal(hessian.central_difference_rows(forces, argon, [5, 2]), whole[[5, 2]])
    assert hessian.central_difference_rows(forces, argon, []).shape == (0, 3, len(argon), 3)


def test_whole_hessian_is_symmetric_and_obeys_the_acoustic_sum_rule(argon):
    # The plain truncated potential has a kink at its cutoff: no pair may cross it.
    rows = hessian.central_difference_rows(forces_of(LennardJones(cutoff=5.0)), argon, step=1e-4)
    assert np.abs(rows).max() > 0.1
    assert hessian.asymmetry(rows) < 1e-7
    assert hessian.acoustic_residual(rows) < 1e-9
    square = hessian.matrix(rows)
    np.testing.assert_array_equal(square, square.T)
    rows[0, 0, 1, 1] += 0.25
    assert hessian.asymmetry(rows) == pytest.approx(0.25, abs=1e-6)
    assert hessian.acoustic_residual(rows) == pytest.approx(0.25, abs=1e-6)
    assert hessian.matrix(rows)[0, 4] == pytest.approx(square[0, 4] + 0.125)


def test_displaced_structures_are_new_and_in_a_fixed_order(pair):
    before = pair.positions.copy()
    pair.info["charge"] = 1
    found = list(hessian.displaced_structures(pair, [1], step=0.1))
    assert [(k, axis, sign) for k, axis, sign, _ in found] == [(0, a, s) for a in range(3) for s in (1, -1)]
    for _, axis, sign, moved in found:
        change = moved.positions - before
        assert change[1, axis] == pytest.approx(sign * 0.1)
        assert np.count_nonzero(change) == 1
        assert moved.info["charge"] == 1
    np.testing.assert_array_equal(pair.positions, before)


def test_a_potential_without_second_derivatives_is_differentiated(pair):
    potential = LennardJones()
    assert isinstance(potential, Potential)
    assert not isinstance(potential, SecondDerivatives)
    np.testing.assert_array_equal(
        hessian.potential_rows(potential, pair, [0], step=1e-3),
        hessian.central_difference_rows(forces_of(potential), pair, [0], step=1e-3),
    )


def test_a_potential_with_second_derivatives_is_asked_for_them(pair):
    class Exact(LennardJones):
        def hessian_rows(self, atoms, indices=None):
            return np.full((len(indices), 3, len(atoms), 3), 7.0)

        def hessian_vector(self, atoms, vectors):
            raise AssertionError

    assert hessian.potential_rows(Exact(), pair, [1]).tolist() == np.full((1, 3, 2, 3), 7.0).tolist()


@pytest.mark.parametrize(
    ("indices", "step", "message"),
    [
        ([0, 2], 0.01, "no atom 2"),
        ([-1], 0.01, "no atom -1"),
        ([True, False], 0.01, "atom indices"),
        ([0.5], 0.01, "atom indices"),
        ([0], 0.0, "no step"),
        ([0], float("nan"), "no step"),
    ],
)
def test_impossible_requests_are_refused(pair, indices, step, message):
    with pytest.raises(InputError, match=message):
        hessian.central_difference_rows(forces_of(LennardJones()), pair, indices, step=step)


def test_no_atoms_is_refused():
    with pytest.raises(InputError, match="without atoms"):
        hessian.row_atoms(Atoms(), None)


def test_wrong_forces_name_the_displacement(pair):
    with pytest.raises(ScienceError, match=r"not all finite when atom 1 is moved by \+0\.1 Å along x"):
        hessian.central_difference_rows(lambda a: np.full((2, 3), np.nan), pair, [1], step=0.1)
    with pytest.raises(ScienceError, match="shape"):
        hessian.central_difference_rows(lambda a: np.zeros((3, 3)), pair)


def test_a_matrix_needs_all_rows(pair):
    rows = hessian.central_difference_rows(forces_of(LennardJones()), pair, [0])
    with pytest.raises(InputError, match="rows of all"):
        hessian.matrix(rows)
