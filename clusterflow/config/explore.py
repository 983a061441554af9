"""`explore:` — dynamics with the current potential (Dobbelaere 2025, SI 3 and 4)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from clusterflow.config.quantities import Energy, Force, Length, Temperature, Time
from clusterflow.config.ramp import Ramp
from clusterflow.config.section import Section


class Limits(Section):
    """When a walker has blown up. The defaults are far outside what a bonded solid or molecule does below 1000 K."""

    min_distance_factor: float = Field(0.6, gt=0, lt=1)
    """Smallest distance, as a fraction of the sum of covalent radii of the pair."""
    pair_distances: dict[str, Length] = Field(default_factory=dict)
    """Smallest distance for single element pairs instead, e.g. `{H-O: 0.7 Å}`."""
    max_temperature_factor: float = Field(3.0, gt=1)
    """Largest instantaneous temperature, in units of the target."""
    max_temperature: Temperature | None = None
    """The same as an absolute limit."""
    max_force: Force = 30.0
    """Largest force on any atom."""
    energy_jump: Energy = 0.5
    """Largest change of potential energy per atom between two checks."""
    volume_ratio: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest volume, relative to the start."""
    bonds: Literal["kept", "free"] = "kept"
    """Whether a walk ends when a bond of its start breaks (stretched by about half). Take `free` for melts and
    reactions."""
    check_interval: int = Field(10, ge=1)
    """MD steps between checks."""

    def build(self) -> Any:
        from clusterflow.explore.stop import BlowUpLimits

        return BlowUpLimits(
            min_distance_factor=self.min_distance_factor,
            pair_distances=self.pair_distances,
            max_temperature_factor=self.max_temperature_factor,
            max_temperature_K=self.max_temperature,
            max_force=self.max_force,
            energy_jump=self.energy_jump,
            volume_ratio=self.volume_ratio,
            keep_bonds=self.bonds == "kept",
            check_interval=self.check_interval,
        )


class Schedule(Section):
    """Length of a walk: short in early iterations, when the potential still runs into singularities (SI 4)."""

    first: int = Field(200, ge=1)
    """MD steps in iteration 1."""
    growth: float = Field(2.0, ge=1)
    """Factor from one iteration to the next."""
    maximum: int = Field(1000, ge=1)
    """500 fs in Dobbelaere 2025, 3."""


class _Dynamics(Section):
    walkers: int = Field(10, ge=1)
    """Walkers per iteration, shared among the systems by weight; at least one each."""
    steps: Schedule = Schedule()
    timestep: Time = 0.5
    friction_time: Time = 100.0
    """Inverse friction of the Langevin thermostat."""
    frame_interval: int = Field(100, ge=1)
    """MD steps between stored frames."""
    pool: Literal["last", "all"] = "last"
    """Which frames of a walker are candidates: its last sane one (the paper) or all."""
    temperature: Ramp | None = None
    """A temperature that rises from iteration to iteration, in place of those of the systems' ensembles."""
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_a_ramp(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("temperature") is not None:
            steps = {"first": 2000, "growth": 1, "maximum": 2000}
            return {"walkers": 50, "steps": steps, "pool": "all", **data}
        return data

    def _shared(self, temperature_K: float, pressure_GPa: float | None, steps: int) -> dict[str, Any]:
        return {
            "temperature_K": temperature_K,
            "pressure_GPa": pressure_GPa,
            "steps": steps,
            "timestep_fs": self.timestep,
            "friction_time_fs": self.friction_time,
            "frame_interval": self.frame_interval,
            "limits": self.limits.build(),
        }


class OpenMM(_Dynamics):
    """OpenMM: LangevinMiddleIntegrator, and a Monte Carlo barostat of the fully flexible cell."""

    kind: Literal["openmm"] = "openmm"
    barostat_interval: int = Field(25, ge=1)
    """MD steps between volume moves."""
    barostat: Literal["affine", "openmm"] = "affine"
    """`affine` moves strain cell and atoms alike; `openmm` is its MonteCarloFlexibleBarostat, as in the paper, which
    frameworks hardly accept (docs/decisions/0002-affine-barostat.md)."""

    def build(self, temperature_K: float, pressure_GPa: float | None, steps: int) -> Any:
        from clusterflow.explore.openmm_md import OpenMMExplorer

        return OpenMMExplorer(
            barostat_interval=self.barostat_interval,
            barostat=self.barostat,
            **self._shared(temperature_K, pressure_GPa, steps),
        )


class ASE(_Dynamics):
    """ASE's own dynamics: slower, no OpenMM needed, an independent check."""

    kind: Literal["ase"] = "ase"

    def build(self, temperature_K: float, pressure_GPa: float | None, steps: int) -> Any:
        from clusterflow.explore.ase_md import ASEExplorer

        return ASEExplorer(**self._shared(temperature_K, pressure_GPa, steps))


Explore = Annotated[OpenMM | ASE, Field(discriminator="kind")]
