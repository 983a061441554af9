"""kubectl itself, before a stand-in for the API server. No real cluster was ever asked."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

from clusterflow.errors import ExecutionError
from clusterflow.execution.kubernetes import Kubernetes
from clusterflow.execution.kubernetes_job import OWNER, job_manifest
from clusterflow.execution.machines import load_machine
from clusterflow.execution.scheduler_calls import QueuedJob

EXAMPLE = load_machine(Path(__file__).parents[2] / "hpc" / "kubernetes.yaml")
REAL = Kubernetes(EXAMPLE.model_copy(update={"context": "stand-in"}))
ID, NAME = "cf-0-1-0000-md", "cf-0-1"


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
    assert REAL.jobs() == []
    folder = Path("/data/run/parsl/0000-md")
    made = job_manifest(EXAMPLE, EXAMPLE.lane("md"), folder, name=NAME, comment="cf:c:1", script="job.sh")
    (tmp_path / "job.json").write_text(json.dumps(made))
    assert REAL.submit(tmp_path / "job.json") == ID
    (there,) = api.items
    assert {k: v for k, v in there.items() if k != "status"} | {"metadata": None} == made | {"metadata": None}
    assert there["metadata"]["labels"] == made["metadata"]["labels"]
    assert api.asked[0].startswith("/apis/batch/v1/namespaces/my-project/jobs")
    pod = {"kind": "Pod", "metadata": {"name": f"{ID}-x", "labels": made["metadata"]["labels"]}}
    api.items.append({**pod, "status": {"phase": "Running", "startTime": "2026-11-21T20:00:00Z"}})
    stranger = json.loads(json.dumps(there))
    stranger["metadata"]["labels"][OWNER] = "0" * 16
    api.items.append(stranger)
    assert REAL.jobs() == [QueuedJob(ID, NAME, "running", began=1795291200.0)]
    api.items.remove(stranger)
    state = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    container = {"name": "workers", "image": "x:1", "state": state}
    api.items[1] = {**pod, "status": {"phase": "Pending", "containerStatuses": [container]}}
    assert REAL.jobs()[0].hopeless
    REAL.cancel([ID, "cf-gone"])
    assert [i["kind"] for i in api.items] == ["Pod"]  # pods go with their Job there
    assert ("/apis/batch/v1/namespaces/my-project/jobs/" + ID, "Background") in api.asked


def test_kubectl_before_a_server_that_is_down(api):
    api.shutdown()
    api.server_close()
    with pytest.raises(ExecutionError, match=r"kubectl failed with status 1: .*refused"):
        REAL.jobs()
