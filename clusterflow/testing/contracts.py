"""Conformance suites, one per extension point: what every implementation of a Protocol must do.

Each function takes an implementation and raises AssertionError with a sentence. Prefix = Protocol.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from clusterflow.core.data import Label
from clusterflow.core.protocols import Reference
from clusterflow.errors import ClusterflowError


def check_reference_level(reference: Reference) -> None:
    """The level of theory is one readable, stable line."""
    level = reference.level_of_theory
    assert level, "level_of_theory is empty"
    assert level.isprintable(), f"level_of_theory is not one printable line: {level!r}"
    assert level == reference.level_of_theory, "level_of_theory changes between two readings"


def check_reference_label(
    reference: Reference, atoms: Atoms, workdir: Path, *, charge: int = 0, spin: int = 0, reproducible: float = 1e-6
) -> Label:
    """A label is complete, at the stated level, for the structure as given, and the same when asked for again.

    ``reproducible`` is the largest difference allowed between two labels of the same structure (eV, eV/Å).
    """
    before = atoms.copy()
    label = reference.label(atoms, charge=charge, spin=spin, workdir=workdir / "first")
    assert atoms == before, "the structure was changed"
    assert atoms.calc is None, "a calculator was left on the structure"
    assert label.level_of_theory == reference.level_of_theory
    assert (label.charge, label.spin) == (charge, spin)
    assert np.isfinite(label.prediction.energy)
    assert label.prediction.forces.shape == (len(atoms), 3)
    assert np.isfinite(label.prediction.forces).all()
    assert label.prediction.stress is None or label.prediction.stress.shape == (3, 3)
    assert label.prediction.stress is None or atoms.pbc.all(), "a stress without a cell"
    assert label.wall_time >= 0
    assert label.cores >= 1
    again = reference.label(atoms, charge=charge, spin=spin, workdir=workdir / "again")
    assert abs(again.prediction.energy - label.prediction.energy) <= reproducible, "the energy is not reproducible"
    difference = np.abs(again.prediction.forces - label.prediction.forces).max()
    assert difference <= reproducible, f"the forces differ by {difference} eV/Å between two labels"
    return label


def check_reference_forces(
    reference: Reference, atoms: Atoms, workdir: Path, *, atom: int, step: float, tolerance: float
) -> float:
    """Force = −dE/dx along three directions for one atom, by central differences of ``step`` Å; returns the largest
    difference in eV/Å, which must not exceed ``tolerance``."""
    forces = reference.label(atoms, charge=0, spin=0, workdir=workdir / "forces").prediction.forces
    worst = 0.0
    for axis in range(3):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            folder = workdir / f"forces-{axis}-{'plus' if sign > 0 else 'minus'}"
            energies.append(reference.label(moved, charge=0, spin=0, workdir=folder).prediction.energy)
        slope = -(energies[0] - energies[1]) / (2 * step)
        worst = max(worst, abs(slope - float(forces[atom, axis])))
    assert worst <= tolerance, f"forces differ from −dE/dx by {worst:.2e} eV/Å, more than {tolerance:.0e}"
    return worst


def check_reference_relabelling(reference: Reference, atoms: Atoms, workdir: Path, *, tolerance: float = 1e-5) -> None:
    """Another order of the atoms gives the same energy and the same forces in that order."""
    order = np.arange(len(atoms))[::-1]
    one = reference.label(atoms, charge=0, spin=0, workdir=workdir / "order").prediction
    two = reference.label(atoms[order], charge=0, spin=0, workdir=workdir / "reversed").prediction
    assert abs(one.energy - two.energy) <= tolerance, "the energy depends on the order of the atoms"
    assert np.abs(one.forces[order] - two.forces).max() <= tolerance, "the forces do not follow the order of the atoms"


def check_reference_refuses_nonsense(reference: Reference, atoms: Atoms, workdir: Path) -> None:
    """Positions that are not finite, atoms on top of one another and no atoms at all are refused with one of our
    errors, not answered."""
    nan = atoms.copy()
    nan.positions[0, 0] = np.nan
    overlap = atoms.copy()
    overlap.positions[1] = overlap.positions[0]
    for what, structure in (("NaN", nan), ("overlap", overlap), ("no atoms", atoms[:0])):
        refused = False
        try:
            reference.label(structure, charge=0, spin=0, workdir=workdir / "nonsense")
        except ClusterflowError:
            refused = True
        assert refused, f"a label was given for a structure with {what}"
