"""`clusterflow export` of a real campaign and of a model folder, and what a user does with the result."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from rich.console import Console

from clusterflow.campaign.export import export, find_source
from clusterflow.cli.export import export_potential, import_dataset
from clusterflow.config.campaign import Campaign
from clusterflow.core import keys
from clusterflow.core.frames import read_frames, write_frames
from clusterflow.errors import ClusterflowError, InputError, StructureError
from clusterflow.exchange.psiflow_dataset import read_psiflow
from clusterflow.testing.potential_contract import tiny_labelled_frames
from clusterflow.testing.serial_drive import drive
from clusterflow.train.learners import load_potential
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.linear_train import LinearTrainer

MODEL = {"cutoff": "4 Å", "radial": 8, "density": 4, "l_max": 2, "channels": 6, "features": 4}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a campaign of methanol with one iteration of dynamics, every stage real."""
    place = tmp_path_factory.mktemp("campaign")
    write_frames(place / "methanol.extxyz", [molecule("CH3OH")])
    system = {
        "name": "methanol",
        "structure": str(place / "methanol.extxyz"),
        "ensemble": {"kind": "nvt", "temperature": "400 K"},
        "source": "ASE's G2 set",
        "licence": "CC0-1.0",
    }
    config = Campaign.model_validate(
        {
            "name": "alcohol",
            "seed": 2,
            "folder": str(place / "run"),
            "systems": [system],
            "start": {"fragments": 8, "test_fragments": 3, "displacement": ["0.03 Å", "0.1 Å"]},
            "explore": {"kind": "ase", "walkers": 2, "steps": {"first": 40, "growth": 1}, "frame_interval": 10},
            "score": {"components": [1, 2]},
            "select": {"fragments": 2},
            "extract": {"kind": "whole"},
            "label": {"kind": "xtb"},
            "train": {"kind": "linear", "model": MODEL},
            "stop": {"iterations": 1},
        }
    )
    told = {"clusterflow": "0", "packages": {"tblite": "1.2.3"}, "commit": "abc"}
    assert drive(config, environment=told)[0].finished
    return place / "run"


def out(path: Path, folder: Path, **changes: Any) -> tuple[Path, str]:
    """Exports; returns the folder and what was said."""
    said = Console(file=io.StringIO(), width=200)
    told = {"forms": [], "structures": [], "licence": "", "compile": False, "force": False, **changes}
    export_potential(path, folder, **told, console=said)
    return folder, said.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return out(finished, tmp_path_factory.mktemp("out") / "export", licence="CC-BY-4.0")


