"""Kubernetes by kubectl: what its Jobs and pods say, with stubs of kubectl, and with kubectl itself before a stand-in
for the API server where it is installed. No real cluster was ever asked."""

import json
import os
import shutil
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

from clusterflow.errors import ExecutionError, InputError, WorkerLostError
from clusterflow.execution import supervise
from clusterflow.execution.kubernetes import Kubernetes, told
from clusterflow.execution.kubernetes_job import OWNER, job_manifest, owner_of
from clusterflow.execution.machines import KubernetesMachine, load_machine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.execution.scheduler_calls import QueuedJob
from clusterflow.execution.schedulers import scheduler_of
from clusterflow.testing.engine_contract import toy
from clusterflow.testing.fakes import run_toy

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
        json.dumps({"items": [{**job(), "status": None}]}),
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


# -- kubectl itself, before a stand-in for the API server --------------------------------------------------------------


class API(BaseHTTPRequestHandler):
    """The part of Kubernetes' API that is needed here, with memory."""

    def do_GET(self):
        url = urlparse(self.path)
        known = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group("batch")]},
            "/api/v1": _resources("v1", pods="Pod", events="Event"),
            "/apis/batch/v1": _resources("batch/v1", jobs="Job"),
        }
        kind = {"jobs": "Job", "pods": "Pod", "events": "Event"}.get(url.path.rpartition("/")[2])
        if url.path in known:
            self._answer(known[url.path])
        elif kind is None:
            self._answer({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}, 404)
        else:
            wanted = [s.split("=") for s in parse_qs(url.query).get("labelSelector", ())]
            items = [i for i in self.server.items if i["kind"] == kind]
            items = [i for i in items if all(i["metadata"]["labels"].get(k) == v for k, v in wanted)]
            bare = [{k: v for k, v in i.items() if k not in ("kind", "apiVersion")} for i in items]  # as servers do
            version = "batch/v1" if kind == "Job" else "v1"
            self._answer({"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": bare})

    def do_POST(self):
        made = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.items.append({**made, "status": {}})
        self.server.asked.append(self.path)
        self._answer(made, 201)

    def do_DELETE(self):
        said = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = urlparse(self.path).path
        self.server.asked.append((path, said.get("propagationPolicy")))
        kept = [i for i in self.server.items if i["metadata"]["name"] != path.rpartition("/")[2]]
        missing = len(kept) == len(self.server.items)
        self.server.items[:] = kept
        code, status = (404, "Failure") if missing else (200, "Success")
        reason = {"reason": "NotFound", "code": 404} if missing else {}
        self._answer({"kind": "Status", "apiVersion": "v1", "status": status, **reason}, code)

    def _answer(self, data, code=200):
        body = json.dumps(data).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _group(name):
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(version, **kinds):
    verbs = ["create", "delete", "get", "list"]
    found = [{"name": n, "singularName": "", "namespaced": True, "kind": k, "verbs": verbs} for n, k in kinds.items()]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": found}


