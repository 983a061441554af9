"""What goes with the force error of a fragment's atoms and is known before anything is labelled.

- ``potential``: the logarithm of how much the current potential's own force on the atom differs between fragment and
  parent (force matching, Dobbelaere et al. 2025, arXiv:2504.03881, 2.1.1, at the level of the potential);
- ``bonds to cut``: the number of bonds to the nearest atom that lost one;
- ``distance to removed``: Å to the nearest atom of the parent that is not in the fragment.

The last two are blind to chemistry and never lie; the first knows chemistry as far as the potential has learnt it. How
much each is worth is for `clusterflow.extract.calibration` to find out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from ase.data import chemical_symbols
from scipy.spatial import cKDTree

from clusterflow.core.data import FloatArray, Fragment, IntArray
from clusterflow.extract.calibration import FLOOR, Indicator
from clusterflow.extract.candidates import Surroundings
from clusterflow.extract.cut import Frame
from clusterflow.physics.bonds import BondGraph

GRAPH = (Indicator("bonds to cut", -0.25, 0.2), Indicator("distance to removed", -0.2, 0.1))
"""Without a potential: an error of 1 eV/Å at the cut that halves with every second bond or so."""
POTENTIAL = (
    Indicator("potential", 0.8, 0.3),
    Indicator("bonds to cut", 0.0, 0.15),
    Indicator("distance to removed", -0.05, 0.1),
)
"""With one: mostly what the potential says. These priors round a fit to MOF-5 at GFN1-xTB."""
FARTHEST_BONDS = 8
"""Beyond so many bonds from a cut, one more no longer helps: what is left comes through space."""
FARTHEST = 8.0
"""Å; beyond, what is removed no longer counts as nearer or farther."""
SAME_PLACE = 0.05
"""Å: an atom of the fragment and one of the parent this close are the same."""


def indicator_columns(*, potential: bool) -> tuple[Indicator, ...]:
    """The columns that `indicators` fills, in order."""
    return POTENTIAL if potential else GRAPH


def indicators(
    fragment: Fragment,
    surroundings: Surroundings,
    atoms: Sequence[int],
    *,
    difference: FloatArray | None = None,
) -> FloatArray:
    """(k, m) indicators of some atoms of a fragment, none of them a termination atom.

    ``surroundings`` of the core in the parent; ``difference`` (k,) eV/Å, norm of the potential's force in the fragment
    minus that in the parent, or None without a potential.
    """
    chosen = np.asarray(atoms, dtype=np.int64)
    columns = [
        np.minimum(bonds_to_cut(fragment, surroundings.frame)[chosen], FARTHEST_BONDS).astype(float),
        distance_to_removed(fragment, surroundings, chosen),
    ]
    if difference is not None:
        columns.insert(0, np.log(difference + FLOOR))
    return np.column_stack(columns)


def bonds_to_cut(fragment: Fragment, frame: Frame) -> IntArray:
    """(n,) bonds from each atom to the nearest that lost one (0: this one); a large number where there is none, and for
    termination atoms. The bonds are the parent's, so that a stretched one counts as it did when the blocks were found.
    """
    graph = frame.blocks.graph
    real = np.flatnonzero(fragment.parent >= 0)
    parents = fragment.parent[real]
    counts = np.diff(graph.first)[parents]
    own = np.repeat(real, counts)
    bonds = np.repeat(graph.first[parents] - np.r_[0, np.cumsum(counts)[:-1]], counts) + np.arange(counts.sum())
    cells = graph.shift[bonds] @ frame.cell
    vectors = frame.atoms.positions[graph.j[bonds]] + cells - frame.atoms.positions[graph.i[bonds]]
    away, place = cKDTree(fragment.atoms.positions[real]).query(fragment.atoms.positions[own] + vectors)
    kept = away < SAME_PLACE
    depth = np.full(len(fragment.parent), np.iinfo(np.int64).max)
    frontier = np.unique(own[~kept])
    own, partner = own[kept], real[place[kept]]
    steps = 0
    while len(frontier):
        depth[frontier] = steps
        steps += 1
        reached = np.unique(partner[np.isin(own, frontier)])
        frontier = reached[depth[reached] > steps]
    return depth


def distance_to_removed(fragment: Fragment, surroundings: Surroundings, atoms: IntArray) -> FloatArray:
    """(k,) Å from atoms of the fragment to the nearest atom of the parent that is not in it, at most `FARTHEST`.

    Where the surroundings end nearer than that to an atom, what lies behind their end counts as removed.
    """
    positions = fragment.atoms.positions[atoms]
    from_core, _ = cKDTree(surroundings.core).query(positions)
    unseen = np.clip(surroundings.radius - from_core, 0.0, FARTHEST)
    real = fragment.parent >= 0
    away, _ = cKDTree(fragment.atoms.positions[real]).query(surroundings.positions, distance_upper_bound=SAME_PLACE)
    removed = surroundings.positions[~np.isfinite(away)]
    if len(removed) == 0:
        return np.asarray(unseen)
    distance, _ = cKDTree(removed).query(positions)
    return np.asarray(np.minimum(distance, unseen))


def environments(graph: BondGraph, numbers: IntArray) -> list[str]:
    """(n,) a name for the surroundings of each atom: its element and those of its neighbours, such as "O(C,Zr)"."""
    neighbours = np.split(numbers[graph.j], graph.first[1:-1])
    return [_name(int(z), tuple(sorted(n.tolist()))) for z, n in zip(numbers, neighbours, strict=True)]


@lru_cache(maxsize=4096)
def _name(number: int, neighbours: tuple[int, ...]) -> str:
    return f"{chemical_symbols[number]}({','.join(chemical_symbols[z] for z in neighbours)})"
