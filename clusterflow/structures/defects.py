"""Point defects of frameworks, found by their building blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.building_blocks import Blocks, find_blocks

FORMATE_CH = 1.10
"""C–H length of the formate cap in Å."""


def missing_linker(
    atoms: Atoms,
    *,
    count: int = 1,
    which: int | Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
) -> Atoms:
    """Copy without some linkers, each carboxylate they leave behind closed by H to a formate.

    The defect "ld" of Dobbelaere et al. 2025 (arXiv:2504.03881), section 4.2: conventional UiO-66 goes from 456 to 448
    atoms. Hydrogens sit along the old C–C bonds and come last, in the order of the carboxylate carbons; the other
    atoms keep their order. Velocities, labels and constraints are dropped.

    Parameters
    ----------
    count
        How many linkers to remove.
    which
        Which ones, as places among the removable linkers in the order of their lowest atom index; overrides ``count``.
    rng
        Chooses at random; without it (and without ``which``) the first linkers go.

    Raises
    ------
    StructureError
        The structure has no building blocks, or not that many linkers between two nodes.
    """
    blocks = find_blocks(atoms)
    linkers = _removable(blocks)
    chosen = _choose(atoms, len(linkers), count, which, rng)
    removed = np.isin(blocks.labels, [linkers[k] for k in chosen])

    hydrogens = []
    kept, lost = blocks.cut_atoms.T
    for bond in np.flatnonzero(removed[lost] & ~removed[kept]).tolist():
        carbon = atoms.positions[kept[bond]]
        vector = atoms.positions[lost[bond]] + blocks.cut_shifts[bond] @ atoms.cell.array - carbon
        hydrogens.append((int(kept[bond]), carbon + FORMATE_CH * vector / np.linalg.norm(vector)))
    hydrogens.sort(key=lambda h: h[0])
    positions = np.concatenate((atoms.positions[~removed], np.array([p for _, p in hydrogens]).reshape(-1, 3)))
    return Atoms(
        numbers=np.r_[atoms.numbers[~removed], np.ones(len(hydrogens), dtype=np.int64)],
        positions=positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
    )


def _removable(blocks: Blocks) -> list[int]:
    """Linkers that hold on to carboxylates by at least two bonds, by lowest atom index."""
    return [
        block
        for block, kind in enumerate(blocks.kinds)
        if kind == "linker" and not blocks.infinite[block] and len(blocks.links[block]) >= 2
    ]


def _choose(
    atoms: Atoms, available: int, count: int, which: int | Sequence[int] | None, rng: np.random.Generator | None
) -> list[int]:
    where = f"{formula(atoms)}, {len(atoms)} atoms, {available} linkers"
    if which is not None:
        chosen = [which] if isinstance(which, int) else list(which)
        if len(set(chosen)) != len(chosen) or not all(0 <= k < available for k in chosen):
            raise StructureError(
                f"There are no linkers {chosen} to remove.",
                where=where,
                todo=f"Give different places from 0 to {available - 1}.",
            )
        return chosen
    if not 0 <= count <= available:
        raise StructureError(
            f"{count} linkers cannot be removed from a structure with {available}.",
            where=where,
            todo="Remove fewer, or take a larger cell; only linkers between two carboxylates count.",
        )
    if rng is None:
        return list(range(count))
    return sorted(rng.choice(available, size=count, replace=False).tolist())
