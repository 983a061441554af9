import json
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.errors import InputError, StateError, StructureError
from clusterflow.train import nequip_model
from clusterflow.train.nequip_potential import NequIPPotential


@pytest.fixture(scope="module")
def potential(trained):
    return NequIPPotential.load(trained, device="cpu")


@pytest.fixture(scope="module")
def double(trained):
    return NequIPPotential.load(trained, device="cpu", dtype="float64")


@pytest.fixture
def molecule_and_crystal(frames):
    """Formic acid alone and in a triclinic cell."""
    return [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in frames[:2]]


def energy(potential, atoms):
    return potential.predict([atoms])[0].energy


def test_forces_are_minus_the_gradient_of_the_energy(double, molecule_and_crystal):
    step = 1e-4
    for atoms in molecule_and_crystal:
        forces = double.predict([atoms])[0].forces
        for i, k in ((0, 0), (1, 2), (3, 1)):
            plus, minus = atoms.copy(), atoms.copy()
            plus.positions[i, k] += step
            minus.positions[i, k] -= step
            gradient = (energy(double, plus) - energy(double, minus)) / (2 * step)
            assert abs(forces[i, k]) > 1e-4, "the test must have something to compare"
            assert forces[i, k] == pytest.approx(-gradient, abs=1e-7)


def test_stress_is_the_strain_derivative_of_the_energy_per_volume(double, molecule_and_crystal):
    crystal, step = molecule_and_crystal[1], 1e-5
    stress = double.predict([crystal])[0].stress
    np.testing.assert_allclose(stress, stress.T, atol=1e-14)
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5 * step
        strain[b, a] += 0.5 * step
        energies = []
        for sign in (1, -1):
            strained = crystal.copy()
            strained.set_cell(crystal.cell.array @ (np.eye(3) + sign * strain), scale_atoms=True)
            energies.append(energy(double, strained))
        derivative = (energies[0] - energies[1]) / (2 * step) / crystal.cell.volume
        assert stress[a, b] == pytest.approx(derivative, abs=1e-9)
    assert np.abs(stress).max() > 1e-4


def test_energy_is_extensive_over_a_supercell(double, molecule_and_crystal):
    crystal = molecule_and_crystal[1]
    one, eight = double.predict([crystal, crystal.repeat((2, 2, 2))])
    assert eight.energy == pytest.approx(8 * one.energy, abs=1e-9)
    np.testing.assert_allclose(eight.forces[:5], one.forces, atol=1e-10)
    np.testing.assert_allclose(eight.stress, one.stress, atol=1e-12)


def test_a_molecule_in_a_huge_box_is_the_molecule_alone(double, molecule_and_crystal):
    alone = molecule_and_crystal[0]
    boxed = alone.copy()
    boxed.set_cell([60.0, 60.0, 60.0])
    boxed.pbc = True
    a, b = double.predict([alone, boxed])
    assert a.energy == pytest.approx(b.energy, abs=1e-12)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-12)
    assert a.stress is None
    assert b.stress is not None


def test_an_atom_beyond_the_reach_is_not_felt(double):
    pair = molecule("HCOOH") + molecule("H2O")
    pair.positions[5:] += [double.cutoff + 3.0, 0.0, 0.0]
    energies = energy(double, pair[:5]) + energy(double, pair[5:])
    assert energy(double, pair) == pytest.approx(energies, abs=1e-12)


def test_an_isolated_atom_has_an_energy_and_no_force(potential):
    single = potential.predict([Atoms("O", [[0, 0, 0]])])[0]
    assert np.isfinite(single.energy)
    np.testing.assert_array_equal(single.forces, 0.0)
    assert potential.features(Atoms("O", [[0, 0, 0]])).shape == (1, potential.feature_width)


def test_it_is_nequips_own_model(double, trained, molecule_and_crystal):
    """Our forces and stress, through edge vectors, against NequIP's own force and stress module with positions."""
    from nequip.data import compute_neighborlist_, from_ase

    config = nequip_model.read_config(trained)
    model = nequip_model.build_model(config, dtype="float64")
    nequip_model.load_weights(model, nequip_model.read_weights(trained, config), where="")
    model.eval()
    for atoms in molecule_and_crystal:
        data = compute_neighborlist_(from_ase(atoms), double.cutoff)
        data["atom_types"] = double._graph(atoms)["atom_types"]
        out = model(data)
        found = double.predict([atoms])[0]
        assert found.energy == pytest.approx(float(out["total_energy"].detach()), abs=1e-10)
        np.testing.assert_allclose(found.forces, out["forces"].detach().numpy(), atol=1e-10)
        if found.stress is not None:
            np.testing.assert_allclose(found.stress, out["stress"].detach().numpy()[0], atol=1e-12)