def python(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_is_there_and_sums_are_right(exported: tuple[Path, str]) -> None:
    folder, said = exported
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {
        "README.md", "SHA256SUMS", "ase_example.py", "dataset.extxyz", "dataset.json", "metrics.json",
        "openmm_example.py",
        "lammps/methanol.data", "lammps/methanol.expected", "lammps/run_in_lammps.py",
        "model/history.json", "model/model.json", "model/weights.safetensors",
        "psiflow/dataset.xyz", "psiflow/psiflow_example.py", "structures/methanol.extxyz",
    }  # fmt: skip
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert "left out: lammps: pair_style: LAMMPS has no pair style for this linear potential" in said


def test_licences_are_told_and_never_changed(exported: tuple[Path, str], finished: Path, tmp_path: Path) -> None:
    folder, said = exported
    line = "methanol: CC0-1.0, as the campaign file states; --licence CC-BY-4.0 does not change that"
    assert f"licence of the data of {line}" in said
    assert json.loads((folder / "dataset.json").read_text())["licences"] == [line]
    source = find_source(finished)
    source.config["systems"][0].pop("licence")
    assert export(source, tmp_path / "a", ["dataset"]).licences[0].startswith("methanol: not stated; write `licence:`")
    source.frames[0].info["licence"] = "MIT"  # as a seed dataset may state it
    done = export(source, tmp_path / "b", ["dataset"], licence="CC-BY-4.0")
    assert done.licences == [
        "methanol: CC-BY-4.0, by --licence, since the campaign file states none",
        "methanol: frames that state MIT themselves keep it",
    ]
    written = [a.info["licence"] for a in read_frames(tmp_path / "b" / "dataset.extxyz")]
    assert written == ["MIT"] + ["CC-BY-4.0"] * (len(written) - 1)


def test_the_export_says_how_to_install_what_loads_it(exported: tuple[Path, str]) -> None:
    folder, _ = exported
    for name in ("README.md", "ase_example.py"):
        assert "python -m pip install ." in (folder / name).read_text()


def test_the_ase_example_runs_in_a_fresh_process(exported: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = exported
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    write_frames(tmp_path / "mine.extxyz", [atoms])
    said = python(folder / "ase_example.py", "mine.extxyz", cwd=tmp_path)
    atoms = read(tmp_path / "mine.extxyz")
    expected = load_potential(folder / "model").predict([atoms])[0]
    largest = np.abs(expected.forces).max()
    assert said == f"energy {expected.energy:.6f} eV, largest force {largest:.4f} eV/Å\n"


def test_the_openmm_example_runs_in_a_fresh_process(exported: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = exported
    lines = python(folder / "openmm_example.py", folder / "structures/methanol.extxyz", "20", cwd=tmp_path).splitlines()
    expected = load_potential(folder / "model").predict([read(folder / "structures/methanol.extxyz")])[0].energy
    assert float(lines[0].split()[1]) == pytest.approx(expected, abs=1e-4)
    assert [line.split(",")[0] for line in lines[2:]] == ["10", "20"]


def test_the_lammps_example_runs_in_a_fresh_process(exported: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = exported
    try:
        import lammps

        lammps.lammps(cmdargs=["-log", "none", "-screen", "none"]).close()
    except (ImportError, OSError) as error:
        pytest.skip(f"no LAMMPS here ({error}); see tests/exchange/test_lammps.py")
    python(folder / "lammps/run_in_lammps.py", folder / "lammps/methanol.data", "20", cwd=tmp_path)
    rows = (tmp_path / "methanol.dump").read_text().splitlines()
    found = np.array(
        [r.split()[5:8] for r in rows[rows.index("ITEM: ATOMS id type x y z fx fy fz") + 1 :]], dtype=float
    )
    expected = np.loadtxt(folder / "lammps/methanol.expected", usecols=(2, 3, 4))
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_dataset_says_where_it_comes_from(exported: tuple[Path, str], finished: Path) -> None:
    folder, _ = exported
    frames, original = read_frames(folder / "dataset.extxyz"), read_frames(finished / "dataset.extxyz")
    assert len(frames) == len(original) == 13
    for was, now in zip(original, frames, strict=True):
        assert now.info["licence"] == "CC0-1.0"  # the system's own, not that of the potential
        assert now.info["source"] == "ASE's G2 set"
        assert now.info[keys.LEVEL] == was.info[keys.LEVEL]
        assert now.info[keys.SPLIT] == was.info[keys.SPLIT]
        assert now.get_forces() == pytest.approx(was.get_forces())
    sheet = json.loads((folder / "dataset.json").read_text())
    assert sheet["frames"] == 13
    assert sheet["systems"]["methanol"]["licence"] == "CC0-1.0"
    assert sheet["systems"]["methanol"]["frames"]["test"] == 3
    assert sheet["levels_of_theory"][0].startswith("GFN1-xTB")
    assert "per atom" in sheet["entries"]["region"]
    assert set(frames[0].info) | set(frames[0].arrays) >= set(sheet["entries"]) - {"energy", "forces", "stress"}
    plain = read_psiflow(folder / "psiflow/dataset.xyz", level_of_theory="x")
    assert [a.info["psiflow_identifier"] for a in plain] == list(range(13))
    assert plain[5].get_potential_energy() == pytest.approx(frames[5].get_potential_energy())


def test_the_model_card_tells_what_the_run_folder_knows(exported: tuple[Path, str], finished: Path) -> None:
    folder, _ = exported
    card = (folder / "README.md").read_text()
    metrics = json.loads((finished / "metrics.json").read_text())
    oxygen = metrics["metrics"]["forces_by_element"]["O"]
    for text in (
        "# alcohol: an interatomic potential",
        f"`{json.loads((folder / 'model/model.json').read_text())['model_id']}`",
        "| level of theory of the labels | `GFN1-xTB",
        "| licence of the potential | CC-BY-4.0 |",
        "| methanol | CH4O |",
        "3 frames, 18 atoms | ASE's G2 set | CC0-1.0 |",
        f"| element O | {oxygen['n_atoms']} | {oxygen['mae']:.1f} |",
        f"3 frames, hash {metrics['test_set']['hash'][:16]} journaled before the first label",
        "Noise of the labels: not measured",
        "| methanol | 400 K | constant volume | 2 |",
        "not DFT",
        "which finished: all 1 iterations are done",
        "commit abc",
        "tblite 1.2.3",
        "arXiv:2504.03881",
        "doi:10.1021/acs.jctc.7b00118",
        "doi:10.1103/PhysRevB.87.184115",
    ):
        assert text in card, text
    assert "None" not in card
    assert "doi:10.1038/s41467-022-29939-5" not in card  # NequIP was not used


def test_an_export_replaces_an_earlier_one_but_nothing_else(exported: tuple[Path, str], finished: Path) -> None:
    folder, _ = exported
    with pytest.raises(InputError, match="exists already"):
        out(finished, folder)
    mine = folder.parent / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    with pytest.raises(InputError, match="not a folder that an export has written"):
        out(finished, mine, force=True)
    assert (mine / "thesis.tex").exists()
    again, said = out(finished, folder.parent / "again", forms=["card"])
    assert sorted(p.name for p in again.iterdir()) == [
        "README.md", "SHA256SUMS", "metrics.json", "model", "structures",
    ]  # fmt: skip
    assert "no licence is stated" in said
    assert "| licence of the potential | not stated |" in (again / "README.md").read_text()
    shorter, _ = out(finished, again, forms=["ase"], force=True)
    assert not (shorter / "README.md").exists()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder without a campaign."""
    frames = tiny_labelled_frames(8, seed=1)
    settings = LinearModelSettings(cutoff=4.0, radial=4, density=2, l_max=1, channels=3, features=3)
    trainer = LinearTrainer(model=settings, training=LinearTrainingSettings(), elements=("H", "C", "O"))
    path: Path = trainer.train(frames[:6], frames[6:], start=None, seed=1, workdir=tmp_path_factory.mktemp("m")).path
    return path


def test_a_model_folder_alone(alone: Path, tmp_path: Path) -> None:
    folder, said = out(alone, tmp_path / "a")
    assert {p.name for p in folder.iterdir()} == {"README.md", "SHA256SUMS", "model"}
    for form in ("ase", "lammps", "openmm", "dataset", "psiflow"):
        assert f"left out: {form}: there " in said
    card = (folder / "README.md").read_text()
    assert "not stated: the card was made from the model alone" in card
    assert "there is no evaluation on a test set" in card
    write_frames(tmp_path / "water.extxyz", [molecule("H2O")])
    folder, _ = out(alone, tmp_path / "b", structures=[tmp_path / "water.extxyz"])
    assert (folder / "lammps/water.data").is_file()
    with pytest.raises(InputError, match="'dataset' cannot be made: there are no labels") as error:
        out(alone, tmp_path / "c", forms=["dataset"])
    assert "run folder" in error.value.todo
    assert not (tmp_path / "c").exists()
    assert not list(tmp_path.glob(".c*"))


def test_a_compiled_model_gets_its_lammps_input(alone: Path, tmp_path: Path) -> None:
    """The compiled form itself is made and compared in tests/train/test_nequip_export.py."""
    source = find_source(alone)
    model = tmp_path / "model"
    shutil.copytree(alone, model)
    (model / "model_lammps.nequip.pt2").write_bytes(b"compiled")
    source.model, source.document = model, {**source.document, "kind": "nequip"}
    source.structures = {
        "methanol": molecule("CH3OH"),
        "ice": Atoms("OH", cell=[6, 6, 6], pbc=True, positions=np.eye(2, 3)),
    }
    done = export(source, tmp_path / "out", ["lammps"])
    text = (tmp_path / "out/lammps/in.ice").read_text()
    assert f"pair_coeff   * * ../model/model_lammps.nequip.pt2 {' '.join(source.elements)} " in text
    assert (tmp_path / "out/lammps/../model/model_lammps.nequip.pt2").read_bytes() == b"compiled"
    assert "boundary     f f f" in (tmp_path / "out/lammps/in.methanol").read_text()
    assert done.left_out == {}


def test_bad_input(alone: Path, finished: Path, tmp_path: Path) -> None:
    cases: list[tuple[type[ClusterflowError], str, Path, dict[str, Any]]] = [
        (InputError, "no trained potential in", tmp_path, {}),
        (InputError, "There is no form 'gromacs'", finished, {"forms": ["gromacs"]}),
        (InputError, "There is no folder", finished, {}),
        (StructureError, "does not know Cu; it knows H, C, O", alone, {"structures": [tmp_path / "cu.extxyz"]}),
        (InputError, "There is no structure file", alone, {"structures": [tmp_path / "nothing.cif"]}),
    ]
    write_frames(tmp_path / "cu.extxyz", [bulk("Cu")])
    for kind, match, path, changes in cases:
        target = tmp_path / "no" / "where" if "There is no folder" in match else tmp_path / "out"
        with pytest.raises(kind, match=match) as error:
            out(path, target, **changes)
        assert error.value.todo
    shutil.copytree(finished, tmp_path / "early", ignore=shutil.ignore_patterns("model"))
    with pytest.raises(InputError, match="no trained potential") as early:
        out(tmp_path / "early", tmp_path / "out")
    assert "Let the campaign finish" in early.value.todo


def test_a_dataset_of_psiflow_comes_in(exported: tuple[Path, str], tmp_path: Path) -> None:
    said = Console(file=io.StringIO(), width=200)
    given = exported[0] / "psiflow/dataset.xyz"
    target = tmp_path / "in.extxyz"
    import_dataset(given, target, level="GFN1", force=False, console=said)
    assert "13 labelled frames of methanol at 'GFN1'" in said.file.getvalue()  # type: ignore[attr-defined]
    assert {a.info[keys.LEVEL] for a in read_frames(target)} == {"GFN1"}
    with pytest.raises(InputError, match="level of theory of this dataset is not known"):
        import_dataset(given, tmp_path / "b.extxyz", level="", force=False, console=said)
    with pytest.raises(InputError, match="exists already"):
        import_dataset(given, target, level="GFN1", force=False, console=said)
