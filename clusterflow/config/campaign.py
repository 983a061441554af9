"""The campaign file as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from clusterflow.config.controls import Controls
from clusterflow.config.explore import Explore, OpenMM
from clusterflow.config.extract import BuildingBlocks, Certified, Extract
from clusterflow.config.failures import Failures
from clusterflow.config.label import GPAW, Label
from clusterflow.config.loop import Loop, Synchronous
from clusterflow.config.mistakes import PlacedError
from clusterflow.config.notify import Notify
from clusterflow.config.score import GaussianMixture, Score
from clusterflow.config.section import Section
from clusterflow.config.selection import Select, Selection
from clusterflow.config.start import Perturbed, Start
from clusterflow.config.stop import Stop
from clusterflow.config.systems import FilePath, MachineName, System
from clusterflow.config.train import NequIP, Train


class Campaign(Section):
    """One campaign: what to learn, how, and when to stop."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$")
    """Letters, digits, _ and -; also the name of the default run folder."""
    folder: FilePath | None = None
    """Run folder; a relative one is below the folder of this file. Default: `runs/<name>` below the current folder."""
    seed: int = Field(0, ge=0)
    """Every random choice of the campaign follows from it."""
    systems: tuple[System, ...] = Field(min_length=1)
    start: Start = Perturbed()
    explore: Explore = OpenMM()
    score: Score = GaussianMixture()
    select: Selection = Select()
    controls: Controls | None = None
    extract: Extract = BuildingBlocks()
    label: Label = GPAW()
    train: Train = NequIP()
    stop: Stop = Stop()
    failures: Failures = Failures()
    loop: Loop = Synchronous()
    notify: Notify | None = None
    machine: MachineName = "local"
    """Name of a machine (`local`) or path of a machine file (hpc/*.yaml), relative to this file."""
    labels_folder: FilePath | None = None
    """A label store that several campaigns share; default: `labels` in the run folder."""
    bank: FilePath | None = None
    """A folder of labels that is searched before any label is sent, for the same fragment in any orientation and order
    of atoms, and to which every new label is added (docs/concepts/bank.md)."""

    @field_validator("explore", "start", "extract", "label", "loop", "select", "score", "train", mode="before")
    @classmethod
    def _default_kind(cls, value: Any, info: Any) -> Any:
        defaults = {
            "explore": "openmm",
            "start": "perturbed",
            "extract": "building_blocks",
            "label": "gpaw",
            "loop": "synchronous",
            "select": "novelty",
            "score": "gmm",
            "train": "nequip",
        }
        if isinstance(value, dict) and "kind" not in value:
            return {"kind": defaults[info.field_name], **value}
        return value

    @model_validator(mode="after")
    def _names(self) -> Campaign:
        names = [s.name for s in self.systems]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise PlacedError(f"two systems have the same name: {name}", "systems", place, "name")
        return self

    def only_synchronous(self) -> list[tuple[str, tuple[str, ...]]]:
        """What this campaign wants that the streaming loop cannot do: why, with what to write instead, and the keys at
        which it stands. Empty if it can do it all."""
        found: list[tuple[str, tuple[str, ...]]] = []
        if self.explore.temperature is not None:
            why = (
                "explore.temperature raises the temperature from one iteration to the next, and the streaming loop "
                "has no iterations of walks; write `loop: {kind: synchronous}`, or do without `temperature:`"
            )
            found.append((why, ("explore", "temperature")))
        if self.select.kind == "cbad":
            why = (
                "select.kind cbad looks at all walks of an iteration together, and the streaming loop has no "
                "iterations of walks; write `loop: {kind: synchronous}` or `select: {kind: novelty}`"
            )
            found.append((why, ("select", "kind")))
        if self.controls is not None:
            why = "`controls:` needs `loop: {kind: synchronous}`: its arms choose from the frames of one iteration"
            found.append((why, ("controls",)))
        return found

    @model_validator(mode="after")
    def _loop(self) -> Campaign:
        if self.loop.kind == "streaming":
            for why, at in self.only_synchronous():
                raise PlacedError(why, *at)
        return self

    @model_validator(mode="after")
    def _ramp(self) -> Campaign:
        ramp = self.explore.temperature is not None
        if self.select.kind == "cbad" and self.extract.kind == "certified":
            raise PlacedError(
                "select.kind cbad chooses whole frames or building blocks, and certified fragments are built around "
                "single atoms; write `extract: {kind: building_blocks}`, `sphere` or `whole`",
                "extract",
                "kind",
            )
        for place, system in enumerate(self.systems if ramp else ()):
            told = system.ensemble
            if told is not None and told.temperature != type(told)().temperature:
                raise PlacedError(
                    f"explore.temperature sets the temperature of all walkers, and the ensemble of system "
                    f"'{system.name}' says {told.temperature[0]:g} K to {told.temperature[1]:g} K; leave one of the "
                    "two out",
                    *("systems", place, "ensemble", "temperature"),
                )
        return self

    @model_validator(mode="after")
    def _noise_floor(self) -> Campaign:
        if self.stop.noise_floor and not getattr(self.train, "label_noise", None):
            raise PlacedError(
                "stop: noise_floor needs the noise of the labels: measure it with `clusterflow label --noise`, and "
                "give it as train: label_noise",
                "stop",
                "noise_floor",
            )
        return self

    @model_validator(mode="after")
    def _arms(self) -> Campaign:
        if self.controls is None:
            return self
        if isinstance(self.extract, Certified):
            raise PlacedError(
                "`controls:` cannot be combined with `extract: {kind: certified}`, whose fragments depend on the "
                "labels so far; take building_blocks, sphere or whole",
                "controls",
            )
        if self.train.committee > 1:
            raise PlacedError(
                "`controls:` cannot be combined with `train.committee`: each arm trains one potential, and "
                "disagreement needs several; take another `score:`",
                "controls",
            )
        if not self.controls.each(self.select.fragments):
            n, arms = self.select.fragments, len(self.controls.arms)
            raise PlacedError(
                f"controls.share = {self.controls.share:g} of select.fragments = {n} is less than one label for each "
                f"of {arms} control arm{'s' if arms > 1 else ''}; raise one of the two, or name fewer arms",
                "controls",
                "share",
            )
        return self

    @property
    def label_limits(self) -> tuple[int | None, int | None]:
        """`stop.labels` divided: of the campaign itself, starting labels included, and of each control arm."""
        total = self.stop.labels
        if total is None or self.controls is None:
            return total, None
        start = self.start.fragments + self.start.test_fragments if isinstance(self.start, Perturbed) else 0
        each = self.controls.each(max(0, total - start))
        return total - each * len(self.controls.arms), each

    @property
    def fragments_selected(self) -> int:
        """Of `select.fragments`, those that control arms do not get."""
        if self.controls is None:
            return self.select.fragments
        return self.select.fragments - self.controls.each(self.select.fragments) * len(self.controls.arms)

    @model_validator(mode="after")
    def _committee(self) -> Campaign:
        members = self.train.committee
        if self.score.kind == "committee" and members < 2:
            raise PlacedError(
                "score: {kind: committee} compares potentials; set train.committee to 2 or more (4 is usual)",
                "score",
                "kind",
            )
        if self.score.kind != "committee" and members > 1:
            raise PlacedError(
                f"train.committee trains {members} potentials, but score: {{kind: {self.score.kind}}} uses one; "
                "set score: {kind: committee}, or leave train.committee out",
                "train",
                "committee",
            )
        return self

    @property
    def run_folder(self) -> Path:
        """Where everything of this campaign lives."""
        return self.folder or Path("runs") / self.name
