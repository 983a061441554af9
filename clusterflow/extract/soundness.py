"""Whether a structure is chemically whole, before anything is cut from it."""

from __future__ import annotations

from ase import Atoms

from clusterflow.errors import ExtractionError, StructureError
from clusterflow.extract.electrons import count_electrons
from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.structure_checks import check_chemistry, explain_charge


def check_structure(atoms: Atoms, graph: BondGraph | None = None) -> None:
    """Refuses a structure that lacks hydrogens, oxygens or ligands: by its bonds, and if periodic by its charge.

    Not for frames of hot dynamics; distances must have been checked.

    Raises
    ------
    StructureError
        Names the atoms.
    """
    graph = bond_graph(atoms) if graph is None else graph
    check_chemistry(atoms, graph)
    if not atoms.pbc.all():
        return
    try:
        charge, _ = count_electrons(atoms, graph)
    except ExtractionError:  # its reason will be told where a fragment needs the count
        return
    reason = explain_charge(atoms, graph, charge)
    if reason:
        raise StructureError(
            f"The periodic cell has a charge of {charge:+d} e by its valences: {reason}.",
            where=f"{len(atoms)} atoms, indices from 0",
            todo="Complete the structure (common copies of UiO-66 lack μ3-O or the hydrogens of μ3-OH), then relax it.",
        )
