"""Machine files: where tasks run, and how much of each machine a lane may use. One module per kind."""

from clusterflow.execution.machines.batch import BatchLane, BatchMachine, ScriptLane
from clusterflow.execution.machines.kubernetes import KubernetesLane, KubernetesMachine
from clusterflow.execution.machines.lanes import LANES, ResolvedLane
from clusterflow.execution.machines.load import Machine, default_machine, load_machine
from clusterflow.execution.machines.local import Lane, Lanes, LocalMachine, available_cores, available_gpus
from clusterflow.execution.machines.pbs import PBSLane, PBSMachine
from clusterflow.execution.machines.slurm import SlurmLane, SlurmMachine

__all__ = [
    "LANES",
    "BatchLane",
    "BatchMachine",
    "KubernetesLane",
    "KubernetesMachine",
    "Lane",
    "Lanes",
    "LocalMachine",
    "Machine",
    "PBSLane",
    "PBSMachine",
    "ResolvedLane",
    "ScriptLane",
    "SlurmLane",
    "SlurmMachine",
    "available_cores",
    "available_gpus",
    "default_machine",
    "load_machine",
]
