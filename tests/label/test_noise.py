"""Noise of labels: none where there is no grid, some where there is one, and what is put in comes out."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.core.data import Label, Prediction
from clusterflow.errors import InputError, LabelError
from clusterflow.label.gpaw import GPAWReference
from clusterflow.label.noise import LabelNoise, measure_noise, noise_floor
from clusterflow.label.xtb import XTBReference


def test_xtb_has_no_grid_and_hardly_any_noise(tmp_path):
    atoms = molecule("CH3OH")
    atoms.rattle(0.05, seed=1)
    found = measure_noise(XTBReference(), atoms, repeats=3, workdir=tmp_path)
    assert set(found.kinds) == {"translation", "rotation"}
    assert np.abs(XTBReference().label(atoms).prediction.forces).max() > 0.5  # forces that a wrong rotation would spoil
    assert found.sigma.max() < 2e-4
    assert set(found.by_element()) == {"C", "H", "O"}


@dataclass(frozen=True)
class EggBox:
    """A force that depends on where the atoms are on a grid of 0.2 Å, and on its spacing: σ is known."""

    mode: str = "fd"
    h: float = 0.2
    fails: bool = False
    level_of_theory: str = "egg box"

    def label(self, atoms, *, charge, spin, workdir):
        if self.fails and abs(self.h - 0.2) > 1e-9:
            raise LabelError("The grid does not fit.")
        ripple = 0.03 * np.sin(2 * np.pi * atoms.positions / self.h)
        centre = atoms.positions.mean(axis=0)
        return Label(Prediction(0.0, -(atoms.positions - centre) + ripple), "egg box", charge, spin, 0, 0.0)


def test_the_egg_box_is_measured(tmp_path):
    found = measure_noise(EggBox(), molecule("C6H6"), repeats=200, workdir=tmp_path)
    # A sine of amplitude 0.03 seen at random places: 0.03/√2 per component, √3 times that per vector.
    assert found.kinds["translation"].sigma.mean() == pytest.approx(0.03 * np.sqrt(1.5), rel=0.05)
    assert found.kinds["rotation"].sigma.mean() == pytest.approx(0.03 * np.sqrt(1.5), rel=0.15)
    assert found.kinds["translation"].maximum <= 0.06
    together = sum(k.sigma**2 for k in found.kinds.values())
    np.testing.assert_allclose(found.sigma, np.sqrt(together))


def test_a_periodic_cell_is_moved_and_not_turned(tmp_path):
    cell = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]], cell=[5, 5, 5], pbc=True)
    assert set(measure_noise(EggBox(), cell, repeats=2, workdir=tmp_path).kinds) == {"translation", "grid spacing"}


def test_json_round_trip_and_total(tmp_path):
    found = measure_noise(EggBox(), molecule("H2O"), repeats=4, workdir=tmp_path)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    np.testing.assert_array_equal(LabelNoise.from_json(data).sigma, found.sigma)
    assert data["total_rms"] == pytest.approx(np.sqrt(np.mean(found.sigma**2)))
    assert data["unit"] == "eV/Å"


def test_failures_are_counted_and_too_many_end_it(tmp_path):
    with pytest.raises(LabelError, match=r"None of 3 labels of the kind 'grid spacing' succeeded: The grid"):
        measure_noise(EggBox(fails=True), molecule("H2O"), repeats=3, workdir=tmp_path)
    with pytest.raises(InputError, match="0 repetitions"):
        measure_noise(EggBox(), molecule("H2O"), repeats=0, workdir=tmp_path)


def test_the_floor_of_a_composition():
    assert noise_floor({"O": 0.03, "H": 0.0}, ["O", "H", "H"]) == pytest.approx(0.03 / 3)
    assert noise_floor({"O": 0.03}, ["O", "H", "H"]) is None
    assert noise_floor({"O": 0.03}, []) is None


def test_gpaw_on_a_coarse_grid_has_an_egg_box(tmp_path):
    """The same molecule at other places of its grid: forces differ; and the level stays the level."""
    coarse = GPAWReference(mode="lcao", basis="szp(dzp)", h=0.22, vacuum=2.5, poisson_vacuum=None, dispersion=None,
                           stencil=3, interpolation=3, time_limit=300, max_net_force=20.0)  # fmt: skip
    hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    found = measure_noise(coarse, hydrogen, repeats=1, workdir=tmp_path)
    assert set(found.kinds) == {"translation", "rotation", "grid spacing"}
    assert found.kinds["translation"].rmse > 1e-4
    assert found.sigma.max() < 1.0
    assert found.level_of_theory == coarse.level_of_theory
    with pytest.raises(InputError, match="offset"):
        GPAWReference(offset=(9.0, 0.0, 0.0))
