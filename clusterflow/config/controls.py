"""`controls:` — labels spent on choosing otherwise, so that what the choice is worth can be measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from clusterflow.config.section import Section

ArmName = Literal["random", "farthest_point", "periodic"]


class Controls(Section):
    """Control arms: each has its own training set (the starting labels and its own) and its own potential, trained with
    the same settings and tested on the same test set. They choose from the same frames as the campaign, and change
    nothing in it (docs/concepts/controls.md)."""

    arms: tuple[ArmName, ...] = Field(("random",), min_length=1)
    """`random`: fragments around random atoms. `farthest_point`: around atoms that are far, in the features of the
    arm's own potential, from all it was trained on. `periodic`: whole cells of random frames, labelled as they are."""
    share: float = Field(0.5, gt=0, lt=1)
    """Share of the labels of each iteration (`select.fragments`) and of the label budget that goes to all arms
    together, in equal parts, rounded down."""
    max_atoms: int = Field(250, ge=1)
    """Largest cell that the `periodic` arm may have labelled."""

    @field_validator("arms")
    @classmethod
    def _once(cls, value: tuple[ArmName, ...]) -> tuple[ArmName, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"each arm can be given once; got {', '.join(value)}")
        return value

    def each(self, labels: int) -> int:
        """How many of so many labels each arm gets."""
        return int(self.share * labels / len(self.arms) + 1e-9)
