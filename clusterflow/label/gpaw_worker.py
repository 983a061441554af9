"""The process in which GPAW runs: ``python -m clusterflow.label.gpaw_worker job.json`` (every MPI rank runs it).

Reads a job, climbs the ladder of SCF remedies, and publishes ``result.json`` or ``failure.json`` beside the job with a
temporary name and a rename, so that a file that exists is complete. GPAW's own text output stays in ``gpaw.txt``,
``gpaw-2.txt`` … (one per attempt). The process ends itself when its driver dies or its time is over.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterflow.core.memory import peak_memory_MB

EXIT_DISK = 74
"""Exit status when the folder cannot be written to (sysexits' EX_IOERR)."""

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES}


def main(arguments: list[str] | None = None) -> int:
    """Runs the job whose path is the only argument; the exit status is 0 for a result *or* a recorded failure."""
    job_path = Path((arguments or sys.argv[1:])[0])
    job = json.loads(job_path.read_text())
    _watch(job["driver"], float(job["time_limit"]))
    try:
        name, outcome = _run(job, job_path.parent)
        outcome["job"] = job["key"]
        if _rank() == 0:
            publish(job_path.parent / name, outcome)
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            sys.stderr.write(f"cannot write in {job_path.parent}: {error}\n")
            return EXIT_DISK
        raise
    return 0


def publish(path: Path, data: Mapping[str, Any]) -> None:
    """Writes JSON so that the file is either absent or complete, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as out:
        json.dump(data, out)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)


def _rank() -> int:
    from gpaw.mpi import world

    return int(world.rank)


def _run(job: Mapping[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    import numpy as np
    from ase import Atoms
    from gpaw import ConvergenceError

    data = job["atoms"]
    atoms = Atoms(numbers=data["numbers"], positions=data["positions"], cell=data["cell"], pbc=data["pbc"])
    if job["magmoms"] is not None:
        atoms.set_initial_magnetic_moments(job["magmoms"])
    steps: list[str] = []
    scf_steps = 0
    trouble = ""
    for attempt, rung in enumerate(job["rungs"], start=1):
        if rung["name"]:
            steps.append(rung["name"])
        text = "gpaw.txt" if attempt == 1 else f"gpaw-{attempt}.txt"
        calc = _calculator(job, rung, str(folder / text))
        try:
            scf_steps += _converge(calc, atoms, job, rung)
        except (ConvergenceError, np.linalg.LinAlgError) as error:
            scf_steps += int(getattr(calc.scf, "niter", 0) or 0)
            trouble = f"{type(error).__name__}: {error}".strip(": ")
            continue
        result = _results(calc, atoms, job)
        result.update(scf_steps=scf_steps, steps=steps, converged=bool(calc.scf.converged), ranks=_size())
        return "result.json", result
    return "failure.json", {"kind": "unconverged", "message": trouble, "steps": steps, "scf_steps": scf_steps}


def _size() -> int:
    from gpaw.mpi import world

    return int(world.size)


def _calculator(job: Mapping[str, Any], rung: Mapping[str, Any], text: str) -> Any:
    """GPAW with the job's level and the rung's way of getting there.

    The long-established implementation, because at 26.7 it needs a third less time and memory for LCAO fragments and
    its fd and pw modes run on several ranks without ScaLAPACK.
    """
    from gpaw import GPAW, Mixer, MixerDif
    from gpaw.poisson import PoissonSolver
    from gpaw.poisson_extravacuum import ExtraVacuumPoissonSolver

    parameters = dict(job["parameters"])
    if job["poisson_points"] is not None:
        # The FFT solvers are exact on their grid, so there is no inner convergence threshold to choose.
        parameters["poissonsolver"] = ExtraVacuumPoissonSolver(
            tuple(job["poisson_points"]), PoissonSolver("fast"), PoissonSolver("fast"), 1
        )
    if rung["mixing"] is not None:
        parameters["mixer"] = (MixerDif if job["magmoms"] is not None else Mixer)(*rung["mixing"])
    if rung["path_smearing_eV"] > 0:
        parameters["occupations"] = {**parameters["occupations"], "width": rung["path_smearing_eV"]}
    # Atoms are anywhere, so there is no symmetry but that of time, which halves the k-points.
    symmetry = "off" if parameters["kpts"] == [1, 1, 1] else {"point_group": False}
    return GPAW(
        legacy_gpaw=True, txt=text, symmetry=symmetry, maxiter=job["max_scf_steps"] * rung["step_factor"], **parameters
    )


def _converge(calc: Any, atoms: Any, job: Mapping[str, Any], rung: Mapping[str, Any]) -> int:
    """Self-consistency at the job's own occupation numbers; returns the number of SCF steps."""
    calc.calculate(atoms, properties=["energy"], system_changes=["positions", "numbers", "cell", "pbc"])
    count = int(calc.scf.niter)
    wanted = job["parameters"]["occupations"]
    if rung["path_smearing_eV"] > 0 and rung["path_smearing_eV"] != wanted["width"]:
        calc.set(occupations=wanted)  # keeps the density: only the filling of the states starts anew
        calc.calculate(atoms, properties=["energy"], system_changes=[])
        count += int(calc.scf.niter)
    if calc.parameters["occupations"] != wanted:
        raise RuntimeError("the final occupation numbers are not those of the level of theory")
    return count


def _results(calc: Any, atoms: Any, job: Mapping[str, Any]) -> dict[str, Any]:
    from gpaw.mpi import world

    properties = ["energy", "forces"] + (["stress"] if job["stress"] else [])
    calc.calculate(atoms, properties=properties, system_changes=[])
    results = calc.results
    stress = results.get("stress")
    return {
        # The free energy is what the forces are the derivative of; without smearing it is the energy.
        "energy": float(results["free_energy"]),
        "forces": results["forces"].tolist(),
        "stress": None if stress is None else [float(s) for s in stress],
        "magmom": float(results.get("magmom", 0.0)),
        "peak_memory_MB": float(world.sum_scalar(float(peak_memory_MB()))),
    }


def _watch(driver: Mapping[str, Any], time_limit: float) -> None:
    """A thread that ends this process when the driver is gone (also by kill -9) or the time is over twice."""
    import psutil

    def alive() -> bool:
        try:
            return abs(psutil.Process(int(driver["pid"])).create_time() - float(driver["created"])) < 2.0
        except psutil.Error:
            return False

    watch_driver = alive()  # not visible from inside some containers, or from another node: then only the clock counts
    end = time.monotonic() + time_limit + 30.0

    def loop() -> None:
        while time.monotonic() < end and (alive() or not watch_driver):
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=loop, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
