"""Which donors that a cut has left bare take up a proton: every azolate, and others as the charge asks for it."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.extract.electrons import electrons, pair_topology
from clusterflow.extract.piece import Donor, Piece
from clusterflow.extract.termination import cap_kind
from clusterflow.physics.elements import is_metal

_CLASH = 1.0
"""Å: two protons on their old bonds to the same lost metal may not come closer."""


def choose_protons(piece: Piece, lengths: FloatArray) -> list[Donor]:
    """Donors of a piece that get hydrogen along their old bond, ``lengths`` (d,) Å each.

    Each proton must go to an anionic ligand and make a closed shell of it (a second one on the same carboxylate or
    azolate would not). Ligands that are to be neutral get theirs whatever the charge of the fragment; then the others,
    until it is neutral, or as close as may be. The most basic come first (a hydroxide that has lost one of its metals,
    then azolate and phenolate, then carboxylate and halide): left bare, their lone pairs would close the gap between
    occupied and empty orbitals. Among equals those farthest from the core come first, then those farthest from the
    protons placed before, then those in the thinnest surroundings, so that the order of atoms matters only among what
    symmetry makes equal.

    Raises
    ------
    ExtractionError
        As `electrons`: a dangling valence, or a metal whose oxidation state is not known.
    """
    if not piece.donors:
        return []
    missing = -electrons(piece.atoms, piece.graph, [d.atom for d in piece.donors]).charge
    always = [d.neutralise for d in piece.donors]
    if missing <= 0 and not any(always):
        return []
    positions = piece.atoms.positions
    at = np.array([d.atom for d in piece.donors])
    bonds = np.array([d.bond for d in piece.donors])
    protons = positions[at] + bonds * (lengths / np.sqrt((bonds**2).sum(axis=1)))[:, None]
    # Rounded, so that equally far donors are told apart by the next criterion and not by the last bit.
    far = cdist(positions[at], positions[piece.core]).min(axis=1).round(4).tolist()
    apart = cdist(protons, protons).round(4)
    around = (np.exp(-cdist(positions[at], positions) / 3.0) @ piece.atoms.numbers).round(4).tolist()
    spread = np.full(len(at), np.inf)
    basicity = [_basicity(piece, d.atom) for d in piece.donors]
    ligands = _Ligands(piece)
    left = list(range(len(at)))
    chosen: list[int] = []
    while left:
        wanted = [k for k in left if always[k] or len(chosen) < missing]
        for k in sorted(wanted, key=lambda k: (not always[k], -basicity[k], -far[k], -spread[k], around[k], k)):
            if spread[k] > _CLASH and ligands.protonate(int(at[k])):
                chosen.append(k)
                left.remove(k)
                spread = np.minimum(spread, apart[k])
                break
        else:
            break
    return [piece.donors[k] for k in sorted(chosen)]


def _basicity(piece: Piece, atom: int) -> int:
    """2 for an oxide or hydroxide, 1 for phenolate and nitrogen, 0 for the anions of strong acids."""
    numbers = piece.atoms.numbers
    if numbers[atom] == 7:
        return 1
    if numbers[atom] != 8:
        return 0
    kind = cap_kind(numbers, piece.graph, atom)
    return {"O": 2, "O(hydroxyl)": 1, "O(silanol)": 1}.get(kind, 0)


class _Ligands:
    """The non-metal parts of a piece, and the protons that they have been given so far."""

    def __init__(self, piece: Piece) -> None:
        graph, self.numbers = piece.graph, np.asarray(piece.atoms.numbers, dtype=np.int64)
        self.metal: list[bool] = is_metal(self.numbers).tolist()
        self.held = np.bincount(graph.i[is_metal(self.numbers[graph.j])], minlength=len(self.numbers)) > 0
        self.held[[d.atom for d in piece.donors]] = True
        self.first, self.partner = graph.first.tolist(), graph.j.tolist()
        self.parts: dict[int, tuple[IntArray, IntArray, IntArray]] = {}
        self.protons: dict[int, tuple[list[int], int]] = {}  # by lowest atom of a ligand: protonated atoms, charge

    def protonate(self, atom: int) -> bool:
        """Adds a proton to a donor if its ligand is an anion and stays a closed shell with one more hydrogen."""
        members, _, _ = self._part(atom)
        label = int(members[0])
        if label not in self.protons:
            charge, sane = self._state(atom, [])
            self.protons[label] = ([], charge if sane else 0)
        given, charge = self.protons[label]
        if charge >= 0:
            return False
        after, sane = self._state(atom, [*given, atom])
        if not sane or after != charge + 1:
            return False
        self.protons[label] = ([*given, atom], after)
        return True

    def _part(self, atom: int) -> tuple[IntArray, IntArray, IntArray]:
        """The ligand of an atom: its members, ascending, and its bonds by place among them."""
        if atom not in self.parts:
            first, partner, metal = self.first, self.partner, self.metal
            members, seen = [atom], {atom}
            for a in members:
                for b in partner[first[a] : first[a + 1]]:
                    if b not in seen and not metal[b]:
                        seen.add(b)
                        members.append(b)
            members.sort()
            place = {a: k for k, a in enumerate(members)}
            bonds = [(k, place[b]) for a, k in place.items() for b in partner[first[a] : first[a + 1]] if b in place]
            i, j = np.array(bonds, dtype=np.int64).reshape(-1, 2).T
            part = (np.array(members, dtype=np.int64), i, j)
            self.parts.update(dict.fromkeys(members, part))
        return self.parts[atom]

    def _state(self, atom: int, protons: list[int]) -> tuple[int, bool]:
        """Charge of the ligand of an atom with protons on the given atoms, and whether it is saturated without an onium
        centre."""
        members, i, j = self._part(atom)
        n, extra = len(members), len(protons)
        on, new = np.searchsorted(members, protons), n + np.arange(extra)
        i, j = np.concatenate((i, on, new)), np.concatenate((j, new, on))
        order = np.argsort(i * (n + extra) + j)
        found = pair_topology(
            np.concatenate((self.numbers[members], np.ones(extra, dtype=np.int64))).tobytes(),
            i[order].tobytes(),
            j[order].tobytes(),
            np.concatenate((self.held[members], np.zeros(extra, dtype=bool))).tobytes(),
        )
        return found.charge, not found.dangling and all(found.charges[k] <= 0 for k in on.tolist())
