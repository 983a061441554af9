"""Any ASE calculator as a `Potential`, so that a property needs to know one kind of thing only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from clusterflow.core.data import Prediction
from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError, ScienceError


@dataclass(frozen=True)
class CalculatorPotential:
    """``make`` builds a new calculator; ``model_id`` names it with its settings. ASE cannot say which elements a
    calculator knows nor how far it sees: all, and infinitely far, until it fails."""

    make: Callable[[], Any]
    model_id: str
    elements: tuple[str, ...] = tuple(chemical_symbols[1:])
    cutoff: float = math.inf
    reach: float = math.inf

    def calculator(self) -> Any:
        """A calculator for ASE."""
        return self.make()

    def predict(self, frames: Sequence[Atoms]) -> list[Prediction]:
        """Energy, forces and, where the calculator has it and the frame is periodic in three directions, stress.

        Raises
        ------
        ScienceError
            The calculator failed; says how.
        """
        calculator = self.make()
        return [_predicted(a, calculator, self.model_id) for a in frames]


def _predicted(atoms: Atoms, calculator: Any, name: str) -> Prediction:
    copy = atoms.copy()
    copy.calc = calculator
    try:
        energy = float(copy.get_potential_energy())
        forces = np.asarray(copy.get_forces(apply_constraint=False), dtype=np.float64)
        has_stress = copy.pbc.all() and "stress" in getattr(calculator, "implemented_properties", ())
        stress = np.asarray(copy.get_stress(voigt=False)) if has_stress else None
    except Exception as error:  # calculators raise whatever they meet
        raise calculator_failed(atoms, name, error) from error
    return Prediction(energy, forces, stress)


def calculator_failed(atoms: Atoms, name: str, error: Exception) -> ScienceError:
    """The error of ours for whatever a calculator raised."""
    return ScienceError(
        f"{name} failed for {atoms.get_chemical_formula()}: {type(error).__name__}: {error}",
        where=f"structure of {len(atoms)} atoms",
        todo="Check that it knows these elements and this kind of boundary.",
    )


def as_potential(given: Any) -> Potential:
    """A `Potential` as it is, an ASE calculator wrapped.

    Raises
    ------
    InputError
        It is neither.
    """
    if isinstance(given, Potential):
        return given
    if hasattr(given, "get_potential_energy") and hasattr(given, "get_forces"):
        return CalculatorPotential(lambda: given, f"{type(given).__module__}:{type(given).__name__}")
    raise InputError(
        f"A {type(given).__name__} is neither a potential nor an ASE calculator.",
        todo="Give NequIPPotential.load(folder), or a calculator such as ase.calculators.emt.EMT().",
    )


def require_elements(atoms: Atoms, potential: Potential, where: str = "") -> None:
    """Raises InputError for elements that the potential does not know."""
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(potential.elements))
    if unknown:
        raise InputError(
            f"The potential does not know {', '.join(unknown)}; it knows {', '.join(potential.elements)}.",
            where=where or f"structure {atoms.get_chemical_formula()}",
            todo="Take another structure, or a potential that was trained on these elements.",
        )
