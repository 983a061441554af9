"""How long a label takes, roughly: for planning and for choosing fragments by cost, never for a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from clusterflow.errors import InputError
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


def estimate_xtb_seconds(atoms: Atoms) -> float:
    """Estimated core-seconds of one GFN-xTB label.

    From GFN1 labels of displaced cells on one core of a 2.5 GHz Xeon: 32 water molecules (96 atoms) 1.1 s, the
    primitive cells of MOF-5 (106), ZIF-8 (138) and UiO-66 (114) 2.6, 5.2 and 5.8 s, and MOF-5 doubled (212) 13.9 s:
    within a factor of 1.6 of all. A finite molecule (hexadecane, 0.09 s) takes about half.
    """
    seconds = 4.0 * float((valence_electrons(atoms.numbers).sum() / 470.0) ** 2)
    return seconds if atoms.pbc.any() else 0.5 * seconds


@dataclass(frozen=True, slots=True)
class CostModel:
    """Core-seconds of a label: ``seconds = prefactor · electrons ** exponent``, with electrons the valence electrons.

    ``scatter``: standard deviation of ln(seconds) around it; ``n`` labels it was fitted to (0: the prior alone, good
    for comparing fragments with each other and for nothing else).
    """

    prefactor: float
    exponent: float
    scatter: float
    n: int

    def seconds(self, atoms: Atoms) -> float:
        """Core-seconds of one label of these atoms."""
        return float(self.prefactor * valence_electrons(atoms.numbers).sum() ** self.exponent)


def fit_cost(electrons: Sequence[float], seconds: Sequence[float]) -> CostModel:
    """A cost model from labels that were computed: their valence electrons, and the core-seconds that each took.

    Bayesian linear regression of the logarithms: the exponent starts from 2.2 ± 0.4 (between orbital transformations,
    which grow quadratically, and diagonalisation, cubically; 2.0 to 2.7 were seen for GPAW LCAO and xTB), the prefactor
    is left to the data, and labels scatter by a factor of 1.4 (SCF steps, other work on the machine).

    Raises
    ------
    InputError
        Lengths that differ, or numbers that are not positive.
    """
    n = np.asarray(electrons, dtype=np.float64)
    t = np.asarray(seconds, dtype=np.float64)
    if n.shape != t.shape or not (n > 0).all() or not (t > 0).all():
        raise InputError("A cost model needs one positive number of electrons and of seconds per label.")
    exponent, spread, wide, noise = 2.2, 0.4, 5.0, 0.35
    reference = float(np.log(n).mean()) if len(n) else float(np.log(156.0))
    x = np.column_stack((np.ones(len(n)), np.log(n) - reference))
    centre = np.array([np.log(7.3), exponent])
    precision = np.diag([1.0 / wide**2, 1.0 / spread**2])
    level, slope = np.linalg.solve(precision + x.T @ x / noise**2, precision @ centre + x.T @ np.log(t) / noise**2)
    residual = np.log(t) - x @ np.array([level, slope])
    return CostModel(
        prefactor=float(np.exp(level - slope * reference)),
        exponent=float(slope),
        scatter=float(np.sqrt((residual**2).mean())) if len(n) > 2 else noise,
        n=len(n),
    )
