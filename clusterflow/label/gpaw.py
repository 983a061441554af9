"""GPAW labels: one subprocess per label, in its own folder, with MPI ranks and a time limit.

GPAW: J. J. Mortensen et al., J. Chem. Phys. 160, 092503 (2024), doi:10.1063/5.0182685. The default level is that of
Dobbelaere et al. 2025 (arXiv:2504.03881, SI 1).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import Label, Prediction
from clusterflow.core.frames import atoms_to_json, canonical_json, digest
from clusterflow.errors import InputError, LabelError
from clusterflow.label.box import extended_points, fragment_box
from clusterflow.label.checks import check_electrons, check_label, check_structure
from clusterflow.label.dispersion import add_d3bj, d3bj_parameters
from clusterflow.label.gpaw_job import read_outcome, this_process, worker_environment, write_job
from clusterflow.label.gpaw_setups import check_datasets, setups_identity
from clusterflow.label.ladder import LADDER, rungs
from clusterflow.label.process import run_in_session

LAUNCHER = ("mpirun", "-np", "{ranks}")
"""Command before Python that starts MPI ranks, where none is given."""
MODES = ("fd", "lcao", "pw")
CONVERGENCE = {"energy": 5e-4, "density": 1e-4}
"""eV per valence electron; electrons per valence electron: GPAW's own defaults."""
_CRITERIA = ("energy", "density", "eigenstates", "forces")


