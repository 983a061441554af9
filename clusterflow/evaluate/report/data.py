"""What a report shows. Plain data, filled by the campaign from its journal; `render_report` turns it into one file.

Everything except the campaign's name is optional: an empty field becomes a sentence ("not yet"), never an error. All
numbers are finite, so that ``to_json`` is valid JSON; counts of infinite novelties have fields of their own. Units
are in the names or in the docstrings: eV, Å, s, K, GPa, MB; errors as in `clusterflow.evaluate.metrics` (meV/Å,
meV/atom). The builders in `clusterflow.evaluate.report.collect` make the bigger parts from frames and arrays.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clusterflow.evaluate.arms import ArmCurve
from clusterflow.evaluate.learning_curve import CurvePoint
from clusterflow.evaluate.metrics import Metrics
from clusterflow.evaluate.report.calibration_data import CalibrationView

State = Literal["running", "finished", "stopped", "paused", "failed"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What the campaign has used so far. ``core_seconds`` = Σ cores × s of all tasks, ``label_core_seconds`` the part
    of the reference calculations; ``driver_memory_MB`` the peak of the driving process."""

    wall_seconds: float = 0.0
    core_seconds: float = 0.0
    label_core_seconds: float = 0.0
    driver_memory_MB: float = 0.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Reference and predicted values of the same quantity, equally long."""

    reference: tuple[float, ...] = ()
    predicted: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Parity:
    """Model against reference on the test set: ``forces`` per element (components, eV/Å) and ``energies`` per system
    (eV/atom, relative to the mean reference of the frames of the same composition). ``n_components`` and ``n_energies``
    count what there was before subsampling."""

    forces: Mapping[str, Pairs] = field(default_factory=dict)
    energies: Mapping[str, Pairs] = field(default_factory=dict)
    n_components: int = 0
    n_energies: int = 0


@dataclass(frozen=True, slots=True)
class ModelResult:
    """The model of one iteration on the test set; ``parity`` is shown for the first and the last model that has one.

    ``train_seconds`` and ``epochs`` are None when unknown."""

    iteration: int
    model_id: str
    metrics: Metrics | None = None
    parity: Parity | None = None
    train_seconds: float | None = None
    epochs: int | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """``counts`` (n,) between ``edges`` (n+1,); ``above`` counts finite values beyond the last edge, ``infinite`` those
    of an element never seen."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    above: int = 0
    infinite: int = 0


@dataclass(frozen=True, slots=True)
class NoveltyHistograms:
    """Novelty of one element in one iteration (``unit``, larger = less known): the atoms that the density was fitted to
    and the atoms of the explored frames. Both share their edges; ``training`` is None for an element never seen."""

    iteration: int
    element: str
    training: Histogram | None = None
    explored: Histogram | None = None
    unit: str = "nats"


@dataclass(frozen=True, slots=True)
class CorrelationRow:
    """Correlation of novelty with the true force error over the atoms of one element ("all": every element together).

    ``spearman_low`` and ``spearman_high`` bound the bootstrap interval; None = not defined for so few atoms."""

    iteration: int
    element: str
    n_atoms: int
    n_infinite: int = 0
    spearman: float | None = None
    spearman_low: float | None = None
    spearman_high: float | None = None
    pearson: float | None = None


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """Features of one element on the first two principal axes of its training data.

    ``density`` (ny, nx) counts training atoms between ``x_edges`` and ``y_edges``; ``explored`` and ``selected`` are
    points (x, y); ``explained`` the fractions of the training variance along the two axes; ``components`` the number
    of mixture components that BIC chose and ``bic`` its curve (number of components → BIC), if known.
    ``explored_atoms`` and ``selected_atoms`` say for each point which atom it is: (index in ``ReportData.structures``,
    index in that structure), (−1, −1) for one that is not drawn."""

    iteration: int
    element: str
    x_edges: tuple[float, ...] = ()
    y_edges: tuple[float, ...] = ()
    density: tuple[tuple[int, ...], ...] = ()
    explored: tuple[tuple[float, float], ...] = ()
    selected: tuple[tuple[float, float], ...] = ()
    explored_atoms: tuple[tuple[int, int], ...] = ()
    selected_atoms: tuple[tuple[int, int], ...] = ()
    explained: tuple[float, ...] = ()
    components: int | None = None
    bic: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WalkerRow:
    """One walk. ``pressure_GPa`` None = no barostat; ``stop_reason`` "" = it ran its full length."""

    iteration: int
    walker: str
    system: str
    temperature_K: float | None = None
    pressure_GPa: float | None = None
    steps: int = 0
    planned_steps: int = 0
    frames: int = 0
    stop_reason: str = ""


@dataclass(frozen=True, slots=True)
class RampRow:
    """An iteration of a temperature ramp: walks, how many of them were ``unstable``, structures ``accepted`` for
    labelling, what followed (``then``: rise, repeat, end or stop) and why, in words."""

    iteration: int
    temperature_K: float
    walkers: int
    unstable: int
    accepted: int
    then: str
    reason: str


