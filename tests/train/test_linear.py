"""The linear learner as physics: derivatives, symmetries, and the recovery of a potential that is one of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core import keys
from clusterflow.errors import InputError, LevelOfTheoryError, StateError, StructureError, TrainError
from clusterflow.testing.potential_contract import tiny_labelled_frames
from clusterflow.train import linear_basis
from clusterflow.train.linear_basis import Basis, design, energy_and_gradient
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.linear_fit import choose_channels, normal_equations, solve
from clusterflow.train.linear_model import FeatureMap, LinearModel, read_model
from clusterflow.train.linear_pairs import find_pairs
from clusterflow.train.linear_potential import LinearPotential
from clusterflow.train.linear_train import LOG_FILE, LinearTrainer
from clusterflow.train.repulsion import repulsion

ELEMENTS = ("H", "C", "O", "Zn")
SMALL = LinearModelSettings(cutoff=4.0, radial=6, density=4, l_max=3, channels=5, features=4)


def random_model(settings: LinearModelSettings = SMALL, seed: int = 0) -> LinearModel:
    """Any weights make a potential: what derivatives and symmetries are tested on."""
    rng = np.random.default_rng(seed)
    basis = Basis(settings, 4, choose_channels([], ELEMENTS, settings, rng=rng))
    size = (4, basis.n_atom)
    directions = np.stack([np.linalg.qr(rng.normal(size=(basis.n_atom, 3)))[0] for _ in ELEMENTS])
    features = FeatureMap(np.zeros(size), np.ones(size), directions)
    return LinearModel(basis, ELEMENTS, 0.1 * rng.normal(size=basis.n_weights), rng.normal(size=4), features)


def crystal() -> Atoms:
    """Triclinic, smaller than the cutoff: atoms are neighbours of their own images."""
    atoms = bulk("ZnO", "wurtzite", a=3.25, c=5.2)
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0.05, 0.02], [0.01, 1, 0.03], [0.04, 0, 1]]), scale_atoms=True)
    atoms.rattle(0.05, seed=2)
    return atoms


def acid() -> Atoms:
    atoms = molecule("HCOOH")
    atoms.rattle(0.1, seed=1)
    return atoms


def relabelled(frames: list[Atoms], model: LinearModel, **more: float) -> list[Atoms]:
    """The frames with a linear model's own energies, forces and stresses for labels."""
    out = []
    for atoms, found in zip(frames, LinearPotential(model).predict(frames), strict=True):
        copy = atoms.copy()
        stress = {} if found.stress is None else {"stress": found.stress}
        copy.calc = SinglePointCalculator(copy, energy=found.energy, forces=found.forces, **stress)
        out.append(copy)
    return out


@pytest.mark.parametrize("make", [acid, crystal])
def test_forces_are_minus_the_slope_of_the_energy(make) -> None:
    potential, atoms, step = LinearPotential(random_model()), make(), 1e-4
    forces = potential.predict([atoms])[0].forces
    for index in range(len(atoms)):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[index, axis] += sign * step
                energies.append(potential.predict([moved])[0].energy)
            assert abs(-(energies[0] - energies[1]) / (2 * step) - forces[index, axis]) < 1e-5


def test_stress_is_the_slope_along_a_strain() -> None:
    potential, atoms, step = LinearPotential(random_model()), crystal(), 1e-5
    stress = potential.predict([atoms])[0].stress
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += 0.5 * sign * step
                strain[b, a] += 0.5 * sign * step
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                energies.append(potential.predict([strained])[0].energy)
            assert abs((energies[0] - energies[1]) / (2 * step) / atoms.cell.volume - stress[a, b]) < 1e-6


@pytest.mark.parametrize("make", [acid, crystal])
def test_a_prediction_is_the_design_times_the_weights(make, monkeypatch) -> None:
    model, atoms = random_model(replace(SMALL, repulsion=False)), make()
    pairs = find_pairs(atoms, ELEMENTS, SMALL.cutoff)
    energy, forces, virial = design(model.basis, pairs)
    found = LinearPotential(model).predict([atoms])[0]
    np.testing.assert_allclose(energy @ model.weights + model.offsets[pairs.types].sum(), found.energy, rtol=1e-12)
    np.testing.assert_allclose(forces @ model.weights, found.forces, atol=1e-12)
    if found.stress is not None:
        xx_yy_zz_yz_xz_xy = found.stress.flat[[0, 4, 8, 5, 2, 1]] * atoms.cell.volume
        np.testing.assert_allclose(virial @ model.weights, xx_yy_zz_yz_xz_xy, atol=1e-11)
    monkeypatch.setattr(linear_basis, "_PAIRS_AT_ONCE", 7)  # large frames are worked through in parts
    in_parts = LinearPotential(model).predict([atoms])[0]
    np.testing.assert_allclose(in_parts.forces, found.forces, atol=1e-12)
    assert abs(in_parts.energy - found.energy) < 1e-11


