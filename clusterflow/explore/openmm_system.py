"""A structure with any potential as an OpenMM System, for those who write their own OpenMM scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Potential
from clusterflow.errors import StructureError
from clusterflow.explore.evaluation import check_elements
from clusterflow.explore.reduced_cell import reduced_form
from clusterflow.units import ANGSTROM_IN_NM, EV_IN_KJ_PER_MOL

_FORCE = EV_IN_KJ_PER_MOL / ANGSTROM_IN_NM


@dataclass(frozen=True, slots=True)
class OpenMMSystem:
    """``system`` and ``topology`` of OpenMM; ``positions`` (n, 3) nm in OpenMM's orientation; ``rotation`` (3, 3) takes
    vectors of that orientation to the structure's: ``vectors @ rotation``."""

    system: Any
    topology: Any
    positions: FloatArray
    rotation: FloatArray


def openmm_system(atoms: Atoms, potential: Potential) -> OpenMMSystem:
    """Particles with the masses of ``atoms``, the box in OpenMM's reduced form, and the potential as a `PythonForce`.

    Add thermostats, barostats, biases and restraints as to any System. One potential serves one Context at a time.

    Raises
    ------
    StructureError
        An element that the potential does not know, or a structure that is periodic in one or two directions only.
    """
    import openmm
    from openmm import app

    check_elements(atoms, potential)
    periodic = bool(atoms.pbc.all())
    if atoms.pbc.any() and not periodic:
        raise StructureError(
            f"OpenMM knows no structure that is periodic in {int(atoms.pbc.sum())} of three directions.",
            where=atoms.get_chemical_formula(),
            todo="Make it periodic in all three (with vacuum), or in none.",
        )
    box, _, rotation = reduced_form(atoms.cell.array) if periodic else (np.zeros((3, 3)), None, np.eye(3))
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell if periodic else None, pbc=atoms.pbc)

    def compute(state: Any) -> tuple[float, FloatArray]:
        """kJ/mol and kJ/mol/nm; the box may have changed since."""
        frame.positions[:] = _plain(state.getPositions(asNumpy=True)) / ANGSTROM_IN_NM
        if periodic:
            frame.cell[:] = _plain(state.getPeriodicBoxVectors(asNumpy=True)) / ANGSTROM_IN_NM
        found = potential.predict([frame])[0]
        return found.energy * EV_IN_KJ_PER_MOL, np.asarray(found.forces, dtype=np.float64) * _FORCE

    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for number, (symbol, mass) in enumerate(zip(atoms.get_chemical_symbols(), atoms.get_masses(), strict=True)):
        system.addParticle(float(mass))
        topology.addAtom(f"{symbol}{number}", app.Element.getBySymbol(symbol), residue)
    force = openmm.PythonForce(compute)
    force.setUsesPeriodicBoundaryConditions(periodic)
    system.addForce(force)
    if periodic:
        system.setDefaultPeriodicBoxVectors(*(box * ANGSTROM_IN_NM))
        topology.setPeriodicBoxVectors(box * ANGSTROM_IN_NM)
    positions = (atoms.positions @ rotation.T) * ANGSTROM_IN_NM
    return OpenMMSystem(system, topology, positions, rotation)


def _plain(quantity: Any) -> FloatArray:
    """The array inside a quantity, in OpenMM's own units."""
    return np.asarray(quantity._value, dtype=np.float64)
