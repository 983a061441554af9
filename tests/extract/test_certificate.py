"""Certificates: candidates, indicators, the search, and that bounds hold against a parent with long-ranged forces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list
from matscipy.neighbours import neighbour_list

from clusterflow.core import keys
from clusterflow.core.data import FloatArray, Fragment, Prediction, Site
from clusterflow.core.frames import (
    content_hash,
    fragment_from_atoms,
    fragment_to_atoms,
    read_frames,
    write_frames,
)
from clusterflow.errors import ExtractionError, InputError, LabelError
from clusterflow.extract.calibration import ErrorModel, calibrate
from clusterflow.extract.certificate import SearchSettings, compare, confirmation, judge
from clusterflow.extract.certified_rule import CertifiedRule
from clusterflow.extract.confirm import Confirmed, against_parent, confirm
from clusterflow.extract.indicators import (
    FLOOR,
    bonds_to_cut,
    distance_to_removed,
    environments,
    indicator_columns,
)
from clusterflow.label.cost import fit_cost
from clusterflow.physics.bonds import bond_graph
from clusterflow.testing.analytic_potentials import AnalyticPotential

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"
CHARGES = {"Zn": 1.2, "O": -0.8, "C": 0.3, "H": 0.1}


@dataclass(frozen=True)
class Yukawa(AnalyticPotential):
    """Screened charges per element: forces that reach as far as they like, known exactly. ``length`` in Å."""

    length: float = 3.0
    cutoff: float = 10.0

    def one(self, atoms: Atoms) -> Prediction:
        """Energy and forces."""
        if not atoms.pbc.any():  # the neighbour search wants a cell all the same
            atoms = Atoms(atoms.numbers, atoms.positions, cell=np.ptp(atoms.positions, axis=0) + 1.0)
        i, j, d, vectors = neighbour_list("ijdD", atoms, self.cutoff)
        q = np.array([CHARGES[s] for s in atoms.symbols])
        energy = q[i] * q[j] * np.exp(-d / self.length) / d
        pull = (energy * (1.0 / d + 1.0 / self.length) / d)[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        for k in range(3):
            forces[:, k] = -np.bincount(i, weights=pull[:, k], minlength=len(atoms))
        return Prediction(0.5 * float(energy.sum()), forces)

    def forces(self, atoms: Atoms, _charge: int, _spin: int) -> FloatArray:
        """As a level of theory."""
        return self.one(atoms).forces


def warm(seed: int = 0) -> Atoms:
    atoms = read_frames(MOF5)[0]
    atoms.positions += np.random.default_rng(seed).normal(0.0, 0.04, atoms.positions.shape)
    return atoms


def rule(**changes: object) -> CertifiedRule:
    return replace(
        CertifiedRule(cost=fit_cost([], []).seconds, settings=SearchSettings(max_atoms=120, max_radius=8.0)), **changes
    )


def model_for(tolerance: float, *, factor: float, potential: bool = False) -> ErrorModel:
    """The prior, declared to be calibrated, for every environment of MOF-5."""
    atoms = read_frames(MOF5)[0]
    seen = dict.fromkeys(environments(bond_graph(atoms), atoms.numbers), 0.0)
    prior = calibrate(indicator_columns(potential=potential), (), tolerance=tolerance)
    return replace(prior, factor=factor, n=40, offsets=seen, slopes=seen)


def site(atoms: Atoms, index: int) -> list[Site]:
    return [Site(content_hash(atoms), index)]


def test_options_are_distinct_neutral_nested_and_cheapest_first():
    atoms = warm()
    options, _ = rule().search(atoms, site(atoms, atoms.symbols.search("Zn")[0]))
    costs = [o.cost for o in options.options]
    assert len(costs) >= 5
    assert costs == sorted(costs)
    assert all(o.fragment.charge == 0 and o.fragment.spin == 0 for o in options.options)
    contents = {tuple(sorted(o.fragment.parent.tolist())) for o in options.options}
    assert len(contents) == len(costs)
    plain = sorted((o.candidate for o in options.options if not o.candidate.groups), key=lambda c: c.radius)
    for small, large in pairwise(plain):
        assert set(small.images) < set(large.images)


def test_the_required_atoms_are_the_site_and_its_neighbours_or_the_block():
    atoms = warm()
    index = int(atoms.symbols.search("Zn")[0])
    near = set(bond_graph(atoms).neighbours(index).tolist())
    options, _ = rule().search(atoms, site(atoms, index))
    fragment = options.options[0].fragment
    assert set(fragment.parent[fragment.core].tolist()) == {index, *near}
    options, _ = rule(core="block").search(atoms, site(atoms, index))
    fragment = options.options[0].fragment
    assert int(fragment.core.sum()) == 23  # Zn4O(CO2)6


def test_bonds_to_cut_count_from_the_atoms_that_lost_one():
    atoms = warm()
    blocks, found = rule().search(atoms, site(atoms, int(atoms.symbols.search("H")[0])))
    acid = next(o.fragment for o in blocks.options if len(o.fragment.atoms) == 18)  # terephthalic acid
    depth = bonds_to_cut(acid, blocks.surroundings.frame)
    graph = bond_graph(acid.atoms)
    for k in np.flatnonzero(acid.parent >= 0).tolist():
        around = environments(graph, acid.atoms.numbers)[k]
        expected = {"O(C)": 0, "O(H,C)": 0, "C(C,O,O)": 1, "C(C,C,C)": 2, "C(H,C,C)": 3, "H(C)": 4}[around]
        assert depth[k] == expected
    assert found.judged >= 1


def test_distance_to_removed_is_what_a_search_by_brute_force_finds():
    atoms = warm()
    index = int(atoms.symbols.search("C")[30])
    options, _ = rule().search(atoms, site(atoms, index))
    fragment = options.options[2].fragment
    real = np.flatnonzero(fragment.parent >= 0)
    measured = distance_to_removed(fragment, options.surroundings, real)
    i, vectors = neighbor_list("iD", atoms, 8.0)
    for k, atom in enumerate(real.tolist()):
        around = fragment.atoms.positions[atom] + vectors[i == fragment.parent[atom]]
        present = np.linalg.norm(around[:, None] - fragment.atoms.positions[None], axis=2).min(axis=1) < 0.05
        nearest = np.linalg.norm(around - fragment.atoms.positions[atom], axis=1)[~present].min(initial=8.0)
        assert measured[k] == pytest.approx(min(nearest, 8.0), abs=1e-6)


def test_the_verdict_is_the_same_in_any_orientation_order_and_cell():
    atoms = warm()
    index = int(atoms.symbols.search("Zn")[1])
    potential = Yukawa(cutoff=6.0)
    expected = rule(potential=potential).extract(atoms, site(atoms, index))
    turned = atoms.copy()
    turned.rotate(37.0, (1.0, 2.0, 0.5), rotate_cell=True)
    turned.positions += [3.0, -7.0, 11.0]
    turned.wrap()
    order = np.random.default_rng(1).permutation(len(atoms))
    shuffled = turned[order]
    place = int(np.flatnonzero(order == index)[0])
    found = rule(potential=potential).extract(shuffled, site(shuffled, place))
    assert sorted(found.atoms.numbers.tolist()) == sorted(expected.atoms.numbers.tolist())
    for a, b in ((expected, found),):
        assert a.certificate is not None
        assert b.certificate is not None
        np.testing.assert_allclose(
            np.sort(a.certificate.bound[a.core]), np.sort(b.certificate.bound[b.core]), rtol=1e-6
        )


def test_a_potential_that_sees_no_difference_says_so():
    """Atoms deeper in the fragment than the potential reaches have the parent's forces exactly."""
    atoms = warm()
    short = Yukawa(cutoff=2.0)
    index = int(atoms.symbols.search("Zn")[0])
    used = rule(potential=short)
    options, _ = used.search(atoms, site(atoms, index))
    parent_forces = short.one(atoms).forces
    largest = options.options[-1]
    trial = judge(
        options,
        largest,
        model=model_for(0.1, factor=2.0, potential=True),
        forces=lambda a: short.one(a).forces,
        parent_forces=parent_forces,
    )
    deep = np.flatnonzero(bonds_to_cut(largest.fragment, options.surroundings.frame) >= 3)
    real = deep[largest.fragment.parent[deep] >= 0]
    np.testing.assert_allclose(trial.indicators[real, 0], np.log(FLOOR), atol=1e-6)