@dataclass(frozen=True)
class GPAWReference:
    """Kohn–Sham DFT with GPAW as a `Reference`; finite fragments and periodic parents at one level.

    Level of theory:

    ``mode`` "fd" (real-space grid), "lcao" (atomic orbitals) or "pw" (plane waves); ``xc`` functional; ``h`` grid
    spacing in Å (fd, lcao): exact for fragments, the nearest that fits for a periodic cell; ``basis`` (lcao);
    ``ecut_eV`` (pw); ``vacuum`` in Å on every side of a fragment; ``poisson_vacuum`` further Å for the electrostatic
    potential only (fd, lcao, fragments), or None; ``dispersion`` "d3bj" or None; ``smearing_eV`` Fermi–Dirac width of
    the final state (the energy is then the free energy, whose derivative the forces are); ``stencil`` points on each
    side of the finite-difference Laplacian (fd, 1–6); ``interpolation`` half width of the density interpolation (2
    cubic, 3 quintic, 4 heptic; fd, lcao); ``convergence`` criteria by GPAW's names (energy, density, eigenstates,
    forces); ``kpts`` Monkhorst–Pack grid of periodic cells, only the Γ point by default (fragments have no other).

    How it is computed (not part of the level):

    ``ranks`` MPI processes; ``time_limit`` s for everything; ``launcher`` command before Python, where "{ranks}" is
    filled in (default: mpirun when ranks > 1); ``max_attempts`` rungs of the ladder (1–4); ``max_scf_steps`` of the
    first attempt; ``max_force`` (eV/Å) and ``max_net_force`` (eV/Å per √n) as in `check_label`. ``offset`` Å by which a
    fragment is moved from the middle of its box, to measure the noise of the grid (`clusterflow.label.noise`).

    Raises
    ------
    InputError
        A field has an impossible value.
    """

    mode: str = "fd"
    xc: str = "PBE"
    h: float = 0.175
    basis: str = "dzp"
    ecut_eV: float = 500.0
    vacuum: float = 4.0
    poisson_vacuum: float | None = 8.0
    dispersion: str | None = "d3bj"
    smearing_eV: float = 0.0
    stencil: int = 6
    interpolation: int = 4
    convergence: Mapping[str, float] = field(default_factory=lambda: dict(CONVERGENCE))
    kpts: tuple[int, int, int] = (1, 1, 1)
    ranks: int = 1
    time_limit: float = 86_400.0
    launcher: tuple[str, ...] = ()
    max_attempts: int = len(LADDER)
    max_scf_steps: int = 120
    max_force: float = 50.0
    max_net_force: float = 1.5
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        _check_fields(self)

    @classmethod
    def paper(cls, **changes: Any) -> GPAWReference:
        """Dobbelaere 2025, SI 1: fd, h 0.175 Å, PBE-D3(BJ), vacuum 4 Å, Poisson vacuum 8 Å, Γ, stencils of maximum
        range, heptic interpolation. ``changes`` for ranks, time limit and the like."""
        return cls(**changes)

    @classmethod
    def quick(cls, **changes: Any) -> GPAWReference:
        """lcao dzp, h 0.2 Å, PBE, vacuum 3 Å, no Poisson vacuum, no D3: for tutorials and tests of a workflow on a
        laptop. Forces of a distorted fragment differ by 0.4 eV/Å (rms, a tenth of their size) from fd or pw, because
        the basis is small; docs/concepts/labels.md has the table."""
        return cls(
            **{
                "mode": "lcao",
                "h": 0.2,
                "vacuum": 3.0,
                "poisson_vacuum": None,
                "dispersion": None,
                "stencil": 3,
                "interpolation": 3,
                **changes,
            }
        )

    @property
    def level_of_theory(self) -> str:
        """Everything that changes the theory, and nothing that does not, in one readable line.

        Raises
        ------
        InputError
            GPAW is not installed here.
        """
        basis = {"fd": f"fd stencil={self.stencil}", "lcao": f"lcao({self.basis})", "pw": f"pw({self.ecut_eV:g}eV)"}
        version, setups = setups_identity()
        parts = [f"GPAW-{version}", basis[self.mode], self.xc + ("-D3(BJ)" if self.dispersion else "")]
        if self.mode != "pw":
            parts += [f"h={self.h:g}", f"interpolation={self.interpolation}"]
        parts.append(f"vacuum={self.vacuum:g}")
        if self.mode != "pw":
            parts.append(f"poisson_vacuum={self.poisson_vacuum or 0:g}")
        grid = "gamma" if self.kpts == (1, 1, 1) else "x".join(str(n) for n in self.kpts)
        parts += [f"kpts={grid}", f"smearing={self.smearing_eV:g}"]
        parts.append("scf=" + ",".join(f"{k}:{float(v):g}" for k, v in sorted(self.convergence.items())))
        return " ".join([*parts, f"setups={setups}"])

    def check_elements(self, symbols: Iterable[str]) -> None:
        """Finds the PAW dataset (and the basis set) of every element as GPAW itself would, without calculating.

        Raises
        ------
        InputError
            Naming the elements that have none, and what to do.
        """
        check_datasets(symbols, self.xc, self.basis if self.mode == "lcao" else None)

    def label(self, atoms: Atoms, *, charge: int = 0, spin: int = 0, workdir: Path) -> Label:
        """Energy, forces and (pw, 3-d periodic) stress of one structure.

        ``charge`` in e, fragments only; ``spin`` number of unpaired electrons; ``workdir`` is made if need be and keeps
        GPAW's text output, the job and the result.

        Raises
        ------
        LabelError
            Not converged on any rung, out of time, truncated, implausible, or charge and spin that do not fit.
        InputError
            An element without PAW data, or GPAW missing.
        WorkerLostError
            The process was killed from outside (memory?).
        ExecutionError
            It could not be started, or the folder cannot be written to.
        """
        workdir = Path(workdir).absolute()
        check_structure(atoms, where=str(workdir))
        check_electrons(atoms, charge, spin, where=str(workdir))
        _check_boundary(atoms, charge, str(workdir))
        self.check_elements(set(atoms.get_chemical_symbols()))
        level = self.level_of_theory
        job = self._job(atoms, charge, spin)
        start = time.monotonic()
        write_job(workdir, job)
        finished = run_in_session(
            self._command(workdir / "job.json"),
            folder=workdir,
            log=workdir / "worker.log",
            environment=worker_environment(),
            time_limit=self.time_limit,
        )
        result = read_outcome(finished, workdir, job, ranks=self.ranks, time_limit=self.time_limit)
        prediction = Prediction(
            energy=float(result["energy"]),
            forces=np.array(result["forces"], dtype=float),
            stress=_full_stress(result["stress"]),
        )
        check_label(
            atoms,
            prediction,
            converged=bool(result["converged"]),
            max_force=self.max_force,
            max_net_force=self.max_net_force,
            where=str(workdir),
        )
        if spin and abs(result["magmom"] - spin) > 0.1:
            raise LabelError(
                f"The magnetic moment came out as {result['magmom']:.2f}, not the {spin} unpaired electrons asked for.",
                where=str(workdir),
                todo="Check the fragment's spin.",
            )
        if self.dispersion:
            prediction = add_d3bj(atoms, prediction, self.xc)
        return Label(
            prediction=prediction,
            level_of_theory=level,
            charge=charge,
            spin=spin,
            scf_steps=int(result["scf_steps"]),
            wall_time=time.monotonic() - start,
            cores=self.ranks,
            peak_memory_MB=float(result["peak_memory_MB"]),
            steps=tuple(result["steps"]),
        )

    def _job(self, atoms: Atoms, charge: int, spin: int) -> dict[str, Any]:
        grid = self.mode != "pw"
        finite = not atoms.pbc.any()
        parameters: dict[str, Any] = {
            "xc": self.xc,
            "charge": charge,
            "kpts": [1, 1, 1] if finite else list(self.kpts),
            "convergence": dict(self.convergence),
            "occupations": {"name": "fermi-dirac", "width": self.smearing_eV},
            "mode": {
                "fd": {"name": "fd", "nn": self.stencil, "interpolation": self.interpolation},
                "lcao": {"name": "lcao", "interpolation": self.interpolation},
                "pw": {"name": "pw", "ecut": self.ecut_eV},
            }[self.mode],
        }
        if self.mode == "lcao":
            parameters["basis"] = self.basis
        if spin:
            parameters["spinpol"] = True
            parameters["occupations"]["fixmagmom"] = True
        points = None
        boxed = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        if finite:
            box = fragment_box(atoms, self.vacuum, self.h if grid else None, 8 if self.mode == "fd" else 4, self.offset)
            boxed = box.atoms
            if box.gpts is not None:
                parameters["gpts"] = list(box.gpts)
                if self.poisson_vacuum:
                    points = list(extended_points(box.gpts, self.poisson_vacuum, self.h))
        elif grid:
            parameters["h"] = self.h
        job = {
            "atoms": atoms_to_json(boxed),
            "parameters": parameters,
            "poisson_points": points,
            "magmoms": initial_moments(atoms, spin) if spin else None,
            "max_scf_steps": self.max_scf_steps,
            "rungs": [asdict(r) for r in rungs(self.max_attempts)],
            "stress": self.mode == "pw" and not finite,
            "time_limit": self.time_limit,
        }
        return {**job, "key": digest(canonical_json(job)), "driver": this_process()}

    def _command(self, job: Path) -> list[str]:
        module = "clusterflow.label.gpaw_worker"
        if self.ranks == 1 and not self.launcher:
            return [sys.executable, "-m", module, str(job)]
        launcher = self.launcher or LAUNCHER
        parallel = [part.replace("{ranks}", str(self.ranks)) for part in launcher]
        return [*parallel, sys.executable, "-m", "gpaw", "python", "-m", module, str(job)]


