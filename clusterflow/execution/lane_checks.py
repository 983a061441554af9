"""`clusterflow doctor` on a cluster: a pinned task on every kind of block, and GPAW at several numbers of MPI ranks."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, TimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterflow.core.data import Task, TaskResult
from clusterflow.core.frames import digest
from clusterflow.errors import ClusterflowError
from clusterflow.execution.machines import BatchMachine, Machine
from clusterflow.execution.supervise import BEGAN

EFFICIENT = 0.7
"""Share of the ideal speed-up that more ranks must keep to be worth their cores."""
_TASK_LIMIT = 900.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was done, whether it worked, what was seen, and what to do if it did not; ``needed`` is false for
    parts that not every campaign uses."""

    name: str
    ok: bool
    seen: str
    todo: str = ""
    seconds: float = 0.0
    needed: bool = True


def examine_blocks(machine: Machine, place: Path, *, patience: float) -> Iterator[Finding]:
    """Submits a job for each lane that has blocks of its own and reports what it found there. ``place``: a folder that
    the nodes see; a temporary one is made in it. ``patience``: s to wait for each job, queue included."""
    from clusterflow.execution.parsl_engine import ParslEngine

    assert isinstance(machine, BatchMachine)
    folder = Path(tempfile.mkdtemp(prefix="clusterflow-doctor-", dir=place))
    kept = False
    try:
        engine = ParslEngine(machine, folder, probe, run_id=f"doctor:{os.getpid()}")
        try:
            sent = time.time()
            looked = {lane: engine.submit(_task("look", lane)) for lane in machine.block_lanes()}
            for lane, future in looked.items():
                finding = _lane_finding(machine, lane, future, sent, patience)
                kept = kept or not finding.ok
                yield finding
                if finding.ok and lane == machine.block_lane("label"):
                    yield _mpi_finding(engine, lane, machine.lane(lane).cores_per_worker, patience)
        finally:
            engine.close(cancel=True)
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _task(do: str, lane: str, **payload: Any) -> Task:
    body = {"do": do, **payload}
    return Task("probe", digest("probe", lane, str(sorted(body.items()))), lane, body, _TASK_LIMIT)


def _lane_finding(
    machine: BatchMachine, lane: str, future: Future[TaskResult], sent: float, patience: float
) -> Finding:
    shared = [name for name in ("md", "label", "train", "local") if machine.block_lane(name) == lane]
    name = f"{'lanes' if len(shared) > 1 else 'lane'} {', '.join(shared)}"
    try:
        seen = future.result(timeout=patience).summary
    except TimeoutError:
        return Finding(
            name,
            ok=False,
            seen=f"no answer within {patience:.0f} s; the job may still wait in the queue",
            todo="Look at the queue (squeue --me, qstat -u $USER, kubectl get pods); give more time with --patience.",
            seconds=time.time() - sent,
        )
    except ClusterflowError as error:
        return Finding(
            name, ok=False, seen=f"{error.what} ({error.where})", todo=error.todo, seconds=time.time() - sent
        )
    wanted = machine.lane(lane)
    wrong = []
    if wanted.gpus_per_node and not seen["gpus"]:
        wrong.append(f"{wanted.gpus_per_node} GPUs were asked for and none is visible (CUDA_VISIBLE_DEVICES)")
    if seen["cores"] < wanted.cores_per_node:
        wrong.append(f"{wanted.cores_per_node} cores were asked for and {seen['cores']} may be used")
    if seen["clusterflow"] != machine_version():
        wrong.append(f"clusterflow {seen['clusterflow']} there, {machine_version()} here")
    gpu = f"GPU {seen['gpus']} {seen['gpu_name']}".strip() if seen["gpus"] else "no GPU"
    versions = {"Python": seen["python"], "clusterflow": seen["clusterflow"], **seen["packages"]}
    text = (
        f"node {seen['node']}; {seen['began'] - sent:.0f} s until the job began, then "
        f"{seen['at_work'] - seen['began']:.0f} s to the first task; {seen['cores']} cores, workers per node: "
        f"{wanted.workers} of {wanted.cores_per_worker} cores; this worker sees {gpu}; "
        + ", ".join(f"{k} {v}" for k, v in versions.items())
    )
    todo = f"Correct lanes.{lane} of the machine file: {'; '.join(wrong)}." if wrong else ""
    return Finding(name, ok=not wrong, seen=text, todo=todo, seconds=seen["at_work"] - sent)


