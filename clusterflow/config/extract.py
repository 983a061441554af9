"""`extract:` — how a fragment is cut (Dobbelaere 2025, 2.4 and SI 5–6)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from clusterflow.config.quantities import UNITS, parse_quantity
from clusterflow.config.section import Section


def _mantle(value: Any) -> str | int | float:
    """``none``, ``neighbours``, ``anchors``, ``2 shells`` → int, ``4 Å`` → float."""
    if isinstance(value, str):
        text = value.strip()
        if text in ("none", "neighbours", "anchors"):
            return text
        number, _, unit = text.partition(" ")
        if unit in ("shell", "shells") and number.isdigit():
            return int(number)
        if any(text.endswith(u) for u in UNITS["length"]) and text[:1].isdigit():
            return parse_quantity(text, "length")
    elif isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool)
    ):  # from a frozen configuration
        return value
    raise ValueError(
        f"'{value}' is no mantle; allowed: none, neighbours (first-neighbour blocks), anchors (only the groups that "
        "bind the block), '2 shells', or a radius such as '4 Å'"
    )


Mantle = Annotated[str | int | float, BeforeValidator(_mantle)]


_KINDS: tuple[Literal["node", "linker", "molecule"], ...] = ("node", "linker", "molecule")


class BuildingBlocks(Section):
    """Core = whole building blocks; the cut is the C–C bond to the carboxylate; H on every cut bond."""

    kind: Literal["building_blocks"] = "building_blocks"
    mantle: dict[Literal["node", "linker", "molecule"], Mantle] = Field(default_factory=dict)
    """What surrounds the core, per kind of core block: `none`, `neighbours` (first-neighbour blocks: default, SI 6),
    `anchors` (only the groups that bind it), `2 shells`, or a radius such as `4 Å`."""
    min_distance_factor: float = Field(0.55, gt=0, lt=1)
    """No two atoms of a fragment closer than this fraction of the sum of their covalent radii."""
    max_atoms: int | None = Field(None, ge=2)
    """Refuse larger fragments."""

    def build(self) -> Any:
        from clusterflow.extract.rules import BuildingBlockRule

        default = {"node": "neighbours", "linker": "neighbours", "molecule": "none"}
        mantle: dict[str, str | int | float] = {kind: self.mantle.get(kind, default[kind]) for kind in _KINDS}
        return BuildingBlockRule(mantle=mantle, min_distance_factor=self.min_distance_factor, max_atoms=self.max_atoms)


class Whole(Section):
    """No cutting: the frame itself is labelled (molecules, small periodic cells)."""

    kind: Literal["whole"] = "whole"

    def build(self) -> Any:
        from clusterflow.extract.rules import WholeStructure

        return WholeStructure()


Extract = Annotated[BuildingBlocks | Whole, Field(discriminator="kind")]
