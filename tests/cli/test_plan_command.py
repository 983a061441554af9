"""`clusterflow plan`: shows everything, submits nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clusterflow.campaign.budget import PRESETS, stage_costs
from clusterflow.campaign.forecast import Forecast
from clusterflow.cli.main import app
from clusterflow.config.load import load_campaign

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"


def plan(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def no_submissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of the schedulers that leave a trace when they are called."""
    trace = tmp_path / "called"
    for name in ("sbatch", "squeue", "qsub", "qstat", "qselect", "kubectl"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {trace}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return trace


@pytest.mark.parametrize("kind", ["slurm", "pbs"])
def test_scripts_costs_and_fragments_of_a_cluster(no_submissions: Path, kind: str) -> None:
    code, said = plan(QUICKSTART, "--machine", ROOT / "hpc" / f"{kind}.yaml")
    assert code == 0, said
    assert f"a cluster with {kind}" in said
    assert "nothing is submitted" in said
    assert "C6H6O13Zn4" in said  # a first fragment
    for stage in ("labels", "dynamics", "training", "the rest", "sum"):
        assert f"\n{stage}" in said
    assert said.count("#!/bin/bash -l") == 2
    script = "#SBATCH --gres=gpu:4" if kind == "slurm" else "#PBS -l select=1:ncpus=16:ngpus=4"
    assert script in said
    assert "cf:quickstart:1" in said or kind == "pbs"
    assert not no_submissions.exists()


def test_manifests_of_kubernetes(no_submissions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k.yaml").write_text((ROOT / "hpc/kubernetes.yaml").read_text().replace("mount: /data", "mount: /w"))
    (tmp_path / "there.yaml").write_text((tmp_path / "k.yaml").read_text().replace("mount: /w", f"mount: {tmp_path}"))
    monkeypatch.chdir(tmp_path)
    code, said = plan(QUICKSTART, "--machine", tmp_path / "there.yaml")
    assert code == 0, said
    assert said.count("job.sh:\n#!/bin/bash\n") == 2
    manifests = [json.JSONDecoder().raw_decode(part)[0] for part in said.split("job.json:\n")[1:]]
    assert [m["metadata"]["annotations"] for m in manifests] == [{"clusterflow/run": "cf:quickstart:1"}] * 2
    limits = [m["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] for m in manifests]
    assert [limit.get("nvidia.com/gpu") for limit in limits] == ["1", None]
    code, said = plan(QUICKSTART, "--machine", tmp_path / "k.yaml")
    assert code == 2
    for part in ("C6H6O13Zn4", "\nsum", "OPENMM_DEFAULT_PLATFORM=CUDA", "as if the run folder were /w/quickstart"):
        assert part in said  # all that can be said before
    assert said.count('"mountPath": "/w"') == 2
    assert "error: The run folder lies on none of the volumes that pods mount and may write to (/w)" in said
    assert "For example `--folder /w/quickstart`." in said
    code, said = plan(QUICKSTART, "--machine", tmp_path / "k.yaml", "--folder", "/w/quickstart")
    assert code == 0, said
    assert "run folder: /w/quickstart" in said
    assert not no_submissions.exists()
    readable = (tmp_path / "k.yaml").read_text().replace("mount: /w}", "mount: /w, read_only: true}")
    (tmp_path / "k.yaml").write_text(readable)
    code, said = plan(QUICKSTART, "--machine", tmp_path / "k.yaml")
    assert code == 2
    assert "not shown: this run folder is not possible there" in said
    assert "may write to (/w (read-only))" in said


def test_environment_and_mpi_are_shown_and_secrets_are_not(tmp_path: Path) -> None:
    text = (ROOT / "hpc/slurm.yaml").read_text().partition("\nenvironment:")[0].partition("\nlanes:")[0]
    lane = "{partition: cpu, walltime: 8 h, cores_per_node: 16, mpi: [srun, --mpi=pmix, -n, '{ranks}']}"
    machine = tmp_path / "m.yaml"
    machine.write_text(f"{text}\nenvironment: {{A_PATH: /x/y, MY_TOKEN: abc}}\nlanes: {{md: {lane}, label: {lane}}}\n")
    code, said = plan(QUICKSTART, "--machine", machine, "--folder", "/has a space/x")
    assert "environment of the workers: A_PATH=/x/y, MY_TOKEN=(not shown)" in said
    assert "MPI ranks of a label are started by: srun --mpi=pmix -n {ranks}\n" in said
    assert code == 2
    assert "as if the run folder were /shared/quickstart" in said
    assert "#SBATCH --partition=cpu" in said
    assert "may hold letters, digits and _ . / : , @ = + - only" in said
    code, said = plan(QUICKSTART, "--machine", ROOT / "hpc/pbs.yaml")
    assert "mpirun -np {ranks} (the default)" in said


def test_this_computer(no_submissions: Path) -> None:
    code, said = plan(QUICKSTART)
    assert code == 0, said
    assert "this computer" in said
    assert "#!/bin/bash" not in said
    assert not no_submissions.exists()


def test_ranks_that_do_not_fit_are_refused() -> None:
    code, said = plan(ROOT / "configs" / "uio66_defects.yaml", "--machine", ROOT / "hpc" / "slurm.yaml")
    assert code == 2
    assert "Set workers_per_node to 4 there" in said


def test_costs_grow_with_what_they_are_made_of() -> None:
    config = load_campaign(QUICKSTART)
    row = ("crystal", 100, "node", 2, "core", "fragment", 20, 0, 0, "·")

    def told(**changes: object) -> Forecast:
        values = {
            "level_of_theory": "x", "fragments": (row,), "labels_start": 24, "labels_test": 8,
            "labels_per_iteration": 12, "labels_confirming": 0, "labels_total": 48, "walkers": 6, "md_steps": 3600,
            "label_core_seconds": 900.0,
        }  # fmt: skip
        return Forecast(**{**values, **changes})  # type: ignore[arg-type]

    costs = {c.stage: c for c in stage_costs(config, told())}
    call, epoch = PRESETS["small"]
    assert costs["dynamics"].core_seconds == pytest.approx(3600 * 100 * call)
    epochs = [config.train.intermediate.max_epochs or 300] * config.stop.iterations
    epochs.append(config.train.final.max_epochs or 300)
    frames = [16 + 12 * i for i in range(config.stop.iterations + 1)]
    expected = sum(n * e for n, e in zip(frames, epochs, strict=True)) * 20 * epoch
    assert costs["training"].core_seconds == pytest.approx(expected)
    assert costs["labels"].core_seconds == 900.0
    unknown = stage_costs(config, told(label_core_seconds=None))[0]
    assert unknown.core_seconds is None
    assert "no model for this level" in unknown.basis
