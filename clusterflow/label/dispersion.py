"""Grimme's D3 dispersion with Becke–Johnson damping, added to a functional that lacks it.

Two-body D3(BJ): S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011), doi:10.1002/jcc.21759, by the
library simple-dftd3. The three-body (Axilrod–Teller–Muto) term is off, as in that paper.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.units import Bohr, Hartree

from clusterflow.core.data import Prediction
from clusterflow.errors import InputError, LabelError

PARAMETERS = {
    "PBE": "pbe",
    "RPBE": "rpbe",
    "revPBE": "revpbe",
    "PBEsol": "pbesol",
    "BLYP": "blyp",
    "TPSS": "tpss",
    "SCAN": "scan",
    "PBE0": "pbe0",
    "B3LYP": "b3lyp",
}
"""Functional (GPAW's spelling) → name of its D3(BJ) parameters."""

_HEAVIEST = 94  # Pu, the end of Grimme's table


def d3bj_parameters(xc: str) -> str:
    """Name of the D3(BJ) parameters of a functional.

    Raises
    ------
    InputError
        There are none for it here.
    """
    if xc not in PARAMETERS:
        raise InputError(
            f"There are no D3(BJ) parameters for the functional '{xc}' here.",
            todo=f"Use one of {', '.join(PARAMETERS)}, or `dispersion: none`.",
        )
    return PARAMETERS[xc]


def d3bj(atoms: Atoms, xc: str = "PBE") -> Prediction:
    """D3(BJ) energy (eV), forces (n, 3) (eV/Å) and, for a 3-d periodic structure, stress (3, 3) (eV/Å³).

    Raises
    ------
    InputError
        No parameters for this functional.
    LabelError
        An element beyond plutonium, or a structure that the library cannot treat.
    """
    from dftd3.interface import DispersionModel, RationalDampingParam

    method = d3bj_parameters(xc)
    beyond = sorted({int(z) for z in atoms.numbers if not 0 < z <= _HEAVIEST})
    if beyond:  # the library itself would crash the process
        raise LabelError(
            f"D3 has no coefficients for atomic number {', '.join(map(str, beyond))}.",
            todo="`dispersion: none` leaves the term out.",
        )
    periodic = bool(atoms.pbc.any())
    lattice = np.asarray(atoms.cell.array) / Bohr if periodic else None
    pbc = np.asarray(atoms.pbc) if periodic else None
    try:
        model = DispersionModel(atoms.numbers, atoms.get_positions() / Bohr, lattice, pbc)
        result = model.get_dispersion(RationalDampingParam(method=method), grad=True)
    except (RuntimeError, ValueError) as error:
        raise LabelError(
            f"D3(BJ) failed for {atoms.get_chemical_formula()}: {error}",
            todo="Look for overlapping atoms; `dispersion: none` leaves the term out.",
        ) from error
    stress = None
    if atoms.pbc.all():
        stress = np.asarray(result["virial"]) * Hartree / atoms.get_volume()
    return Prediction(
        energy=float(result["energy"]) * Hartree,
        forces=-np.asarray(result["gradient"]) * Hartree / Bohr,
        stress=stress,
    )


def add_d3bj(atoms: Atoms, prediction: Prediction, xc: str = "PBE") -> Prediction:
    """``prediction`` plus D3(BJ); the stress is None where it was None."""
    extra = d3bj(atoms, xc)
    stress = None
    if prediction.stress is not None and extra.stress is not None:
        stress = prediction.stress + extra.stress
    return Prediction(prediction.energy + extra.energy, prediction.forces + extra.forces, stress)
