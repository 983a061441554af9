"""Manifests of Kubernetes, whole: read here, and checked by the schema of Kubernetes, before any cluster gets one."""

import json
import os
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clusterflow.errors import InputError
from clusterflow.execution.block_pool import block_files
from clusterflow.execution.kubernetes_job import job_manifest, owner_of
from clusterflow.execution.machines import load_machine

HPC = Path(__file__).parents[2] / "hpc"
EXAMPLE = load_machine(HPC / "kubernetes.yaml")


def files(lane="md", machine=EXAMPLE, folder="/data/run/parsl/0003-md"):
    return block_files(
        machine, machine.lane(lane), Path(folder), ["--cert_dir", "it's {x} $HOME"], name="cf-0a1b2c3d-7", run_id="c:7"
    )


def manifest(lane="md", machine=EXAMPLE, **changes):
    chosen = machine.lane(lane).model_copy(update=changes)
    return job_manifest(
        machine, chosen, Path("/data/run/parsl/0003-md"), name="cf-0a1b2c3d-7", comment="cf:c:7", script="job.sh"
    )


def test_gpu_lane(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 100)
    written = files()
    assert list(written) == ["job.sh", "job.json"]  # the last one is submitted
    labels = {
        "app.kubernetes.io/managed-by": "clusterflow",
        "clusterflow/owner": "7ef6bdd7400de416",
        "clusterflow/job": "cf-0a1b2c3d-7",
        "clusterflow/block": "cf-0a1b2c3d-7-0003-md",
    }
    amounts = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"}
    assert json.loads(written["job.json"]) == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "cf-0a1b2c3d-7-0003-md",
            "labels": labels,
            "annotations": {"clusterflow/run": "cf:c:7"},
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": 600,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "activeDeadlineSeconds": 28800,
                    "terminationGracePeriodSeconds": 20,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {
                        "runAsUser": 1000,
                        "runAsGroup": 100,
                        "runAsNonRoot": True,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "workers",
                            "image": "registry.example/my-project/clusterflow:0.1.0",
                            "command": ["/bin/bash", "/data/run/parsl/0003-md/job.sh"],
                            "env": [
                                {"name": "HOME", "value": "/tmp"},
                                {"name": "USER", "value": "clusterflow"},
                                {"name": "LOGNAME", "value": "clusterflow"},
                            ],
                            "resources": {"requests": amounts, "limits": amounts},
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]},
                            },
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                            "volumeMounts": [
                                {"name": "volume-0", "mountPath": "/data", "readOnly": False},
                                {"name": "shm", "mountPath": "/dev/shm"},
                            ],
                        }
                    ],
                    "volumes": [
                        {"name": "volume-0", "persistentVolumeClaim": {"claimName": "campaigns", "readOnly": False}},
                        {"name": "shm", "emptyDir": {"medium": "Memory"}},
                    ],
                    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                },
            },
        },
    }


def test_the_script_of_a_pod():
    machine = EXAMPLE.model_copy(update={"worker_setup": "ulimit -s unlimited\nsource /opt/env.sh\n"})
    assert files(machine=machine)["job.sh"] == (
        "#!/bin/bash\n"
        "exec >>/data/run/parsl/0003-md/job.out 2>&1\n"
        "# worker_setup of the machine file\n"
        "ulimit -s unlimited\n"
        "source /opt/env.sh\n"
        "exec python3 -I -S /data/run/parsl/0003-md/supervise.py watch /data/run/parsl/0003-md/workers.json -- "
        "python3 -P -m parsl.executors.high_throughput.process_worker_pool --cert_dir 'it'\"'\"'s {x} $HOME'\n"
    )
    assert "ulimit" not in files(machine=machine)["job.json"]  # no shell in the manifest


def everything():
    given = {
        "image_pull_policy": "Always",
        "service_account": "robot",
        "fs_group": 2000,
        "run_as_user": 1234,
        "volumes": [
            {"claim": "campaigns", "mount": "/data"},
            {"claim": "setups", "mount": "/opt/setups", "read_only": True},
        ],
        "lanes": {
            "label": {
                **{"walltime": "90 min", "cores_per_node": 4, "nodes": 3, "image": "other:2"},
                "tolerations": [{"key": "pool", "value": "cpu"}, {"key": "spot"}],
            },
            "md": "label",
            "train": "label",
        },
    }
    return type(EXAMPLE).model_validate({"kind": "kubernetes", "image": "x:1", **given})


def test_with_everything():
    made = manifest("label", everything())
    assert (made["spec"]["completions"], made["spec"]["parallelism"]) == (3, 3)
    pod = made["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("other:2", "Always")
    assert container["resources"]["limits"] == {"cpu": "4"}
    assert pod["serviceAccountName"] == "robot"
    assert pod["activeDeadlineSeconds"] == 5400
    assert pod["securityContext"] == {
        "runAsUser": 1234,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "fsGroup": 2000,
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    assert pod["tolerations"] == [
        {"key": "pool", "operator": "Equal", "value": "cpu"},
        {"key": "spot", "operator": "Exists"},
    ]
    assert pod["volumes"][1]["persistentVolumeClaim"] == {"claimName": "setups", "readOnly": True}
    assert "nodeSelector" not in pod


@pytest.mark.parametrize("version", ["1.27", "1.37"])
def test_manifests_are_valid_by_the_schema_of_kubernetes(version):
    validator = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate (extra dev)")
    for made in (manifest("md"), manifest("label"), manifest("label", everything())):
        assert validator.validate(made, version, strict=True) == version
    wrong = manifest("md")
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(validator.ValidationError):  # the check can fail
        validator.validate(wrong, version, strict=True)


def test_the_driver_of_the_documentation_is_valid():
    validator = pytest.importorskip("kubernetes_validate", reason="needs the package kubernetes-validate (extra dev)")
    page = (HPC.parent / "docs" / "how-to" / "clusters.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(apiVersion.*?)```", page, re.S)
    parts = list(YAML(typ="safe").load_all(text))
    assert [part["kind"] for part in parts] == ["ServiceAccount", "Role", "RoleBinding", "Job"]
    for part in parts:
        validator.validate(part, "1.37", strict=True)


def test_users_with_volumes_of_their_own_are_told_apart():
    """Run folders of two people may have the same path, each on a claim of its own."""
    volumes = EXAMPLE.volumes
    mine = EXAMPLE.model_copy(update={"volumes": (volumes[0].model_copy(update={"claim": "mine"}),)})
    yours = EXAMPLE.model_copy(update={"volumes": (volumes[0].model_copy(update={"claim": "yours"}),)})
    assert owner_of(mine) != owner_of(yours)
    both = everything()
    other = both.model_copy(update={"volumes": both.volumes[::-1], "image": "y:1"})
    assert owner_of(both) == owner_of(other)


def test_a_folder_that_pods_would_not_see_is_refused():
    with pytest.raises(InputError, match=r"lies on none of the volumes that pods mount and may write to \(/data\)"):
        files(folder="/home/me/run/parsl/0003-md")
    with pytest.raises(InputError, match=r"/opt/setups \(read-only\)"):
        files("label", everything(), folder="/opt/setups/run/parsl/0003-label")
    with pytest.raises(InputError, match="may hold letters, digits"):
        files(folder="/data/my run/parsl/0003-md")
