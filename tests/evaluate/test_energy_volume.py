"""Energy–volume curves of EMT metals against ASE and against the stress."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.eos import EquationOfState

from clusterflow.errors import InputError, ScienceError
from clusterflow.evaluate import energy_volume
from clusterflow.evaluate.energy_volume import VolumePoint
from clusterflow.evaluate.property_result import PropertyResult, result_from_json
from clusterflow.physics.eos import GPA


@pytest.fixture(scope="module")
def copper() -> PropertyResult:
    return energy_volume.compute(bulk("Cu", cubic=True), EMT())


def test_equal_to_ase_on_the_same_points(copper: PropertyResult) -> None:
    columns = copper.curves["points"].columns
    v0, e0, k = EquationOfState(columns["volume [Å³]"], columns["energy [eV]"], eos="birchmurnaghan").fit()
    q = copper.quantities
    assert all(columns["in the fits"])
    assert q["K, birch_murnaghan"].value == pytest.approx(k * GPA, rel=1e-4)
    assert q["V0"].value == pytest.approx(v0, rel=1e-5)
    assert q["E0"].value == pytest.approx(e0, abs=1e-5)


def test_k_is_that_of_the_stress(copper: PropertyResult) -> None:
    """−V dP/dV by a central difference of EMT's own stress at V₀: no energies, no fit."""
    q = copper.quantities
    pressures = []
    for strain in (-1e-3, 1e-3):
        atoms = bulk("Cu", cubic=True)
        edge = (q["V0"].value * (1.0 + strain)) ** (1.0 / 3.0)
        atoms.set_cell([edge] * 3, scale_atoms=True)
        atoms.calc = EMT()
        pressures.append(-np.trace(atoms.get_stress(voigt=False)) / 3.0)
    k = -(pressures[1] - pressures[0]) / 2e-3 * GPA
    assert q["K"].value == pytest.approx(k, rel=1e-3)
    assert q["K"].value - k == pytest.approx(0.0, abs=3 * (q["K"].uncertainty or 0.0) + 0.05)
    assert q["K, stress"].value == pytest.approx(k, rel=1e-3)
    assert copper.notes == ()


def test_shape_and_positions_relax_at_constant_volume() -> None:
    """A sheared, displaced cell finds the curve of the perfect crystal."""
    perfect = energy_volume.compute(bulk("Cu", cubic=True), EMT(), points=7, range=(0.96, 1.04))
    atoms = bulk("Cu", cubic=True)
    strain = np.array([[0, 0.02, 0.01], [0, 0.01, 0], [0.01, 0, -0.01]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.set_cell(atoms.cell.array * (4 * 11.565 / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    atoms.rattle(0.02, seed=1)
    found = energy_volume.compute(atoms, EMT(), points=7, range=(0.96, 1.04))
    assert found.quantities["E0"].value == pytest.approx(perfect.quantities["E0"].value, abs=2e-5)
    assert found.quantities["K"].value == pytest.approx(perfect.quantities["K"].value, rel=5e-3)


def test_json_comes_back_as_it_was(copper: PropertyResult) -> None:
    again = result_from_json(copper.to_json())
    assert again == copper
    assert next(iter(again.curves["points"].columns)) == "volume [Å³]"


def test_points_that_did_not_converge_are_left_out_and_named() -> None:
    points = [
        VolumePoint(r, 46.0 * r, 0.5 * 0.9 * 46.0 * (r - 1) ** 2, None, 1e-4, 3) for r in np.linspace(0.95, 1.05, 11)
    ]
    found = energy_volume.energy_volume([*points[:3], *points[4:]], n_atoms=4, failed={0.98: "300 steps were too few"})
    assert "K, stress" not in found.quantities
    assert any("0.98" in n and "300 steps were too few" in n for n in found.notes)
    with pytest.raises(ScienceError, match=r"there are 6: 0.95, .* Not relaxed: 1.01, .*too few.* try `range: "):
        energy_volume.energy_volume(
            points[:6], n_atoms=4, failed={p.ratio: "300 steps were too few" for p in points[6:]}
        )


def test_volumes_in_different_basins_are_noticed() -> None:
    """Energies of one basin, stresses of another."""
    points = [
        VolumePoint(r, 46.0 * r, 0.5 * 0.9 * 46.0 * (r - 1) ** 2, -2 * 0.9 * GPA * (r - 1), 1e-4, 3)
        for r in np.linspace(0.95, 1.05, 11)
    ]
    found = energy_volume.energy_volume(points, n_atoms=4)
    assert any("differs by more than 5 %" in n for n in found.notes)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="not periodic in three directions"):
        energy_volume.compute(molecule("H2O"), EMT())
    with pytest.raises(InputError, match="neither a potential nor an ASE calculator"):
        energy_volume.compute(bulk("Cu"), "EMT")
    with pytest.raises(ScienceError, match="outside the stable range"):
        energy_volume.compute(bulk("Cu", cubic=True), EMT(), range=(1.05, 1.2))
    with pytest.raises(ScienceError, match="EMT failed for W: NotImplementedError"):
        energy_volume.compute(bulk("W"), EMT())


def test_a_relaxation_that_does_not_converge_says_how_far_it_came() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=2)
    with pytest.raises(ScienceError, match=r"there are 0.*did not converge in 2 steps: the largest force is"):
        energy_volume.compute(atoms, EMT(), max_steps=2)


def test_a_structure_that_flies_apart_is_no_relaxation() -> None:
    """Lennard-Jones atoms far too close push the cell open."""
    from clusterflow.evaluate.calculator_potential import as_potential
    from clusterflow.evaluate.relaxation import relax

    with pytest.raises(ScienceError, match="came apart"):
        relax(
            bulk("Ar", "fcc", 2.5), as_potential(LennardJones(sigma=3.4, epsilon=0.01, rc=8.0)), freedom="cell",
            optimiser="fire", max_steps=500,
        )  # fmt: skip
