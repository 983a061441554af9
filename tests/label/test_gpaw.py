"""GPAW as a Reference, with real (tiny) calculations: physics, both boundaries, spin, charge, ranks, refusals."""

import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.errors import InputError, LabelError
from clusterflow.label.dispersion import d3bj
from clusterflow.label.gpaw import GPAWReference, initial_moments


def _tiny(**changes):
    """LCAO at a coarse grid with little vacuum: a second or two for H2 and H2O."""
    return GPAWReference.quick(**{"h": 0.25, "vacuum": 3.0, "time_limit": 300, **changes})


def _h2(distance=0.9, **kwargs):
    return Atoms("H2", positions=[[0, 0, 0], [0, 0, distance]], **kwargs)


# --- the level of theory -----------------------------------------------------------------------------------------


def test_default_is_the_papers_level():
    paper = GPAWReference.paper(ranks=16)
    assert paper == GPAWReference(ranks=16)
    assert (paper.mode, paper.xc, paper.h, paper.vacuum, paper.poisson_vacuum) == ("fd", "PBE", 0.175, 4.0, 8.0)
    assert paper.dispersion == "d3bj"
    for word in ("GPAW-", "fd", "PBE-D3(BJ)", "h=0.175", "vacuum=4", "poisson_vacuum=8", "gamma", "setups="):
        assert word in paper.level_of_theory


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "lcao"},
        {"xc": "RPBE"},
        {"h": 0.2},
        {"vacuum": 5.0},
        {"poisson_vacuum": None},
        {"dispersion": None},
        {"smearing_eV": 0.1},
        {"stencil": 3},
        {"interpolation": 3},
        {"convergence": {"density": 1e-3}},
        {"kpts": (2, 2, 2)},
    ],
)
def test_level_changes_with_the_theory(change):
    assert GPAWReference(**change).level_of_theory != GPAWReference().level_of_theory


@pytest.mark.parametrize(
    "change",
    [
        {"ranks": 8},
        {"time_limit": 5.0},
        {"launcher": ("srun",)},
        {"max_attempts": 1},
        {"max_scf_steps": 7},
        {"max_force": 9.0},
        {"basis": "szp(dzp)"},  # fd has no basis
        {"ecut_eV": 700.0},  # nor plane waves
    ],
)
def test_level_does_not_change_with_the_way(change):
    assert GPAWReference(**change).level_of_theory == GPAWReference().level_of_theory


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "tb"}, "'tb' is not a GPAW mode"),
        ({"h": 2.0}, "h = 2"),
        ({"kpts": (2, 0, 2)}, "no grid"),
        ({"vacuum": 0.0}, "vacuum"),
        ({"ranks": 0}, "ranks"),
        ({"max_attempts": 9}, "max_attempts"),
        ({"dispersion": "d4"}, "'d4'"),
        ({"xc": "LDA"}, r"D3\(BJ\) parameters"),
        ({"convergence": {"density": -1.0}}, "convergence"),
        ({"convergence": {"maximum iterations": 3}}, "convergence"),
    ],
)
def test_impossible_fields(change, words):
    with pytest.raises(InputError, match=words):
        GPAWReference(**change)


# --- physics -----------------------------------------------------------------------------------------------------


def test_force_is_minus_the_energy_derivative(tmp_path):
    """Along the bond of H2, at a grid fine enough for the egg-box noise to stay below 0.02 eV/Å."""
    reference = _tiny(h=0.17, vacuum=2.5, convergence={"energy": 1e-6, "density": 1e-6})
    step = 0.02
    energies = [
        reference.label(_h2(0.9 + s), charge=0, spin=0, workdir=tmp_path / str(i)).prediction.energy
        for i, s in enumerate((step, -step))
    ]
    label = reference.label(_h2(), charge=0, spin=0, workdir=tmp_path / "middle")
    force = label.prediction.forces[1, 2]
    assert force < -1.0  # stretched: pulled back
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(force, abs=0.03)
    assert label.prediction.forces[:, :2] == pytest.approx(0.0, abs=1e-3)
    assert label.prediction.stress is None
    assert label.steps == ()
    assert label.scf_steps > 3
    assert 50 < label.peak_memory_MB < 2000
    assert "iter:" in (tmp_path / "middle" / "gpaw.txt").read_text()  # GPAW's own output stays for the user


