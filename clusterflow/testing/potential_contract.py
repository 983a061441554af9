"""What every `Potential`, `Featurizer` and `Trainer` must do; call these from a test of each implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.data import FloatArray, Prediction
from clusterflow.core.frames import content_hash
from clusterflow.core.protocols import Featurizer, Potential, Trainer
from clusterflow.errors import InputError


def tiny_labelled_frames(count: int, *, seed: int) -> list[Atoms]:
    """Perturbed formic acid, in turn as a molecule and in a triclinic periodic cell, labelled with a Morse potential
    between all atoms (no chemistry, but exact energies and forces, at once): data for tests of trainers."""
    from ase.build import molecule
    from ase.calculators.morse import MorsePotential
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(seed)
    frames = []
    for k in range(count):
        atoms: Atoms = molecule("HCOOH")
        atoms.rattle(0.06, rng=rng)
        if k % 2:
            atoms.set_cell([[5.2, 0.0, 0.0], [1.0, 4.9, 0.0], [-0.6, 0.8, 5.4]])
            atoms.pbc = True
        atoms.calc = MorsePotential(epsilon=0.3, r0=1.4, rho0=4.0, rcut1=3.0, rcut2=4.0)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info[keys.LEVEL] = "Morse"
        frames.append(atoms)
    return frames


def check_potential(potential: Potential, frames: Sequence[Atoms], *, unknown_element: str, tolerance: float) -> None:
    """Asserts the contract of `Potential`.

    ``frames``: at least one finite and one periodic frame of known elements. ``tolerance``: absolute error in eV, eV/Å
    and eV/Å³ that rounding may cause. Differentiability is tested where double precision is to be had (a test of the
    implementation), symmetries here.
    """
    assert isinstance(potential, Potential)
    assert 0 < potential.cutoff <= potential.reach, "an atom is felt at least as far as its neighbours are looked for"
    assert potential.model_id, "a potential has an identity"
    before = [content_hash(a) for a in frames]
    predictions = potential.predict(frames)
    assert [content_hash(a) for a in frames] == before, "predict must not change the frames"
    assert len(predictions) == len(frames)
    assert potential.predict([]) == []
    for atoms, prediction in zip(frames, predictions, strict=True):
        assert set(atoms.get_chemical_symbols()) <= set(potential.elements)
        assert prediction.forces.shape == (len(atoms), 3)
        assert prediction.forces.dtype == np.float64
        assert np.isfinite(prediction.energy)
        assert np.isfinite(prediction.forces).all()
        assert (prediction.stress is not None) == bool(atoms.pbc.all()), "a stress for fully periodic frames, only"
        np.testing.assert_allclose(prediction.forces.sum(axis=0), 0.0, atol=tolerance, err_msg="total force")
        _same(potential.predict([atoms])[0], prediction, tolerance)
        _check_symmetries(potential, atoms, prediction, tolerance)
        _check_calculator(potential, atoms, prediction, tolerance)
    strange: Atoms = frames[0].copy()
    strange.set_chemical_symbols([unknown_element, *strange.get_chemical_symbols()[1:]])
    with pytest.raises(InputError, match=unknown_element):
        potential.predict([strange])


def check_featurizer(featurizer: Featurizer, frames: Sequence[Atoms], *, tolerance: float) -> None:
    """Asserts the contract of `Featurizer` on frames with at least two elements; ``tolerance`` is absolute."""
    for atoms in frames:
        features = featurizer.features(atoms)
        assert features.ndim == 2
        assert features.shape[0] == len(atoms)
        assert features.shape[1] > 1, "one number cannot tell environments apart"
        assert np.isfinite(features).all()
        np.testing.assert_array_equal(features, featurizer.features(atoms), err_msg="features have no memory")
        moved, _ = _moved(atoms)
        np.testing.assert_allclose(featurizer.features(moved), features, atol=tolerance)
        order = np.random.default_rng(3).permutation(len(atoms))
        np.testing.assert_allclose(featurizer.features(atoms[order]), features[order], atol=tolerance)
        means = [features[atoms.numbers == z].mean(axis=0) for z in sorted(set(atoms.numbers))]
        distances = [np.abs(a - b).max() for i, a in enumerate(means) for b in means[:i]]
        assert distances, "give frames with at least two elements"
        assert min(distances) > 100 * tolerance, "elements differ in their features"


def check_trainer(
    make: Callable[[], Trainer],
    load: Callable[[Path], Potential],
    training: Sequence[Atoms],
    validation: Sequence[Atoms],
    workdir: Path,
) -> None:
    """Asserts the contract of `Trainer` on labelled frames.

    Equal arguments give an equal model, another seed another one; the model that is returned can be loaded; a warm
    start is not much worse on the validation set than its start model; a finished training is not repeated; bad data
    are refused.
    """
    first = make().train(training, validation, start=None, seed=7, workdir=workdir / "first")
    twin = make().train(training, validation, start=None, seed=7, workdir=workdir / "twin")
    other = make().train(training, validation, start=None, seed=8, workdir=workdir / "other")
    assert first.model_id == twin.model_id != other.model_id
    assert all(isinstance(v, float) for v in first.metrics.values())
    potential = load(first.path)
    assert potential.model_id == first.model_id
    for mine, its in zip(potential.predict(validation), load(twin.path).predict(validation), strict=True):
        assert mine.energy == its.energy
        np.testing.assert_array_equal(mine.forces, its.forces)

    warm = make().train(training, validation, start=first.path, seed=7, workdir=workdir / "warm")
    assert _force_error(load(warm.path), validation) <= 1.5 * _force_error(potential, validation)
    assert make().train(training, validation, start=None, seed=7, workdir=workdir / "first") == first

    for bad_training, bad_validation in (([], validation), (training, []), ([_unlabelled(training[0])], validation)):
        with pytest.raises(InputError):
            make().train(bad_training, bad_validation, start=None, seed=7, workdir=workdir / "bad")


def _check_symmetries(potential: Potential, atoms: Atoms, expected: Prediction, tolerance: float) -> None:
    moved, rotation = _moved(atoms)
    rotated = potential.predict([moved])[0]
    stress = None if expected.stress is None else rotation @ expected.stress @ rotation.T
    _same(rotated, Prediction(expected.energy, expected.forces @ rotation.T, stress), tolerance)
    order = np.random.default_rng(3).permutation(len(atoms))
    _same(
        potential.predict([atoms[order]])[0],
        Prediction(expected.energy, expected.forces[order], expected.stress),
        tolerance,
    )


def _check_calculator(potential: Potential, atoms: Atoms, expected: Prediction, tolerance: float) -> None:
    own: Atoms = atoms.copy()
    own.calc = potential.calculator()
    stress = own.get_stress(voigt=False) if expected.stress is not None else None
    _same(Prediction(own.get_potential_energy(), own.get_forces(), stress), expected, tolerance)


def _same(found: Prediction, expected: Prediction, tolerance: float) -> None:
    np.testing.assert_allclose(found.energy, expected.energy, rtol=0, atol=tolerance * len(expected.forces))
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=tolerance)
    if expected.stress is not None:
        assert found.stress is not None
        np.testing.assert_allclose(found.stress, expected.stress, rtol=0, atol=tolerance)


def _moved(atoms: Atoms) -> tuple[Atoms, FloatArray]:
    """The frame turned and shifted, and the rotation matrix (3, 3)."""
    from scipy.spatial.transform import Rotation

    rotation: FloatArray = Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()
    moved: Atoms = atoms.copy()
    moved.set_positions(atoms.positions @ rotation.T + np.array([0.3, -1.1, 2.7]))
    moved.set_cell(atoms.cell.array @ rotation.T)
    return moved, rotation


def _force_error(potential: Potential, frames: Sequence[Atoms]) -> float:
    predictions = potential.predict(frames)
    errors = [p.forces - a.get_forces() for p, a in zip(predictions, frames, strict=True)]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def _unlabelled(atoms: Atoms) -> Atoms:
    bare: Atoms = atoms.copy()
    bare.calc = None
    return bare
