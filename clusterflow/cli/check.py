"""`clusterflow check`: everything that can be said before a single task runs."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clusterflow.campaign.forecast import Forecast, forecast
from clusterflow.cli.console import duration
from clusterflow.config.campaign import Campaign
from clusterflow.config.extract import Certified
from clusterflow.config.load import load_campaign
from clusterflow.errors import ConfigError
from clusterflow.execution.machines import load_machine


def check_campaign(path: Path, console: Console) -> None:
    """Validates, prints systems, fragments, tasks and an estimate of cost."""
    config = load_campaign(path)
    machine = load_machine(config.machine)
    try:
        machine = machine.for_ranks(config.label.ranks)
    except ConfigError as error:  # a forecast is wanted here for a campaign that will run elsewhere
        console.print(f"note: not on this machine: {error.what}", markup=False, highlight=False, soft_wrap=True)
    told = forecast(config)
    console.print(
        f"{path} is valid. Campaign '{config.name}', run folder {config.run_folder.absolute()}",
        markup=False,
        soft_wrap=True,
    )
    console.print(f"level of theory: {told.level_of_theory}", markup=False, highlight=False, soft_wrap=True)
    console.print(fragments_table(told))
    for line in told.charges:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"labels: {told.labels_start} at the start ({told.labels_test} of them the test set), "
        f"then up to {told.labels_per_iteration} in each of {config.stop.iterations} iterations"
        + (f", and {told.labels_confirming} larger ones that confirm them" if told.labels_confirming else "")
        + f": at most {told.labels_total}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if config.controls is not None:
        each = config.controls.each(config.select.fragments)
        console.print(
            f"controls: of the labels of each iteration {config.fragments_selected} are chosen as `select:` says, and "
            f"{each} by each control arm ({', '.join(config.controls.arms)}), which trains a potential of its own",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if isinstance(config.extract, Certified):
        _print_certified(config.extract, told.labels_confirming, console)
    console.print(
        f"dynamics: {told.walkers} walkers per iteration, {told.md_steps} MD steps in all",
        markup=False,
        highlight=False,
    )
    for line in said_of_ramp(config):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if told.label_core_seconds is not None:
        hours = told.label_core_seconds / 3600
        console.print(
            f"cost: labels about {hours:.2f} core hours (a model's estimate, within a factor of 3), "
            f"{duration(told.label_core_seconds / machine.label_cores)} with the {machine.label_cores} "
            "label cores of this machine; dynamics and training come on top",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print(
            "cost: no estimate for this level; docs/concepts/labels.md has measured times", markup=False, soft_wrap=True
        )


def said_of_ramp(config: Campaign) -> list[str]:
    """What a temperature ramp will do, if there is one, and whether `stop:` lets it."""
    ramp = config.explore.temperature
    if ramp is None:
        return []
    rungs = ramp.temperatures()
    shown = ", ".join(f"{t:g}" for t in (rungs if len(rungs) <= 12 else rungs[:3])) + (
        "" if len(rungs) <= 12 else f", … {rungs[-1]:g}"
    )
    lines = [
        f"temperature: {shown} K, one per iteration; one at which more than {ramp.max_unstable:.0%} of the walkers "
        f"blow up is repeated, at most {ramp.repeats} times"
    ]
    if config.stop.iterations < len(rungs):
        lines.append(
            f"note: stop.iterations is {config.stop.iterations}, so the ramp ends at "
            f"{rungs[max(0, config.stop.iterations - 1)]:g} K at most; {len(rungs)} iterations lead to {rungs[-1]:g} K"
        )
    return lines


def fragments_table(told: Forecast) -> Table:
    """One fragment per kind of block, as it would be cut first."""
    table = Table(box=None, pad_edge=False, title="fragments it would cut", title_justify="left")
    for column in (
        "system",
        "atoms",
        "block",
        "in cell",
        "core",
        "fragment",
        "atoms",
        "charge",
        "unpaired e",
        "s per label",
    ):
        table.add_column(
            column, justify="left" if column in ("system", "block", "core", "fragment") else "right", no_wrap=True
        )
    for row in told.fragments:
        table.add_row(*(str(v) for v in row))
    return table


def _print_certified(settings: Certified, confirming: int, console: Console) -> None:
    """What certified extraction will do, and whether it can ever certify."""
    needed = math.ceil(settings.confidence / (1.0 - settings.confidence) - 1e-9)
    lines = [
        f"certified: force errors of required atoms within {1000 * settings.tolerance:g} meV/Å, "
        f"{settings.confidence:.0%} confidence, fragments of up to {settings.max_atoms} atoms; those above are the "
        "starting ones"
    ]
    if confirming < needed:
        lines.append(
            f"note: a confidence of {settings.confidence:g} needs {needed} confirmed fragments, and at most "
            f"{confirming} will be: nothing will be certified. Raise `extract.confirm.first` or lower "
            "`extract.confidence`."
        )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
