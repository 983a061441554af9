"""The base of all configuration sections: frozen, strict, unknown keys refused."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo


class Section(BaseModel):
    """A part of the campaign file. ``build`` of a subclass makes the object that does the work, importing it lazily."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def ordered(value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
    """A range must go up."""
    if value[0] > value[1]:
        raise ValueError(f"{info.field_name} is a range [low, high]; {value[0]:g} is above {value[1]:g}")
    return value


def to_json(section: Section) -> dict[str, Any]:
    """JSON data that validates back to an equal section (quantities as text with unit)."""
    data: dict[str, Any] = section.model_dump(mode="json")
    return data
