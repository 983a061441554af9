import json
import shutil

import numpy as np
import pytest
from ase import Atoms

from clusterflow.errors import InputError, StateError, TrainError
from clusterflow.train import nequip_export
from clusterflow.train.nequip_export import export_final
from clusterflow.train.nequip_potential import NequIPPotential


@pytest.fixture
def bare(frames):
    return [Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in frames[:3]]


@pytest.mark.slow
def test_the_package_is_the_trained_model(trained, bare, tmp_path, monkeypatch):
    """Package made and loaded again; without a compiler the rest is skipped, with the reason."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = export_final(trained, tmp_path, bare)
    assert json.loads(json.dumps(result)) == result
    assert result["model_id"] == NequIPPotential.load(trained).model_id
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.nequip.zip"]
    assert result["differences"]["package"]["force_eV_per_A"] < 1e-5
    assert set(result["skipped"]) == {"ase", "lammps"}
    assert "no-such-compiler" in result["skipped"]["ase"]


@pytest.mark.slow
def test_the_form_compiled_for_ase_is_the_trained_model(trained, bare, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler (g++)")
    result = export_final(trained, tmp_path, bare, ase=True, lammps=False)
    assert "ase" in result["files"], result["skipped"]
    assert result["differences"]["ase"]["force_eV_per_A"] < 1e-4


def test_another_model_is_not_accepted(trained, bare, tmp_path):
    potential = NequIPPotential.load(trained)
    expected = potential.predict(bare)

    def wrong(atoms):
        prediction = potential.predict([atoms])[0]
        return prediction.energy, prediction.forces + 2e-3

    def broken(atoms):
        return np.nan, np.zeros((len(atoms), 3))

    file = tmp_path / "x"
    file.touch()
    for predictor, match in ((wrong, r"forces by 0\.002 eV/Å"), (broken, "differ by up to nan")):
        with pytest.raises(TrainError, match=match):
            nequip_export._accept("ase", file, predictor, tmp_path / "out", bare, expected, {}, 0.0)
    assert file.exists()
    assert not (tmp_path / "out").exists()


def test_the_example_is_periodic_and_has_enough_atoms(bare):
    assert nequip_export._periodic_example(bare, 4.0).pbc.all()
    boxed = nequip_export._periodic_example([Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])], 4.0)
    assert boxed.pbc.all()
    assert len(boxed) == 4
    assert boxed.get_all_distances(mic=True)[np.triu_indices(4, 1)].min() > 0.7


def test_a_failing_tool_is_an_error_with_its_last_words(tmp_path):
    with pytest.raises(TrainError, match=r"sh failed with exit code 3:\nout of luck"):
        nequip_export._run(["/bin/sh", "-c", "echo out of luck; exit 3"], tmp_path, 10.0)
    with pytest.raises(TrainError, match=r"did not end within 0\.3 s"):
        nequip_export._run(["/bin/sh", "-c", "sleep 60"], tmp_path, 0.3)


def test_bad_input_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="no frames"):
        export_final(trained, tmp_path, [])
    with pytest.raises(StateError, match="no model in"):
        export_final(tmp_path, tmp_path, [Atoms("H")])