def test_translation_does_not_matter(tmp_path):
    """The fragment is always put at the same place on the grid, so there is no egg-box noise between copies."""
    one = _tiny().label(molecule("H2O"), charge=0, spin=0, workdir=tmp_path / "one").prediction
    moved = molecule("H2O")
    moved.translate([3.21, -7.7, 0.123])
    two = _tiny().label(moved, charge=0, spin=0, workdir=tmp_path / "two").prediction
    assert one.energy == pytest.approx(two.energy, abs=1e-6)
    assert one.forces == pytest.approx(two.forces, abs=1e-5)


def test_extra_poisson_vacuum_stands_for_a_larger_box(tmp_path):
    water = molecule("H2O")

    def label(name, **changes):
        return _tiny(**changes).label(water, charge=0, spin=0, workdir=tmp_path / name).prediction

    small, extended, large = label("small"), label("ext", poisson_vacuum=3.0), label("large", vacuum=6.0)
    assert abs(small.energy - large.energy) > 5e-3
    assert extended.energy == pytest.approx(large.energy, abs=1.5e-3)
    assert extended.forces == pytest.approx(large.forces, abs=5e-3)


def test_dispersion_is_added(tmp_path):
    water = molecule("H2O")
    bare = _tiny().label(water, charge=0, spin=0, workdir=tmp_path / "bare").prediction
    full = _tiny(dispersion="d3bj").label(water, charge=0, spin=0, workdir=tmp_path / "d3").prediction
    assert full.energy - bare.energy == pytest.approx(d3bj(water).energy, abs=1e-9)
    assert full.forces - bare.forces == pytest.approx(d3bj(water).forces, abs=1e-9)


def test_spin_and_charge(tmp_path):
    neutral = _tiny().label(_h2(), charge=0, spin=0, workdir=tmp_path / "h2").prediction.energy
    cation = _tiny().label(_h2(), charge=1, spin=1, workdir=tmp_path / "cation")
    triplet = _tiny().label(_h2(), charge=0, spin=2, workdir=tmp_path / "triplet")
    assert 13.0 < cation.prediction.energy - neutral < 19.0  # experiment: 15.4 eV
    assert triplet.prediction.energy - neutral > 5.0
    assert (cation.charge, cation.spin) == (1, 1)


def test_fd_mode(tmp_path):
    label = GPAWReference(h=0.25, vacuum=2.5, poisson_vacuum=2.0, time_limit=300).label(
        _h2(0.75), charge=0, spin=0, workdir=tmp_path
    )
    assert -8.0 < label.prediction.energy < -6.0  # GPAW counts from its spin-paired atoms
    assert label.prediction.forces.sum(axis=0) == pytest.approx(0.0, abs=1e-3)


def test_periodic_cell_has_stress_in_plane_waves(tmp_path):
    cell = _h2(0.75, cell=[2.4, 2.5, 2.6], pbc=True)
    pw = GPAWReference(mode="pw", ecut_eV=800.0, time_limit=300)  # so high that the basis hardly changes with the cell
    label = pw.label(cell, charge=0, spin=0, workdir=tmp_path / "pw")
    assert label.prediction.stress is not None
    lcao = _tiny().label(cell, charge=0, spin=0, workdir=tmp_path / "lcao")
    assert lcao.prediction.stress is None
    energies = []
    for scale in (1.01, 0.99):
        strained = cell.copy()
        strained.set_cell(cell.cell.array @ np.diag([1.0, 1.0, scale]), scale_atoms=True)
        folder = tmp_path / f"pw-{scale}"
        energies.append(pw.label(strained, charge=0, spin=0, workdir=folder).prediction.energy)
    slope = (energies[0] - energies[1]) / 0.02 / cell.get_volume()
    assert label.prediction.stress[2, 2] == pytest.approx(slope, rel=0.05)


