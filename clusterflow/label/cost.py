"""How long a label takes, roughly: for planning and for choosing fragments by cost, never for a result."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from clusterflow.physics.electrons import valence_electrons


def all_electrons(atoms: Atoms) -> int:
    """Number of electrons of the neutral structure."""
    return int(atoms.numbers.sum())


def estimate_seconds(atoms: Atoms, h: float = 0.2, vacuum: float = 3.0) -> float:
    """Estimated core-seconds of one GPAW label, lcao dzp: start-up + grid points + orbitals.

    The constants come from labels on one core of a 2.5 GHz Xeon: terephthalic acid (18 atoms) and Zn4O(HCOO)6 (29)
    with 3 and 4 Å of vacuum, Zr6O4(OH)4(HCOO)12 (66), and a periodic MOF-5 cell (106). It is within 30 % of all of
    them (low for Zr6, high for the cell); beyond that size it is an extrapolation. fd and pw take several times as
    long (docs/concepts/labels.md).
    """
    if atoms.pbc.any():
        volume = float(atoms.get_volume())
    else:
        volume = float(np.prod(np.ptp(atoms.positions, axis=0) + 2.0 * vacuum))
    grid = 4.5e-5 * volume / h**3
    orbitals = 7.3 * (valence_electrons(atoms.numbers).sum() / 156.0) ** 1.9
    return float(1.5 + grid + orbitals)