@pytest.mark.parametrize("factor", [1.2, 2.5])
def test_the_cheapest_that_meets_the_tolerance_is_taken(factor: float):
    atoms = warm()
    model = model_for(0.1, factor=factor)
    used = rule(model=model, tolerance=0.1)
    options, found = used.search(atoms, site(atoms, int(atoms.symbols.search("O")[7])))
    limits = []
    for option in options.options[: found.judged]:
        trial = judge(options, option, model=model)
        limits.append(float(trial.bound[trial.required].max()))
    if found.passed:
        assert limits[-1] <= 0.1
        assert all(limit > 0.1 for limit in limits[:-1])
    else:
        assert all(limit > 0.1 for limit in limits)


def test_atoms_that_meet_the_tolerance_join_the_core_of_a_certified_fragment_only():
    atoms = warm()
    index = site(atoms, int(atoms.symbols.search("H")[3]))
    passed = rule(model=model_for(0.1, factor=0.05)).extract(atoms, index)
    assert passed.certificate is not None
    assert passed.certificate.passed
    real = passed.parent >= 0
    np.testing.assert_array_equal(passed.core[real], (passed.certificate.bound <= 0.1)[real])
    assert passed.core.sum() > passed.certificate.required.sum()
    assert not passed.core[~real].any()
    failed = rule(model=model_for(1e-4, factor=1.0), tolerance=1e-4).extract(atoms, index)
    assert failed.certificate is not None
    assert not failed.certificate.passed
    np.testing.assert_array_equal(failed.core, failed.certificate.required)


