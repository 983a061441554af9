"""Machine files of clusters: what is refused, and what lanes come to."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from clusterflow.errors import ConfigError
from clusterflow.execution.address import driver_address
from clusterflow.execution.machines import LANES, BatchMachine, PBSMachine, SlurmMachine, load_machine
from clusterflow.execution.machines.words import hours_minutes_seconds

HPC = Path(__file__).parents[2] / "hpc"
BAD = [
    "a\n#SBATCH --wrap=evil",
    "a\ntouch F",
    "a;touch F",
    "$(touch F)",
    "`touch F`",
    "-pevil",
    "--wrap=evil",
    "a b",
    " a",
    "a ",
    "a\tb",
    "a'b",
    'a"b',
    "a|b",
    "a&b",
    "a>b",
    "a\\b",
    "a*",
    "~a",
    "a#b",
    "a\x00b",
    "a\r",
    "é",
    "",
    "a" * 201,
]


def slurm(lane=None, **changes):
    """A machine whose label lane and top level are changed."""
    return {
        "kind": "slurm",
        "lanes": {
            "md": {"walltime": "1 h", "cores_per_node": 4, "gpus_per_node": 2},
            "label": {"walltime": "1 h", "cores_per_node": 8, **(lane or {})},
        },
        **changes,
    }


def pbs(lane=None, **changes):
    return {**slurm(lane, **changes), "kind": "pbs"}


@pytest.mark.parametrize("name", sorted(p.name for p in HPC.glob("*.yaml")))
def test_examples_load(name):
    machine = load_machine(HPC / name)
    for lane in LANES:
        assert machine.resolved(lane).workers >= 1


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("kind", "field"),
    [
        *(("slurm", f) for f in ("partition", "account", "qos", "constraint", "reservation", "gpu_type")),
        *(("pbs", f) for f in ("queue", "account", "project", "place")),
        *(("slurm", f) for f in ("mpi", "container", "modules")),
    ],
)
def test_no_text_of_a_lane_can_become_a_command(kind, field, bad):
    build = {"slurm": (SlurmMachine, slurm), "pbs": (PBSMachine, pbs)}[kind]
    for value in (bad, [bad]):
        with pytest.raises(ValidationError):
            build[0].model_validate(build[1](lane={field: value}))


@pytest.mark.parametrize("bad", BAD)
def test_no_text_of_a_machine_can_become_a_command(bad):
    for changes in (
        {"address": bad},
        {"python": bad},
        {"environment": {bad: "x"}},
        {"environment": {"X": bad}},
    ):
        with pytest.raises(ValidationError):
            SlurmMachine.model_validate(slurm(**changes))


def test_every_text_field_is_among_those_tested():
    """A field that is added later must be added to the injection tests above."""
    from clusterflow.execution.machines.pbs import PBSLane
    from clusterflow.execution.machines.slurm import SlurmLane

    words = {"partition", "account", "qos", "constraint", "reservation", "gpu_type", "queue", "project", "place"}
    lists = {"mpi", "container", "modules"}
    for lane in (SlurmLane, PBSLane):
        texts = {name for name, f in lane.model_fields.items() if re.search(r"\bstr\b", str(f.annotation))}
        assert texts - {"workers_per_node"} == (words | lists) & set(lane.model_fields), lane
    texts = {name for name, f in BatchMachine.model_fields.items() if re.search(r"\bstr\b", str(f.annotation))}
    assert texts == {"address", "python", "worker_setup", "environment"}


@pytest.mark.parametrize("place", ["pack", "free:excl", "vscatter"])
def test_nodes_of_a_block_of_pbs_are_hosts(place):
    assert PBSMachine.model_validate(pbs(lane={"place": place})).lane("label").placement == place
    with pytest.raises(ValidationError, match="must be a host of its own: leave out"):
        PBSMachine.model_validate(pbs(lane={"place": place, "nodes": 2}))


def test_good_words_are_kept_as_they_are():
    lane = {
        "partition": "gpu,gpu-long",
        "account": "p_1234@default",
        "constraint": "a100:1",
        "qos": "high.prio",
        "modules": ["gcc/13.2", "openmpi/5.0-cuda"],
        "mpi": ["srun", "--mpi=pmix", "-n", "{ranks}"],
        "container": ["apptainer", "exec", "--nv", "/apps/x.sif"],
    }
    label = SlurmMachine.model_validate(slurm(lane=lane)).lane("label")
    for name, value in lane.items():
        assert getattr(label, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("lanes:\n  md: {walltime: 1 h}\n", "the key 'cores_per_node' is missing"),
        ("lanes: {md: {walltime: 1 h, cores_per_node: 4}}\n", "the key 'label' is missing"),
        ("lanes: {md: label, label: md}\n", "shares the blocks of 'label', which has none of its own"),
        ("lanes: {md: gpu, label: md}\n", "allowed: md, label, train, local"),
        ("lanes: {label: {walltime: 30 s, cores_per_node: 4}, md: label}\n", "shorter than a minute"),
        ("lanes: {label: {walltime: 30, cores_per_node: 4}, md: label}\n", "the unit is missing"),
        ("lanes: {label: {walltime: 1 h, cores_per_node: 4, queue: x}, md: label}\n", "unknown key 'queue'"),
        (
            "lanes: {label: {walltime: 1 h, cores_per_node: 4, partition: 'a b'}, md: label}\n",
            "'a b' holds ' ', not allowed here",
        ),
        (
            "lanes: {label: {walltime: 1 h, cores_per_node: 4, account: -x}, md: label}\n",
            "begins with a dash",
        ),
        (
            "lanes: {label: {walltime: 1 h, cores_per_node: 4, workers_per_node: 5}, md: label}\n",
            "5 workers on 4 cores",
        ),
        ("lanes: {label: {walltime: 1 h, cores_per_node: 4, blocks: {min: 3}}, md: label}\n", "min is 3, above max"),
        ("lanes: {label: {walltime: 1 min, cores_per_node: 4}, md: label}\n", "too much of the walltime"),
        ("address: somewhere.example\n", "neither an IP address"),
        ("environment: {SLURM_CONF: x}\n", "set by the scheduler or by clusterflow"),
    ],
)
def test_mistakes_are_explained(tmp_path, changes, expected):
    path = tmp_path / "mine.yaml"
    lanes = "" if "lanes:" in changes else "lanes: {label: {walltime: 1 h, cores_per_node: 4}, md: label}\n"
    path.write_text("kind: slurm\n" + lanes + changes)
    with pytest.raises(ConfigError) as error:
        load_machine(path)
    assert expected in str(error.value)
    assert "line " in str(error.value)
    assert "machine file" in error.value.todo


def test_kinds_are_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# mine\nkind: slrum\n")
    with pytest.raises(ConfigError) as error:
        load_machine(path)
    for part in ("line 2", "'slrum' is not possible", "did you mean 'slurm'", "allowed: local, slurm, pbs"):
        assert part in str(error.value)


def test_lanes_in_numbers():
    machine = SlurmMachine.model_validate(slurm(lane={"workers_per_node": 2, "nodes": 3, "blocks": {"max": 4}}))
    label, train = machine.resolved("label"), machine.resolved("train")
    assert (label.workers, label.cores_per_worker) == (24, 4)
    assert (train.workers, train.cores_per_worker) == (2, 2)  # one per GPU, on the blocks of md
    assert machine.block_lanes() == ("md", "label")
    assert machine.block_lane("local") == "label"
    assert machine.label_cores == 96
    assert machine.total_cores() == 4 + 4 * 3 * 8
    with pytest.raises(ConfigError, match="no lane 'gpu'"):
        machine.resolved("gpu")


def test_ranks_need_cores():
    machine = SlurmMachine.model_validate(slurm())
    assert machine.resolved("label").workers == 8
    four = machine.for_ranks(4)
    assert (four.resolved("label").workers, four.resolved("label").cores_per_worker) == (2, 4)
    assert machine.for_ranks(1) is machine
    with pytest.raises(ConfigError, match=r"label.ranks is 9, but a worker of lane 'label' has 1 of the 8 cores"):
        machine.for_ranks(9)
    fixed = SlurmMachine.model_validate(slurm(lane={"workers_per_node": 4}))
    with pytest.raises(ConfigError) as error:
        fixed.for_ranks(4)
    assert "workers_per_node to 2" in error.value.todo


def test_times_as_schedulers_read_them():
    assert hours_minutes_seconds(60) == "00:01:00"
    assert hours_minutes_seconds(3 * 86400 + 3723) == "73:02:03"


def test_addresses(monkeypatch):
    own = {"lo": ["127.0.0.1"], "eth0": ["10.0.0.5"], "ib0": ["192.168.1.5"]}
    monkeypatch.setattr("clusterflow.execution.address._own_addresses", lambda: own)
    monkeypatch.setattr("socket.getaddrinfo", lambda *a: [(2, 1, 6, "", ("10.0.0.5", 0))])
    assert driver_address("auto") == "10.0.0.5"
    assert driver_address("ib0") == "192.168.1.5"
    assert driver_address("127.0.0.1") == "127.0.0.1"
    with pytest.raises(ConfigError, match=r"no address or interface '10.9.9.9'") as error:
        driver_address("10.9.9.9")
    assert "eth0 10.0.0.5, ib0 192.168.1.5, lo 127.0.0.1" in error.value.todo
    monkeypatch.setattr("socket.getaddrinfo", lambda *a: [(2, 1, 6, "", ("127.0.1.1", 0))])
    with pytest.raises(ConfigError, match="has 2 addresses"):
        driver_address("auto")
    monkeypatch.setattr("clusterflow.execution.address._own_addresses", lambda: {"lo": ["127.0.0.1"]})
    with pytest.raises(ConfigError, match="no address but loopback"):
        driver_address("auto")


def test_reference_page_is_current():
    from clusterflow.execution.machines.reference import machines_page

    page = HPC.parent / "docs" / "reference" / "machines.md"
    told = "run python -m clusterflow.execution.machines.reference > docs/reference/machines.md"
    assert page.read_text(encoding="utf-8") == machines_page(), told
