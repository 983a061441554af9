"""Properties from molecular dynamics at equilibrium: how long, at which conditions (docs/concepts/properties.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from clusterflow.config.mistakes import shown
from clusterflow.config.quantities import (
    UNITS,
    Force,
    Length,
    Pressure,
    Temperature,
    Time,
    Wavenumber,
    parse_quantity,
)
from clusterflow.config.relaxation import NAME, Relaxation
from clusterflow.physics.spectrum import LIGHT, window_steps
from clusterflow.physics.timeseries import MIN_SAMPLES

_GRID_KEYS = {"from", "to", "points"}


def _grid(dimension: str) -> tuple[Any, ...]:
    """A list of values, in which ``{from, to, points}`` stands for so many equally spaced ones; doubles are dropped."""

    def inside(value: Any) -> float:
        if dimension:
            return parse_quantity(value, dimension)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"a number is needed here (given: {shown(value)})")
        return float(value)

    def expanded(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            value = [value]
        found: list[float] = []
        for item in value:
            if not isinstance(item, Mapping):
                found.append(inside(item))
                continue
            if set(item) != _GRID_KEYS or not isinstance(item["points"], int) or item["points"] < 2:
                given = ", ".join(map(str, item)) or "nothing"
                raise ValueError(f"a grid is {{from: …, to: …, points: 2 or more}}; this one has {given}")
            found += np.linspace(inside(item["from"]), inside(item["to"]), item["points"]).tolist()
        unit = f" {next(iter(UNITS[dimension]))}" if dimension else ""
        unique = sorted({round(v, 9) + 0.0 for v in found})
        return [f"{v!r}{unit}" for v in unique] if unit else unique

    plain = {"type": "string", "description": f"{dimension} with its unit"} if dimension else {"type": "number"}
    grid = {
        "type": "object",
        "properties": {"from": plain, "to": plain, "points": {"type": "integer", "minimum": 2}},
        "required": sorted(_GRID_KEYS),
        "additionalProperties": False,
    }
    schema = {"type": "array", "items": {"anyOf": [plain, grid]}}
    return BeforeValidator(expanded), WithJsonSchema(schema, mode="validation")


Pressures = Annotated[tuple[Pressure, ...], *_grid("pressure")]
Temperatures = Annotated[tuple[Temperature, ...], *_grid("temperature")]
Volumes = Annotated[tuple[float, ...], *_grid("")]


class Sampling(Relaxation):
    """Equilibrium runs. Defaults: Dobbelaere 2025, SI 3 and 9.1."""

    fmax: Force = 1e-2
    """Of the relaxation that each run begins from."""
    duration: Time = 50_000.0
    """Of one run."""
    segment: Time = 10_000.0
    """A run is cut into tasks of this length: what a kill can cost."""
    replicas: int = Field(1, ge=1, le=1000)
    """Runs per condition, each with its own velocities; their data are combined."""
    timestep: Time = 0.5
    """Of the integrator."""
    friction_time: Time = 100.0
    """Inverse friction of the Langevin thermostat."""
    barostat_interval: int = Field(25, ge=1)
    """MD steps between moves of the cell."""
    interval: int = Field(100, ge=1)
    """MD steps between samples: 50 fs."""
    bonds: Literal["kept", "free"] = "kept"
    """Whether a run ends when a bond of its start breaks. Take `free` for metals and other crystals without bonds."""

    @property
    def segment_steps(self) -> tuple[int, ...]:
        """MD steps of each segment, all multiples of ``interval``; a longer run has the same ones first."""
        samples = max(1, round(self.duration / self.timestep / self.interval))
        each = max(1, round(self.segment / self.timestep / self.interval))
        return tuple(self.interval * min(each, samples - k) for k in range(0, samples, each))

    @model_validator(mode="after")
    def _long_enough(self) -> Sampling:
        samples = sum(self.segment_steps) // self.interval
        least = math.ceil(MIN_SAMPLES / 0.4)
        if samples < least:
            raise ValueError(
                f"duration of {self.duration:g} fs gives {samples} samples (one every {self.interval} steps of "
                f"{self.timestep:g} fs); {least} are the least, as up to 60 % of them are discarded"
            )
        return self


class ThermalExpansion(Sampling):
    """Lattice constants against temperature, and expansion coefficients, for crystals."""

    kind: Literal["thermal_expansion"] = "thermal_expansion"
    name: str = Field("thermal_expansion", pattern=NAME)
    """Of its files; two properties of one kind need different ones."""
    temperatures: Temperatures = (100.0, 200.0, 300.0, 400.0, 500.0)
    """A list, in which `{from: 100 K, to: 500 K, points: 5}` stands for so many."""
    temperature: Temperature = 300.0
    """Of the numbers in the table."""
    pressure: Pressure = 0.0
    """Of all runs."""

    @model_validator(mode="after")
    def _three(self) -> ThermalExpansion:
        if len(self.temperatures) < 3:
            raise ValueError(f"temperatures needs three or more to fit a slope with its error; got {self.temperatures}")
        return self


class VibrationalSpectrum(Relaxation):
    """Vibrational density of states from velocities, total and per element, for crystals and molecules."""

    kind: Literal["vibrational_spectrum"] = "vibrational_spectrum"
    name: str = Field("vibrational_spectrum", pattern=NAME)
    """Of its files; two properties of one kind need different ones."""
    relax: Literal["cell", "shape", "positions", "nothing"] | None = None
    """What relaxes with the positions first; default `cell` for crystals, `positions` for the rest. The volume stays as
    it is then."""
    temperature: Temperature = 300.0
    """Of the equilibration; a run at constant energy keeps what it began with."""
    equilibration: Time = 2_000.0
    """At constant temperature, before each run."""
    duration: Time = 10_000.0
    """Of one run at constant energy."""
    replicas: int = Field(4, ge=1, le=1000)
    """Runs, each with its own velocities; their scatter is the error."""
    timestep: Time = 0.5
    """Of the integrator."""
    friction_time: Time = 100.0
    """Inverse friction of the Langevin thermostat of the equilibration."""
    sampling: Time = 2.0
    """Between two samples of the velocities (Sharma 2024)."""
    resolution: Wavenumber = 10.0
    """Width of a line at half its height."""
    highest: Wavenumber = 4000.0
    """End of the spectrum."""
    phonons: bool = True
    """Whether to compute the Hessian too, and compare with its modes at Γ."""
    rows: int = Field(16, ge=1)
    """Atoms whose rows of the Hessian one task computes."""
    displacement: Length = 0.0025
    """Step of the central differences, where the potential has no second derivatives of its own."""
    bonds: Literal["kept", "free"] = "kept"
    """Whether the equilibration fails when a bond of the structure breaks. Take `free` for metals."""

    @property
    def interval(self) -> int:
        """MD steps between samples."""
        return max(1, round(self.sampling / self.timestep))

    @model_validator(mode="after")
    def _resolved(self) -> VibrationalSpectrum:
        spacing = self.interval * self.timestep
        if self.resolution <= 0.0:
            raise ValueError("resolution must be above zero, such as 10 cm^-1")
        window = window_steps(self.resolution, spacing) * spacing
        if window > self.duration:
            raise ValueError(
                f"lines of {self.resolution:g} cm⁻¹ need runs of {window / 1000.0:.3g} ps or more; duration is "
                f"{self.duration / 1000.0:.3g} ps"
            )
        limit = 0.4 / (spacing * LIGHT)
        if self.highest > limit:
            raise ValueError(
                f"samples every {spacing:g} fs resolve wavenumbers up to {limit:.0f} cm⁻¹, not {self.highest:g}: "
                "give a shorter sampling"
            )
        return self


class PressureVolume(Sampling):
    """P(V) at a temperature, bulk modulus and loss-of-crystallinity pressure, for crystals."""

    kind: Literal["pressure_volume"] = "pressure_volume"
    name: str = Field("pressure_volume", pattern=NAME)
    """Of its files; two properties of one kind need different ones."""
    temperature: Temperature = 300.0
    """Of all runs."""
    pressures: Pressures = tuple(round(-0.4 + 0.1 * i, 9) for i in range(9))
    """Of the runs at constant pressure: a list, in which `{from: -1 GPa, to: 1 GPa, points: 11}` stands for so many."""
    volumes: Volumes = ()
    """Of the runs at constant volume with a free shape, relative to the structure's: where a barostat would let the
    crystal collapse. A list, likewise."""
    rounds: int = Field(2, ge=0, le=20)
    """While it is not converged, more runs are added at V0 or P_max, at most so often."""
    tolerance: Pressure = 1.0
    """K is converged when it changes by no more as 20 to 60 % of every run is discarded."""
    tolerance_maximum: Pressure = 0.015
    """The same of P_max."""

    @field_validator("volumes")
    @classmethod
    def _near_one(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        wrong = [v for v in value if not 0.2 <= v <= 3.0]
        if wrong:
            raise ValueError(f"volumes are relative to the structure's, such as [0.92, 0.94]; got {wrong[0]:g}")
        return value

    @model_validator(mode="after")
    def _enough(self) -> PressureVolume:
        count = len(self.pressures) + len(self.volumes)
        if count < 5:
            raise ValueError(f"a curve needs 5 pressures and volumes or more; there are {count}")
        return self
