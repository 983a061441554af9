"""Metal substitution: single atoms or all metals of whole nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.physics.elements import is_metal
from clusterflow.structures.choice import choose, share


def substitute(
    atoms: Atoms,
    element: str,
    by: str,
    *,
    fraction: float | None = None,
    count: int | None = None,
    which: Sequence[int] | None = None,
    whole_nodes: bool = False,
    rng: np.random.Generator | None = None,
) -> Atoms:
    """Copy in which some atoms of one metal are another metal, at the same positions.

    The substitution of Dobbelaere et al. 2025 (arXiv:2504.03881), section 4.2 (one Hf in UiO-66) and 4.3 (20 % of all
    metal atoms, one by one). Give exactly one of ``fraction``, ``count`` and ``which``. Velocities, labels and
    constraints are dropped. Nothing checks that both metals have the same charge.

    Parameters
    ----------
    fraction, count
        How many of the atoms of ``element``; with ``whole_nodes``, of the nodes that hold any.
    which
        Which ones, as places among these atoms (by index) or nodes (by lowest index).
    whole_nodes
        Replaces all atoms of ``element`` in the chosen nodes instead of single atoms.
    rng
        Chooses at random; without it the first ones are replaced.

    Raises
    ------
    StructureError
        ``element`` is not in the structure, one of the two is not a metal, or there are not that many.
    """
    where = f"{formula(atoms)}, {len(atoms)} atoms"
    old, new = _metal(element, where), _metal(by, where)
    sites = np.flatnonzero(atoms.numbers == old)
    if len(sites) == 0:
        present = sorted({str(s) for s, z in zip(atoms.symbols, atoms.numbers, strict=True) if is_metal(np.array([z]))})
        raise StructureError(
            f"There is no {element} in the structure.",
            where=where,
            todo=f"Its metals are: {', '.join(present) or 'none'}.",
        )
    if old == new:
        raise StructureError(f"{element} cannot replace itself.", where=where, todo="Name another metal.")
    if sum(value is not None for value in (fraction, count, which)) != 1:
        raise StructureError(
            "How much to replace must be said once: as a fraction, a count or a list of places.",
            where=where,
            todo="Give one of them.",
        )
    groups = [np.array([site]) for site in sites]
    what = f"{element} atoms"
    if whole_nodes:
        labels = find_blocks(atoms).labels[sites]
        groups = [sites[labels == block] for block in np.unique(labels)]
        what = f"nodes with {element}"
    number = share(fraction, len(groups), what=what, where=where) if fraction is not None else count or 0
    chosen = choose(len(groups), count=number, which=which, rng=rng, what=what, where=where)
    numbers = atoms.numbers.copy()
    for k in chosen.tolist():
        numbers[groups[k]] = new
    return Atoms(numbers=numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _metal(symbol: str, where: str) -> int:
    number = atomic_numbers.get(symbol, 0)
    if number == 0:
        raise StructureError(f"'{symbol}' is no element.", where=where, todo="Give a symbol such as Zr or Hf.")
    if not is_metal(np.array([number]))[0]:
        raise StructureError(
            f"{symbol} is not a metal; substitution is for the metals of nodes.",
            where=where,
            todo="Name two metals, such as Zr and Hf.",
        )
    return int(number)
