"""One of our potentials as a Hamiltonian of psiflow, which is not on the package index and imported only when asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms

from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError

Load = Callable[[Path], Potential]
"""Folder of a model → its potential. Importable by name, as psiflow's workers are other processes."""


class PotentialFunction:
    """What psiflow calls a function: geometries in, arrays out, in its worker. Needs nothing of psiflow itself.

    A geometry has ``per_atom`` (with ``numbers`` and ``positions``), ``cell`` and ``periodic``, as psiflow's have.
    """

    outputs: ClassVar[tuple[str, ...]] = ("energy", "forces", "stress")

    def __init__(self, model: str, load: Load) -> None:
        self._potential = load(Path(model))

    def __call__(self, geometry: Any) -> dict[str, Any]:
        """energy (eV), forces (n, 3) eV/Å and stress (3, 3) eV/Å³, zero where there is none, of one geometry."""
        found = self._potential.predict([_atoms(geometry)])[0]
        stress = np.zeros((3, 3)) if found.stress is None else found.stress
        return {"energy": found.energy, "forces": found.forces, "stress": stress}

    def compute(self, geometries: Sequence[Any]) -> Mapping[str, Any]:
        """Arrays over all geometries, NaN where one has fewer atoms than the largest or is a placeholder."""
        largest = max(len(g.per_atom) for g in geometries)
        energy = np.full(len(geometries), np.nan)
        forces = np.full((len(geometries), largest, 3), np.nan)
        stress = np.full((len(geometries), 3, 3), np.nan)
        for k, geometry in enumerate(geometries):
            if not np.any(geometry.per_atom.numbers):
                continue  # psiflow's placeholder of a failed calculation
            found = self(geometry)
            energy[k], stress[k] = found["energy"], found["stress"]
            forces[k, : len(geometry.per_atom)] = found["forces"]
        return {"energy": energy, "forces": forces, "stress": stress}


def _atoms(geometry: Any) -> Atoms:
    periodic = bool(geometry.periodic)
    cell = np.array(geometry.cell) if periodic else None
    return Atoms(geometry.per_atom.numbers, geometry.per_atom.positions, cell=cell, pbc=periodic)


def psiflow_hamiltonian(model: Path, load: Load) -> Any:
    """A psiflow `Hamiltonian` with the potential in the folder ``model``: `compute`, sums and multiples of it.

    psiflow's samplers rebuild functions by name from a list of its own in i-PI's processes and refuse this one with the
    reason.

    Raises
    ------
    InputError
        psiflow cannot be imported, or the folder is none.
    """
    try:
        import psiflow
        from psiflow.hamiltonians import Hamiltonian, apply_modelevaluation
    except ImportError as error:
        raise InputError(
            f"psiflow cannot be imported here: {error}.",
            where="psiflow_hamiltonian",
            todo="Install it from its repository (github.com/molmod/psiflow; it is not on the package index).",
        ) from error
    model = Path(model).absolute()
    if not (model / "model.json").is_file():
        raise InputError(
            f"There is no trained potential in '{model}': model.json is missing.",
            where=str(model),
            todo="Give the folder `model` of a campaign or of an export.",
        )

    class ClusterflowHamiltonian(Hamiltonian):  # type: ignore[misc]  # its base is known only here
        function_name: ClassVar[str] = "PotentialFunction"

        def parameters(self) -> dict[str, Any]:
            return {"model": str(model), "load": load}

        def get_app(self) -> Any:
            resources = psiflow.context().definitions["ModelEvaluation"].wq_resources(1)
            return partial(
                apply_modelevaluation,
                function_cls=PotentialFunction,
                parsl_resource_specification=resources,
                **self.parameters(),
            )

        def serialize_function(self, **_: Any) -> Any:
            raise InputError(
                "psiflow cannot sample with this Hamiltonian: its i-PI processes know only psiflow's own functions.",
                where=str(model),
                todo="Use it to evaluate datasets; walk with clusterflow, ASE, OpenMM or LAMMPS.",
            )

        def __eq__(self, other: object) -> bool:
            return type(other).__name__ == type(self).__name__ and self.parameters() == other.parameters()  # type: ignore[attr-defined]

        __hash__ = None  # type: ignore[assignment]  # as psiflow's own

    return ClusterflowHamiltonian()
