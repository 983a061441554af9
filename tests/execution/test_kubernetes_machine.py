"""Machine files of kind kubernetes: what is refused, and what lanes come to."""

import os
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from clusterflow.errors import ConfigError
from clusterflow.execution.machines import KubernetesLane, KubernetesMachine, load_machine
from clusterflow.execution.machines.kubernetes import Toleration, Volume

HPC = Path(__file__).parents[2] / "hpc"
BAD = [
    "a\nspec: {}",
    "a\n",
    "a;touch F",
    "$(touch F)",
    "`touch F`",
    "-a",
    "--image=evil",
    "a b",
    " a",
    "a ",
    "a\tb",
    "a'b",
    'a", "hostPID": true, "b": "',
    "a|b",
    "a&b",
    "a\\b",
    "a*",
    "{a}",
    "a\x00b",
    "é",
    "",
    "a" * 201,
]


def machine(lane=None, **changes):
    data = {
        "kind": "kubernetes",
        "image": "registry.example/x/clusterflow:1",
        "volumes": [{"claim": "runs", "mount": "/data"}],
        "lanes": {
            "md": {"walltime": "1 h", "cores_per_node": 4, "gpus_per_node": 2},
            "label": {"walltime": "1 h", "cores_per_node": 8, **(lane or {})},
        },
    }
    return KubernetesMachine.model_validate({**data, **changes})


@pytest.mark.parametrize("bad", BAD)
def test_no_text_can_become_anything_but_a_name(bad):
    volume = {"claim": "runs", "mount": "/data"}
    for lane in (
        {"image": bad},
        {"node_selector": {bad: "x"}},
        {"node_selector": {"x": bad}},
        {"tolerations": [{"key": bad}]},
        {"tolerations": [{"key": "x", "value": bad}]},
        {"tolerations": [{"key": "x", "effect": bad}]},
    ):
        with pytest.raises(ValidationError):
            machine(lane)
    for changes in (
        {"image": bad},
        {"namespace": bad},
        {"context": bad},
        {"service_account": bad},
        {"image_pull_policy": bad},
        {"python": bad},
        {"address": bad},
        {"run_as_user": bad},
        {"fs_group": bad},
        {"environment": {bad: "x"}},
        {"environment": {"X": bad}},
        {"volumes": [{**volume, "claim": bad}]},
        {"volumes": [{**volume, "mount": bad}]},
        {"volumes": [{**volume, "mount": f"/{bad}".replace("/-", "/;")}]},  # a dash is harmless there
        {"volumes": [{**volume, "read_only": bad}]},
    ):
        with pytest.raises(ValidationError):
            machine(**changes)


def test_every_text_field_is_among_those_tested():
    """A field that is added later must be added to the injection test above."""

    def texts(model):
        return {name for name, f in model.model_fields.items() if re.search(r"\bstr\b|Literal", str(f.annotation))}

    elsewhere = {"workers_per_node", "mpi"}  # test_batch_machines.py
    assert texts(KubernetesLane) == {"image", "node_selector"} | elsewhere
    assert texts(Toleration) == {"key", "value", "effect"}
    assert texts(Volume) == {"claim", "mount"}
    known = {"address", "python", "worker_setup", "environment", "kind", "context", "namespace", "image"}
    assert texts(KubernetesMachine) == known | {"image_pull_policy", "service_account", "run_as_user"}


def test_good_names_are_kept_as_they_are():
    lane = {
        "image": "localhost:5000/cuda@sha256:" + "0" * 64,
        "node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "disk": "ssd"},
        "tolerations": [{"key": "example.com/pool", "value": "md", "effect": "NoExecute"}],
    }
    made = machine(lane, context="arn:aws:eks:eu-west-1:123:cluster/c", namespace="group-7")
    label = made.lane("label")
    assert label.model_dump(include=set(lane), mode="json") == {
        **lane,
        "tolerations": [{"key": "example.com/pool", "value": "md", "effect": "NoExecute"}],
    }
    assert made.context == "arn:aws:eks:eu-west-1:123:cluster/c"
    assert (made.resolved("train").workers, made.resolved("label").cores_per_worker) == (2, 1)
    assert made.interpreter == "python3"
    assert made.user == os.getuid()
    assert machine(run_as_user=1234).user == 1234


def test_what_lies_on_a_volume():
    made = machine(
        volumes=[
            {"claim": "runs", "mount": "/data"},
            {"claim": "old", "mount": "/data/old", "read_only": True},
        ]
    )
    assert made.holds("/data/campaign")
    assert made.holds("/data")
    assert not made.holds("/data2/campaign")
    assert not made.holds("/home/me")
    assert not made.holds("/data/old/campaign")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image: {image: x}\n", "image"),
        ("volumes: []\n", "volumes"),
        ("volumes: [{claim: a, mount: /d}, {claim: b, mount: /d}]\n", "more than one is mounted at /d"),
        ("volumes: [{claim: a, mount: /d/../e}]\n", "is not an absolute path such as /data"),
        ("volumes: [{claim: a, mount: d}]\n", "is not an absolute path such as /data"),
        ("namespace: My_Project\n", "'My_Project' is not a name of at most 63 characters"),
        ("run_as_user: -1\n", "run_as_user"),
        ("image_pull_policy: Sometimes\n", "allowed: Always, IfNotPresent, Never"),
        ("hostNetwork: true\n", "unknown key 'hostNetwork'"),
        ("command: [sh]\n", "unknown key 'command'"),
    ],
)
def test_mistakes_are_explained(tmp_path, text, expected):
    path = tmp_path / "mine.yaml"
    given = {
        "kind": "kind: kubernetes\n",
        "image": "image: x\n",
        "volumes": "volumes: [{claim: runs, mount: /data}]\n",
        "lanes": "lanes: {label: {walltime: 1 h, cores_per_node: 4}, md: label}\n",
    }
    given[text.partition(":")[0]] = text
    path.write_text("".join(given.values()))
    with pytest.raises(ConfigError) as error:
        load_machine(path)
    assert expected in str(error.value)
    assert "line " in str(error.value)


@pytest.mark.parametrize("key", ["container", "modules", "partition", "account"])
def test_keys_of_other_schedulers_are_refused(key):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        machine({key: ["x"]})


@pytest.mark.parametrize("missing", ["image", "volumes"])
def test_what_must_be_given(tmp_path, missing):
    path = tmp_path / "mine.yaml"
    text = (HPC / "kubernetes.yaml").read_text()
    path.write_text(re.sub(rf"(?m)^{missing}:.*\n(  - .*\n)*", "", text))
    with pytest.raises(ConfigError, match=f"the key '{missing}' is missing"):
        load_machine(path)