def machine_version() -> str:
    """The version of clusterflow that the driver has."""
    import clusterflow

    return clusterflow.__version__


def _mpi_finding(engine: Any, lane: str, cores: int, patience: float) -> Finding:
    """Seconds of one small GPAW label at 1, 2, 4 … ranks, as many as one worker has cores, and which to take."""
    began = time.time()
    seconds: dict[int, float] = {}
    ranks, trouble = 1, ""
    while ranks <= cores and not trouble:
        try:
            result = engine.submit(_task("gpaw", lane, ranks=ranks)).result(timeout=patience)
            seconds[ranks] = float(result.summary["seconds"])
        except (ClusterflowError, TimeoutError) as error:
            trouble = f"{ranks} ranks: {getattr(error, 'what', 'no answer in time')}"
        ranks *= 2
    text = "; ".join(f"{r} ranks {s:.1f} s" if r > 1 else f"1 rank {s:.1f} s" for r, s in seconds.items())
    if seconds and not trouble:
        text += f". {recommend(seconds, cores)}"
    return Finding(
        "GPAW on the nodes of labels: benzene, lcao",
        ok=not trouble,
        seen="; ".join(filter(None, (text, trouble))),
        todo="Only needed for labels by GPAW; for more than one rank set `mpi:` of the lane, or label.ranks: 1."
        if trouble
        else "",
        seconds=time.time() - began,
        needed=False,
    )


def recommend(seconds: Mapping[int, float], cores: int) -> str:
    """What to write, from the time that a label took at each number of ranks on a worker with ``cores`` cores."""
    one = seconds[1]
    good = [r for r, s in seconds.items() if one / s >= EFFICIENT * r]
    best = max(good)
    if cores == 1:
        return "A worker has one core: label.ranks must be 1"
    if best == 1:
        return (
            f"Take label.ranks: 1 and as many workers as cores: {max(seconds)} ranks are only "
            f"{one / seconds[max(seconds)]:.1f} times as fast (larger fragments gain more)"
        )
    gain = one / seconds[best]
    return f"Take label.ranks: {best} ({gain:.1f} times as fast as one; larger fragments gain more)"


def probe(task: dict[str, Any], folder: str) -> dict[str, Any]:
    """What the tasks of these checks do on a node."""
    payload = task["payload"]
    at_work = time.time()
    summary = _look(at_work) if payload["do"] == "look" else _gpaw(payload["ranks"], Path(folder), task["key"])
    return {"key": task["key"], "summary": summary, "wall_time": 0.0, "cores": 1, "peak_memory_MB": 0.0}


def _look(at_work: float) -> dict[str, Any]:
    from clusterflow.execution.machines import available_cores
    from clusterflow.execution.provenance import environment

    known = environment()
    wanted = ("gpaw", "nequip", "openmm", "torch", "tblite")
    return {
        "node": os.uname().nodename,
        "began": float(os.environ.get(BEGAN, at_work)),
        "at_work": at_work,
        "cores": available_cores(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "gpu_name": ", ".join(known["system"]["gpus"][:1]),
        "python": sys.version.split()[0],
        "clusterflow": machine_version(),
        "packages": {name: known["packages"].get(name, "missing") for name in wanted},
    }


def _gpaw(ranks: int, folder: Path, key: str) -> dict[str, Any]:
    from ase.build import molecule

    from clusterflow.execution.stages import with_launcher
    from clusterflow.label.gpaw import GPAWReference

    reference = with_launcher(GPAWReference.quick(ranks=ranks, time_limit=_TASK_LIMIT))
    began = time.perf_counter()
    reference.label(molecule("C6H6"), charge=0, spin=0, workdir=folder / f"gpaw-{key[:8]}-{ranks}")
    return {"seconds": time.perf_counter() - began}