def test_energies_are_smooth_where_a_neighbour_leaves_and_nothing_is_left_of_it() -> None:
    potential = LinearPotential(random_model())
    energy = {d: potential.predict([Atoms("CO", [[0, 0, 0], [0, 0, d]])])[0] for d in (3.99, 3.9999, 4.0001, 9.0)}
    alone = sum(potential.predict([Atoms(e)])[0].energy for e in "CO")
    assert energy[9.0].energy == energy[4.0001].energy == pytest.approx(alone, abs=1e-12)
    assert abs(energy[3.9999].energy - alone) < 1e-9
    assert abs(energy[3.9999].forces).max() < 1e-6 < abs(energy[3.99].forces).max()


def test_repulsion_is_conservative_and_stays_off_bonds() -> None:
    for distance in (0.2, 0.5, 0.8, 1.0):
        step = 1e-6
        energy, found = [], None
        for d in (distance + step, distance - step, distance):
            atoms = Atoms("CO", [[0, 0, 0], [0, 0, d]])
            found = repulsion(atoms.numbers, find_pairs(atoms, ELEMENTS, 4.0))
            energy.append(found.energy)
        assert -(energy[0] - energy[1]) / (2 * step) == pytest.approx(found.forces[1, 2], rel=1e-5)
        assert found.forces[1, 2] > 0.05
        np.testing.assert_allclose(found.forces.sum(axis=0), 0.0, atol=1e-12)
        assert found.virial[2, 2] == pytest.approx(-found.forces[1, 2] * distance)
    for name in ("CO", "HCOOH", "C2H2", "H2"):  # a triple bond, a double bond, the shortest bond of all
        atoms = molecule(name)
        assert repulsion(atoms.numbers, find_pairs(atoms, ("C", "O", "H"), 4.0)).energy == 0.0


def test_a_potential_of_its_own_kind_is_recovered(tmp_path: Path) -> None:
    """Labels of a random linear potential with the same functions: fitted to rounding, stress included."""
    rng = np.random.default_rng(3)
    frames = []
    for k in range(40):
        atoms = acid() if k % 2 else crystal()
        atoms.positions += rng.normal(0, 0.15, atoms.positions.shape)
        frames.append(atoms)
    settings = LinearTrainingSettings()
    basis = Basis(SMALL, 4, choose_channels(frames[:30], ELEMENTS, SMALL, rng=np.random.default_rng(7)))
    truth = random_model()
    truth = replace(truth, basis=basis, weights=0.1 * rng.normal(size=basis.n_weights))
    labelled = relabelled(frames, truth)
    model = LinearTrainer(SMALL, settings, ELEMENTS).train(
        labelled[:30], labelled[30:], start=None, seed=7, workdir=tmp_path
    )
    assert model.metrics["val_force_mae_eV_per_A"] < 1e-3
    assert model.metrics["val_energy_mae_eV_per_atom"] < 1e-4
    for found, atoms in zip(LinearPotential.load(model.path).predict(labelled[30:]), labelled[30:], strict=True):
        if found.stress is not None:
            np.testing.assert_allclose(found.stress, atoms.calc.results["stress"], atol=2e-4)


def test_reference_energies_of_several_compositions(tmp_path: Path) -> None:
    """Molecules that differ by thousands of eV are told apart to meV per atom, and a constant per element is free."""
    frames = tiny_labelled_frames(8, seed=4)
    shift = {"H": -13.0, "C": -1030.0, "O": -2041.0}
    moved = []
    for atoms in frames:
        copy = atoms.copy()
        extra = sum(shift[e] for e in atoms.get_chemical_symbols())
        copy.calc = SinglePointCalculator(copy, energy=atoms.get_potential_energy() + extra, forces=atoms.get_forces())
        moved.append(copy)
    trainer = LinearTrainer(SMALL, LinearTrainingSettings(), ("H", "C", "O"))
    plain = trainer.train(frames[:6], frames[6:], start=None, seed=1, workdir=tmp_path / "plain")
    lifted = trainer.train(moved[:6], moved[6:], start=None, seed=1, workdir=tmp_path / "lifted")
    for one, other in zip(*(LinearPotential.load(m.path).predict(frames[6:]) for m in (plain, lifted)), strict=True):
        assert other.energy - one.energy == pytest.approx(extra, abs=0.02)
        np.testing.assert_allclose(other.forces, one.forces, atol=0.02)