def test_without_confirmations_nothing_passes_and_nothing_is_refused():
    atoms = warm()
    fragment = rule(refuse=True).extract(atoms, site(atoms, 0))
    assert fragment.certificate is not None
    assert not fragment.certificate.passed
    assert fragment.certificate.confidence == 0.0


def test_what_cannot_be_certified_is_refused_with_figures():
    atoms = warm()
    strict = rule(model=model_for(1e-4, factor=3.0), tolerance=1e-4, refuse=True)
    with pytest.raises(ExtractionError, match=r"No fragment of at most 120 atoms .* within 0 meV/Å .* reaches \d+"):
        strict.extract(atoms, site(atoms, 0))


def test_a_certificate_survives_the_file(tmp_path: Path):
    atoms = warm()
    for used in (rule(model=model_for(0.1, factor=1.0), potential=None), rule()):
        fragment = used.extract(atoms, site(atoms, 5))
        write_frames(tmp_path / "f.extxyz", [fragment_to_atoms(fragment)])
        back = fragment_from_atoms(read_frames(tmp_path / "f.extxyz")[0])
        one, two = fragment.certificate, back.certificate
        assert one is not None
        assert two is not None
        for name in ("tolerance", "confidence", "confirmations", "method", "passed", "environments"):
            assert getattr(one, name) == getattr(two, name)
        np.testing.assert_allclose(two.bound, one.bound, atol=1e-7)
        np.testing.assert_allclose(two.indicators, one.indicators, atol=1e-7)
        np.testing.assert_array_equal(two.required, one.required)
        np.testing.assert_array_equal(back.core, fragment.core)


