"""Harmonic thermodynamics by phonopy, with finite displacements: an independent answer to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from ase import Atoms

from clusterflow.physics.vibrations import EV_PER_WAVENUMBER

_THZ = 33.3564095198152  # cm⁻¹ per THz


def phonopy_thermal(
    atoms: Atoms,
    calculator: Any,
    repeat: Sequence[int],
    temperatures: Sequence[float],
    *,
    cutoff: float,
    displacement: float = 0.0025,
    symmetry: bool = True,
    symprec: float = 1e-5,
    plusminus: bool | Literal["auto"] = "auto",
) -> dict[str, list[float]]:
    """Per cell: ``heat_capacity`` and ``entropy`` in J/(mol K), ``free_energy`` in eV, of the waves that are
    commensurate with ``repeat`` cells; modes below ``cutoff`` cm⁻¹ do not count. With ``symmetry``, which phonopy finds
    within ``symprec`` Å, inequivalent atoms alone are displaced by ``displacement`` Å; ``plusminus`` False: to one side
    only, which is half the work and an error of first order."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        numbers=atoms.numbers, cell=atoms.cell.array, positions=atoms.positions, masses=atoms.get_masses()
    )
    phonon = Phonopy(cell, np.diag(repeat), primitive_matrix=np.eye(3), is_symmetry=symmetry, symprec=symprec)
    phonon.generate_displacements(distance=displacement, is_plusminus=plusminus)
    forces = []
    for moved in phonon.supercells_with_displacements:
        supercell = Atoms(numbers=moved.numbers, positions=moved.positions, cell=moved.cell, pbc=True)
        supercell.calc = calculator
        forces.append(supercell.get_forces())
    phonon.forces = forces
    phonon.produce_force_constants()
    phonon.run_mesh(list(repeat), is_gamma_center=True, is_mesh_symmetry=False)
    # An acoustic mode of Γ is zero up to numerical noise of either sign, and must not count.
    phonon.run_thermal_properties(temperatures=list(temperatures), cutoff_frequency=cutoff / _THZ)
    found = phonon.get_thermal_properties_dict()
    kj = 1.602176634e-19 * 6.02214076e23 / 1000.0  # kJ/mol per eV
    assert math.isclose(EV_PER_WAVENUMBER * _THZ, 4.135667696e-3, rel_tol=1e-6)  # h, in eV/THz
    return {
        "heat_capacity": [float(c) for c in found["heat_capacity"]],
        "entropy": [float(s) for s in found["entropy"]],
        "free_energy": [float(f) / kj for f in found["free_energy"]],
    }
