"""What Jobs and pods of Kubernetes say, and what is made of it. Stubs stand for kubectl.

test_kubectl.py has kubectl itself, test_kubernetes_blocks.py the whole path. No real cluster was ever asked.
"""

import json
from pathlib import Path

import pytest

from clusterflow.errors import ExecutionError
from clusterflow.execution.kubernetes import Kubernetes, told
from clusterflow.execution.kubernetes_job import owner_of
from clusterflow.execution.machines import load_machine
from clusterflow.execution.scheduler_calls import QueuedJob
from clusterflow.execution.schedulers import scheduler_of

EXAMPLE = load_machine(Path(__file__).parents[2] / "hpc" / "kubernetes.yaml")
WAIT = 120
ID, NAME = "cf-0-1-0000-md", "cf-0-1"
LABELS = {"clusterflow/owner": owner_of(EXAMPLE), "clusterflow/job": NAME, "clusterflow/block": ID}


def job(**status):
    return {"kind": "Job", "apiVersion": "batch/v1", "metadata": {"name": ID, "labels": LABELS}, "status": status}


def pod(phase="Pending", number=0, **status):
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": f"{ID}-{number}", "labels": LABELS},
        "status": {"phase": phase, **status},
    }


def container(**state):
    return [{"name": "workers", "image": "registry.example/x:1", "state": state}]


def waits(reason, message=""):
    return pod(containerStatuses=container(waiting={"reason": reason, "message": message}))


# -- words ------------------------------------------------------------------------------------------------------------


def test_pending_and_running():
    assert told(job(), []) == QueuedJob(ID, NAME, "waiting")
    assert told(job(active=1), [waits("ContainerCreating")]) == QueuedJob(ID, NAME, "waiting")
    no_room = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }
    waiting = told(job(active=1), [pod(conditions=[no_room])])
    assert waiting.reason == "Unschedulable, 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    assert not waiting.hopeless
    no_claim = {**no_room, "message": '0/3 nodes are available: persistentvolumeclaim "runs" not found.'}
    assert told(job(active=1), [pod(conditions=[no_claim])]).hopeless
    up = pod("Running", 1, startTime="2026-11-21T20:00:10Z", containerStatuses=container(running={}))
    first = pod("Running", 0, startTime="2026-11-21T20:00:00Z", containerStatuses=container(running={}))
    assert told(job(active=2), [up, first]) == QueuedJob(ID, NAME, "running", began=1795291200.0)
    assert told(job(active=2), [up, pod(number=2)]).phase == "running"


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled_is_hopeless(reason):
    found = told(job(active=1), [pod(number=1), waits(reason, 'failed to pull "registry.example/x:1":\n not found')])
    assert (found.phase, found.hopeless) == ("waiting", True)
    assert found.reason == (
        f'the image registry.example/x:1 cannot be pulled: {reason}, failed to pull "registry.example/x:1": not found'
    )


@pytest.mark.parametrize("reason", ["CrashLoopBackOff", "CreateContainerConfigError", "RunContainerError"])
def test_a_container_that_cannot_start_is_hopeless(reason):
    found = told(job(active=1), [waits(reason, 'exec: "/bin/bash": no such file')])
    assert found.hopeless
    assert found.reason == f'its container cannot be started: {reason}, exec: "/bin/bash": no such file'


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted, The node was low on resource: memory.",
        ),
        (
            {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline"},
            "DeadlineExceeded, Pod was active on the node longer than the specified deadline",
        ),
        (
            {
                "conditions": [
                    {"type": "Ready", "status": "False"},
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                        "message": "preempting",
                    },
                ],
                "containerStatuses": container(terminated={"exitCode": 137, "reason": "Error"}),
            },
            "PreemptionByScheduler, preempting",
        ),
        (
            {"containerStatuses": container(terminated={"exitCode": 137, "reason": "OOMKilled"})},
            "it was killed because it needs more memory than its limit (OOMKilled); raise memory_per_node",
        ),
        (
            {
                "containerStatuses": container(
                    terminated={"exitCode": 127, "reason": "Error", "message": "/data/job.sh: No such file"}
                )
            },
            "its container ended with status 127, /data/job.sh: No such file",
        ),
        ({}, "its pod has ended"),
    ],
)
def test_how_it_ended(status, expected):
    assert told(job(), [pod("Failed", **status)]) == QueuedJob(ID, NAME, "ended", expected)


def test_how_it_ended_when_its_pods_are_gone():
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
    assert told(job(conditions=[failed]), []).reason == "BackoffLimitExceeded, too often"
    assert told(job(conditions=[{"type": "Complete", "status": "True"}]), []).reason == "Complete"
    suspended = {"type": "Suspended", "status": "True"}
    assert told(job(conditions=[suspended]), []).phase == "waiting"