def test_masked_forces_do_not_count() -> None:
    frames = tiny_labelled_frames(4, seed=1)
    basis = Basis(SMALL, 4, choose_channels(frames, ELEMENTS, SMALL, rng=np.random.default_rng(0)))
    full = normal_equations(frames, basis, ELEMENTS, np.zeros(4), LinearTrainingSettings())
    spoilt = []
    for atoms in frames:
        copy = atoms.copy()
        forces = atoms.get_forces()
        forces[2] = np.nan
        copy.calc = SinglePointCalculator(copy, energy=atoms.get_potential_energy(), forces=forces)
        spoilt.append(copy)
    masked = normal_equations(spoilt, basis, ELEMENTS, np.zeros(4), LinearTrainingSettings())
    assert full.rows - masked.rows == 4 * 3
    assert np.isfinite(masked.matrix).all()
    core = []
    for atoms in frames:
        copy = atoms.copy()
        copy.calc = atoms.calc
        copy.set_array(keys.REGION, np.where(np.arange(len(copy)) == 2, "mantle", "core"))
        core.append(copy)
    from clusterflow.train.core_mask import mask_forces

    same = normal_equations(mask_forces(core), basis, ELEMENTS, np.zeros(4), LinearTrainingSettings())
    np.testing.assert_array_equal(same.matrix, masked.matrix)


def test_the_loss_is_the_mean_square_error_that_it_claims_to_be() -> None:
    frames, settings = tiny_labelled_frames(4, seed=1), LinearTrainingSettings(energy_weight=7.0, force_weight=3.0)
    model = random_model()
    offsets = model.offsets
    found = normal_equations(frames, model.basis, ELEMENTS, offsets, settings)
    predictions = LinearPotential(model).predict(frames)
    forces = np.concatenate([p.forces - a.get_forces() for p, a in zip(predictions, frames, strict=True)])
    energies = [(p.energy - a.get_potential_energy()) / len(a) for p, a in zip(predictions, frames, strict=True)]
    expected = 7.0 * np.mean(np.square(energies)) + 3.0 * np.mean(forces**2)
    assert found.loss(model.weights) == pytest.approx(expected, rel=1e-9)


def test_validation_chooses_and_a_given_strength_is_kept() -> None:
    frames = tiny_labelled_frames(8, seed=1)
    basis = Basis(SMALL, 4, choose_channels(frames, ELEMENTS, SMALL, rng=np.random.default_rng(0)))
    parts = [
        normal_equations(s, basis, ELEMENTS, np.zeros(4), LinearTrainingSettings()) for s in (frames[:6], frames[6:])
    ]
    chosen = solve(*parts, LinearTrainingSettings(), centre=None)
    assert chosen.regularisation == min(chosen.tried, key=lambda t: t["val_loss"])["regularisation"]
    assert len(chosen.tried) > 3
    train = [t["train_loss"] for t in chosen.tried]
    assert train == sorted(train, reverse=True)  # weaker ridge, closer to the training data
    given = solve(*parts, LinearTrainingSettings(regularisation=1e-3), centre=None)
    assert [t["regularisation"] for t in given.tried] == [1e-3]


def test_one_frame_is_enough_for_a_rank_deficient_fit(tmp_path: Path) -> None:
    frames = tiny_labelled_frames(2, seed=1)
    model = LinearTrainer(SMALL, LinearTrainingSettings(), ELEMENTS).train(
        frames[:1], frames[1:], start=None, seed=1, workdir=tmp_path
    )
    assert model.metrics["fitted_numbers"] < model.metrics["weights"] / 10
    assert np.isfinite(LinearPotential.load(model.path).predict(frames)[1].forces).all()
    assert "numbers for" in (tmp_path / LOG_FILE).read_text()