def test_features_are_what_the_last_layer_of_the_readout_sees(double, molecule_and_crystal):
    """Energy = shifts + scales * (features @ weights of the last layer)."""
    readout = nequip_model.readout_module(double._model)
    state = double._model.state_dict()
    scales, shifts = (
        next(t for n, t in state.items() if n.endswith(f"scale_shift.{kind}")).numpy().ravel()
        for kind in ("scales", "shifts")
    )
    for atoms in molecule_and_crystal:
        features = double.features(atoms)
        assert features.shape == (len(atoms), readout.in_features) == (5, 8)
        types = double._graph(atoms)["atom_types"].numpy()
        per_atom = (features @ (readout.weight * readout.alpha).numpy()).ravel()
        expected = np.sum(shifts[types] + scales[types] * per_atom)
        assert energy(double, atoms) == pytest.approx(expected, abs=1e-9)


def test_one_pass_gives_both(potential, molecule_and_crystal):
    for atoms in molecule_and_crystal:
        prediction, features = potential.predict_with_features(atoms)
        np.testing.assert_array_equal(prediction.forces, potential.predict([atoms])[0].forces)
        np.testing.assert_array_equal(features, potential.features(atoms))


def test_double_precision_is_the_same_model_under_another_name(potential, double, molecule_and_crystal):
    assert double.model_id == potential.model_id + "-float64"
    for mine, its in zip(potential.predict(molecule_and_crystal), double.predict(molecule_and_crystal), strict=True):
        assert mine.energy == pytest.approx(its.energy, abs=1e-4)
        np.testing.assert_allclose(mine.forces, its.forces, atol=1e-4)


def test_loading_twice_gives_bit_identical_predictions(potential, trained, frames):
    again = NequIPPotential.load(trained, device="cpu")
    assert again.model_id == potential.model_id
    for mine, its in zip(potential.predict(frames), again.predict(frames), strict=True):
        assert mine.energy == its.energy
        np.testing.assert_array_equal(mine.forces, its.forces)


def test_prediction_leaves_the_process_as_it_was(potential, molecule_and_crystal):
    import torch

    torch.set_num_threads(2)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (the global state is the point)
    potential.predict(molecule_and_crystal)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_unusable_frames_are_refused(potential):
    with pytest.raises(InputError, match=r"does not know Fe; it knows H, C, O, Zn"):
        potential.features(Atoms("Fe", [[0, 0, 0]]))
    with pytest.raises(InputError, match="no atoms"):
        potential.predict([Atoms()])
    with pytest.raises(StructureError, match="not finite"):
        potential.predict([Atoms("H2", [[0, 0, 0], [0, 0, np.nan]])])
    with pytest.raises(InputError, match="float16"):
        NequIPPotential.load("x", dtype="float16")


def test_damaged_models_are_refused(trained, tmp_path):
    with pytest.raises(StateError, match="no model in"):
        NequIPPotential.load(tmp_path)

    def broken(name):
        shutil.copytree(trained, tmp_path / name)
        return tmp_path / name

    folder = broken("bit")
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-9] ^= 1
    (folder / "weights.safetensors").write_bytes(data)
    with pytest.raises(StateError, match=r"not those of its model\.json"):
        NequIPPotential.load(folder)

    folder = broken("short")
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(StateError, match="cannot be read"):
        NequIPPotential.load(folder)

    folder = broken("absent")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(StateError, match="has no weights"):
        NequIPPotential.load(folder)

    for name, change, match in (
        ("format", {"format": 99}, "format 99"),
        ("field", {"statistics": {}}, "incomplete"),
        ("setting", {"settings": {"radius": 3}}, "incomplete"),
    ):
        folder = broken(name)
        document = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps({**document, **change}))
        with pytest.raises(StateError, match=match):
            NequIPPotential.load(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(StateError, match="cannot be read"):
        NequIPPotential.load(folder)


def test_a_nequip_without_the_readout_is_refused():
    import torch

    with pytest.raises(StateError, match="has 0 modules named 'per_atom_energy_readout'"):
        nequip_model.readout_module(torch.nn.Linear(2, 2))
