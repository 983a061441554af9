"""Lengths of the bonds to terminating hydrogens, relaxed at the current level of theory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Fragment
from clusterflow.errors import ExtractionError
from clusterflow.extract.termination import cap_kind
from clusterflow.physics.bonds import bond_graph

_STIFFNESS = 30.0
"""eV/Å² of an X–H stretch: the first guess of the secant steps."""
_LONGEST_STEP = 0.05


def relax_caps(
    fragment: Fragment, forces: Callable[[Atoms], FloatArray], *, tolerance: float = 0.01, max_steps: int = 12
) -> dict[str, float]:
    """X–H lengths in Å per kind of cap, at which no cap is pulled along its bond; all other coordinates stay.

    Each terminating hydrogen moves along the line of its bond until the component of its force there is below
    ``tolerance`` (eV/Å), all at once by secant steps; the length of a kind is the mean over its caps. ``forces`` gives
    (n, 3) eV/Å at the level of theory, for the charge and spin of the fragment. Give the result to later extractions as
    ``Caps(lengths=...)``.

    Raises
    ------
    ExtractionError
        The fragment has no terminating hydrogen, or the lengths do not settle in ``max_steps`` evaluations.
    """
    atoms: Atoms = fragment.atoms.copy()
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    graph = bond_graph(atoms)
    bonded = {int(h): int(graph.neighbours(int(h))[0]) for h in np.flatnonzero((fragment.parent < 0) & (numbers == 1))}
    caps = {h: x for h, x in bonded.items() if fragment.parent[x] >= 0}
    if not caps:
        raise ExtractionError("The fragment has no terminating hydrogen.", todo="Relax caps on a fragment with cuts.")
    hydrogens, holders = np.array(list(caps)), np.array(list(caps.values()))
    vectors = atoms.positions[hydrogens] - atoms.positions[holders]
    lengths: FloatArray = np.linalg.norm(vectors, axis=1)
    axes = vectors / lengths[:, None]
    stiffness = np.full(len(lengths), _STIFFNESS)
    pull_before = step = np.zeros(len(lengths))
    for evaluation in range(max_steps):
        atoms.positions[hydrogens] = atoms.positions[holders] + lengths[:, None] * axes
        pull = (forces(atoms)[hydrogens] * axes).sum(axis=1)
        if np.abs(pull).max() < tolerance:
            break
        if evaluation:
            moved = np.abs(step) > 1e-6
            secant = np.divide(pull_before - pull, step, out=stiffness.copy(), where=moved)
            stiffness = np.where((secant > 5.0) & (secant < 200.0), secant, stiffness)
        step = np.clip(pull / stiffness, -_LONGEST_STEP, _LONGEST_STEP)
        lengths = lengths + step
        pull_before = pull
    else:
        raise ExtractionError(
            f"Cap lengths have not settled after {max_steps} evaluations: the largest force along a bond is "
            f"{np.abs(pull).max():.3f} eV/Å.",
            todo="Check that the forces are converged, or relax the caps of another fragment of this kind.",
        )
    kinds = [cap_kind(numbers, graph, int(x)) for x in holders]
    by_kind = {kind: [float(length) for k, length in zip(kinds, lengths, strict=True) if k == kind] for kind in kinds}
    return {kind: round(float(np.mean(by_kind[kind])), 4) for kind in sorted(by_kind)}