@pytest.fixture
def api(tmp_path, monkeypatch):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed (Debian: apt-get install kubernetes-client)")
    server = ThreadingHTTPServer(("127.0.0.1", 0), API)
    server.items, server.asked = [], []
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    config = {
        **{"apiVersion": "v1", "kind": "Config", "clusters": [cluster]},
        "contexts": [{"name": "stand-in", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("HOME", str(tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_kubectl_itself(api, tmp_path):
    real = scheduler(context="stand-in")
    assert real.jobs() == []
    folder = Path("/data/run/parsl/0000-md")
    made = job_manifest(EXAMPLE, EXAMPLE.lane("md"), folder, name=NAME, comment="cf:c:1", script="job.sh")
    (tmp_path / "job.json").write_text(json.dumps(made))
    assert real.submit(tmp_path / "job.json") == ID
    (there,) = api.items
    assert {k: v for k, v in there.items() if k != "status"} | {"metadata": None} == made | {"metadata": None}
    assert there["metadata"]["labels"] == made["metadata"]["labels"]
    assert api.asked[0].startswith("/apis/batch/v1/namespaces/my-project/jobs")
    api.items.append(pod("Running", startTime="2026-11-21T20:00:00Z", containerStatuses=container(running={})))
    stranger = json.loads(json.dumps(there))
    stranger["metadata"]["labels"][OWNER] = "0" * 16
    api.items.append(stranger)
    assert real.jobs() == [QueuedJob(ID, NAME, "running", began=1795291200.0)]
    api.items.remove(stranger)
    api.items[1] = waits("ErrImagePull", "not found")
    assert real.jobs()[0].hopeless
    real.cancel([ID, "cf-gone"])
    assert [i["kind"] for i in api.items] == ["Pod"]  # pods go with their Job there
    assert ("/apis/batch/v1/namespaces/my-project/jobs/" + ID, "Background") in api.asked


def test_kubectl_before_a_server_that_is_down(api, tmp_path):
    api.shutdown()
    api.server_close()
    with pytest.raises(ExecutionError, match=r"kubectl failed with status 1: .*refused"):
        scheduler(context="stand-in").jobs()


# -- the whole path: pods are processes of this computer ---------------------------------------------------------------

STUB = """\
    #!{python}
    import datetime, json, os, signal, subprocess, sys
    from pathlib import Path

    place, verb = Path({place!r}), sys.argv[1]
    options = dict(a.split("=", 1) for a in sys.argv if a.startswith("--"))

    def alive(pid):
        try:
            state = Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in "ZX"

    if verb == "create":
        job = json.loads(Path(options["--filename"]).read_text())
        name = job["metadata"]["name"]
        container = job["spec"]["template"]["spec"]["containers"][0]
        pid = 0
        if "missing" not in container["image"]:
            kept = {{"PATH": os.environ["PATH"], **{{v["name"]: v["value"] for v in container["env"]}}}}
            out = open(place / f"{{name}}.log", "ab")
            nobody = subprocess.DEVNULL
            command = container["command"]
            pid = subprocess.Popen(command, stdin=nobody, stdout=out, stderr=out, env=kept, start_new_session=True).pid
        began = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        (place / f"{{name}}.job").write_text(json.dumps([job, pid, began]))
        print(f"job.batch/{{name}}")
    elif verb == "get":
        items = []
        for path in sorted(place.glob("*.job")):
            job, pid, began = json.loads(path.read_text())
            pod = {{"kind": "Pod", "metadata": {{**job["metadata"], "name": path.stem + "-x"}}}}
            name, image = "workers", job["spec"]["template"]["spec"]["containers"][0]["image"]
            if pid == 0:
                state = {{"waiting": {{"reason": "ErrImagePull", "message": "manifest unknown"}}}}
                status = {{"phase": "Pending", "containerStatuses": [{{"name": name, "image": image, "state": state}}]}}
            elif alive(pid):
                status = {{"phase": "Running", "startTime": began}}
            else:
                said = (place / f"{{path.stem}}.log").read_text()
                state = {{"terminated": {{"exitCode": 1, "reason": "Error", "message": said}}}}
                status = {{"phase": "Failed", "containerStatuses": [{{"name": name, "image": image, "state": state}}]}}
            items += [{{**job, "status": {{}}}}, {{**pod, "status": status}}]
        print(json.dumps({{"kind": "List", "items": items if "jobs" in sys.argv[2] else []}}))
    elif verb == "delete":
        for name in [a for a in sys.argv[3:] if not a.startswith("--")]:
            path = place / f"{{name}}.job"
            if path.exists():
                pid = json.loads(path.read_text())[1]
                path.rename(place / f"{{name}}.deleted")
                if pid and alive(pid):
                    os.killpg(pid, signal.SIGTERM)
"""


def pids(place):
    return [json.loads(path.read_text())[1] for path in (*place.glob("*.job"), *place.glob("*.deleted"))]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    place = tmp_path / "cluster"
    place.mkdir()
    path = place / "kubectl"
    path.write_text(textwrap.dedent(STUB).format(python=sys.executable, place=str(place)))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    yield place
    for pid in filter(None, pids(place)):
        deadline = time.monotonic() + 30
        while supervise.start_ticks(pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not supervise.start_ticks(pid), "a pod was left"


def engine(folder, mount=None, **changes):
    lane = {"walltime": "10 min", "cores_per_node": 1}
    data = {
        "kind": "kubernetes",
        "address": "127.0.0.1",
        "heartbeat": "10 s",
        "poll": "1 s",
        "python": "auto",
        "image": "local:1",
        "volumes": [{"claim": "runs", "mount": str(mount or folder)}],
        "submit": {"failures": 2, "first_wait": "0.2 s"},
        "lanes": {"label": lane, "md": "label", "train": "label"},
    }
    return ParslEngine(KubernetesMachine.model_validate({**data, **changes}), folder, run_toy, run_id="toy:1")


@pytest.fixture
def folder(tmp_path):
    """A mount path may not hold what pytest puts into the names of its folders."""
    path = tmp_path / "run"
    path.mkdir()
    return path


def test_tasks_run_and_jobs_end(cluster, folder):
    runner = engine(folder)
    try:
        first = runner.submit(toy("environment", lane="label")).result(timeout=WAIT)
        assert first.summary["OMP_NUM_THREADS"] == "1"
        running = runner.submit(toy("sleep", seconds=300, note="s", lane="md"))
        while not (folder / "s.pid").exists():
            time.sleep(0.1)
        (block,) = cluster.glob("*.job")
        os.killpg(pids(cluster)[0], 15)  # as `kubectl delete pod` would
        assert type(running.exception(timeout=WAIT)) is WorkerLostError
        assert runner.submit(toy("echo", after=1, lane="label")).result(timeout=WAIT).key
    finally:
        runner.close(cancel=True)
    assert not [p for p in cluster.glob("*.job") if p != block]  # deleted
    assert (folder / "parsl" / "0000-label" / "job.json").exists()


def test_an_image_that_does_not_exist_opens_the_breaker(cluster, folder):
    runner = engine(folder, image="registry.example/missing:1")
    try:
        error = runner.submit(toy("echo", lane="label")).exception(timeout=WAIT)
        assert type(error) is ExecutionError
        assert "could not be started 2 times in a row" in error.what
        assert "the image registry.example/missing:1 cannot be pulled: ErrImagePull, manifest unknown" in error.what
        assert "lanes.label" in error.todo
    finally:
        runner.close(cancel=True)
    assert len(list(cluster.glob("*.deleted"))) == 2
    assert not list(cluster.glob("*.job"))


def test_a_python_that_is_not_there_is_told_in_its_own_words(cluster, folder):
    runner = engine(folder, python="/opt/nowhere/python3")
    try:
        error = runner.submit(toy("echo", lane="label")).exception(timeout=WAIT)
        assert type(error) is ExecutionError
        assert "has ended" in error.what
        assert "/opt/nowhere/python3: No such file" in error.where  # the last words in job.out
    finally:
        runner.close(cancel=True)


def test_leftovers_of_a_dead_driver_are_deleted_at_the_start(cluster, folder):
    first = engine(folder)
    made = job_manifest(
        KubernetesMachine.model_validate(
            {
                "kind": "kubernetes",
                "image": "missing:1",
                "volumes": [{"claim": "runs", "mount": str(folder)}],
                "lanes": {"label": {"walltime": "1 h", "cores_per_node": 1}, "md": "label", "train": "label"},
            }
        ),
        load_machine(Path(__file__).parents[2] / "hpc" / "kubernetes.yaml").lane("label"),
        folder / "parsl" / "0007-label",
        name=first._supply._job_name.rpartition("-")[0] + "-0",
        comment="an earlier epoch",
        script="job.sh",
    )
    first.close(cancel=True)
    (cluster / f"{made['metadata']['name']}.job").write_text(json.dumps([made, 0, ""]))
    engine(folder).close(cancel=True)
    assert [p.stem for p in cluster.glob("*.deleted")] == [made["metadata"]["name"]]


def test_a_run_folder_outside_of_the_volumes_is_refused_at_once(cluster, folder):
    with pytest.raises(InputError, match="lies on none of the volumes"):
        engine(folder, mount="/data")
    assert not list(cluster.glob("*.job"))
