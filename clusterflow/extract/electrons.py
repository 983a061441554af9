"""Charge, spin and unsaturated atoms of a structure, by oxidation states and valence counting.

Metals count with the usual state of their frameworks. Every other atom has the free valence that its bonds to
non-metals leave; free valences of neighbours pair up to multiple bonds (a Kekulé structure), and what stays unpaired
is one negative charge each on an atom that a metal holds (oxide O 2−, hydroxide O 1−, one O of a carboxylate, N of an
azolate) or held before it was cut off, and a dangling bond anywhere else. Bonds to metals count as ionic or dative.
Where several structures leave no dangling bond, nitrogen is paired and oxygen left with its charge, so that rings stay
aromatic (pyrazine neutral, catecholate 2−). A porphyrin on a metal is a dianion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError
from clusterflow.extract.macrocycles import porphyrin_anions
from clusterflow.physics.bonds import BondGraph
from clusterflow.physics.elements import OXIDATION_STATES, UNPAIRED, VALENCES, is_metal

_MULTIPLE_VALENCES = {atomic_numbers[s]: v for s, v in VALENCES.items() if len(v) > 1}
_LOWEST_VALENCE = np.array([VALENCES.get(s, (0,))[0] for s in chemical_symbols], dtype=np.int64)
_ONIUM = {atomic_numbers[s]: 1 for s in ("N", "O", "S", "Se")} | {atomic_numbers[s]: -1 for s in ("B", "Si", "P", "As")}
"""Charge per bond beyond the highest valence: NH4+, H3O+, but BF4−, SiF6 2−, PF6−."""
_HALOGENS = tuple(atomic_numbers[s] for s in ("F", "Cl", "Br", "I"))
_TRIPLET_OR_RADICAL = {"CO": 0, "O2": 2, "NO": 1, "NO2": 1}
"""Unpaired electrons of small free molecules whose bonding valence counting gets wrong."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """What the non-metals of a structure come to: formal charge of each atom (n,) in e, unpaired electrons, atoms with
    a dangling valence."""

    charges: tuple[int, ...]
    unpaired: int
    dangling: tuple[int, ...]

    @property
    def charge(self) -> int:
        """Sum over the non-metals in e."""
        return sum(self.charges)


@dataclass(frozen=True, slots=True)
class Electrons:
    """Total ``charge`` in e, ``spin`` = number of unpaired electrons with all high-spin ions parallel, and the numbers
    of unpaired electrons to try, lowest first: more than one where a metal has a partly filled shell."""

    charge: int
    spin: int
    to_try: tuple[int, ...]


def count_electrons(atoms: Atoms, graph: BondGraph, bare: Sequence[int] = ()) -> tuple[int, int]:
    """Total charge in e, and the number of unpaired electrons.

    Spin is zero unless a metal with a partly filled shell is there (all ions high-spin and parallel), or the number
    of electrons is odd. ``bare``: donor atoms that have lost their metal and may carry a charge.

    Raises
    ------
    ExtractionError
        An atom is unsaturated, so that charge and spin are not defined; or a metal's oxidation state is not known.
    """
    found = electrons(atoms, graph, bare)
    return found.charge, found.spin


def electrons(atoms: Atoms, graph: BondGraph, bare: Sequence[int] = ()) -> Electrons:
    """As `count_electrons`, with the spins that may be the ground state.

    Raises
    ------
    ExtractionError
        As `count_electrons`.
    """
    found = pairing(atoms, graph, bare)
    if found.dangling:
        raise unsaturated_error(atoms, found.dangling)
    charge, unpaired = _metals(atoms)
    charge += found.charge
    unpaired += found.unpaired
    odd = (int(atoms.numbers.sum()) - charge) % 2
    high = unpaired + (unpaired + odd) % 2
    return Electrons(charge, high, tuple(range(odd, high + 1, 2)) if open_shell_metals(atoms) else (high,))


def unsaturated(atoms: Atoms, graph: BondGraph, bare: Sequence[int] = ()) -> list[int]:
    """Atoms with a dangling valence: carbon with too few neighbours, oxygen with one bond, no proton and no metal, …"""
    return list(pairing(atoms, graph, bare).dangling)


def unsaturated_error(atoms: Atoms, dangling: Sequence[int]) -> ExtractionError:
    """The error that names dangling atoms."""
    names = ", ".join(f"{atoms.symbols[k]}{k}" for k in list(dangling)[:6])
    return ExtractionError(
        f"{len(dangling)} atom(s) have a dangling valence: {names}{', …' if len(dangling) > 6 else ''}.",
        where=f"{formula(atoms)}, {len(atoms)} atoms, indices from 0",
        todo="Look for missing hydrogens or broken bonds in the parent frame; a wider mantle may keep the group whole.",
    )


def open_shell_metals(atoms: Atoms) -> list[str]:
    """Metals with a partly filled d or f shell in their usual state, by symbol, each once."""
    present = {chemical_symbols[z] for z in set(atoms.numbers.tolist())}
    return sorted(s for s in present if UNPAIRED.get(s, 0) > 0)


def pairing(atoms: Atoms, graph: BondGraph, bare: Sequence[int] = ()) -> Pairing:
    """Formal charges and dangling valences of all non-metal atoms; ``bare`` as in `count_electrons`."""
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    held = np.bincount(graph.i[is_metal(numbers[graph.j])], minlength=len(numbers)) > 0
    held[np.asarray(bare, dtype=np.int64)] = True
    return pair_topology(numbers.tobytes(), graph.i.tobytes(), graph.j.tobytes(), held.tobytes())


@lru_cache(maxsize=1024)
def pair_topology(z: bytes, i: bytes, j: bytes, held_: bytes) -> Pairing:
    """Pairing from the bytes of atomic numbers (n,), bonds (m,), (m,) and which atoms a metal holds or held (n,).

    It depends on elements and bonds only, which a block keeps along a trajectory: hence the cache.
    """
    numbers, first, second = (np.frombuffer(data, dtype=np.int64) for data in (z, i, j))
    held = np.frombuffer(held_, dtype=np.bool_)
    m = len(first)
    graph = BondGraph(len(numbers), first, second, np.zeros((m, 3), dtype=np.int64), np.zeros(m))
    metal = is_metal(numbers)
    unpaired = 0
    free, charges = _free_valences(numbers, metal, graph)
    dangling: list[int] = []
    for members, spin in _exceptions(numbers, free, held, graph):
        free[members] = 0
        unpaired += spin
    for nitrogen in porphyrin_anions(numbers, metal, graph):
        charges[nitrogen] -= free[nitrogen]
        free[nitrogen] = 0
    dangling += _pair_oxo_centres(free, numbers, held, graph)
    _leave_anions(free, charges, numbers, held, graph)
    open_ = free > 0
    bond = open_[graph.i] & open_[graph.j] & (graph.i != graph.j)
    paired = np.zeros(len(numbers), dtype=bool)
    paired[graph.i[bond]] = True
    lone = open_ & ~paired
    charges -= np.where(lone & held, free, 0)
    dangling += np.flatnonzero(lone & ~held).tolist()
    for piece, partners in _pieces(graph.i[bond].tolist(), graph.j[bond].tolist()):
        donors = tuple(held[piece].tolist())
        left = _leftover(tuple(free[piece].tolist()), partners, donors, tuple((numbers[piece] == 8).tolist()))
        charges[piece] -= np.where(donors, left, 0)
        # Where a valence is left over in a conjugated piece is arbitrary: name the atoms that lack most neighbours.
        bare = [k for k, donor in enumerate(donors) if not donor]
        bare.sort(key=lambda k: (-free[piece[k]], -left[k], k))
        dangling += [piece[k] for k in bare[: sum(left[k] > 0 for k in bare)]]
    return Pairing(tuple(charges.tolist()), unpaired, tuple(sorted(dangling)))


def _metals(atoms: Atoms) -> tuple[int, int]:
    """Sums of oxidation states and of unpaired electrons over the metals."""
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    metals = numbers[is_metal(numbers)]
    charge = unpaired = 0
    for number, count in zip(*np.unique(metals, return_counts=True), strict=True):
        symbol = chemical_symbols[number]
        if symbol not in OXIDATION_STATES:
            raise ExtractionError(
                f"The oxidation state of {symbol} is not known, so charge and spin cannot be counted.",
                where=f"{formula(atoms)}, {len(atoms)} atoms",
                todo="Known metals: " + ", ".join(sorted(OXIDATION_STATES)) + ".",
            )
        charge += OXIDATION_STATES[symbol] * int(count)
        unpaired += UNPAIRED.get(symbol, 0) * int(count)
    return charge, unpaired


def _free_valences(numbers: IntArray, metal: BoolArray, graph: BondGraph) -> tuple[IntArray, IntArray]:
    """Free valence of each atom, and the charges of centres with more bonds than valences (NH4+, BF4−)."""
    n, i, j = len(numbers), graph.i, graph.j
    sigma = np.bincount(i[~metal[j]], minlength=n)
    valence = _LOWEST_VALENCE[numbers]
    # Hypervalent centres: room for a double bond to every terminal oxygen (sulfonate, phosphonate, nitro).
    oxo = (numbers == 8) & (sigma == 1)
    wanted = sigma + np.bincount(i[oxo[j]], minlength=n)
    for number, choices in _MULTIPLE_VALENCES.items():
        for k in np.flatnonzero(numbers == number).tolist():
            valence[k] = next((v for v in choices if v >= wanted[k]), choices[-1])
    valence[(numbers == 7) & (sigma >= 3) & (wanted > sigma)] = 5
    free = np.where(metal, 0, valence - sigma)
    charges = np.zeros(n, dtype=np.int64)
    for k in np.flatnonzero(free < 0).tolist():
        charges[k] = _ONIUM.get(int(numbers[k]), 0) * int(-free[k])
    return np.maximum(free, 0).astype(np.int64), charges


def _leave_anions(free: IntArray, charges: IntArray, numbers: IntArray, held: BoolArray, graph: BondGraph) -> None:
    """Gives free halide ions and oxoanions that hold nothing but oxygen (nitrate, perchlorate, sulfate) their charges,
    in place."""
    degree = np.diff(graph.first)
    ions = np.isin(numbers, _HALOGENS) & (degree == 0) & (free == 1)
    for k in np.flatnonzero((numbers == 8) & (free == 1) & ~held & (degree == 1)).tolist():
        centre = int(graph.neighbours(k)[0])
        around = graph.neighbours(centre)
        ions[k] = (
            numbers[centre] not in (1, 6) and free[centre] == 0 and len(around) >= 3 and (numbers[around] == 8).all()
        )
    charges -= ions
    free[ions] = 0


def _exceptions(numbers: IntArray, free: IntArray, held: BoolArray, graph: BondGraph) -> list[tuple[list[int], int]]:
    """Free CO, O2, NO and NO2 molecules: their atoms and unpaired electrons."""
    degree = np.diff(graph.first)
    found = []
    seen: set[int] = set()
    for k in np.flatnonzero((numbers == 8) & (degree == 1) & (free > 0)).tolist():
        centre = int(graph.neighbours(k)[0])
        molecule = sorted({k, centre, *graph.neighbours(centre).tolist()})
        if centre in seen or len(molecule) > 3 or held[molecule].any() or any(degree[m] > 2 for m in molecule):
            continue
        name = formula([chemical_symbols[numbers[m]] for m in molecule])
        if name in _TRIPLET_OR_RADICAL and all(set(graph.neighbours(m).tolist()) <= set(molecule) for m in molecule):
            seen.update(molecule)
            found.append((molecule, _TRIPLET_OR_RADICAL[name]))
    return found


def _pair_oxo_centres(free: IntArray, numbers: IntArray, held: BoolArray, graph: BondGraph) -> list[int]:
    """Pairs every centre that has two or more terminal oxygens (carboxylate, nitro, sulfonate) with them, and the C
    atom of an acid or ester with its only one, in place.

    Those that no metal holds come first, so that the charge is left where a metal is. CO2 with both oxygens on
    metals is rather a carboxylate that lost its rest: such carbons are returned, they have a dangling valence.
    """
    torn = []
    oxo = (numbers == 8) & (free == 1)
    arms = oxo[graph.j] & (free[graph.i] > 0) & ~oxo[graph.i]
    centres, count = np.unique(graph.i[arms], return_counts=True)
    for centre in centres[count >= 2].tolist():
        oxygens = [k for k in graph.neighbours(centre).tolist() if oxo[k]]
        if numbers[centre] == 6 and free[centre] == 2 and held[oxygens].all():
            torn.append(centre)
            oxygens, free[centre] = oxygens[:1], 1
        for k in sorted(oxygens, key=lambda k: (bool(held[k]), k))[: int(free[centre])]:
            free[k] -= 1
            free[centre] -= 1
    for centre in centres[count == 1].tolist():
        around = graph.neighbours(centre)
        single = (numbers[around] == 8) & (free[around] == 0)
        if numbers[centre] == 6 and free[centre] == 1 and single.any():
            free[[centre, int(around[oxo[around]][0])]] = 0
    return torn


def _pieces(i: list[int], j: list[int]) -> list[tuple[list[int], tuple[tuple[int, ...], ...]]]:
    """Connected groups of the given bonds (both directions): atoms, ascending, and partners by place in the group."""
    partners: dict[int, list[int]] = {}
    for a, b in zip(i, j, strict=True):
        partners.setdefault(a, []).append(b)
    pieces = []
    seen: set[int] = set()
    for start in partners:
        if start in seen:
            continue
        seen.add(start)
        piece = [start]
        for a in piece:
            for b in partners[a]:
                if b not in seen:
                    seen.add(b)
                    piece.append(b)
        piece.sort()
        local = {atom: k for k, atom in enumerate(piece)}
        pieces.append((piece, tuple(tuple(sorted({local[b] for b in partners[a]})) for a in piece)))
    return pieces


@lru_cache(maxsize=4096)
def _leftover(
    valence: tuple[int, ...],
    partners: tuple[tuple[int, ...], ...],
    donors: tuple[bool, ...],
    oxygen: tuple[bool, ...],
) -> tuple[int, ...]:
    """Free valence left on each atom by the best pairing: none on atoms that no metal holds, if possible; then least on
    nitrogen; then most on metal-bound oxygen."""
    best: list[tuple[tuple[int, int, int], tuple[int, ...]]] = []
    steps = [2_000]  # enough for any linker met in practice; beyond it the best pairing so far counts

    def rank(k: int) -> tuple[bool, bool, int]:
        return donors[k] and oxygen[k], donors[k], k

    def cost(free: list[int]) -> tuple[int, int, int]:
        bare = sum(f for f, d in zip(free, donors, strict=True) if not d)
        on_oxygen = sum(f for f, d, o in zip(free, donors, oxygen, strict=True) if d and o)
        return bare, sum(free) - bare - on_oxygen, -on_oxygen

    def search(free: list[int], given_up: frozenset[int]) -> bool:
        """Depth first, most constrained atom first; True once the result is good enough to stop."""
        while True:
            steps[0] -= 1
            open_ = {
                k: [p for p in partners[k] if free[p]]
                for k, f in enumerate(free)
                if f and not donors[k] and k not in given_up
            }
            given_up = given_up | {k for k, options in open_.items() if not options}
            forced = next((k for k, options in open_.items() if len(options) == 1), None)
            if forced is None:
                break
            # Of an atom with a single partner nothing is lost by pairing them.
            free[forced] -= 1
            free[open_[forced][0]] -= 1
        open_ = {k: options for k, options in open_.items() if options}
        if not open_:
            _pair_donors(free, partners, donors)
            result = (cost(free), tuple(free))
            if not best or result < best[0]:
                best[:] = [result]
            return best[0][0][0] == 0 and best[0][0][1] <= 1
        if steps[0] < 0:
            return True
        k = min(open_, key=lambda a: (len(open_[a]), a))
        for p in sorted(open_[k], key=rank):
            trial = list(free)
            trial[k] -= 1
            trial[p] -= 1
            if search(trial, given_up):
                return True
        return search(list(free), given_up | {k})

    search(list(valence), frozenset())
    return best[0][1] if best else valence


def _pair_donors(free: list[int], partners: tuple[tuple[int, ...], ...], donors: tuple[bool, ...]) -> None:
    """Pairs what is left on neighbouring metal-bound atoms (pyrazolate), in place."""
    for k, neighbours in enumerate(partners):
        for p in neighbours:
            if donors[k] and donors[p] and p > k:
                shared = min(free[k], free[p])
                free[k] -= shared
                free[p] -= shared
