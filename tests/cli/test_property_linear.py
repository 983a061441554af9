"""Properties with a linear potential of clusterflow's own: fitted to EMT copper, it must give EMT's properties."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from clusterflow.campaign.property_outputs import rewrite_property_outputs
from clusterflow.cli.property import run_properties
from clusterflow.cli.status import find_campaign
from clusterflow.core import keys
from clusterflow.core.frames import write_frames
from clusterflow.train.learners import make_trainer
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings

RUN = """\
name: copper
potential: {potential}
structures: [{{name: cu, structure: {structure}}}]
properties:
  - {{kind: energy_volume, points: 9, range: [0.94, 1.06]}}
  - {{kind: heat_capacity, points: 4}}
"""


def labelled(count: int, seed: int) -> list:
    rng, frames = np.random.default_rng(seed), []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.set_cell(atoms.cell * (1.0 + rng.uniform(-0.03, 0.03)), scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.05, (len(atoms), 3))
        atoms.calc = EMT()
        told = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **told)
        atoms.info[keys.LEVEL] = "EMT"
        frames.append(atoms)
    return frames


def test_a_linear_potential_gives_the_properties_of_what_it_was_fitted_to(tmp_path: Path) -> None:
    model = LinearModelSettings(cutoff=5.0, radial=10, density=4, l_max=2, channels=4)
    trainer = make_trainer("linear", model.to_json(), LinearTrainingSettings().to_json(), ("Cu",), threads=1)
    fitted = trainer.train(labelled(12, 1), labelled(4, 2), start=None, seed=1, workdir=tmp_path / "fit")
    write_frames(tmp_path / "cu.extxyz", [bulk("Cu", cubic=True)])
    metrics = {"n_frames": 4, "forces": {"mae": 5.0, "rmse": 7.0}, "forces_by_element": {"Cu": {"mae": 5.0}}}
    (fitted.path.parent / "metrics.json").write_text(json.dumps({"metrics": metrics}), encoding="utf-8")
    found = {}
    for name, potential in (("linear", fitted.path), ("emt", '{calculator: "ase.calculators.emt:EMT"}')):
        file = tmp_path / f"{name}.yaml"
        file.write_text(RUN.format(potential=potential, structure=tmp_path / "cu.extxyz"), encoding="utf-8")
        assert run_properties(
            [str(file)], only=[], folder=tmp_path / name, engine="serial", retry_failed=False,
            console=Console(quiet=True),
        ) == 0  # fmt: skip
        written = json.loads((tmp_path / name / "results.json").read_text(encoding="utf-8"))
        told, results = written["about_potential"], written["results"]
        page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        if name == "linear":
            assert (told["kind"], told["level_of_theory"], told["elements"]) == ("linear", "EMT", ["Cu"])
            assert "force MAE 5 meV/Å (Cu 5), RMSE 7, on 4 test frames" in page
        else:
            assert told == {"kind": "ase", "calculator": "ase.calculators.emt:EMT", "arguments": {}}
            assert "ASE calculator ase.calculators.emt:EMT" in page
        quantities = {r["property"]: r["result"]["quantities"] for r in results}
        found[name] = {kind: {n: q["value"] for n, q in told.items()} for kind, told in quantities.items()}
    for kind, quantity, within in (("energy_volume", "K", 0.06), ("heat_capacity", "c_V", 0.01)):
        assert found["linear"][kind][quantity] == pytest.approx(found["emt"][kind][quantity], rel=within)
    # what is known of the potential stays known when it is gone from where it was
    results = (tmp_path / "linear" / "results.json").read_bytes()
    fitted.path.rename(tmp_path / "gone")
    rewrite_property_outputs(*find_campaign(tmp_path / "linear"))
    assert (tmp_path / "linear" / "results.json").read_bytes() == results
