"""Harmonic heat capacity, zero-point energy, entropy and free energy from a Hessian at a minimum.

Gönner, Reuter & Margraf, J. Chem. Theory Comput. 21, 4742 (2025), doi:10.1021/acs.jctc.4c01790: relax, Hessian (exact
where the potential has second derivatives, else by central differences), mass weighting, C_V of eq. 13; imaginary modes
are excluded and counted. Supercells cost the rows of one cell only (`clusterflow.physics.vibrations`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Potential
from clusterflow.errors import ScienceError
from clusterflow.evaluate.calculator_potential import as_potential, require_elements
from clusterflow.evaluate.property_result import Curve, PropertyResult, Quantity
from clusterflow.evaluate.relaxation import FMAX, Freedom, Optimiser, relax
from clusterflow.physics.hessian import STEP, potential_rows
from clusterflow.physics.vibrations import (
    GAS_CONSTANT,
    Modes,
    entropy,
    fit_scaling,
    free_energy,
    harmonic_modes,
    heat_capacity,
    require_repeatable,
    zero_point_energy,
)

Repeat = tuple[int, int, int]
LOWEST = 1.0
"""cm⁻¹. Modes below (imaginary ones among them) are left out: 1 cm⁻¹ is 0.12 meV, below what relaxed forces resolve."""
_MANY_IMAGINARY = 0.02
"""Share of imaginary modes above which a note says so: that of the DFT references of Gönner 2025."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The modes of ``repeat`` cells computed in ``precision``."""

    repeat: Repeat
    precision: str
    modes: Modes


@dataclass(frozen=True, slots=True)
class Reference:
    """A known c_V to fit the scaling factor to: ``value`` J/(g K) of ``atoms`` (one cell) with its ``modes``."""

    atoms: Atoms
    modes: Modes
    temperature: float
    value: float


def hessian_rows(
    atoms: Atoms, potential: Potential, indices: Sequence[int], repeat: Repeat = (1, 1, 1), *, step: float = STEP
) -> FloatArray:
    """(k, 3, n·cells, 3) eV/Å²: rows of some atoms of the first cell in the supercell; independent pieces of work."""
    require_repeatable(atoms, repeat)
    supercell: Atoms = atoms.repeat(repeat)
    return potential_rows(potential, supercell, indices, step=step)


def row_blocks(n_atoms: int, size: int) -> list[tuple[int, int]]:
    """Ranges [first, last) of at most ``size`` atoms."""
    return [(i, min(i + size, n_atoms)) for i in range(0, n_atoms, size)]


def real_modes(modes: Modes, lowest: float = LOWEST) -> FloatArray:
    """Wavenumbers that count: not imaginary, and not below ``lowest`` cm⁻¹."""
    return np.asarray(modes.wavenumbers[modes.wavenumbers >= lowest])


def fitted_scaling(references: Sequence[Reference], lowest: float = LOWEST) -> float:
    """One scaling factor of the frequencies for all references; raises ScienceError where none fits."""
    known = [
        (
            real_modes(r.modes, lowest),
            r.temperature,
            r.value * r.modes.cells * float(r.atoms.get_masses().sum()) / GAS_CONSTANT,
        )
        for r in references
    ]
    return fit_scaling(known)


def heat_capacity_result(
    atoms: Atoms,
    cells: Sequence[Cell],
    *,
    temperature: float = 300.0,
    temperatures: Sequence[float] = (),
    lowest: float = LOWEST,
    scaling: float = 1.0,
    references: Sequence[Reference] = (),
) -> PropertyResult:
    """C_V and its kin of one structure. The largest cell of the first precision gives the result; the others say how
    far it is converged. ``temperature`` K is that of the quantities, ``temperatures`` K those of the curves.

    Raises
    ------
    ScienceError
        No real mode at all, or no scaling factor that fits the references.
    """
    precision = cells[0].precision
    ours = sorted((c for c in cells if c.precision == precision), key=lambda c: math.prod(c.repeat))
    best = ours[-1]
    if references:
        scaling = fitted_scaling(references, lowest)
    used = real_modes(best.modes, lowest)
    if not used.size:
        raise ScienceError(
            f"{atoms.get_chemical_formula()} has no mode above {lowest:g} cm⁻¹.",
            todo="A single atom has none; otherwise look at the relaxed structure and at the potential.",
        )
    at, periodic = np.array([temperature]), bool(atoms.pbc.any())
    capacity, step, error = _capacity(ours, at, lowest, scaling, periodic=periodic)
    other = [c for c in cells if c.precision != precision and c.repeat == best.repeat]
    per_gram, room = GAS_CONSTANT / float(atoms.get_masses().sum()), f"at {temperature:g} K"
    quantities = {
        "c_V": Quantity(capacity * per_gram, "J/(g K)", _times(error, per_gram), f"specific heat {room}"),
        "C_V per cell": Quantity(
            capacity * GAS_CONSTANT, "J/(mol K)", _times(error, GAS_CONSTANT), f"of a cell {room}"
        ),
        "C_V per atom": Quantity(
            capacity / len(atoms), "k_B", _times(error, 1.0 / len(atoms)), "3 is the Dulong–Petit limit"
        ),
        **_harmonic(used * scaling, best.modes.cells, temperature),
        **_of_modes(best, lowest),
        "scaling factor": Quantity(scaling, "", None, "fitted to the references" if references else "given"),
    }
    if scaling != 1.0:
        plain = _per_cell(best, at, lowest, 1.0) * per_gram
        quantities["c_V, not scaled"] = Quantity(plain, "J/(g K)", None, room)
    for c in other:
        difference = (_per_cell(c, at, lowest, scaling) - capacity) * per_gram
        quantities[f"c_V, {c.precision} − {precision}"] = Quantity(difference, "J/(g K)", None, room)
    return PropertyResult(
        kind="heat_capacity",
        quantities=quantities,
        curves=_curves(atoms, ours, temperature, temperatures, lowest, scaling),
        notes=tuple(
            _notes(ours, other, lowest, step=step / capacity if capacity else 0.0, factor=scaling, periodic=periodic)
        ),
    )