@dataclass(frozen=True, slots=True)
class StructureView:
    """A fragment or frame to be drawn. ``positions`` (n, 3) in Å; ``regions`` (n,) "core", "mantle" or "termination";
    ``bonds`` pairs of indices; ``status`` such as "labelled", "failed", "in work"; ``certificate`` what is claimed
    about its force errors, in words, "" without one.

    ``cell`` (3, 3) in Å, () if not periodic; ``scalars`` name with unit → (n,) values to colour by, None = unknown;
    ``marked`` atoms that were selected."""

    name: str
    symbols: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]
    regions: tuple[str, ...] = ()
    bonds: tuple[tuple[int, int], ...] = ()
    system: str = ""
    iteration: int | None = None
    kind: str = ""
    formula: str = ""
    charge: int = 0
    spin: int = 0
    status: str = ""
    label_seconds: float | None = None
    novelty: float | None = None
    certificate: str = ""
    cell: tuple[tuple[float, float, float], ...] = ()
    scalars: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    marked: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One piece of work that failed: the three parts of its message, and which it was."""

    stage: str
    item: str
    what: str
    where: str = ""
    todo: str = ""
    iteration: int | None = None


@dataclass(frozen=True, slots=True)
class TimingRow:
    """Cost of one stage, summed over its ``tasks``; ``wall_seconds`` sums the tasks' own durations, so it exceeds the
    elapsed time when tasks ran side by side. ``iteration`` None = all of them."""

    stage: str
    tasks: int
    wall_seconds: float
    core_seconds: float
    peak_memory_MB: float = 0.0
    iteration: int | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that ran from ``begin`` to ``end`` (s since the campaign was opened) in one ``row`` of its lane."""

    begin: float
    end: float
    row: int


@dataclass(frozen=True, slots=True)
class LaneStrip:
    """How a lane of workers was used: tasks, the most that ran at once, the fraction of those workers that was busy
    while drivers ran, waits between sending and beginning (s)."""

    lane: str
    tasks: int = 0
    at_once: int = 0
    busy: float = 0.0
    median_wait: float = 0.0
    longest_wait: float = 0.0
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueRow:
    """Blocks of a lane that began on a cluster, and how long they waited in its queue (s)."""

    lane: str
    blocks: int
    median_wait: float
    longest_wait: float


@dataclass(frozen=True, slots=True)
class LagRow:
    """New labels of one training, and the mean number of versions between the potential that asked and it."""

    version: int
    labels: int
    mean: float


@dataclass(frozen=True, slots=True)
class PotentialFiles:
    """The final (or current) potential. ``folder`` relative to the report; ``files`` maps a purpose ("ASE", "LAMMPS")
    to a path; the code snippets are shown as they are, a default is made for ``ase_code`` = ""."""

    folder: str
    model_id: str
    elements: tuple[str, ...] = ()
    cutoff_A: float | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    ase_code: str = ""
    lammps_code: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """One reference; ``url`` becomes a plain link."""

    text: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """All of a report.

    ``state`` and ``reason`` are the verdict (why it finished, stopped or failed); ``generated`` is the time that the
    caller wants shown; ``settings`` are "section.key" → value as text; ``config_text`` the frozen YAML;
    ``environment`` package → version and machine facts; ``citations`` empty = the method's paper and the software that
    every campaign uses.
    """

    campaign: str
    state: State = "running"
    reason: str = ""
    generated: str = ""
    clusterflow_version: str = ""
    iterations_done: int = 0
    iterations_planned: int | None = None
    labels_done: int = 0
    labels_failed: int = 0
    labels_open: int = 0
    cost: Cost = field(default_factory=Cost)
    level_of_theory: str = ""
    test_frames: int = 0
    learning: tuple[CurvePoint, ...] = ()
    models: tuple[ModelResult, ...] = ()
    novelty: tuple[NoveltyHistograms, ...] = ()
    correlations: tuple[CorrelationRow, ...] = ()
    calibrations: tuple[CalibrationView, ...] = ()
    noise: str = ""
    """Where the last model stands against the noise of its labels, in words."""
    feature_maps: tuple[FeatureMap, ...] = ()
    walkers: tuple[WalkerRow, ...] = ()
    ramp: tuple[RampRow, ...] = ()
    """Empty unless the temperature rises with the iterations."""
    fragments: tuple[StructureView, ...] = ()
    structures: tuple[StructureView, ...] = ()
    """Test frames with the errors of the last model, explored frames with their novelty."""
    failures: tuple[FailureRow, ...] = ()
    timings: tuple[TimingRow, ...] = ()
    lanes: tuple[LaneStrip, ...] = ()
    queue: tuple[QueueRow, ...] = ()
    periods: tuple[tuple[float, float], ...] = ()
    """When a driver ran, (begin, end) in s since the campaign was opened."""
    lags: tuple[LagRow, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    config_text: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    potential: PotentialFiles | None = None
    citations: tuple[Citation, ...] = ()
    arms: tuple[ArmCurve, ...] = ()
    """The campaign's own arm and its control arms; empty without controls."""

    def tested(self) -> list[ModelResult]:
        """The models that have met the test set, first iteration first."""
        return sorted((m for m in self.models if m.metrics is not None), key=lambda m: m.iteration)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `report_data_from_json` is the inverse."""
        return dataclasses.asdict(self)


def report_data_from_json(data: Mapping[str, Any]) -> ReportData:
    """The inverse of ``ReportData.to_json``, also after a round trip through a JSON file (lists become tuples)."""
    result = _build(ReportData, data)
    assert isinstance(result, ReportData)
    return result


def _build(kind: Any, value: Any) -> Any:
    """``value`` as the annotated type ``kind``: dataclass, tuple, Mapping, optional or plain."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _build(hints[name], v) for name, v in value.items()})
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _build(next(a for a in args if a is not type(None)), value)
    if origin is tuple:
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        return tuple(_build(k, v) for k, v in zip(inner, value, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {k: _build(args[1], v) for k, v in value.items()}
    return value