def test_k_points_of_a_cell_are_those_of_its_supercell(tmp_path):
    cell = _h2(0.75, cell=[2.4, 3.0, 3.0], pbc=True)
    cell.positions[1, 0] += 0.1
    fine = {"h": 0.2, "convergence": {"energy": 1e-6, "density": 1e-7}}  # 12 points in the cell, 36 in three
    grid = _tiny(kpts=(3, 1, 1), **fine).label(cell, charge=0, spin=0, workdir=tmp_path / "grid").prediction
    three = _tiny(**fine).label(cell.repeat((3, 1, 1)), charge=0, spin=0, workdir=tmp_path / "three").prediction
    alone = _tiny(**fine).label(cell, charge=0, spin=0, workdir=tmp_path / "alone").prediction
    assert 3.0 * grid.energy == pytest.approx(three.energy, abs=1e-3)
    assert grid.forces == pytest.approx(three.forces[:2], abs=2e-3)
    assert abs(grid.energy - alone.energy) > 0.05  # so small a cell needs them


# --- how it runs -------------------------------------------------------------------------------------------------


def test_two_ranks_give_the_same(tmp_path):
    if shutil.which("mpirun") is None:
        pytest.skip("no mpirun on PATH")
    one = _tiny().label(_h2(), charge=0, spin=0, workdir=tmp_path / "one")
    two = _tiny(ranks=2, launcher=("mpirun", "--oversubscribe", "-np", "{ranks}")).label(
        _h2(), charge=0, spin=0, workdir=tmp_path / "two"
    )
    assert two.cores == 2
    assert two.level_of_theory == one.level_of_theory
    assert two.prediction.energy == pytest.approx(one.prediction.energy, abs=1e-6)
    assert two.prediction.forces == pytest.approx(one.prediction.forces, abs=1e-5)
    assert two.peak_memory_MB > 1.3 * one.peak_memory_MB  # a sum over ranks


def test_ladder_climbs_and_ends_in_the_same_state(tmp_path):
    plain = _tiny().label(molecule("H2O"), charge=0, spin=0, workdir=tmp_path / "plain")
    short = _tiny(max_scf_steps=plain.scf_steps - 2).label(
        molecule("H2O"), charge=0, spin=0, workdir=tmp_path / "short"
    )
    assert len(short.steps) >= 1
    assert short.scf_steps > plain.scf_steps
    assert short.level_of_theory == plain.level_of_theory
    assert short.prediction.energy == pytest.approx(plain.prediction.energy, abs=5e-3)
    assert short.prediction.forces == pytest.approx(plain.prediction.forces, abs=2e-2)
    assert (tmp_path / "short" / "gpaw-2.txt").exists()


def test_unconverged_is_a_label_error(tmp_path):
    with pytest.raises(LabelError, match=r"did not converge in \d+ steps") as caught:
        _tiny(max_scf_steps=2, convergence={"density": 1e-9}).label(molecule("H2O"), charge=0, spin=0, workdir=tmp_path)
    assert "gentler mixing" in caught.value.what
    assert len(list(tmp_path.glob("gpaw*.txt"))) == 4
    assert not (tmp_path / "result.json").exists()


def test_refused_before_anything_runs(tmp_path):
    reference = _tiny()
    cases = [
        (molecule("H2O"), 0, 1, LabelError, "unpaired"),
        (Atoms("Pu"), 0, 0, InputError, r"no PAW data for Pu \(Pu.PBE, Pu.dzp.basis\)"),
        (_h2(cell=[3, 3, 3], pbc=[True, True, False]), 0, 0, LabelError, "some directions only"),
        (_h2(cell=[3, 3, 3], pbc=True), 1, 1, LabelError, "cannot carry a charge"),
        (_h2(0.1), 0, 0, LabelError, "0.100 Å apart"),
    ]
    for atoms, charge, spin, error, words in cases:
        with pytest.raises(error, match=words):
            reference.label(atoms, charge=charge, spin=spin, workdir=tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_initial_moments():
    assert initial_moments(Atoms("FeO2H"), 4) == [4.0, 0.0, 0.0, 0.0]
    assert initial_moments(Atoms("CH3"), 1) == [1.0, 0.0, 0.0, 0.0]
    assert initial_moments(Atoms("H2"), 2) == [1.0, 1.0]
