"""Checks of the structure that a campaign starts from: each names the atoms that are out of order.

Not for frames of hot dynamics, where bonds stretch and protons travel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from clusterflow.core.data import IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.bond_orders import free_valences
from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.elements import is_metal

_STRAIGHT: Final = -0.82
"""Cosine of the smallest angle, 145°, at a two-coordinate carbon atom that counts as linear."""
_SINGLE_ATOMS: Final = frozenset(
    atomic_numbers[s] for s in ("He", "Ne", "Ar", "Kr", "Xe", "Rn", "F", "Cl", "Br", "I", "At")
)
"""Non-metals that may be alone: noble gases, halide ions."""
_FEWEST_DONORS: Final[Mapping[int, int]] = MappingProxyType(
    {
        **{atomic_numbers[s]: 7 for s in ("Zr", "Hf")},  # 7: a dehydroxylated Zr6O6 node
        **dict.fromkeys((*range(57, 72), 39, 90, 92), 6),
        **{atomic_numbers[s]: 5 for s in ("Sc", "In", "Cr")},
        **{atomic_numbers[s]: 4 for s in ("Al", "Ga", "Ti", "Mg", "Mn", "Fe", "Ni")},
        **{atomic_numbers[s]: 3 for s in ("Co", "Zn", "Cd", "V", "Be")},
    }
)
"""Fewest donors that metals of frameworks have, open sites (Mg 5, Zn 4) and some room included; others: 1."""
_ONE_STATE: Final = frozenset(
    atomic_numbers[s]
    for s in ("Li", "Na", "K", "Be", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd", "Al", "Ga", "In", "Sc", "Y", "La", "Zr", "Hf")
)
_USUAL_DONORS: Final[Mapping[int, int]] = MappingProxyType({atomic_numbers["Zr"]: 8, atomic_numbers["Hf"]: 8})


def named(atoms: Atoms, indices: Sequence[int] | IntArray, most: int = 8) -> str:
    """Elements and indices, such as "C3, C7, …"."""
    shown = ", ".join(f"{atoms.symbols[int(k)]}{int(k)}" for k in list(indices)[:most])
    return shown + (", …" if len(indices) > most else "")


def check_occupancy(atoms: Atoms) -> None:
    """Refuses sites of a CIF file that are partly occupied, or shared by several elements.

    Raises
    ------
    StructureError
        Names the atoms and their occupancies.
    """
    kinds = atoms.info.get("occupancy")
    if not isinstance(kinds, Mapping) or "spacegroup_kinds" not in atoms.arrays:
        return
    shares = {str(kind): dict(share) for kind, share in kinds.items()}
    partial = {k: s for k, s in shares.items() if len(s) > 1 or any(abs(float(v) - 1.0) > 1e-3 for v in s.values())}
    bad = [k for k, kind in enumerate(atoms.arrays["spacegroup_kinds"].tolist()) if str(kind) in partial]
    if not bad:
        return
    told = []
    for k in bad[:6]:
        share = partial[str(atoms.arrays["spacegroup_kinds"][k])]
        told.append(f"{atoms.symbols[k]}{k} ({', '.join(f'{e} {float(v):g}' for e, v in sorted(share.items()))})")
    raise StructureError(
        f"{len(bad)} of {len(atoms)} atoms stand on partly occupied sites: {', '.join(told)}"
        f"{', …' if len(bad) > 6 else ''}.",
        where=f"{formula(atoms)}, indices from 0, occupancies in brackets",
        todo="The file is an average over disordered copies. Choose one copy of each disordered group (in a crystal "
        "editor, or by deleting lines of the CIF file) and set the occupancies to 1.",
    )


def torn_carbons(atoms: Atoms, graph: BondGraph) -> IntArray:
    """Carbon atoms with too few neighbours: two at an angle, one that is not N, O or S, or none."""
    degree = np.diff(graph.first)
    carbon = np.asarray(atoms.numbers) == 6
    ends = np.flatnonzero(carbon & (degree == 1))
    torn = [
        np.flatnonzero(carbon & (degree == 0)),
        ends[~np.isin(atoms.numbers[graph.j[graph.first[ends]]], (7, 8, 16))],
    ]
    pairs = np.flatnonzero(carbon & (degree == 2))
    vectors = [
        atoms.positions[graph.j[b]] + graph.shift[b] @ atoms.cell.array - atoms.positions[pairs]
        for b in (graph.first[pairs], graph.first[pairs] + 1)
    ]
    lengths = [np.linalg.norm(v, axis=1) for v in vectors]
    cosine = (vectors[0] * vectors[1]).sum(axis=1) / (lengths[0] * lengths[1])
    torn.append(pairs[cosine > _STRAIGHT])
    return np.sort(np.concatenate(torn)).astype(np.int64)


def check_hydrogens(atoms: Atoms, graph: BondGraph) -> None:
    """Refuses a structure that lacks hydrogens, as published ones often do: carbon with two neighbours at an angle, and
    C, N or O with a valence that no neighbour and no metal can take.

    Raises
    ------
    StructureError
        Names the atoms.
    """
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    metal = is_metal(numbers)
    degree = np.diff(graph.first)
    free = free_valences(numbers, graph, metal)
    taken = np.bincount(graph.i, weights=(free[graph.j] > 0) | metal[graph.j], minlength=len(atoms)) > 0
    single = np.isin(numbers, (6, 7, 8)) & (free > 0) & ~taken & (degree > 0)
    bad = np.union1d(torn_carbons(atoms, graph), np.flatnonzero(single)).astype(np.int64)
    if len(bad):
        angled = np.isin(bad, torn_carbons(atoms, graph)).sum()
        raise StructureError(
            f"{len(bad)} atoms have too few neighbours for their valence"
            f"{f' ({angled} of them carbon with two at an angle, one or none)' if angled else ''}, so their hydrogens "
            f"are missing: {named(atoms, bad)}.",
            where=f"{formula(atoms)}, {len(atoms)} atoms, indices from 0",
            todo="Add the hydrogens (crystal structures from X-rays often lack them), then relax the structure.",
        )


def check_lone_atoms(atoms: Atoms, graph: BondGraph) -> None:
    """Refuses atoms that are bonded to nothing, such as the oxygen of water without its hydrogens. Noble gases and
    halides may be alone, metals only where nothing but metals and such atoms is there.

    Raises
    ------
    StructureError
        Names the atoms.
    """
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    single = np.isin(numbers, list(_SINGLE_ATOMS))
    bad = np.flatnonzero((np.diff(graph.first) == 0) & ~single)
    if len(bad) and not (is_metal(numbers) | single).all():
        raise StructureError(
            f"{len(bad)} atoms are bonded to nothing: {named(atoms, bad)}.",
            where=f"{formula(atoms)}, {len(atoms)} atoms, indices from 0",
            todo="Solvent and hydroxide from X-ray data often lack their hydrogens: add these and relax, or delete the "
            "atoms. Lone metals and hydrogens are displaced, or disordered.",
        )


def check_coordination(atoms: Atoms, graph: BondGraph) -> None:
    """Refuses metals with fewer donors than that element has in any framework (Zr and Hf below 7, or 6 with
    phosphonates; Al below 4, …), in structures where anything is bonded to metals.

    Raises
    ------
    StructureError
        Names the metals and their numbers of donors.
    """
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    metal = is_metal(numbers)
    donors = np.diff(graph.first)
    if not donors[metal].any():
        return
    fewest = np.array([_FEWEST_DONORS.get(int(z), 1) for z in numbers])
    on_phosphorus = np.bincount(graph.i, weights=np.isin(numbers[graph.j], (14, 15, 16)), minlength=len(atoms)) > 0
    with_phosphorus = np.bincount(graph.i, weights=on_phosphorus[graph.j], minlength=len(atoms)) > 0
    fewest = np.where(with_phosphorus, np.minimum(fewest, 6), fewest)
    bad = np.flatnonzero(metal & (donors < fewest))
    if len(bad):
        told = ", ".join(f"{atoms.symbols[k]}{k} ({donors[k]} of at least {fewest[k]})" for k in bad[:6].tolist())
        raise StructureError(
            f"{len(bad)} of {int(metal.sum())} metals have too few donors: {told}{', …' if len(bad) > 6 else ''}.",
            where=f"{formula(atoms)}, {len(atoms)} atoms, indices from 0",
            todo="Look for missing oxide, hydroxide or water around them (common copies of UiO-66 lack μ3-O), missing "
            "ligands, or a wrong cell.",
        )


def check_chemistry(atoms: Atoms, graph: BondGraph | None = None) -> None:
    """All checks of the bonds: `check_lone_atoms`, `check_hydrogens`, `check_coordination`. Distances must have been
    checked (`clusterflow.physics.bonds.check_distances`).

    Raises
    ------
    StructureError
        The first finding; names the atoms.
    """
    graph = bond_graph(atoms) if graph is None else graph
    check_lone_atoms(atoms, graph)
    check_hydrogens(atoms, graph)
    check_coordination(atoms, graph)


def explain_charge(atoms: Atoms, graph: BondGraph, charge: int) -> str:
    """Which atoms may be the reason why a periodic cell has a ``charge`` by valence counting; empty if none stands out.

    Positive: metals of one oxidation state with fewer donors than others of their element, or than usual. Negative:
    oxygen that nothing but metals holds, which may lack its hydrogen.
    """
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    metal = is_metal(numbers)
    donors = np.diff(graph.first)
    if charge > 0:
        most = {int(z): int(donors[numbers == z].max()) for z in np.unique(numbers[metal])}
        wanted = np.array([max(most.get(int(z), 0), _USUAL_DONORS.get(int(z), 0)) for z in numbers])
        bad = np.flatnonzero(metal & (donors < wanted) & np.isin(numbers, list(_ONE_STATE)))
        if len(bad) == 0:
            return ""
        told = ", ".join(f"{atoms.symbols[k]}{k} ({donors[k]} of {wanted[k]})" for k in bad[:6].tolist())
        return f"anions or ligands seem to be missing at {told}{', …' if len(bad) > 6 else ''}"
    others = np.bincount(graph.i, weights=~metal[graph.j], minlength=len(atoms))
    bare = np.flatnonzero((numbers == atomic_numbers["O"]) & (others == 0) & (donors > 0))
    if charge < 0 and len(bare):
        return f"hydrogens seem to be missing at {named(atoms, bare)} (bonded to metals only)"
    return ""
