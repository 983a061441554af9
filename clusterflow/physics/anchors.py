"""Functional groups by which a linker holds on to metals and which stay with the node: carboxylate and its like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import atomic_numbers

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.physics.bonds import BondGraph


@dataclass(frozen=True, slots=True)
class Anchor:
    """A functional group that ties a linker to metals and stays with the node: ``count`` terminal ``donor`` atoms on
    one ``centre``, at least one of them on a metal; ``charge`` of the bare group bound to an organic rest."""

    name: str
    centre: str
    donor: str
    count: int
    charge: int


ANCHORS: Final = (
    Anchor("carboxylate", "C", "O", 2, -1),
    Anchor("dithiocarboxylate", "C", "S", 2, -1),
    Anchor("sulfonate", "S", "O", 3, -1),
    Anchor("phosphonate", "P", "O", 3, -2),
)


def find_anchors(
    numbers: IntArray, metal: BoolArray, graph: BondGraph
) -> tuple[IntArray, tuple[Anchor, ...], BoolArray]:
    """Anchoring groups bound to a ``metal`` (n,): group of each atom (n,), −1 for none; the rule of each group; and
    which atoms are centres. Protons on donors belong to the group."""
    n, i, j = graph.n_atoms, graph.i, graph.j
    heavy = ~metal & (numbers != 1)
    backbone = np.bincount(i[heavy[j]], minlength=n)  # heavy non-metal neighbours
    on_metal = np.bincount(i[metal[j]], minlength=n) > 0
    group = np.full(n, -1, dtype=np.int64)
    rules: list[Anchor] = []
    is_centre = np.zeros(n, dtype=bool)
    for rule in ANCHORS:
        donor = (numbers == atomic_numbers[rule.donor]) & (backbone == 1)
        donors = np.bincount(i[donor[j]], minlength=n)
        bound = np.bincount(i[donor[j] & on_metal[j]], minlength=n)
        found = (numbers == atomic_numbers[rule.centre]) & (donors == rule.count) & (bound > 0) & (group < 0)
        group[found] = len(rules) + np.arange(int(found.sum()))
        rules += [rule] * int(found.sum())
        is_centre |= found
        arms = found[i] & donor[j]
        group[j[arms]] = group[i[arms]]
        protons = (numbers[j] == 1) & donor[i] & (group[i] >= 0)
        group[j[protons]] = group[i[protons]]
    return group, tuple(rules), is_centre


def without_groups(
    group: IntArray, rules: tuple[Anchor, ...], dropped: BoolArray
) -> tuple[IntArray, tuple[Anchor, ...]]:
    """The groups that are not ``dropped`` (one bool per group), numbered anew."""
    number = np.where(dropped, -1, np.cumsum(~dropped) - 1)
    kept = tuple(rule for rule, gone in zip(rules, dropped.tolist(), strict=True) if not gone)
    return np.where(group >= 0, number[group], -1) if len(rules) else group, kept
