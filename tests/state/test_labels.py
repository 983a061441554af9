"""Labels are found by what was computed, exactly as they were, and never computed twice."""

import dataclasses
import multiprocessing

import numpy as np
import pytest
from ase.build import bulk, molecule

from clusterflow.core.data import Label, Prediction
from clusterflow.errors import StateError
from clusterflow.state.labels import LabelStore, label_key

LEVEL = "gpaw pbe lcao(dzp)"


def make(seed=0, periodic=False):
    rng = np.random.default_rng(seed)
    atoms = bulk("MgO", "rocksalt", 4.2) if periodic else molecule("CH3COOH")
    atoms.rattle(0.05, rng=rng)
    n = len(atoms)
    stress = rng.normal(size=(3, 3)) if periodic else None
    label = Label(
        Prediction(float(rng.normal()), rng.normal(size=(n, 3)) * 1e-7, stress),
        LEVEL,
        charge=-1,
        spin=1,
        scf_steps=23,
        wall_time=12.25,
        cores=2,
        peak_memory_MB=345.5,
        steps=("mixer", "smearing"),
    )
    return key_of(atoms), atoms, label


def key_of(atoms, level=LEVEL, charge=-1, spin=1):
    return label_key(atoms, level_of_theory=level, charge=charge, spin=spin)


@pytest.mark.parametrize("periodic", [False, True])
def test_round_trip_is_exact(tmp_path, periodic):
    store = LabelStore(tmp_path / "labels")
    key, atoms, label = make(periodic=periodic)
    assert store.get(key) is None
    assert key not in store
    assert store.put(key, atoms, label) is True
    assert key in store
    atoms2, label2 = LabelStore(tmp_path / "labels").get(key)
    assert np.array_equal(atoms2.positions, atoms.positions)
    assert np.array_equal(atoms2.cell.array, atoms.cell.array)
    assert np.array_equal(atoms2.pbc, atoms.pbc)
    assert np.array_equal(label2.prediction.forces, label.prediction.forces)
    if periodic:
        assert np.array_equal(label2.prediction.stress, label.prediction.stress)
    assert dataclasses.replace(label2, prediction=label.prediction) == label
    assert label2.prediction.energy.hex() == label.prediction.energy.hex()


def test_first_wins(tmp_path):
    store = LabelStore(tmp_path)
    key, atoms, label = make()
    other = dataclasses.replace(label, wall_time=99.0)
    assert store.put(key, atoms, label)
    assert store.put(key, atoms, other) is False
    assert store.get(key)[1].wall_time == 12.25


def test_the_key_knows_everything_that_changes_a_label(monkeypatch):
    _, atoms, _ = make()
    keys = {key_of(atoms), key_of(atoms, level="other"), key_of(atoms, charge=0), key_of(atoms, spin=0)}
    moved = atoms.copy()
    moved.positions[3, 1] += 1e-6
    keys.add(key_of(moved))
    monkeypatch.setattr("clusterflow.state.labels.METHOD_VERSION", 2)
    keys.add(key_of(atoms))
    assert len(keys) == 6
    assert all(len(k) == 64 for k in keys)


def test_keys_and_count(tmp_path):
    store = LabelStore(tmp_path)
    keys = []
    for seed in range(7):
        key, atoms, label = make(seed)
        store.put(key, atoms, label)
        keys.append(key)
    assert list(store.keys()) == sorted(keys)
    assert store.count() == 7
    assert (tmp_path / keys[0][:2] / f"{keys[0]}.json").is_file()


def test_wrong_key_and_wrong_numbers_are_refused(tmp_path):
    store = LabelStore(tmp_path)
    key, atoms, label = make()
    with pytest.raises(StateError, match="not its own"):
        store.put(key_of(atoms, charge=0), atoms, label)
    bad = dataclasses.replace(label, prediction=Prediction(float("nan"), label.prediction.forces))
    with pytest.raises(StateError, match="cannot be stored"):
        store.put(key, atoms, bad)
    short = dataclasses.replace(label, prediction=Prediction(0.0, np.zeros((3, 3))))
    with pytest.raises(StateError, match="shape"):
        store.put(key, atoms, short)
    with pytest.raises(StateError, match="not a label key"):
        store.get("../../etc/passwd")
    assert store.count() == 0


def test_damaged_label_is_reported_and_recomputed_only_on_request(tmp_path):
    store = LabelStore(tmp_path)
    key, atoms, label = make()
    store.put(key, atoms, label)
    path = tmp_path / key[:2] / f"{key}.json"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"12.25", b"12.26"))
    with pytest.raises(StateError, match="damaged"):
        store.get(key)
    assert store.put(key, atoms, label) is False  # not silently
    moved = store.quarantine(key)
    assert moved.parent == tmp_path / "damaged"
    assert store.get(key) is None
    assert store.count() == 0
    assert store.put(key, atoms, label)
    assert store.get(key)[1].wall_time == 12.25


def test_label_under_the_name_of_another_is_noticed(tmp_path):
    store = LabelStore(tmp_path)
    key, atoms, label = make(1)
    store.put(key, atoms, label)
    other = make(2)[0]
    path = tmp_path / other[:2] / f"{other}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((tmp_path / key[:2] / f"{key}.json").read_bytes())
    with pytest.raises(StateError, match="its content has the key"):
        store.get(other)


def test_failures_are_remembered_until_cleared_and_a_success_counts_more(tmp_path):
    store = LabelStore(tmp_path)
    key, atoms, label = make()
    assert store.get_failure(key) is None
    assert store.put_failure(key, {"what": "no convergence in 333 steps", "attempts": 4})
    assert store.put_failure(key, {"what": "other"}) is False
    assert store.get_failure(key) == {"what": "no convergence in 333 steps", "attempts": 4}
    assert list(store.failures()) == [key]
    assert store.count() == 0
    assert store.clear_failure(key) is True
    assert store.clear_failure(key) is False
    assert store.get_failure(key) is None
    store.put_failure(key, {"what": "again"})
    store.put(key, atoms, label)
    assert store.get_failure(key) is None


def test_newer_label_folder_is_refused(tmp_path):
    from clusterflow.state.publish import publish_json

    publish_json(tmp_path / "format.json", {"holds": "labels", "version": 2})
    with pytest.raises(StateError, match="format 2"):
        LabelStore(tmp_path)


def _writer(folder, start):
    store = LabelStore(folder)
    new = 0
    for seed in range(20):
        key, atoms, label = make((seed + start) % 20)
        new += store.put(key, atoms, label)
        assert store.get(key) is not None
    return new


def test_several_writers_at_once(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        new = pool.starmap(_writer, [(tmp_path, 5 * i) for i in range(4)])
    assert sum(new) == 20  # each label was new to exactly one of them
    assert LabelStore(tmp_path).count() == 20
