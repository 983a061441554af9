"""A pool of workers on a block: one job of a scheduler, with an interchange of its own here.

Each block has its own interchange so that the driver decides which block a task goes to, and so whether the task can
end before the block does; and so that one that dies takes no other's tasks with it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import clusterflow
from clusterflow.errors import ClusterflowError
from clusterflow.execution import supervise
from clusterflow.execution.job_script import NODE_SCRIPT, BlockJob, has_node_script, job_script, node_script, pod_script
from clusterflow.execution.kubernetes_job import job_manifest
from clusterflow.execution.machines import BatchLane, BatchMachine, KubernetesLane, KubernetesMachine, ScriptLane
from clusterflow.execution.parsl_pool import WORKER_MODULE, ParslPool, PoolShape
from clusterflow.execution.schedulers import Scheduler
from clusterflow.execution.watchdog import Progress
from clusterflow.execution.worker import MPI

SCRIPT, MANIFEST = "job.sh", "job.json"
WATCHER = "supervise.py"


class BlockPool(ParslPool):
    """One job of the lane's kind. `start` submits it; ``job_id`` is its number, "" while it has none."""

    def __init__(
        self,
        shape: PoolShape,
        folder: Path,
        *,
        machine: BatchMachine,
        lane: BatchLane,
        scheduler: Scheduler,
        address: str,
        job_name: str,
        run_id: str,
        mark: str,
    ) -> None:
        super().__init__(shape, folder, run_id=run_id, mark=mark)
        self.lane, self._machine, self._scheduler = lane, machine, scheduler
        self._address, self._job_name = address, job_name
        self.job_id = ""
        self._dead = ""

    @property
    def span(self) -> float:
        """Seconds from the job's begin to the moment when no task may run any more."""
        return self.lane.walltime - self._machine.end_margin

    def supervisors(self) -> list[Mapping[str, Any]]:
        """What the supervisors of its nodes have written: each says where and when it began, later how it ended."""
        found = []
        for path in sorted(self.folder.glob("supervisor-*.json")):
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(path.read_text(encoding="utf-8")))
        return found

    def give_up(self, why: str) -> None:
        """Declares it dead, for a reason that only the scheduler knows."""
        self._dead = self._dead or why

    def end_task(self, progress: Progress) -> None:
        # Its process is on another computer: the supervisor there sees the wish.
        with contextlib.suppress(OSError):
            progress.marker.rename(f"{progress.marker}.end")

    def _start(self) -> None:
        silence = self._machine.heartbeat
        options = self._start_interchange(
            address=self._address, heartbeat=silence / 4, silence=silence, drain=self.span
        )
        for name, text in self._files(options, silence).items():
            submitted = self.folder / name
            submitted.write_text(text, encoding="utf-8")
            submitted.chmod(0o700)
        self.job_id = self._scheduler.submit(submitted)

    def _files(self, options: list[str], silence: float) -> dict[str, str]:
        # A copy: the package may lie elsewhere on the nodes, in a container for example; the run folder does not.
        shutil.copyfile(supervise.__file__, self.folder / WATCHER)
        lane = self.lane
        srun = bool(lane.mpi) and Path(lane.mpi[0]).name == "srun"
        environment = {**self._marks(), **self._threads()}
        if lane.mpi:
            environment[MPI] = json.dumps(lane.mpi)
        contained = isinstance(lane, ScriptLane) and bool(lane.container)
        if self._machine.python == "auto" and not contained:  # another Python has packages of its own
            environment["PYTHONPATH"] = str(Path(clusterflow.__file__).parents[1])
        self._write_spec(
            "workers",
            {
                "log": str(self.folder / "workers-{node}.out"),
                "environment": {**environment, **self._machine.environment},
                # mpirun inside a job would start its ranks by the scheduler, which knows of one task per node.
                "without": [] if srun else ["SLURM_", "PMI", "PBS_"],
                "status": str(self.folder / "supervisor-{node}.json"),
                "lost_after": silence / 4 + supervise.LOST_AFTER,
                **({"gpus": lane.gpus_per_node} if lane.gpus_per_node else {}),
            },
        )
        return block_files(self._machine, lane, self.folder, options, name=self._job_name, run_id=self.run_id)

    def _workers_dead(self) -> str:
        if self._dead:
            return self._dead
        for supervisor in self.supervisors():
            if "why" in supervisor:
                return str(supervisor["why"])
            if "exit_code" in supervisor:
                ended = supervisor["exit_code"]
                return f"its workers ended with status {ended}" if ended is not None else "its job was ended"
        return ""

    def _stop_workers(self) -> None:
        if self.job_id:
            # Should this fail, the job ends by itself: its manager hears nothing from the interchange any more.
            with contextlib.suppress(ClusterflowError):
                self._scheduler.cancel([self.job_id])


def block_files(
    machine: BatchMachine, lane: BatchLane, folder: Path, options: Sequence[str], *, name: str, run_id: str
) -> dict[str, str]:
    """What a block needs in its ``folder``, by name of the file; the last one is what the scheduler is given.
    ``options`` are those of Parsl's worker pool.

    Raises
    ------
    InputError
        The folder's path is not one for a scheduler, or is not seen by its nodes.
    """
    workers = (machine.interpreter, "-P", "-m", WORKER_MODULE, *options)
    watch = (machine.interpreter, "-I", "-S", str(folder / WATCHER), "watch", str(folder / "workers.json"), "--")
    job = BlockJob(name, f"cf:{run_id}", folder, (*watch, *workers), machine.worker_setup)
    if isinstance(machine, KubernetesMachine) and isinstance(lane, KubernetesLane):
        manifest = job_manifest(machine, lane, folder, name=name, comment=job.comment, script=SCRIPT)
        return {SCRIPT: pod_script(job), MANIFEST: json.dumps(manifest, indent=2) + "\n"}
    if isinstance(lane, ScriptLane):
        nodes = {NODE_SCRIPT: node_script(lane, job)} if has_node_script(lane) else {}
        return {**nodes, SCRIPT: job_script(lane, job)}
    raise TypeError(f"no scheduler is known for a {type(lane).__name__}")
