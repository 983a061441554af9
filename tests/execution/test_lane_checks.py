"""The doctor on a cluster, and what it recommends."""

import pytest

from clusterflow.execution.lane_checks import examine_blocks, recommend
from clusterflow.execution.machines import load_machine


@pytest.mark.parametrize(
    ("seconds", "cores", "expected"),
    [
        ({1: 10.0}, 1, "label.ranks must be 1"),
        ({1: 10.0, 2: 9.0, 4: 8.0}, 4, "Take label.ranks: 1"),
        ({1: 10.0, 2: 5.5, 4: 4.5}, 4, "Take label.ranks: 2 (1.8 times"),
        ({1: 10.0, 2: 5.5, 4: 3.0}, 4, "Take label.ranks: 4 (3.3 times"),
    ],
)
def test_ranks_that_are_worth_their_cores(seconds, cores, expected):
    assert expected in recommend(seconds, cores)


@pytest.mark.slow
def test_each_lane_is_looked_at_on_its_node(slurm, tmp_path):
    pytest.importorskip("gpaw", reason="the MPI part labels with GPAW, which is not installed")
    text = """
kind: slurm
address: 127.0.0.1
heartbeat: 10 s
end_margin: 20 s
submit: {first_wait: 0.2 s, failures: 2}
lanes:
  md: {partition: gpu, walltime: 10 min, cores_per_node: 1, gpus_per_node: 1}
  label: {partition: cpu, walltime: 10 min, cores_per_node: 1}
  train: {partition: nowhere, walltime: 10 min, cores_per_node: 1}
"""
    (tmp_path / "m.yaml").write_text(text)
    found = {f.name: f for f in examine_blocks(load_machine(tmp_path / "m.yaml"), tmp_path, patience=300.0)}
    assert set(found) == {"lane md", "lanes label, local", "lane train", "GPAW on the nodes of labels: benzene, lcao"}
    md, train = found["lane md"], found["lane train"]
    assert md.ok
    assert "until the job began" in md.seen
    assert "this worker sees GPU 0" in md.seen or "this worker sees GPU 1" in md.seen
    assert "clusterflow 0." in md.seen
    assert not train.ok
    assert "invalid partition" in train.seen
    mpi = found["GPAW on the nodes of labels: benzene, lcao"]
    assert mpi.ok, mpi.seen
    assert "1 rank" in mpi.seen
    assert "label.ranks must be 1" in mpi.seen
    assert list(tmp_path.glob("clusterflow-doctor-*"))  # kept, since something failed


def test_ranks_are_started_as_the_machine_file_says(monkeypatch):
    from clusterflow.execution.stages import with_launcher
    from clusterflow.label.gpaw import GPAWReference
    from clusterflow.label.xtb import XTBReference

    monkeypatch.setenv("CLUSTERFLOW_MPI", '["srun", "--mpi=pmix", "-n", "{ranks}"]')
    two = with_launcher(GPAWReference.quick(ranks=2))
    assert two.launcher == ("srun", "--mpi=pmix", "-n", "{ranks}")
    assert two.level_of_theory == GPAWReference.quick().level_of_theory
    assert with_launcher(GPAWReference.quick()).launcher == ()
    assert isinstance(with_launcher(XTBReference()), XTBReference)
    monkeypatch.delenv("CLUSTERFLOW_MPI")
    assert with_launcher(GPAWReference.quick(ranks=2)).launcher == ()
