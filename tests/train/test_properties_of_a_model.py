"""Properties of a trained NequIP model: exact Hessian, phonopy on the same potential, precisions, a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from rich.console import Console

from clusterflow.cli.property import run_properties
from clusterflow.core.frames import write_frames
from clusterflow.errors import InputError, StateError
from clusterflow.evaluate import heat_capacity
from clusterflow.evaluate.relaxation import relax
from clusterflow.testing.phonopy_reference import phonopy_thermal
from clusterflow.train.nequip_potential import NequIPPotential

RUN = """\
name: tiny
seed: 1
potential: {{folder: {model}, device: cpu}}
structures:
  - {{name: acid, structure: acid.extxyz}}
properties:
  - {{kind: heat_capacity, rows: 2, precisions: [float64, float32], points: 5, fmax: 3 meV/Å}}
"""


@pytest.fixture(scope="module")
def double(trained: Path) -> NequIPPotential:
    return NequIPPotential.load(trained, device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def crystal(frames: list[Atoms], double: NequIPPotential) -> Atoms:
    """Formic acid in a triclinic cell, at rest in the model."""
    start = Atoms(frames[1].numbers, frames[1].positions, cell=frames[1].cell, pbc=True)
    return relax(start, double, freedom="positions", fmax=2e-3, max_steps=2000).atoms


def test_equal_to_phonopy_on_the_same_model(crystal: Atoms, double: NequIPPotential) -> None:
    """Exact second derivatives against finite displacements: 0.1 %."""
    t, lowest = [100.0, 300.0], 5.0
    ours = heat_capacity.compute(crystal, double, freedom="nothing", temperatures=t, lowest=lowest)
    theirs = phonopy_thermal(crystal, double.calculator(), (1, 1, 1), t, cutoff=lowest)
    columns = ours.curves["temperature"].columns
    assert columns["C_V per cell [J/(mol K)]"] == pytest.approx(theirs["heat_capacity"], rel=1e-3)
    assert columns["free energy per cell [eV]"] == pytest.approx(theirs["free_energy"], rel=1e-3)
    assert ours.quantities["asymmetry"].value < 1e-8
    assert ours.quantities["acoustic residual"].value < 1e-8


def test_waves_of_the_cell_are_the_modes_of_its_supercell(crystal: Atoms, double: NequIPPotential) -> None:
    """Rows of one cell's atoms in 2 × 1 × 1 against all rows of that supercell."""
    few = heat_capacity.hessian_rows(crystal, double, range(len(crystal)), (2, 1, 1))
    supercell = crystal.repeat((2, 1, 1))
    every = heat_capacity.hessian_rows(supercell, double, range(len(supercell)))
    ours = heat_capacity.harmonic_modes(crystal, few, (2, 1, 1)).wavenumbers
    theirs = heat_capacity.harmonic_modes(supercell, every).wavenumbers
    assert np.sign(ours) * ours**2 == pytest.approx(np.sign(theirs) * theirs**2, abs=1e-2)


def test_a_run_with_a_model(trained: Path, frames: list[Atoms], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_frames(tmp_path / "acid.extxyz", [Atoms(frames[0].numbers, frames[0].positions)])
    file = tmp_path / "run.yaml"
    file.write_text(RUN.format(model=trained), encoding="utf-8")
    root = tmp_path / "out"

    def run() -> int:
        return run_properties(
            [str(file)], only=[], folder=root, engine="serial", retry_failed=False, console=Console(quiet=True)
        )

    assert run() == 0, capsys.readouterr().err
    (entry,) = json.loads((root / "results.json").read_text())["results"]
    quantities = entry["result"]["quantities"]
    potential = NequIPPotential.load(trained, device="cpu", dtype="float64")
    direct = heat_capacity.compute(Atoms(frames[0].numbers, frames[0].positions), potential, fmax=3e-3)
    assert quantities["c_V"]["value"] == pytest.approx(direct.quantities["c_V"].value, rel=1e-6)
    assert quantities["modes"]["value"] == 9
    difference = quantities["c_V, float32 − float64"]["value"]
    assert 0.0 < abs(difference) < 1e-3 * quantities["c_V"]["value"]

    # The run has its own copy of the model, which workers verify.
    (copy,) = (p for p in (root / "inputs").glob("potential-*") if p.is_dir())
    weights = next(copy.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    for result in (root / "tasks" / "property").iterdir():
        for path in result.iterdir():
            path.unlink()
        result.rmdir()
    for path in (root / "tasks" / "relax").rglob("*.*"):
        path.unlink()
    (root / "journal.jsonl").unlink()
    with pytest.raises(StateError, match="weights"):
        run()


def test_elements_that_the_model_does_not_know(trained: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "acid.extxyz", [Atoms("SiO", [[0, 0, 0], [0, 0, 1.5]])])
    file = tmp_path / "run.yaml"
    file.write_text(RUN.format(model=trained), encoding="utf-8")
    with pytest.raises(InputError, match="does not know Si; it knows H, C, O, Zn") as error:
        run_properties(
            [str(file)], only=[], folder=tmp_path / "out", engine="serial", retry_failed=False,
            console=Console(quiet=True),
        )  # fmt: skip
    assert "structure 'acid'" in error.value.where


DYNAMICS = """\
name: moving
potential: {{folder: {model}, device: cpu}}
structures:
  - {{name: acid, structure: acid.extxyz}}
properties:
  - kind: vibrational_spectrum
    relax: nothing
    phonons: false
    temperature: 600 K
    equilibration: 5 fs
    duration: 100 fs
    resolution: 500 cm^-1
    replicas: 1
    bonds: free
"""


def test_dynamics_with_a_model(trained: Path, frames: list[Atoms], tmp_path: Path) -> None:
    """In float32, as exploration; the spectrum holds all modes of the molecule."""
    write_frames(tmp_path / "acid.extxyz", [Atoms(frames[0].numbers, frames[0].positions)])
    file = tmp_path / "run.yaml"
    file.write_text(DYNAMICS.format(model=trained), encoding="utf-8")
    code = run_properties(
        [str(file)], only=[], folder=tmp_path / "out", engine="serial", retry_failed=False, console=Console(quiet=True)
    )
    assert code == 0
    (entry,) = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    columns = entry["result"]["curves"]["spectrum"]
    assert {"C [1/cm⁻¹]", "O [1/cm⁻¹]", "H [1/cm⁻¹]"} < set(columns)
    assert 0.0 < entry["result"]["quantities"]["modes"]["value"] < 9.5
