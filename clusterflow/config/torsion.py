"""`properties:` kind torsion_free_energy — metadynamics on torsions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from clusterflow.config.quantities import (
    Angle,
    AngularStiffness,
    Energy,
    Length,
    LengthOrZero,
    Stiffness,
    Temperature,
    Time,
)
from clusterflow.config.section import Section


class DistanceWall(Section):
    """Keeps two atoms within distances: constant · (d − upper)² above, constant · (lower − d)² below."""

    atoms: tuple[int, int]
    """Counted from 0."""
    upper: Length | None = None
    """Farther apart than this they are pulled back."""
    lower: LengthOrZero | None = None
    """Closer than this they are pushed apart."""
    constant: Stiffness = 25.0
    """25 eV/Å² in Sharma and Sanvito 2024, SI 1.3."""

    @model_validator(mode="after")
    def _some(self) -> DistanceWall:
        if self.upper is None and self.lower is None:
            raise ValueError("a wall needs `upper:` or `lower:`, such as `upper: 2.4 Å`")
        return self


class TorsionWall(Section):
    """Keeps a torsion between two angles: constant · (φ − upper)² above, constant · (lower − φ)² below."""

    atoms: tuple[int, int, int, int]
    """Counted from 0; they need not be bonded."""
    lower: Angle
    """Smallest angle that nothing opposes."""
    upper: Angle
    """Largest one; less than a full turn above `lower`."""
    constant: AngularStiffness = 25.0
    """25 eV/rad² in Sharma and Sanvito 2024, SI 1.3."""

    @model_validator(mode="after")
    def _order(self) -> TorsionWall:
        if not 0.0 < self.upper - self.lower < 6.28:
            raise ValueError("a torsion is kept between `lower:` and `upper:`, less than a full turn apart")
        return self


class Metadynamics(Section):
    """The bias and the dynamics of a torsional free energy."""

    temperature: Temperature = 300.0
    """Of the dynamics and of the free energy."""
    timestep: Time = 0.5
    """Of the integrator."""
    friction_time: Time = 100.0
    """Inverse friction of the Langevin thermostat."""
    replicas: int = Field(4, ge=1)
    """Independent runs; their scatter is the error."""
    steps: int = Field(400_000, ge=1)
    """Of each replica. Raised later, what is done stays done."""
    segment: int = Field(20_000, ge=1)
    """Steps of one task: what a killed run loses at most."""
    height: Energy = 0.05
    """Of the first hill (Sharma and Sanvito 2024, SI 1.3, as the next four)."""
    width: Angle = 0.1
    """Standard deviation of a hill."""
    bias_factor: float = Field(12.0, gt=1)
    """(T + ΔT)/T of well-tempered metadynamics: under the final bias barriers are lower by this factor."""
    interval: int = Field(100, ge=5)
    """Steps between two hills."""
    grid: Angle = 0.05
    """Of the bias."""
    bins: int = Field(120, ge=24, le=3600)
    """Of the profile, around the circle."""
    discard: float = Field(0.2, ge=0, lt=1)
    """Share at the beginning of each replica that does not count, as the bias is being built."""
    distance_walls: tuple[DistanceWall, ...] = ()
    """Keep pairs of atoms within distances."""
    torsion_walls: tuple[TorsionWall, ...] = ()
    """Keep further torsions within angles."""

    @field_validator("width", "grid")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError(f"width and grid are positive angles; got {value:g} rad")
        return value

    @model_validator(mode="after")
    def _pieces(self) -> Metadynamics:
        if self.segment % self.interval or self.steps % self.segment:
            raise ValueError(
                f"steps ({self.steps}) must be a multiple of segment ({self.segment}), and that of interval "
                f"({self.interval})"
            )
        if self.grid > self.width:
            raise ValueError(f"grid ({self.grid:g} rad) must not be wider than a hill, width ({self.width:g} rad)")
        return self

    def walls_json(self) -> list[dict[str, Any]]:
        """As `clusterflow.physics.torsions.Wall.to_json`, in inside units."""
        walls: tuple[DistanceWall | TorsionWall, ...] = (*self.distance_walls, *self.torsion_walls)
        return [{"atoms": list(w.atoms), "lower": w.lower, "upper": w.upper, "constant": w.constant} for w in walls]


TorsionAtoms = tuple[int, int, int, int]
Start = Literal["positions", "nothing"]