def test_a_larger_fragment_confirms_and_holds_the_smaller_one():
    atoms = warm()
    used = rule(model=model_for(0.1, factor=1.0))
    small = used.extract(atoms, site(atoms, int(atoms.symbols.search("H")[3])))
    large = used.confirming(atoms, small)
    assert large is not None
    assert len(large.atoms) > len(small.atoms)
    shared, _ = compare(small, np.zeros((len(small.atoms), 3)), large, np.ones((len(large.atoms), 3)))
    assert set(np.flatnonzero(small.core).tolist()) <= set(shared.tolist())
    level = Yukawa()
    told = confirmation("x", small, level.one(small.atoms).forces, large, level.one(large.atoms).forces)
    assert told is not None
    assert told.required.sum() == small.certificate.required.sum()  # type: ignore[union-attr]
    assert told.larger is not None
    assert (told.larger >= told.indicators - 1e-9).all()  # bonds to the cut, distance to what was removed
    zero = np.zeros((len(atoms), 3))
    whole = Fragment(atoms, np.full(len(atoms), True), np.arange(len(atoms)), small.sites, "whole", 0, 0)
    by_parent = confirmation("x", small, level.one(small.atoms).forces, whole, zero)
    assert by_parent is not None
    assert by_parent.larger is None
    bare: Fragment = replace(small, certificate=None)
    with pytest.raises(InputError, match="no certificate"):
        confirmation("x", bare, np.zeros((1, 3)), large, np.zeros((1, 3)))


def test_the_largest_fragment_has_nothing_to_confirm_it():
    atoms = warm()
    used = rule(settings=SearchSettings(max_atoms=29, max_radius=8.0, confirm_atoms=29))
    fragment = used.extract(atoms, site(atoms, int(atoms.symbols.search("Zn")[0])))
    assert used.confirming(atoms, fragment) is None


def test_what_nothing_could_confirm_is_not_certified():
    atoms = warm()
    index = site(atoms, int(atoms.symbols.search("H")[3]))
    model = model_for(1.0, factor=1.0)
    free = rule(model=model, tolerance=1.0).extract(atoms, index)
    tight = rule(model=model, tolerance=1.0, settings=SearchSettings(max_atoms=18, confirm_atoms=18))
    alone = tight.extract(atoms, index)
    assert free.certificate is not None
    assert alone.certificate is not None
    assert free.certificate.passed
    assert not alone.certificate.passed
    assert tight.confirming(atoms, alone) is None


def test_before_there_is_a_bound_what_can_be_confirmed_is_chosen_first():
    atoms = warm()
    index = site(atoms, int(atoms.symbols.search("H")[3]))
    hopeless = rule(tolerance=1e-6, settings=SearchSettings(max_atoms=120, confirm_atoms=120))
    options, found = hopeless.search(atoms, index)
    assert found.chosen.option.cost < max(o.cost for o in options.options if o.eligible)
    assert hopeless.confirming(atoms, hopeless.extract(atoms, index)) is not None


def test_the_whole_of_a_finite_parent_is_exact():
    acid = rule().search(warm(), site(warm(), int(warm().symbols.search("H")[0])))[0].options
    molecule = next(o.fragment.atoms for o in acid if len(o.fragment.atoms) == 18)
    fragment = rule().extract(molecule, site(molecule, 0))
    assert fragment.certificate is not None
    assert fragment.certificate.passed
    assert fragment.certificate.confidence == 1.0
    assert fragment.certificate.bound.max() == 0.0


def test_a_larger_label_that_fails_counts_as_an_error_of_any_size():
    atoms = warm()
    used = rule()
    seen = Confirmed()

    def fails_when_large(a: Atoms, charge: int, spin: int) -> FloatArray:
        if len(a) > 60:
            raise LabelError("not converged")
        return Yukawa().forces(a, charge, spin)

    hydrogen = int(atoms.symbols.search("H")[3])
    confirm(atoms, hydrogen, rule(tolerance=5.0), fails_when_large, seen)
    assert (len(seen.known), seen.unconfirmed) == (0, 1)
    for k in range(25):
        confirm(atoms, hydrogen + k % 3, rule(tolerance=5.0), Yukawa().forces, seen)
    assert np.isfinite(Confirmed(seen.known, 0).calibrate(used, confidence=0.95).factor)
    assert np.isinf(Confirmed(seen.known, 2).calibrate(used, confidence=0.95).factor)


