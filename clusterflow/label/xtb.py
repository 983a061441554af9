"""GFN1-xTB and GFN2-xTB labels, by tblite: seconds for a periodic cell of 100–200 atoms.

GFN1-xTB: S. Grimme, C. Bannwarth, P. Shushkov, JCTC 13, 1989 (2017), doi:10.1021/acs.jctc.7b00118. GFN2-xTB:
C. Bannwarth, S. Ehlert, S. Grimme, JCTC 15, 1652 (2019), doi:10.1021/acs.jctc.8b01176. Both carry their own
dispersion, so D3 is never added.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from clusterflow.core.data import Label, Prediction
from clusterflow.errors import InputError, LabelError
from clusterflow.label.checks import check_electrons, check_label, check_structure

METHODS = ("GFN1-xTB", "GFN2-xTB")
_HEAVIEST = 86  # Rn: the end of both parametrisations


@dataclass(frozen=True)
class XTBReference:
    """Semi-empirical tight binding as a `Reference`; finite and periodic, charged and open-shell.

    ``accuracy`` is tblite's numerical accuracy (1 = its default, smaller = tighter), ``electronic_temperature_K`` the
    temperature of the Fermi smearing that belongs to the methods (300 K), ``max_iterations`` the SCF steps allowed,
    ``max_force`` (eV/Å) the plausibility limit of `check_label`.
    """

    method: str = "GFN1-xTB"
    accuracy: float = 0.1
    electronic_temperature_K: float = 300.0
    max_iterations: int = 250
    max_force: float = 50.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"'{self.method}' is not an xTB method.", todo=f"Use one of {', '.join(METHODS)}.")
        if self.accuracy <= 0 or self.electronic_temperature_K < 0 or self.max_iterations < 1:
            raise InputError(
                f"xTB needs accuracy > 0, temperature ≥ 0 K and ≥ 1 iteration, not {self.accuracy:g}, "
                f"{self.electronic_temperature_K:g} K, {self.max_iterations}."
            )

    @property
    def level_of_theory(self) -> str:
        """Method, accuracy, electronic temperature and tblite's major.minor version."""
        from importlib.metadata import version

        tblite = ".".join(version("tblite").split(".")[:2])
        return f"{self.method} accuracy={self.accuracy:g} T_el={self.electronic_temperature_K:g}K (tblite {tblite})"

    def check_elements(self, symbols: Iterable[str]) -> None:
        """Raises `InputError` naming the elements that the parametrisation lacks."""
        from ase.data import atomic_numbers

        missing = sorted({s for s in symbols if not 0 < atomic_numbers.get(s, 0) <= _HEAVIEST})
        if missing:
            raise InputError(
                f"{self.method} has no parameters for {', '.join(missing)}.",
                todo="It covers H to Rn; use another level.",
            )

    def label(self, atoms: Atoms, *, charge: int = 0, spin: int = 0, workdir: Path | None = None) -> Label:
        """Energy, forces and, for a 3-d periodic structure, stress. Writes nothing.

        Raises
        ------
        LabelError
            Not converged, implausible, or tblite refuses the structure.
        InputError
            An element beyond Rn.
        """
        from ase.calculators.calculator import CalculationFailed, CalculatorSetupError
        from ase.calculators.calculator import InputError as CalculatorInputError
        from tblite.ase import TBLite

        self.check_elements(set(atoms.get_chemical_symbols()))
        where = str(workdir or "")
        check_structure(atoms, where=where)
        check_electrons(atoms, charge, spin, where=where)
        start = time.monotonic()
        copy = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        copy.calc = TBLite(
            method=self.method,
            charge=charge,
            multiplicity=spin + 1,
            accuracy=self.accuracy,
            electronic_temperature=self.electronic_temperature_K,
            max_iterations=self.max_iterations,
            verbosity=0,
        )
        try:
            stress = copy.get_stress(voigt=False) if copy.pbc.all() else None
            prediction = Prediction(float(copy.get_potential_energy()), np.asarray(copy.get_forces()), stress)
        except (RuntimeError, ValueError, CalculationFailed, CalculatorSetupError, CalculatorInputError) as error:
            raise LabelError(
                f"{self.method} failed for {atoms.get_chemical_formula()} with charge {charge:+d} and {spin} unpaired "
                f"electrons: {error}",
                where=where,
                todo="Check charge and spin, and look for overlapping atoms.",
            ) from error
        check_label(atoms, prediction, max_force=self.max_force, where=where)
        return Label(
            prediction=prediction,
            level_of_theory=self.level_of_theory,
            charge=charge,
            spin=spin,
            scf_steps=0,  # tblite does not report them
            wall_time=time.monotonic() - start,
        )