# -- stubs of kubectl --------------------------------------------------------------------------------------------------


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """Writes a kubectl that notes its arguments and then does what it is told."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(script):
        path = tmp_path / "kubectl"
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" >>{tmp_path}/args\n{script}\n')
        path.chmod(0o755)

    write.arguments = lambda: (tmp_path / "args").read_text().splitlines()
    return write


def scheduler(**changes):
    return Kubernetes(EXAMPLE.model_copy(update=changes))


def test_the_machine_says_which():
    assert isinstance(scheduler_of(EXAMPLE), Kubernetes)


def test_create(kubectl, tmp_path):
    kubectl(f"echo job.batch/{ID}")
    assert scheduler(context="mine").submit(tmp_path / "job.json") == ID
    assert kubectl.arguments() == [
        *("create", "--request-timeout=50s", "--context=mine", "--namespace=my-project"),
        *("--validate=false", "--output=name", f"--filename={tmp_path}/job.json"),
    ]
    for rubbish in ("created!", "job.batch/A B", "pod/x", ""):
        kubectl(f"echo '{rubbish}'")
        with pytest.raises(ExecutionError, match="kubectl create answered"):
            scheduler().submit(tmp_path / "job.json")


def test_delete(kubectl, tmp_path):
    kubectl("")
    scheduler(namespace=None).cancel(["cf-1", "cf-2"])
    assert kubectl.arguments() == [
        *("delete", "jobs", "--request-timeout=50s", "--wait=false", "--cascade=background"),
        *("--ignore-not-found=true", "cf-1", "cf-2"),
    ]
    (tmp_path / "kubectl").unlink()
    scheduler().cancel([])  # nothing to do: not called


@pytest.mark.parametrize(
    "said",
    [
        "You must be logged in",
        "",
        "[]",
        '{"items": 3}',
        '{"items": [3]}',
        '{"items": [{"kind": "Job"}]}',
        json.dumps({"items": [{**job(), "status": "x"}]}),
        json.dumps({"items": [job(), {**pod(), "status": "x"}]}),
        json.dumps({"items": [job(), pod("Running", startTime="yesterday")]}),
        json.dumps({"items": [{**job(), "metadata": {"name": "x", "labels": {}}}]}),
    ],
)
def test_rubbish_is_not_believed(kubectl, said):
    kubectl(f"cat <<'E'\n{said}\nE")
    with pytest.raises(ExecutionError, match="kubectl get answered"):
        scheduler().jobs()


@pytest.mark.parametrize(
    "call", [lambda k, p: k.submit(p), lambda k, _: k.jobs(), lambda k, _: k.cancel(["cf-1"])], ids=["c", "g", "d"]
)
def test_failing_hanging_and_missing(kubectl, tmp_path, monkeypatch, call):
    monkeypatch.setattr("clusterflow.execution.scheduler_calls.TIME_LIMIT", 1.0)
    kubectl("echo 'Error from server (Forbidden): jobs.batch is forbidden' >&2; exit 1")
    with pytest.raises(ExecutionError, match=r"kubectl failed with status 1: Error from server \(Forbidden\)"):
        call(scheduler(), tmp_path / "job.json")
    kubectl("exec sleep 30")
    with pytest.raises(ExecutionError, match="kubectl did not answer within 1 s"):
        call(scheduler(), tmp_path / "job.json")
    (tmp_path / "kubectl").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutionError, match="kubectl cannot be started"):
        call(scheduler(), tmp_path / "job.json")


def event(name, reason, message, when):
    return {"involvedObject": {"name": name}, "reason": reason, "message": message, "lastTimestamp": when}


@pytest.mark.parametrize(
    ("warnings", "reason", "hopeless"),
    [
        (
            [event(ID, "FailedCreate", 'serviceaccount "robot" not found', "2")],
            'FailedCreate, serviceaccount "robot" not found',
            True,
        ),
        ([event(ID, "FailedCreate", "exceeded quota: gpus", "2")], "FailedCreate, exceeded quota: gpus", False),
        (
            [
                event(f"{ID}-0", "FailedMount", "timed out", "3"),
                event(ID, "FailedCreate", "old", "1"),
                event(f"{ID}x", "FailedCreate", "of another", "9"),
            ],
            "FailedMount, timed out",
            False,
        ),
        ([{"nonsense": 1}], "", False),
        ("Forbidden", "", False),
    ],
)
def test_who_waits_for_no_stated_reason_is_explained_by_events(kubectl, tmp_path, warnings, reason, hopeless):
    (tmp_path / "all").write_text(json.dumps({"items": [job()]}))
    (tmp_path / "events").write_text(json.dumps({"items": warnings}))
    answer = "exit 1" if warnings == "Forbidden" else f"cat {tmp_path}/events"
    kubectl(f"case $2 in events) {answer};; *) cat {tmp_path}/all;; esac")
    assert scheduler().jobs() == [QueuedJob(ID, NAME, "waiting", reason, hopeless)]
