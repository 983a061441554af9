"""Job scripts, whole: what a scheduler is given is read here before it is sent."""

import shlex
from pathlib import Path

import pytest

from clusterflow.errors import InputError
from clusterflow.execution.job_script import BlockJob, has_node_script, job_script, node_script
from clusterflow.execution.machines import load_machine

HPC = Path(__file__).parents[2] / "hpc"
COMMAND = ("/env/bin/python", "-I", "/runs/a/watch.py", "watch", "/runs/a/workers.json", "--", "work", "it's {x} $HOME")


def script(file, lane, **changes):
    machine = load_machine(HPC / file)
    job = BlockJob("cf-0a1b2c3d-7", "cf:uio66:7", Path("/runs/a/0003-md"), COMMAND, setup=machine.worker_setup)
    chosen = machine.lane(lane)
    return job_script(chosen.model_copy(update=changes), job)


def test_slurm_gpu_lane():
    assert script("slurm.yaml", "md") == (
        "#!/bin/bash -l\n"
        "#SBATCH --job-name=cf-0a1b2c3d-7\n"
        "#SBATCH --comment=cf:uio66:7\n"
        "#SBATCH --partition=gpu\n"
        "#SBATCH --account=my-project\n"
        "#SBATCH --time=08:00:00\n"
        "#SBATCH --nodes=1\n"
        "#SBATCH --ntasks-per-node=1\n"
        "#SBATCH --cpus-per-task=16\n"
        "#SBATCH --gres=gpu:4\n"
        "#SBATCH --output=/runs/a/0003-md/job.out\n"
        "#SBATCH --open-mode=append\n"
        "#SBATCH --export=NONE\n"
        "#SBATCH --no-requeue\n"
        "\n"
        "module load gcc/13 cuda/12.4 || exit 1\n"
        "# worker_setup of the machine file\n"
        "ulimit -s unlimited\n"
        "exec /env/bin/python -I /runs/a/watch.py watch /runs/a/workers.json -- work 'it'\"'\"'s {x} $HOME'\n"
    )


def test_slurm_with_everything():
    text = script(
        "slurm.yaml",
        "label",
        nodes=3,
        qos="long",
        constraint="icelake",
        reservation="course",
        gpus_per_node=2,
        gpu_type="a100",
        exclusive=True,
        container=("apptainer", "exec", "--nv", "/apps/x.sif"),
        modules=(),
    )
    for line in (
        "#SBATCH --qos=long",
        "#SBATCH --constraint=icelake",
        "#SBATCH --reservation=course",
        "#SBATCH --gres=gpu:a100:2",
        "#SBATCH --mem=200G",
        "#SBATCH --exclusive",
        "#SBATCH --nodes=3",
    ):
        assert f"\n{line}\n" in text
    assert "module load" not in text
    last = shlex.split(text.splitlines()[-1])
    step = ["exec", "srun", "--export=ALL", "--nodes=3", "--ntasks-per-node=1", "--cpus-per-task=64"]
    assert last == [*step, "--kill-on-bad-exit=1", "apptainer", "exec", "--nv", "/apps/x.sif", *COMMAND]


def test_pbs():
    assert script("pbs.yaml", "md") == (
        "#!/bin/bash -l\n"
        "#PBS -N cf-0a1b2c3d-7\n"
        "#PBS -q gpu\n"
        "#PBS -P my-project\n"
        "#PBS -l select=1:ncpus=16:ngpus=4\n"
        "#PBS -l walltime=08:00:00\n"
        "#PBS -o /runs/a/0003-md/job.out\n"
        "#PBS -j oe\n"
        "#PBS -r n\n"
        "#PBS -S /bin/bash\n"
        "\n"
        "module load gcc/13 cuda/12.4 || exit 1\n"
        "# worker_setup of the machine file\n"
        "ulimit -s unlimited\n"
        "exec /env/bin/python -I /runs/a/watch.py watch /runs/a/workers.json -- work 'it'\"'\"'s {x} $HOME'\n"
    )
    label = script("pbs.yaml", "label", account="a_1")
    assert "\n#PBS -A a_1\n#PBS -P my-project\n#PBS -l select=1:ncpus=64:mem=200gb\n#PBS -l place=excl\n" in label


def test_pbs_with_several_nodes():
    machine = load_machine(HPC / "pbs.yaml")
    lane = machine.lane("label").model_copy(update={"nodes": 3, "container": ("apptainer", "exec", "/apps/x.sif")})
    job = BlockJob("cf-0a1b2c3d-7", "cf:uio66:7", Path("/runs/a/0003-label"), COMMAND, setup=machine.worker_setup)
    assert has_node_script(lane)
    assert not has_node_script(machine.lane("label"))
    text = job_script(lane, job)
    assert "\n#PBS -l select=3:ncpus=64:mpiprocs=1:mem=200gb\n#PBS -l place=scatter:excl\n" in text
    assert text.endswith("#PBS -S /bin/bash\n\nexec pbsdsh -- /bin/bash -l /runs/a/0003-label/node.sh\n")
    assert "ulimit" not in text  # pbsdsh would lose it
    assert node_script(lane, job) == (
        "#!/bin/bash -l\n"
        "module load gcc/13 openmpi/5.0 || exit 1\n"
        "# worker_setup of the machine file\n"
        "ulimit -s unlimited\n"
        "exec apptainer exec /apps/x.sif "
        "/env/bin/python -I /runs/a/watch.py watch /runs/a/workers.json -- work 'it'\"'\"'s {x} $HOME'\n"
    )
    for place, expected in (
        (None, "scatter"),
        ("scatter:shared", "scatter:shared"),
        ("group=rack", "scatter:group=rack"),
    ):
        assert f"-l place={expected}\n" in job_script(lane.model_copy(update={"place": place}), job)


@pytest.mark.parametrize("folder", ["/r/my run", "/r/a\n#SBATCH --wrap=x", "/r/%j", "/r/$(x)", "/r/`x`", "a"])
def test_folders_that_a_scheduler_would_misread_are_refused(folder):
    lane = load_machine(HPC / "slurm.yaml").lane("md")
    with pytest.raises(InputError, match="may hold letters, digits"):
        job_script(lane, BlockJob("n", "c", Path(folder), ("work",)))
