"""The files and the environment between the driver and the process in which GPAW runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterflow.errors import ExecutionError, InputError, LabelError, LabelTimeoutError, WorkerLostError
from clusterflow.label.gpaw_worker import EXIT_DISK
from clusterflow.label.process import Finished


def this_process() -> dict[str, Any]:
    """How the worker recognises its driver."""
    import psutil

    return {"pid": os.getpid(), "created": psutil.Process().create_time()}


def worker_environment() -> dict[str, str]:
    """One thread per rank; no traces of an MPI job around us; ranks not bound, since several labels share a machine."""
    import clusterflow

    foreign = ("OMPI_COMM_WORLD_", "PMIX_", "PMI_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    env.update({f"{lib}_NUM_THREADS": "1" for lib in ("OMP", "OPENBLAS", "MKL")})
    env.update({"OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none"})
    package = str(Path(clusterflow.__file__).parents[1])
    env["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [env.get("PYTHONPATH")])])
    env["PYTHONUNBUFFERED"] = "1"
    if os.geteuid() == 0:  # Open MPI refuses root otherwise, and containers often have no other user
        env.update({"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})
    return env


def write_job(workdir: Path, job: Mapping[str, Any]) -> None:
    """Makes the folder, removes an earlier outcome and writes ``job.json``.

    Raises
    ------
    ExecutionError
        The folder cannot be written to.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        for name in ("result.json", "failure.json"):
            (workdir / name).unlink(missing_ok=True)
        (workdir / "job.json").write_text(json.dumps(job))
    except OSError as error:
        raise _disk_error(workdir, error.strerror or str(error)) from error


def read_outcome(
    finished: Finished, workdir: Path, job: Mapping[str, Any], *, ranks: int, time_limit: float
) -> dict[str, Any]:
    """The worker's result.

    Raises
    ------
    LabelError
        Not converged, out of time, truncated, or any error of GPAW's own.
    ExecutionError
        The machinery failed: disk, MPI, killed.
    """
    where = str(workdir)
    result, failure = _load(workdir / "result.json", job), _load(workdir / "failure.json", job)
    if result is not None:
        return result
    if failure is not None:
        climbed = "; ".join(failure["steps"]) or "none"
        raise LabelError(
            f"The self-consistent field did not converge in {failure['scf_steps']} steps ({failure['message']}). "
            f"Remedies tried: {climbed}.",
            where=where,
            todo="See gpaw*.txt there. Check charge and spin; allow more max_scf_steps or max_attempts.",
        )
    if finished.timed_out:
        raise LabelTimeoutError(
            f"GPAW did not finish {len(job['atoms']['numbers'])} atoms within the time limit of {time_limit:g} s.",
            where=where,
            todo="Allow more time or ranks, or use smaller fragments; gpaw.txt there shows how far it came.",
        )
    raise _diagnose(finished.returncode, workdir, ranks)


def _disk_error(workdir: Path, why: str) -> ExecutionError:
    import psutil

    place = next((p for p in (workdir, *workdir.parents) if p.exists()), Path("/"))
    free = psutil.disk_usage(str(place)).free / 1024**2
    return ExecutionError(
        f"The folder of this label cannot be written to: {why} ({free:.0f} MB free).",
        where=str(workdir),
        todo="Make room or give another folder, then run again: labels that were finished are kept.",
    )


def _load(path: Path, job: Mapping[str, Any]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        data: dict[str, Any] = dict(json.loads(path.read_text()))
    except (ValueError, TypeError, OSError) as error:
        raise LabelError(
            f"The result is truncated or damaged: {error}", where=str(path), todo="Run the label again."
        ) from error
    expected = {"failure.json": {"message", "steps", "scf_steps"}}.get(
        path.name, {"energy", "forces", "stress", "scf_steps", "steps", "converged", "magmom", "peak_memory_MB"}
    )
    missing = expected - set(data)
    if missing or data.get("job") != job["key"]:
        why = f"lacks {', '.join(sorted(missing))}" if missing else "belongs to another job"
        raise LabelError(f"The result {why}.", where=str(path), todo="Run the label again.")
    return data


def _diagnose(returncode: int, workdir: Path, ranks: int) -> Exception:
    log = workdir / "worker.log"
    text = log.read_text(errors="replace") if log.exists() else ""
    where = str(log)
    if returncode == EXIT_DISK or "No space left on device" in text:
        line = next((x for x in text.splitlines() if "cannot write" in x or "No space left" in x), "write error")
        return _disk_error(workdir, line.strip())
    if "BLACSDistribution" in text:
        return ExecutionError(
            f"GPAW was built without ScaLAPACK and cannot run this mode on {ranks} ranks.",
            where=where,
            todo="Use ranks: 1 or mode lcao, or build GPAW with ScaLAPACK (siteconfig.py: scalapack = True).",
        )
    if "not enough slots" in text:
        return ExecutionError(
            f"mpirun refuses {ranks} ranks on this machine.",
            where=where,
            todo="Use fewer ranks, or launcher: [mpirun, --oversubscribe, -np, '{ranks}'].",
        )
    if "No module named 'gpaw'" in text or "No module named gpaw" in text:
        return InputError("GPAW is not installed here.", where=where, todo="Install clusterflow[gpaw].")
    killed = returncode < 0 or returncode in (137, 143) or "signal 9 (Killed)" in text
    last = next((x.strip() for x in reversed(text.splitlines()) if x.strip()), "no output")
    if killed:
        return WorkerLostError(
            f"GPAW was killed from outside (status {returncode}).",
            where=where,
            todo="Often too little memory: use fewer labels at a time, more ranks, or smaller fragments.",
        )
    return LabelError(
        f"GPAW ended with status {returncode} and no result: {_error_line(text) or last}",
        where=where,
        todo="Read worker.log and gpaw.txt there.",
    )


def _error_line(text: str) -> str:
    """The last line of a Python traceback in the log, which says what was wrong."""
    lines = [x.strip() for x in text.splitlines()]
    return next((x for x in reversed(lines) if "Error: " in x or x.endswith("Error")), "")[:300]
