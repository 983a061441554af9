"""The manifest of a block on Kubernetes: a pure function of the lane, the machine and the name of the block.

A dictionary that becomes text by `json.dumps`, so that no field can become another one. The shell in a pod is the file
``job.sh`` of the block's folder; the manifest holds its path alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from clusterflow.core.frames import digest
from clusterflow.errors import InputError
from clusterflow.execution.machines import KubernetesLane, KubernetesMachine

OURS = "app.kubernetes.io/managed-by"
OWNER = "clusterflow/owner"
"""Label: a hash of the volumes and where they are mounted. Jobs of other users differ in it, whose run folders may have
the same path on volumes of their own."""
QUEUE_NAME = "clusterflow/job"
"""Label: campaign and epoch, by which leftovers are found."""
BLOCK = "clusterflow/block"
"""Label of Job and pods: name of the Job."""

GRACE = 20
"""Seconds between SIGTERM and SIGKILL; the supervisor needs two or three of them."""
KEPT = 600
"""Seconds for which an ended Job can still be looked at; then Kubernetes deletes it, even if its driver is dead."""


def owner_of(machine: KubernetesMachine) -> str:
    """Value of the label `OWNER`."""
    return digest(*sorted(f"{volume.claim}:{volume.mount}" for volume in machine.volumes))[:16]


def job_manifest(
    machine: KubernetesMachine, lane: KubernetesLane, folder: Path, *, name: str, comment: str, script: str
) -> dict[str, Any]:
    """The Job of a block whose files lie in ``folder``; ``script`` is the file there that its pods run.

    Raises
    ------
    InputError
        The folder lies on none of the machine's volumes.
    """
    require_mounted(machine, folder)
    block = f"{name}-{folder.name}".lower()
    labels = {OURS: "clusterflow", OWNER: owner_of(machine), QUEUE_NAME: name, BLOCK: block}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": block, "labels": labels, "annotations": {"clusterflow/run": comment}},
        "spec": {
            "completions": lane.nodes,
            "parallelism": lane.nodes,
            "backoffLimit": 0,  # a block that is lost is replaced by the driver, if it is needed at all
            "ttlSecondsAfterFinished": KEPT,
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(machine, lane, f"{folder}/{script}"),
            },
        },
    }


def require_mounted(machine: KubernetesMachine, folder: Path) -> None:
    """Refuses a folder that pods would not see, or could not write to.

    Raises
    ------
    InputError
        It lies on none of the machine's volumes.
    """
    if not machine.holds(str(folder)):
        mounts = ", ".join(f"{v.mount}{' (read-only)' if v.read_only else ''}" for v in machine.volumes)
        raise InputError(
            f"The run folder lies on none of the volumes that pods mount and may write to ({mounts}).",
            where=str(folder),
            todo="Put it on one of them, mounted here at the same path (`folder:` of the campaign, or --folder; start "
            "the doctor there), or add its claim to `volumes:` of the machine file.",
        )


def _pod(machine: KubernetesMachine, lane: KubernetesLane, script: str) -> dict[str, Any]:
    mounts = [{"name": f"volume-{n}", "mountPath": v.mount, "readOnly": v.read_only} for n, v in _volumes(machine)]
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        # The pod's, not the Job's: that one would count the time in the queue too.
        "activeDeadlineSeconds": round(lane.walltime),
        "terminationGracePeriodSeconds": GRACE,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _user(machine),
        "containers": [
            {
                "name": "workers",
                "image": lane.image or machine.image,
                "command": ["/bin/bash", script],
                "env": [{"name": key, "value": value} for key, value in _HOME.items()],
                "resources": {"requests": _resources(lane), "limits": _resources(lane)},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "terminationMessagePolicy": "FallbackToLogsOnError",
                # What a pod has in /dev/shm by itself (64 MB) is too little for MPI.
                "volumeMounts": [*mounts, {"name": "shm", "mountPath": "/dev/shm"}],
            }
        ],
        "volumes": [
            *(
                {"name": f"volume-{n}", "persistentVolumeClaim": {"claimName": v.claim, "readOnly": v.read_only}}
                for n, v in _volumes(machine)
            ),
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    if machine.image_pull_policy:
        spec["containers"][0]["imagePullPolicy"] = machine.image_pull_policy
    if machine.service_account:
        spec["serviceAccountName"] = machine.service_account
    if lane.node_selector:
        spec["nodeSelector"] = dict(lane.node_selector)
    if lane.tolerations:
        spec["tolerations"] = [
            {
                "key": t.key,
                **({"operator": "Exists"} if t.value is None else {"operator": "Equal", "value": t.value}),
                **({"effect": t.effect} if t.effect else {}),
            }
            for t in lane.tolerations
        ]
    return spec


# A user whom the image does not know has neither name nor home; libraries ask for both.
_HOME = {"HOME": "/tmp", "USER": "clusterflow", "LOGNAME": "clusterflow"}


def _volumes(machine: KubernetesMachine) -> list[tuple[int, Any]]:
    return list(enumerate(machine.volumes))


def _user(machine: KubernetesMachine) -> dict[str, Any]:
    context: dict[str, Any] = {
        "runAsUser": machine.user,
        "runAsNonRoot": machine.user != 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if machine.run_as_user == "auto":
        context["runAsGroup"] = os.getgid()
    if machine.fs_group is not None:
        # OnRootMismatch: else every pod would walk through the whole volume first.
        context |= {"fsGroup": machine.fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    return context


def _resources(lane: KubernetesLane) -> dict[str, str]:
    return {
        "cpu": str(lane.cores_per_node),
        **({"memory": f"{lane.memory_per_node}Gi"} if lane.memory_per_node else {}),
        **({"nvidia.com/gpu": str(lane.gpus_per_node)} if lane.gpus_per_node else {}),
    }
