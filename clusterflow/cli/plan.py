"""`clusterflow plan`: what would be submitted and what it would cost. Submits nothing."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from clusterflow.campaign.budget import StageCost, stage_costs
from clusterflow.campaign.forecast import forecast
from clusterflow.cli.check import fragments_table, said_of_ramp
from clusterflow.config.load import load_campaign
from clusterflow.errors import InputError
from clusterflow.execution.block_pool import block_files
from clusterflow.execution.machines import BatchMachine, KubernetesMachine, LocalMachine, Machine, load_machine
from clusterflow.execution.provenance import is_secret
from clusterflow.label.gpaw import LAUNCHER


def plan_campaign(path: Path, *, machine: str | None, folder: Path | None, gpu_speed: float, console: Console) -> None:
    """Prints the first fragments, core- and GPU-hours per stage, and the job scripts.

    Raises
    ------
    InputError
        Jobs could not run in this run folder; after all is printed that can be.
    """
    config = load_campaign(path)
    if folder is not None:
        config = config.model_copy(update={"folder": folder})
    place = load_machine(machine or config.machine).for_ranks(config.label.ranks)
    told = forecast(config)
    _say(console, f"campaign '{config.name}' on {_described(place)}; nothing is submitted")
    _say(console, f"level of theory: {told.level_of_theory}")
    console.print(fragments_table(told))
    for line in (*told.charges, *said_of_ramp(config)):
        _say(console, line)
    console.print(_cost_table(stage_costs(config, told), place, gpu_speed))
    _say(
        console,
        "These are estimates for all iterations, queue time and idle workers not counted"
        + (f"; a GPU is taken for {gpu_speed:g} cores (--gpu-speed)" if _any_gpus(place) else "")
        + ".",
    )
    if isinstance(place, BatchMachine):
        _say(console, "\nrun folder: " + str(config.run_folder.absolute()))
        _print_environment(place, console)
        _print_scripts(place, config.run_folder.absolute(), config.name, console)


def _described(machine: Machine) -> str:
    if isinstance(machine, LocalMachine):
        return f"this computer, {machine.total_cores()} cores"
    jobs = sum(machine.lane(name).blocks.max for name in machine.block_lanes())
    return f"a cluster with {machine.kind}: at most {jobs} jobs at once, {machine.total_cores()} cores"


def _gpus(machine: Machine, lane: str) -> bool:
    if isinstance(machine, BatchMachine):
        return machine.lane(lane).gpus_per_node > 0
    return bool(machine.resolved(lane).gpus)


def _any_gpus(machine: Machine) -> bool:
    return any(_gpus(machine, lane) for lane in ("md", "train", "label", "local"))


def _cost_table(costs: tuple[StageCost, ...], machine: Machine, gpu_speed: float) -> Table:
    table = Table(box=None, pad_edge=False, title="predicted cost", title_justify="left")
    for column in ("stage", "lane", "tasks", "core-hours", "GPU-hours", "from"):
        number = column in ("tasks", "core-hours", "GPU-hours")
        table.add_column(column, justify="right" if number else "left", no_wrap=column != "from")
    cores_sum = gpus_sum = 0.0
    for cost in costs:
        cores, gpus = _hours(cost, machine, gpu_speed)
        cores_sum, gpus_sum = cores_sum + (cores or 0.0), gpus_sum + (gpus or 0.0)
        table.add_row(cost.stage, cost.lane, str(cost.tasks), _shown(cores), _shown(gpus), cost.basis)
    unknown = any(cost.core_seconds is None for cost in costs)
    table.add_row("sum", "", "", _shown(cores_sum) + ("+" if unknown else ""), _shown(gpus_sum or None), "")
    return table


def _hours(cost: StageCost, machine: Machine, gpu_speed: float) -> tuple[float | None, float | None]:
    """Core-hours and GPU-hours that are charged: a worker with a GPU holds its cores for as long as the GPU works."""
    if cost.core_seconds is None:
        return None, None
    if not _gpus(machine, cost.lane):
        return cost.core_seconds / 3600.0, None
    hours = cost.core_seconds / gpu_speed / 3600.0
    return hours * machine.resolved(cost.lane).cores_per_worker, hours


def _shown(hours: float | None) -> str:
    if hours is None:
        return "·"
    if 0 < hours < 0.01:
        return "<0.01"
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"


def _print_environment(machine: BatchMachine, console: Console) -> None:
    """What the workers get that is in no job script."""
    told = [f"{name}={'(not shown)' if is_secret(name) else value}" for name, value in machine.environment.items()]
    _say(console, f"environment of the workers: {', '.join(told) or 'none given'}")
    mpi = machine.lane("label").mpi
    _say(console, f"MPI ranks of a label are started by: {' '.join(mpi or LAUNCHER)}{'' if mpi else ' (the default)'}")


def _print_scripts(machine: BatchMachine, run_folder: Path, campaign: str, console: Console) -> None:
    """The job scripts; where they could not run in this folder, those for one where they could, then the error."""
    problem: InputError | None = None
    for name in machine.block_lanes():
        lane = machine.lane(name)
        users = [lane_name for lane_name in ("md", "label", "train", "local") if machine.block_lane(lane_name) == name]
        _say(
            console,
            f"\njob script of {', '.join(users)}: {lane.blocks.min} to {lane.blocks.max} jobs of {lane.nodes} node(s) "
            f"with {lane.workers} workers of {lane.cores_per_node // lane.workers} core(s) each, {lane.time} long",
        )
        try:
            files = _files(machine, name, run_folder, campaign)
        except InputError as error:
            other = possible_folder(machine, campaign)
            problem = _with_example(error, run_folder, other)
            if other is None:
                _say(console, "not shown: this run folder is not possible there")
                continue
            _say(
                console,
                f"as if the run folder were {other}, since it is not possible where it is (see the error below):",
            )
            files = _files(machine, name, other, campaign)
        for file, text in files.items():
            _say(console, f"{file}:\n{text}" if len(files) > 1 else text)
    if problem is not None:
        raise problem


def possible_folder(machine: BatchMachine, campaign: str) -> Path | None:
    """A run folder that jobs of this machine could work in, as an example; None if there is none."""
    if not isinstance(machine, KubernetesMachine):
        return Path("/shared") / campaign
    mounts = [volume.mount for volume in machine.volumes if not volume.read_only]
    return Path(mounts[0]) / campaign if mounts else None


def _files(machine: BatchMachine, lane: str, run_folder: Path, campaign: str) -> dict[str, str]:
    folder = run_folder / "parsl" / f"0000-{lane}"
    return block_files(machine, machine.lane(lane), folder, ["…"], name="cf-CAMPAIGN-1", run_id=f"{campaign}:1")


def _with_example(error: InputError, run_folder: Path, other: Path | None) -> InputError:
    example = f" For example `--folder {other}`." if other is not None else ""
    return InputError(error.what, where=str(run_folder), todo=f"{error.todo}{example}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