def _capacity(
    ours: Sequence[Cell], at: FloatArray, lowest: float, scaling: float, *, periodic: bool
) -> tuple[float, float, float | None]:
    """C_V of one cell in k_B from the largest, what the last enlargement changed, and the error (None: unknown)."""
    best = ours[-1]
    value = _per_cell(best, at, lowest, scaling)
    # What is left out would add k_B each at most, and so would the translations, which are vibrations of the infinite
    # crystal; what else a larger cell would add is unknown, the last step says how much.
    missing = (_excluded(best, lowest) + (best.modes.rigid if periodic else 0)) / best.modes.cells
    step = abs(value - _per_cell(ours[-2], at, lowest, scaling)) if len(ours) > 1 else 0.0
    error = max(missing, step)
    return value, step, error if error > 0.0 or len(ours) > 1 else None


def _harmonic(quanta: FloatArray, cells: int, temperature: float) -> dict[str, Quantity]:
    """Energies and entropy of one cell from the wavenumbers of so many cells."""
    at, room = np.array([temperature]), f"at {temperature:g} K"
    free, disorder = float(free_energy(quanta, at)[0]) / cells, float(entropy(quanta, at)[0]) / cells
    return {
        "zero-point energy": Quantity(zero_point_energy(quanta) / cells, "eV", None, "of a cell"),
        "free energy": Quantity(free, "eV", None, f"harmonic, of a cell {room}, zero-point energy included"),
        "entropy": Quantity(disorder * GAS_CONSTANT, "J/(mol K)", None, f"harmonic, of a cell {room}"),
    }


def _of_modes(best: Cell, lowest: float) -> dict[str, Quantity]:
    """What the modes are, and what their Hessian was worth."""
    modes = best.modes
    left_out = f"below {lowest:g} cm⁻¹, imaginary ones among them"
    return {
        "modes": Quantity(
            float(modes.wavenumbers.size), "", None, f"of {modes.cells} cells, rigid motions not counted"
        ),
        "imaginary modes": Quantity(float(_imaginary(best)), "", None, "excluded"),
        "modes excluded": Quantity(float(_excluded(best, lowest)), "", None, left_out),
        "lowest mode": Quantity(float(modes.wavenumbers[0]), "cm⁻¹", None, "negative: imaginary"),
        "highest mode": Quantity(float(modes.wavenumbers[-1]), "cm⁻¹", None, "before scaling"),
        "acoustic residual": Quantity(modes.acoustic_residual, "eV/Å²", None, "0 for an exact Hessian"),
        "asymmetry": Quantity(modes.asymmetry, "eV/Å²", None, "0 for an exact Hessian"),
    }


def _imaginary(cell: Cell) -> int:
    return int((cell.modes.wavenumbers < 0.0).sum())


def _excluded(cell: Cell, lowest: float) -> int:
    return int(cell.modes.wavenumbers.size - real_modes(cell.modes, lowest).size)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _per_cell(cell: Cell, at: FloatArray, lowest: float, scaling: float) -> float:
    """C_V of one cell in k_B."""
    return float(heat_capacity(real_modes(cell.modes, lowest) * scaling, at)[0]) / cell.modes.cells


