"""Levels of theory and potentials by name, as forces: what `locality` and `match` compute with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Reference
from clusterflow.errors import InputError

LEVELS = ("gfn1", "gfn2", "quick", "paper")


@dataclass(frozen=True, slots=True)
class ForceLevel:
    """``name`` for tables, ``identity`` the full level of theory; ``forces`` (atoms, charge, spin) → (n, 3) eV/Å;
    ``row`` (atoms, index, charge, spin) → (3, n, 3) eV/Å² where the level has Hessian rows of its own, else None."""

    name: str
    identity: str
    forces: Callable[[Atoms, int, int], FloatArray]
    check_elements: Callable[[Iterable[str]], None]
    row: Callable[[Atoms, int, int, int], FloatArray] | None = None


def reference_level(name: str, store: Path | None = None) -> ForceLevel:
    """One of `LEVELS`. With a label store, what it holds is not computed again, and what is computed is added.

    Raises
    ------
    InputError
        There is no such level.
    """
    if name not in LEVELS:
        raise InputError(
            f"There is no level '{name}'.",
            todo=f"Choose one of {', '.join(LEVELS)}; a trained potential is given with --model FOLDER.",
        )
    reference = _build(name)
    forces = _stored(reference, store) if store is not None else _computed(reference)
    return ForceLevel(name, reference.level_of_theory, forces, reference.check_elements)


def potential_level(folder: Path) -> ForceLevel:
    """A trained potential, in double precision and with the Hessian rows it has, or by differences of its forces.

    Raises
    ------
    InputError
        There is no such folder.
    StateError
        It is damaged or of another format.
    """
    from clusterflow.physics.hessian import potential_rows
    from clusterflow.train.learners import load_potential

    potential = load_potential(folder, dtype="float64")

    def check(symbols: Iterable[str]) -> None:
        missing = sorted(set(symbols) - set(potential.elements))
        if missing:
            raise InputError(
                f"The potential does not know {', '.join(missing)}.",
                where=str(folder.absolute()),
                todo=f"It was trained on {', '.join(potential.elements)}; use another, or --level.",
            )

    def forces(atoms: Atoms, _charge: int, _spin: int) -> FloatArray:
        return np.asarray(potential.predict([atoms])[0].forces)

    def row(atoms: Atoms, index: int, _charge: int, _spin: int) -> FloatArray:
        return np.asarray(potential_rows(potential, atoms, [index])[0])

    identity = f"potential {potential.model_id}"
    return ForceLevel("potential", identity, forces, check, row)


def _build(name: str) -> Any:
    from clusterflow.label.gpaw import GPAWReference
    from clusterflow.label.xtb import XTBReference

    if name in ("gfn1", "gfn2"):
        return XTBReference(method=f"{name.upper()}-xTB")
    return GPAWReference.paper() if name == "paper" else GPAWReference.quick()


def _computed(reference: Reference) -> Callable[[Atoms, int, int], FloatArray]:
    def forces(atoms: Atoms, charge: int, spin: int) -> FloatArray:
        with tempfile.TemporaryDirectory(prefix="clusterflow-forces-") as scratch:
            return reference.label(atoms, charge=charge, spin=spin, workdir=Path(scratch)).prediction.forces

    return forces


def _stored(reference: Reference, folder: Path) -> Callable[[Atoms, int, int], FloatArray]:
    from clusterflow.execution.reference_forces import stored_forces
    from clusterflow.state.labels import LabelStore

    store = LabelStore(folder)

    def forces(atoms: Atoms, charge: int, spin: int) -> FloatArray:
        with tempfile.TemporaryDirectory(prefix="clusterflow-forces-") as scratch:
            return stored_forces(reference, store, charge=charge, spin=spin, workdir=Path(scratch))(atoms)

    return forces