def test_bad_data_are_refused_with_a_reason(tmp_path: Path) -> None:
    frames = tiny_labelled_frames(4, seed=1)
    trainer = LinearTrainer(SMALL, LinearTrainingSettings(), ("H", "C", "O"))

    def train(training, validation=frames[3:], **more):
        return trainer.train(training, validation, start=more.get("start"), seed=1, workdir=tmp_path / "bad")

    strange = frames[0].copy()
    strange.numbers[0] = 30
    strange.calc = frames[0].calc
    without = frames[0].copy()
    without.calc = SinglePointCalculator(without, energy=1.0)
    nowhere = frames[0].copy()
    nowhere.calc = SinglePointCalculator(nowhere, energy=1.0, forces=np.full((len(nowhere), 3), np.nan))
    for atoms in (without, nowhere, strange):
        atoms.info[keys.LEVEL] = "Morse"
    other = frames[1].copy()
    other.calc, other.info[keys.LEVEL] = frames[1].calc, "PBE"
    with pytest.raises(InputError, match="does not know Zn"):
        train([strange])
    with pytest.raises(InputError, match="no forces"):
        train([without])
    with pytest.raises(InputError, match="has a force to learn"):
        train([nowhere])
    with pytest.raises(LevelOfTheoryError, match="mix"):
        train([frames[0], other])
    huge = frames[0].copy()
    huge.calc = SinglePointCalculator(huge, energy=1e200, forces=np.full((len(huge), 3), 1e200))
    huge.info[keys.LEVEL] = "Morse"
    with pytest.raises(TrainError, match="not finite"):
        train([huge])
    together = frames[0].copy()
    together.positions[1] = together.positions[0]
    with pytest.raises(StructureError, match="apart"):
        LinearPotential(random_model()).predict([together])
    assert not (tmp_path / "bad" / "model").exists()


def test_fine_tuning_is_pulled_to_the_start_model(tmp_path: Path) -> None:
    frames = tiny_labelled_frames(12, seed=1)
    trainer = LinearTrainer(SMALL, LinearTrainingSettings(), ("H", "C", "O"))
    first = trainer.train(frames[:8], frames[8:], start=None, seed=1, workdir=tmp_path / "first")
    few = trainer.train(frames[8:9], frames[9:], start=None, seed=1, workdir=tmp_path / "few")
    tuned = trainer.train(frames[8:9], frames[9:], start=first.path, seed=1, workdir=tmp_path / "tuned")
    assert tuned.metrics["val_force_mae_eV_per_A"] < 0.8 * few.metrics["val_force_mae_eV_per_A"]
    np.testing.assert_array_equal(read_model(tuned.path).basis.channels, read_model(first.path).basis.channels)
    other = LinearTrainer(replace(SMALL, l_max=2), LinearTrainingSettings(), ("H", "C", "O"))
    with pytest.raises(InputError, match="l_max 3 → 2"):
        other.train(frames[:2], frames[2:4], start=first.path, seed=1, workdir=tmp_path / "no")


def test_a_damaged_model_is_never_used(tmp_path: Path) -> None:
    frames = tiny_labelled_frames(4, seed=1)
    trained = LinearTrainer(SMALL, LinearTrainingSettings(), ("H", "C", "O")).train(
        frames[:3], frames[3:], start=None, seed=1, workdir=tmp_path
    )
    files = sorted(p.name for p in trained.path.iterdir())
    assert files == ["history.json", "model.json", "weights.safetensors"]
    document, weights = trained.path / "model.json", trained.path / "weights.safetensors"
    good, numbers = document.read_text(), weights.read_bytes()
    document.write_text(good.replace('"l_max": 3', '"l_max": 2'))
    with pytest.raises(StateError, match="not those of"):
        read_model(trained.path)
    document.write_text(good)
    flipped = bytearray(numbers)
    flipped[-1] ^= 1
    weights.write_bytes(bytes(flipped))
    with pytest.raises(StateError, match="model_id"):
        read_model(trained.path)
    weights.write_bytes(numbers[:100])
    with pytest.raises(StateError, match="cannot be read"):
        read_model(trained.path)
    weights.unlink()
    with pytest.raises(StateError, match=r"no weights\.safetensors"):
        read_model(trained.path)


@pytest.mark.parametrize("wrong", [{"cutoff": -1.0}, {"radial": 0}, {"channels": 0}, {"l_max": 20}, {"features": 1}])
def test_settings_that_make_no_sense(wrong) -> None:
    with pytest.raises(InputError):
        LinearModelSettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"energy_weight": -1.0}, {"energy_weight": 0.0, "force_weight": 0.0}, {"regularisation": 0.0}, {"decades": 0}],
)
def test_training_settings_that_make_no_sense(wrong) -> None:
    with pytest.raises(InputError):
        LinearTrainingSettings(**wrong)


def test_energy_of_an_empty_neighbourhood() -> None:
    model = random_model()
    energies, gradient = energy_and_gradient(
        model.basis, model.weights, find_pairs(Atoms("CO", [[0, 0, 0], [0, 0, 9]]), ELEMENTS, 4.0)
    )
    np.testing.assert_array_equal(energies, model.weights[[1, 2]])
    assert gradient.shape == (0, 3)
