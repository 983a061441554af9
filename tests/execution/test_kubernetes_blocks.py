"""The whole path through Kubernetes with a stub of kubectl that runs pods as processes of this computer."""

import json
import os
import sys
import textwrap
import time

import pytest

from clusterflow.errors import ExecutionError, InputError, WorkerLostError
from clusterflow.execution import supervise
from clusterflow.execution.kubernetes_job import job_manifest
from clusterflow.execution.machines import KubernetesMachine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.testing.engine_contract import toy
from clusterflow.testing.fakes import run_toy

WAIT = 120
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


def machine(folder, **changes):
    lane = {"walltime": "10 min", "cores_per_node": 1}
    data = {
        "kind": "kubernetes",
        "address": "127.0.0.1",
        "heartbeat": "10 s",
        "poll": "1 s",
        "python": "auto",
        "image": "local:1",
        "volumes": [{"claim": "runs", "mount": str(folder)}],
        "submit": {"failures": 2, "first_wait": "0.2 s"},
        "lanes": {"label": lane, "md": "label", "train": "label"},
    }
    return KubernetesMachine.model_validate({**data, **changes})


def engine(folder, **changes):
    return ParslEngine(machine(folder, **changes), folder, run_toy, run_id="toy:1")


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
        machine(folder),
        machine(folder).lane("label"),
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
        ParslEngine(machine("/data"), folder, run_toy, run_id="toy:1")
    assert not list(cluster.glob("*.job"))