def _curves(
    atoms: Atoms, ours: Sequence[Cell], temperature: float, temperatures: Sequence[float], lowest: float, scaling: float
) -> dict[str, Curve]:
    best, at = ours[-1], np.array([temperature])
    mass, n = float(atoms.get_masses().sum()), best.modes.cells
    curves = {"modes": Curve({"wavenumber [cm⁻¹]": tuple(best.modes.wavenumbers.tolist())})}
    if len(temperatures):
        t = np.asarray(temperatures, dtype=np.float64)
        quanta = real_modes(best.modes, lowest) * scaling
        capacity = heat_capacity(quanta, t) / n
        curves["temperature"] = Curve(
            {
                "temperature [K]": tuple(t.tolist()),
                "c_V [J/(g K)]": tuple((capacity * GAS_CONSTANT / mass).tolist()),
                "C_V per cell [J/(mol K)]": tuple((capacity * GAS_CONSTANT).tolist()),
                "C_V per atom [k_B]": tuple((capacity / len(atoms)).tolist()),
                "free energy per cell [eV]": tuple((free_energy(quanta, t) / n).tolist()),
                "entropy per cell [J/(mol K)]": tuple((entropy(quanta, t) * GAS_CONSTANT / n).tolist()),
            }
        )
    if len(ours) > 1:
        per_gram = GAS_CONSTANT / mass
        curves["supercells"] = Curve(
            {
                "atoms": tuple(float(len(atoms) * c.modes.cells) for c in ours),
                "c_V [J/(g K)]": tuple(_per_cell(c, at, lowest, scaling) * per_gram for c in ours),
                "modes excluded": tuple(
                    float(c.modes.wavenumbers.size - real_modes(c.modes, lowest).size) for c in ours
                ),
            }
        )
    return curves


def _notes(
    ours: Sequence[Cell], other: Sequence[Cell], lowest: float, *, step: float, factor: float, periodic: bool
) -> list[str]:
    notes, best = [], ours[-1]
    total, imaginary, excluded = best.modes.wavenumbers.size, _imaginary(best), _excluded(best, lowest)
    if imaginary:
        often = " More than is usual" if imaginary > _MANY_IMAGINARY * total else " A few are usual"
        notes.append(
            f"{imaginary} of {total} modes are imaginary (the worst {-best.modes.wavenumbers[0]:.3g}i cm⁻¹) and "
            f"excluded: the structure is no minimum.{often}; relax more tightly, with `rattle:`, or in a larger cell."
        )
    if excluded > imaginary:
        notes.append(f"{excluded - imaginary} real modes below the limit are excluded too; each holds up to k_B.")
    if factor != 1.0:
        notes.append(f"All frequencies are multiplied by {factor:.4g}.")
    if len(ours) == 1 and periodic:
        what = "One cell" if best.repeat == (1, 1, 1) else f"One supercell, {'×'.join(map(str, best.repeat))},"
        notes.append(
            f"{what} only: finite size was not tested. ± of C_V holds {best.modes.rigid} k_B/{best.modes.cells} per "
            "cell for the rigid translations and what was excluded, no more; give two or more `repeats:` to see."
        )
    elif step > 0.01:
        notes.append(f"Not converged with the cell: the last enlargement changed C_V by {100 * step:.2g} %.")
    for c in other:
        count = _imaginary(c)
        if count != imaginary:
            notes.append(f"In {c.precision} {count} modes are imaginary, in {best.precision} {imaginary}.")
    return notes


def compute(
    atoms: Atoms,
    potential: Any,
    *,
    freedom: Freedom | None = None,
    fmax: float = FMAX,
    max_steps: int = 1000,
    optimiser: Optimiser = "lbfgs",
    repeats: Sequence[Repeat] = ((1, 1, 1),),
    displacement: float = STEP,
    temperature: float = 300.0,
    temperatures: Sequence[float] = (),
    lowest: float = LOWEST,
    scaling: float = 1.0,
    references: Sequence[tuple[float, float]] = (),
    log: Path | None = None,
) -> PropertyResult:
    """Heat capacity of a structure with any `Potential` or ASE calculator, in this process.

    ``freedom``: default positions and cell for a crystal, positions for the rest. ``references``: (K, J/(g K)).

    Raises
    ------
    InputError
        An element that the potential does not know, or repeats along a direction that is not periodic.
    ScienceError
        As `relax` and `heat_capacity_result`.
    """
    potential = as_potential(potential)
    require_elements(atoms, potential)
    for repeat in repeats:
        require_repeatable(atoms, repeat)
    rest = relax(
        atoms,
        potential,
        freedom=freedom or default_freedom(atoms),
        fmax=fmax,
        max_steps=max_steps,
        optimiser=optimiser,
        log=log,
    ).atoms
    cells = []
    for repeat in repeats:
        rows = hessian_rows(rest, potential, range(len(rest)), repeat, step=displacement)
        cells.append(Cell(repeat, "float64", harmonic_modes(rest, rows, repeat)))
    largest = max(cells, key=lambda c: math.prod(c.repeat)).modes
    return heat_capacity_result(
        rest,
        cells,
        temperature=temperature,
        temperatures=temperatures,
        lowest=lowest,
        scaling=scaling,
        references=[Reference(rest, largest, t, value) for t, value in references],
    )


def default_freedom(atoms: Atoms) -> Freedom:
    """Positions and cell where there is a crystal, positions elsewhere."""
    return "cell" if atoms.pbc.all() else "positions"


def curve_temperatures(low: float, high: float, points: int) -> tuple[float, ...]:
    """Equally spaced temperatures in K."""
    return tuple(float(t) for t in np.linspace(low, high, points))
