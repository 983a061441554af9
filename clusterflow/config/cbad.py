"""`select: {kind: cbad}` — frames that fill an empty bin of a cell parameter, bond, angle or dihedral (Sharma 2024)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from clusterflow.config.quantities import Length
from clusterflow.config.section import Section

Degrees = Annotated[float, Field(gt=0, le=180)]


class Resolution(Section):
    """Widths of the bins. The paper gives none; a finer one accepts more frames."""

    cell_length: Length = 0.1
    cell_angle: Degrees = 1.0
    """In degrees, like the next ones."""
    bond: Length = 0.05
    angle: Degrees = 5.0
    dihedral: Degrees = 10.0


class CBAD(Section):
    """Accepts frames in which a cell length, cell angle, bond, angle or dihedral angle falls into an empty bin, those
    that fill the most first, and at most one of each walk (docs/concepts/temperature-ramp.md)."""

    kind: Literal["cbad"] = "cbad"
    fragments: int = Field(50, ge=1)
    """At most so many labels per iteration; the rule itself asks for at most one frame of each walker."""
    types: Literal["neighbours", "element"] = "neighbours"
    """What tells types of atom apart: their element and those bonded to it, as in the paper, or their element alone."""
    resolution: Resolution = Resolution()
    per_frame: int = Field(1, ge=1)
    """Fragments that are cut out of one frame at most, around the atoms that fill its empty bins. A whole frame
    (`extract: {kind: whole}`) is one label."""

    def build(self) -> Any:
        """The widths of the bins."""
        from clusterflow.selection.cbad import Resolutions

        return Resolutions(**{name: getattr(self.resolution, name) for name in Resolution.model_fields})
