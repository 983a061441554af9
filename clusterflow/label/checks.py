"""What a reference result must satisfy before it may be trained on."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from clusterflow.core.data import Prediction
from clusterflow.errors import LabelError
from clusterflow.label.cost import all_electrons

_REDO = "The label is recorded as failed and never trained on. "


def check_structure(atoms: Atoms, *, min_distance: float = 0.3, where: str = "") -> None:
    """Refuses what no calculation can make sense of: no atoms, positions that are not finite, atoms on top of one
    another (closer than ``min_distance`` Å, also across the boundary).

    Raises
    ------
    LabelError
        Naming the atoms.
    """
    if len(atoms) == 0:
        raise LabelError("There are no atoms to label.", where=where, todo=_REDO)
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if bad.size:
        raise LabelError(f"The positions of atoms {_some(bad)} are not finite.", where=where, todo=_REDO)
    i, j, d = neighbor_list("ijd", atoms, min_distance)
    if len(i):
        worst = int(d.argmin())
        raise LabelError(
            f"Atoms {i[worst]} ({atoms.symbols[i[worst]]}) and {j[worst]} ({atoms.symbols[j[worst]]}) are "
            f"{d[worst]:.3f} Å apart, closer than {min_distance:g} Å.",
            where=where,
            todo=_REDO + "Look at how this structure was made.",
        )


def check_electrons(atoms: Atoms, charge: int, spin: int, *, where: str = "") -> None:
    """Refuses a charge (e) and a number of unpaired electrons that cannot go together.

    Raises
    ------
    LabelError
        With the number of electrons.
    """
    electrons = all_electrons(atoms) - charge
    if spin < 0 or spin > electrons or (electrons - spin) % 2:
        raise LabelError(
            f"{electrons} electrons (charge {charge:+d}) cannot have {spin} of them unpaired.",
            where=where,
            todo="Check how charge and spin of this fragment were counted.",
        )


def check_same_atoms(atoms: Atoms, computed: Atoms | None, *, where: str = "") -> None:
    """Refuses a result that a program says it computed for other atoms, or for the same ones in another order: its
    forces would go to the wrong atoms. ``computed`` is None where the program does not say.

    Raises
    ------
    LabelError
        With the first atom that differs.
    """
    if computed is None:
        return
    if len(computed) != len(atoms):
        raise LabelError(
            f"{len(atoms)} atoms were to be labelled, the result is for {len(computed)}.", where=where, todo=_REDO
        )
    moved = np.abs(computed.positions - atoms.positions).max(axis=1) > 1e-4
    other = np.flatnonzero((computed.numbers != atoms.numbers) | moved)
    if other.size:
        first = int(other[0])
        raise LabelError(
            f"The result is for other atoms, or the same in another order: {other.size} of {len(atoms)} differ, the "
            f"first is atom {first} ({atoms.symbols[first]} here, {computed.symbols[first]} there).",
            where=where,
            todo=_REDO + "Look at how the program sorts its atoms.",
        )


def check_label(
    atoms: Atoms,
    prediction: Prediction,
    *,
    converged: bool = True,
    max_force: float = 50.0,
    max_net_force: float = 1.5,
    max_energy_per_atom: float = 1.0e5,
    where: str = "",
) -> None:
    """Raises when a result is unconverged, truncated, not finite or implausible.

    Parameters
    ----------
    atoms
        The structure that was labelled, (n,) atoms.
    prediction
        Its energy in eV, forces (n, 3) in eV/Å and stress (3, 3) in eV/Å³ or None.
    converged
        Whether the self-consistent field met its criteria.
    max_force
        Largest length of a force on one atom, eV/Å. 50 eV/Å is a bond compressed to about two thirds of its length.
    max_net_force
        Largest length of the sum of all forces, eV/Å, divided by √n; for finite fragments only, whose exact net force
        is zero. Grid codes leave 0.02–0.1 there (egg-box effect); a broken calculation leaves several.
    max_energy_per_atom
        Largest |energy| per atom in eV. Generous on purpose, because reference energies differ between codes: an
        all-electron heavy element has 10⁵ eV and more, GPAW's formation energies about 10.
    where
        Folder to name in the message.

    Raises
    ------
    LabelError
        Any of the above; the message says which, with numbers.
    """
    n = len(atoms)
    if not converged:
        raise LabelError("The self-consistent field did not converge.", where=where, todo=_REDO)
    if not np.isfinite(prediction.energy):
        raise LabelError(f"The energy is {prediction.energy}.", where=where, todo=_REDO)
    if abs(prediction.energy) > max_energy_per_atom * max(n, 1):
        raise LabelError(
            f"The energy {prediction.energy:.6g} eV of {n} atoms is beyond ±{max_energy_per_atom:g} eV per atom.",
            where=where,
            todo=_REDO + "Look for overlapping atoms in the fragment.",
        )
    forces = np.asarray(prediction.forces, dtype=float)
    if forces.shape != (n, 3):
        raise LabelError(
            f"The forces have shape {forces.shape}, but {n} atoms need ({n}, 3): the result is truncated.",
            where=where,
            todo=_REDO + "Run it again; if it happens twice, look at the disk.",
        )
    bad = np.flatnonzero(~np.isfinite(forces).all(axis=1))
    if bad.size:
        raise LabelError(f"The forces on atoms {_some(bad)} are not finite.", where=where, todo=_REDO)
    _check_sizes(atoms, forces, max_force, max_net_force, where)
    if prediction.stress is not None:
        _check_stress(np.asarray(prediction.stress, dtype=float), where)


def _check_sizes(atoms: Atoms, forces: np.ndarray, max_force: float, max_net_force: float, where: str) -> None:
    length = np.linalg.norm(forces, axis=1)
    if length.size and length.max() > max_force:
        worst = int(length.argmax())
        raise LabelError(
            f"The force on atom {worst} ({atoms.symbols[worst]}) is {length[worst]:.1f} eV/Å, above the limit of "
            f"{max_force:g} eV/Å; {int((length > max_force).sum())} of {len(atoms)} atoms are above it.",
            where=where,
            todo=_REDO + "Look for atoms that are too close, or raise the limit if such structures are wanted.",
        )
    if not atoms.pbc.any():
        net = float(np.linalg.norm(forces.sum(axis=0)) / np.sqrt(max(len(atoms), 1)))
        if net > max_net_force:
            raise LabelError(
                f"The forces of this finite fragment sum to {net:.2f} eV/Å per √n, above the limit of "
                f"{max_net_force:g} eV/Å; the exact sum is zero.",
                where=where,
                todo=_REDO + "Use a finer grid or more vacuum.",
            )


def _check_stress(stress: np.ndarray, where: str) -> None:
    if stress.shape != (3, 3):
        raise LabelError(f"The stress has shape {stress.shape}, not (3, 3).", where=where, todo=_REDO)
    if not np.isfinite(stress).all():
        raise LabelError("The stress is not finite.", where=where, todo=_REDO)
    asymmetry = float(np.abs(stress - stress.T).max())
    if asymmetry > 1e-3:
        raise LabelError(f"The stress is not symmetric (by {asymmetry:.2g} eV/Å³).", where=where, todo=_REDO)


def _some(indices: np.ndarray, most: int = 8) -> str:
    shown = ", ".join(str(int(i)) for i in indices[:most])
    return shown if indices.size <= most else f"{shown}, … ({indices.size} in all)"
