"""Porphyrins and phthalocyanines: macrocycles of four pyrroles around one metal, which they hold as a dianion.

A Kekulé structure of the whole macrocycle without charges exists (two electrons short of the real one), so counting
valences needs to be told.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.physics.bonds import BondGraph


def porphyrin_anions(numbers: IntArray, metal: BoolArray, graph: BondGraph) -> list[int]:
    """The two opposite nitrogens of every metal porphyrin that carry its negative charges."""
    chosen: list[int] = []
    for centre in np.flatnonzero(metal).tolist():
        pyrroles = {
            k: ring for k in dict.fromkeys(graph.neighbours(centre).tolist()) if (ring := _pyrrole(k, numbers, graph))
        }
        if len(pyrroles) != 4:
            continue
        outside = {
            k: {b for a in ring for b in graph.neighbours(a).tolist() if b not in ring and b != k and not metal[b]}
            for k, ring in pyrroles.items()
        }
        # Neighbouring pyrroles share a bridging atom, opposite ones do not.
        opposite = [pair for pair in combinations(sorted(pyrroles), 2) if not outside[pair[0]] & outside[pair[1]]]
        if len(opposite) == 2:
            chosen += opposite[0]
    return chosen


def _pyrrole(atom: int, numbers: IntArray, graph: BondGraph) -> set[int]:
    """The four carbons of the five-ring C4N of a nitrogen, or nothing."""
    if numbers[atom] != 7:
        return set()
    alpha = [k for k in graph.neighbours(atom).tolist() if numbers[k] == 6]
    if len(alpha) != 2:
        return set()
    beta = [[k for k in graph.neighbours(a).tolist() if numbers[k] == 6 and k != atom] for a in alpha]
    for first in beta[0]:
        for second in beta[1]:
            if first != second and second in graph.neighbours(first):
                return {*alpha, first, second}
    return set()