def coverage(truths: Sequence[bool]) -> float:
    return float(np.mean(truths))


def test_bounds_hold_against_the_parent_when_only_larger_fragments_calibrated_them():
    """The level has long-ranged forces that the potential cuts off: its own differences are not the level's."""
    level, potential = Yukawa(length=3.0), Yukawa(length=2.0, cutoff=5.0)
    frames = [warm(seed) for seed in range(6)]
    used = rule(potential=potential, tolerance=0.05, settings=SearchSettings(max_atoms=180, max_radius=9.0))
    rng = np.random.default_rng(2)

    def draw(few: Sequence[Atoms]) -> tuple[Atoms, int]:
        atoms = few[int(rng.integers(len(few)))]
        return atoms, int(rng.integers(len(atoms)))

    seen = Confirmed()
    for _ in range(2):
        for _ in range(25):
            confirm(*draw(frames[:3]), used, level.forces, seen)
        used.model = seen.calibrate(used, confidence=0.9)
    assert len(seen.known) >= 30
    kept, bounds, errors = [], [], []
    for _ in range(40):
        atoms, index = draw(frames[3:])
        truth = against_parent(used.extract(atoms, site(atoms, index)), atoms, level.one(atoms).forces, level.forces)
        kept.append(truth.kept)
        assert truth.fragment.certificate is not None
        bounds += truth.fragment.certificate.bound[truth.atoms[truth.required]].tolist()
        errors += truth.errors[truth.required].tolist()
    assert coverage(kept) >= 0.8  # 90 % promised, 40 tried
    assert np.corrcoef(np.log(bounds), np.log(np.array(errors) + FLOOR))[0, 1] > 0.3  # and they tell atoms apart


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="no choice of core"):
        rule(core="atom")
    with pytest.raises(InputError, match="cannot be met"):
        rule(tolerance=0.0)
    atoms = warm()
    with pytest.raises(ExtractionError, match="max_atoms = 5"):
        rule(settings=SearchSettings(max_atoms=5)).extract(atoms, site(atoms, 0))


def test_keys_are_in_the_file(tmp_path: Path):
    atoms = warm()
    written = fragment_to_atoms(rule(model=model_for(0.1, factor=1.0)).extract(atoms, site(atoms, 5)))
    for name in (keys.FORCE_BOUND, keys.REQUIRED, keys.INDICATORS, keys.ENVIRONMENT):
        assert len(written.arrays[name]) == len(written)
    assert keys.CERTIFICATE in written.info


def test_a_potential_that_gives_no_numbers_certifies_nothing_and_breaks_nothing():
    atoms = warm()

    class Broken(Yukawa):
        def one(self, atoms: Atoms) -> Prediction:
            good = super().one(atoms)
            return good if atoms.pbc.any() else Prediction(np.nan, np.full((len(atoms), 3), np.nan))

    fragment = rule(potential=Broken(), model=model_for(0.1, factor=2.0, potential=True)).extract(atoms, site(atoms, 0))
    assert fragment.certificate is not None
    assert not fragment.certificate.passed
    assert np.isfinite(fragment.certificate.indicators[fragment.parent >= 0]).all()


def test_an_environment_that_was_never_confirmed_is_proposed_by_its_estimate_and_not_refused():
    """The cheapest of options without a bound would be a bare ring; and what is refused could never be confirmed."""
    atoms = warm()
    index = site(atoms, int(atoms.symbols.search("H")[3]))
    model = model_for(0.1, factor=1.0)
    blind = replace(model, offsets={e: v for e, v in model.offsets.items() if not e.startswith("H")})
    unseen = rule(model=blind, refuse=True).extract(atoms, index)
    without = rule().extract(atoms, index)
    assert unseen.certificate is not None
    assert not unseen.certificate.passed
    assert len(unseen.atoms) == len(without.atoms) > 12
    assert rule(model=model).extract(atoms, index).certificate.passed  # type: ignore[union-attr]
