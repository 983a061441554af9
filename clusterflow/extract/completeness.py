"""How far around each of its atoms a fragment is as its parent is."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list
from scipy.spatial import cKDTree

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.errors import InputError

_SAME_PLACE = 1e-3
"""Å between an atom of the parent and its copy in the fragment."""


def complete_within(atoms: Atoms, parent: IntArray, frame: Atoms, reach: float) -> FloatArray:
    """(n,) Å from each atom of a fragment to the nearest atom of the frame that the fragment lacks, at most ``reach``.

    ``atoms`` in the orientation of the frame; ``parent`` (n,): index in the frame, −1 for atoms that close cut bonds.
    Those get 0. Atoms with more than Rc are the "central atoms" of Herbold and Behler 2023, doi:10.1039/d2cp05976b: all
    their neighbours within Rc are there. A closing hydrogen may be nearer than the atom that it replaces.

    Raises
    ------
    InputError
        The reach is not positive, or no atom has any of its parent's neighbours: the fragment was turned.
    """
    if not (np.isfinite(reach) and reach > 0.0):
        raise InputError(f"Surroundings of {reach} Å hold no atoms.", todo="Give a reach such as 8 Å.")
    parent = np.asarray(parent, dtype=np.int64)
    own = np.flatnonzero(parent >= 0)
    complete = np.zeros(len(atoms))
    if not len(own):
        return complete
    tree, alone = cKDTree(atoms.positions[own]), True
    cell = frame.cell.complete().array if frame.pbc.any() else np.eye(3)
    told = {"positions": frame.positions, "cell": cell, "pbc": frame.pbc, "cutoff": float(reach)}
    i, d, vectors = neighbour_list("idD", **told)
    first = np.searchsorted(i, np.arange(len(frame) + 1))
    for atom in own.tolist():
        of = slice(first[parent[atom]], first[parent[atom] + 1])
        lost = tree.query(atoms.positions[atom] + vectors[of])[0] > _SAME_PLACE
        alone = alone and bool(lost.all())
        complete[atom] = d[of][lost].min(initial=reach)
    if alone and len(own) > 1 and len(i):
        raise InputError(
            f"No atom of the fragment has any of the neighbours within {reach:g} Å that it has in the frame.",
            where=f"{len(own)} atoms of a frame of {len(frame)}",
            todo="Give the frame that it was cut from, and the fragment as it was cut, not turned.",
        )
    return complete
