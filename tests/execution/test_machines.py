"""Machine files: the default fits what it finds, and mistakes are explained."""

import os
from pathlib import Path

import pytest

from clusterflow.errors import ConfigError
from clusterflow.execution.machines import (
    LANES,
    available_cores,
    available_gpus,
    default_machine,
    load_machine,
    local,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def test_commented_copy_agrees_with_the_default():
    path = REPOSITORY / "hpc" / "local.yaml"
    assert load_machine(path) == default_machine() == load_machine("local")
    assert set(default_machine().model_dump()["lanes"]) == set(LANES)


def test_default_on_two_cores(monkeypatch):
    monkeypatch.setattr(local, "available_cores", lambda: 2)
    monkeypatch.setattr(local, "available_gpus", list)
    resolved = {name: default_machine().resolved(name) for name in LANES}
    assert {n: r.workers for n, r in resolved.items()} == {"md": 2, "label": 2, "train": 1, "local": 1}
    assert {r.cores_per_worker for r in resolved.values()} == {1}
    assert default_machine().label_cores == 2


def test_default_on_a_gpu_node(monkeypatch):
    monkeypatch.setattr(local, "available_cores", lambda: 64)
    monkeypatch.setattr(local, "available_gpus", lambda: ["0", "1", "2", "3"])
    md, label, train = (default_machine().resolved(n) for n in ("md", "label", "train"))
    assert (md.workers, md.gpus) == (4, ("0", "1", "2", "3"))
    assert (label.workers, label.gpus) == (64, ())
    assert (train.workers, train.gpus) == (1, ("0", "1", "2", "3"))


def test_example_of_the_readme(file, monkeypatch):
    monkeypatch.setattr(local, "available_gpus", lambda: ["0", "1"])
    text = (REPOSITORY / "hpc" / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    machine = load_machine(file(text))
    label, train = machine.resolved("label"), machine.resolved("train")
    assert (label.workers, label.cores_per_worker) == (2, 4)
    assert machine.label_cores == 8
    assert train.gpus == ("0",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kind: lokal\n", ["line 1", "'lokal' is not possible", "did you mean 'local'"]),
        ("cors: 4\n", ["unknown key 'cors'", "did you mean 'cores'", "allowed here: cores, kind, lanes"]),
        ("lanes: {labels: {workers: 2}}\n", ["unknown key 'labels'", "did you mean 'label'"]),
        ("lanes:\n  md:\n    workers: 0\n", ["line 3", "lanes.md.workers", "greater than or equal to 1"]),
        ("lanes: {md: {workers: true}}\n", ["lanes.md.workers"]),
        ("lanes: {md: {workers: many}}\n", ["lanes.md.workers", "many"]),
        ("lanes: {md: {gpus: -1}}\n", ["lanes.md.gpus"]),
        ("cores: 2\nlanes: {label: {cores_per_worker: 4}}\n", ["lane 'label' wants 4 cores per worker", "has 2"]),
        ("", ["holds nothing"]),
        ("kind: [local\n", ["not valid YAML"]),
    ],
)
def test_mistakes_are_explained(file, text, expected):
    with pytest.raises(ConfigError) as error:
        load_machine(file(text))
    for part in expected:
        assert part in str(error.value)
    assert "machine file" in error.value.todo


def test_unknown_names(tmp_path):
    with pytest.raises(ConfigError, match="no machine called 'locla'") as error:
        load_machine("locla")
    assert "Did you mean 'local'?" in error.value.todo
    with pytest.raises(ConfigError, match="no machine file"):
        load_machine(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="no lane 'gpu'"):
        default_machine().resolved("gpu")


def test_more_gpus_than_there_are(file, monkeypatch):
    monkeypatch.setattr(local, "available_gpus", lambda: ["0"])
    with pytest.raises(ConfigError, match="wants 2 GPUs; this computer shows 1"):
        load_machine(file("lanes: {md: {gpus: 2}}\n")).resolved("md")


def test_cores_follow_affinity():
    allowed = os.sched_getaffinity(0)
    assert 1 <= available_cores() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 0.0),
        ({"cpu.max": "max 100000"}, 0.0),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"a/cpu.max": "800000 100000", "a/b/cpu.max": "200000 100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 0.0),
    ],
)
def test_limits_of_containers(tmp_path, files, expected):
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "own").write_text("0::/a/b\n")
    assert local._cgroup_cores(tmp_path / "cgroup", tmp_path / "own") == expected


def test_gpus_that_are_visible(tmp_path):
    assert available_gpus({"CUDA_VISIBLE_DEVICES": "2, 3"}) == ["2", "3"]
    assert available_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert available_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    assert available_gpus({}, proc=tmp_path) == []
    for name in ("0000:01:00.0", "0000:41:00.0"):
        (tmp_path / "driver/nvidia/gpus" / name).mkdir(parents=True)
    assert available_gpus({}, proc=tmp_path) == ["0", "1"]
