"""`explore.temperature:` — a temperature that rises from one iteration to the next (Sharma 2024, Fig. 4)."""

from __future__ import annotations

from pydantic import Field, model_validator

from clusterflow.config.mistakes import PlacedError
from clusterflow.config.quantities import LengthOrZero, Temperature
from clusterflow.config.section import Section


class Ramp(Section):
    """All walkers of an iteration have one temperature, which rises from iteration to iteration; when the last one is
    done the campaign ends. With a ramp the defaults are 50 walkers of 2000 steps and `pool: all`, as in the paper."""

    first: Temperature = 100.0
    step: Temperature = 100.0
    last: Temperature = 1000.0
    displacement: LengthOrZero = 0.02
    """Standard deviation of the random displacements from which each walker starts, per Cartesian component."""
    max_unstable: float = Field(0.5, ge=0, le=1)
    """If a larger share of the walkers blows up, the next iteration repeats the temperature …"""
    repeats: int = Field(2, ge=0)
    """… so often at most; then the ramp, and with it the campaign, ends."""

    @model_validator(mode="after")
    def _upwards(self) -> Ramp:
        if self.last < self.first:
            raise PlacedError(
                f"the ramp goes up; its last temperature, {self.last:g} K, is below {self.first:g} K", "last"
            )
        return self

    def temperatures(self) -> tuple[float, ...]:
        """All of them, K; the last is reached however the steps fall."""
        found = [self.first]
        while found[-1] < self.last:
            found.append(min(self.last, found[-1] + self.step))
        return tuple(found)