def initial_moments(atoms: Atoms, spin: int) -> list[float]:
    """Magnetic moments to start from (they add up to ``spin``): on the transition metals and f elements if there are
    any, else on all atoms but hydrogen (on all atoms if there is nothing else)."""
    z = atoms.numbers
    open_shell = ((z >= 21) & (z <= 29)) | ((z >= 39) & (z <= 47)) | ((z >= 57) & (z <= 79))
    carriers = open_shell if open_shell.any() else (z > 1 if (z > 1).any() else z > 0)
    return [float(m) for m in np.where(carriers, spin / carriers.sum(), 0.0)]


def _check_fields(r: GPAWReference) -> None:
    if r.mode not in MODES:
        raise InputError(f"'{r.mode}' is not a GPAW mode.", todo=f"Use one of {', '.join(MODES)}.")
    if r.dispersion not in (None, "d3bj"):
        raise InputError(f"'{r.dispersion}' is not a dispersion correction.", todo="Use d3bj or none.")
    if r.dispersion:
        d3bj_parameters(r.xc)
    ranges: tuple[tuple[str, float, float, float], ...] = (
        ("h", r.h, 0.05, 0.5),
        ("ecut_eV", r.ecut_eV, 100.0, 3000.0),
        ("vacuum", r.vacuum, 1.0, 30.0),
        ("poisson_vacuum", r.poisson_vacuum or 0.0, 0.0, 60.0),
        ("smearing_eV", r.smearing_eV, 0.0, 1.0),
        ("stencil", r.stencil, 1, 6),
        ("interpolation", r.interpolation, 2, 4),
        ("ranks", r.ranks, 1, 100_000),
        ("max_attempts", r.max_attempts, 1, len(LADDER)),
        ("max_scf_steps", r.max_scf_steps, 1, 10_000),
        ("time_limit", r.time_limit, 1e-3, 1e9),
    )
    for name, value, low, high in ranges:
        if not low <= value <= high:
            raise InputError(f"GPAW's {name} = {value:g} is not between {low:g} and {high:g}.")
    if len(r.kpts) != 3 or not all(1 <= n <= 64 for n in r.kpts):
        raise InputError(f"GPAW's kpts = {r.kpts} is no grid.", todo="Give three numbers between 1 and 64.")
    if len(r.offset) != 3 or not all(abs(x) <= r.vacuum / 2 for x in r.offset):
        raise InputError(f"GPAW's offset {r.offset} is not three lengths of up to half the vacuum ({r.vacuum:g} Å).")
    for name, value in r.convergence.items():
        if name not in _CRITERIA or not value > 0:
            raise InputError(
                f"'{name}: {value}' is not a convergence criterion.", todo=f"Use {', '.join(_CRITERIA)}, each > 0."
            )


def _check_boundary(atoms: Atoms, charge: int, where: str) -> None:
    if atoms.pbc.any() and not atoms.pbc.all():
        raise LabelError(
            f"The structure is periodic in some directions only ({atoms.pbc.tolist()}).",
            where=where,
            todo="Make it a finite fragment, or periodic in three directions with vacuum in the cell.",
        )
    if atoms.pbc.all() and charge:
        raise LabelError(f"A periodic cell cannot carry a charge of {charge:+d}.", where=where, todo="Use charge 0.")


def _full_stress(voigt: list[float] | None) -> np.ndarray | None:
    if voigt is None:
        return None
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
