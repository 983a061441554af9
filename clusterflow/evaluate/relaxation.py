"""Relaxation of positions, with or without the cell, by ASE's filters and optimisers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError, ScienceError
from clusterflow.evaluate.calculator_potential import calculator_failed

Freedom = Literal["nothing", "positions", "shape", "cell"]
"""What may change: nothing, positions, positions and the cell's shape at constant volume, positions and the cell."""
Optimiser = Literal["lbfgs", "fire", "bfgs"]
FMAX: Final = 1e-3
"""eV/Å, Dobbelaere et al., arXiv:2504.03881 (2025), SI 9.2."""
_LARGEST_STRAIN = 0.5
"""A cell that changes more than this per axis is no relaxation of what was given."""


@dataclass(frozen=True, slots=True)
class Relaxed:
    """``atoms`` at rest, without a calculator; ``energy`` eV; ``max_force`` eV/Å, of the filter's coordinates too;
    ``stress`` (3, 3) eV/Å³, tension positive, or None; ``steps`` it took."""

    atoms: Atoms
    energy: float
    max_force: float
    stress: FloatArray | None
    steps: int


def relax(
    atoms: Atoms,
    potential: Potential,
    *,
    freedom: Freedom,
    fmax: float = FMAX,
    max_steps: int = 1000,
    optimiser: Optimiser = "lbfgs",
    log: Path | None = None,
) -> Relaxed:
    """Moves downhill until no force (and, per atom, no component of the virial that may relax) is above ``fmax`` eV/Å.

    Raises
    ------
    InputError
        A cell is to be relaxed that is not periodic in three directions, or by a potential without stress.
    ScienceError
        Not converged within ``max_steps`` (says how far it came), the structure flew apart, or the calculator failed.
    """
    from ase.filters import FrechetCellFilter

    moving = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    calculator = potential.calculator()
    if freedom in ("shape", "cell"):
        require_crystal(moving)
        if "stress" not in getattr(calculator, "implemented_properties", ("stress",)):
            raise InputError(
                f"{potential.model_id} gives no stress, so the cell cannot be relaxed.",
                todo="Relax positions only (`relax: positions`), or take a calculator with stress.",
            )
    moving.calc = calculator
    target: Any = moving
    if freedom in ("shape", "cell"):
        target = FrechetCellFilter(moving, constant_volume=freedom == "shape")
    try:
        if freedom == "nothing":
            converged, steps = True, 0
        else:
            with warnings.catch_warnings(), _optimiser(optimiser)(target, logfile=log and str(log)) as walker:
                # Fréchet filter: its matrix logarithms are good to 1e-12, and say so at every step of a large cell
                warnings.filterwarnings("ignore", message="logm result may be inaccurate")
                walker.attach(lambda: _require_sane(moving, atoms))
                converged, steps = bool(walker.run(fmax=fmax, steps=max_steps)), int(walker.nsteps)
        forces = np.asarray(target.get_forces())
        energy = float(moving.get_potential_energy())
        has_stress = moving.pbc.all() and "stress" in getattr(calculator, "implemented_properties", ())
        stress = np.asarray(moving.get_stress(voigt=False)) if has_stress else None
    except ScienceError:
        raise
    except Exception as error:  # calculators raise whatever they meet
        raise calculator_failed(atoms, potential.model_id, error) from error
    largest = float(np.sqrt((forces**2).sum(axis=1).max()))
    if not converged:
        raise ScienceError(
            f"The relaxation of {len(atoms)} atoms did not converge in {max_steps} steps: the largest force is "
            f"{1000.0 * largest:.3g} meV/Å, {1000.0 * fmax:.3g} is wanted.",
            where=str(log or ""),
            todo="Give more `max_steps:`, another `optimiser:` (lbfgs, fire, bfgs), or a larger `fmax:`.",
        )
    rest = Atoms(numbers=moving.numbers, positions=moving.positions, cell=moving.cell, pbc=moving.pbc)
    return Relaxed(rest, energy, largest, stress, steps)


def require_crystal(atoms: Atoms) -> None:
    """Raises InputError unless a structure is periodic in three directions."""
    if not atoms.pbc.all():
        raise InputError(
            f"{atoms.get_chemical_formula()} is not periodic in three directions (pbc: {atoms.pbc.tolist()}), so it "
            "has no volume.",
            todo="Take this property from the structure, or give a structure file with a cell and pbc.",
        )


def _optimiser(name: Optimiser) -> Any:
    from ase.optimize import BFGS, FIRE, LBFGS

    classes: Mapping[str, Any] = {"lbfgs": LBFGS, "fire": FIRE, "bfgs": BFGS}
    return classes[name]


def _require_sane(atoms: Atoms, start: Atoms) -> None:
    """Called after every step."""
    lengths, before = atoms.cell.lengths(), start.cell.lengths()
    strained = bool(start.pbc.all()) and float(np.abs(lengths / np.where(before > 0, before, 1.0) - 1.0).max())
    if not np.isfinite(atoms.positions).all() or strained > _LARGEST_STRAIN:
        raise ScienceError(
            f"The structure came apart while it was relaxed: cell lengths {np.round(lengths, 2).tolist()} Å, at first "
            f"{np.round(before, 2).tolist()}.",
            where=f"structure of {len(atoms)} atoms",
            todo="The potential does not hold this structure together there: look at it, or begin nearer to a minimum.",
        )
