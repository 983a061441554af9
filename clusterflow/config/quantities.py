"""Quantities with units, as they stand in a YAML file: ``600 K``, ``0.5 fs``, ``1.5 GPa``, ``4 Å``.

A number without its unit is refused: a barostat that takes bar for GPa ruins a week of computing. Inside, each
dimension has one unit (the first of its table below); a value leaves as text with that unit, so that a frozen
configuration reads back as it was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

UNITS: Final[Mapping[str, Mapping[str, float]]] = {
    "temperature": {"K": 1.0},
    "time": {"fs": 1.0, "ps": 1e3, "ns": 1e6},
    "duration": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0},
    "pressure": {"GPa": 1.0, "MPa": 1e-3, "kbar": 0.1, "bar": 1e-4, "atm": 1.01325e-4, "Pa": 1e-9},
    "length": {"Å": 1.0, "A": 1.0, "Angstrom": 1.0, "angstrom": 1.0, "nm": 10.0, "pm": 0.01, "bohr": 0.529177210903},
    "energy": {"eV": 1.0, "meV": 1e-3, "Ha": 27.211386245988, "kJ/mol": 1 / 96.48533212331, "kcal/mol": 0.0433641},
    "force": {"eV/Å": 1.0, "eV/A": 1.0, "meV/Å": 1e-3, "meV/A": 1e-3},
    "wavenumber": {"cm^-1": 1.0, "cm⁻¹": 1.0, "1/cm": 1.0, "THz": 33.3564095198152},
    "angle": {"rad": 1.0, "°": math.pi / 180.0, "deg": math.pi / 180.0},
    "stiffness": {"eV/Å²": 1.0, "eV/Å^2": 1.0, "eV/A^2": 1.0},
    "angular stiffness": {"eV/rad²": 1.0, "eV/rad^2": 1.0},
    "specific heat": {"J/g/K": 1.0, "J/(g·K)": 1.0, "kJ/kg/K": 1.0, "J/kg/K": 1e-3},
}
"""Dimension → unit → factor to the unit used inside (the one with factor 1 that stands first)."""

_TEXT = re.compile(r"^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S+)?\s*$")


def parse_quantity(value: Any, dimension: str) -> float:
    """Number in the inside unit of ``dimension``.

    Raises
    ------
    ValueError
        The unit is missing or of another dimension, or the text is no number.
    """
    units = UNITS[dimension]
    inside = next(iter(units))
    allowed = ", ".join(units)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"a {dimension} is a number with its unit, e.g. '1 {inside}' (units: {allowed})")
    match = _TEXT.match(str(value).replace("Å", "Å").replace("−", "-"))
    if match is None:
        raise ValueError(f"'{value}' is not a {dimension}: write a number and its unit, e.g. '1 {inside}'")
    number, unit = match.groups()
    if unit is None:
        if dimension == "force":  # both are usual, and a factor of a thousand apart
            raise ValueError(f"the unit is missing: write '{value} meV/Å' or '{value} eV/Å' (units: {allowed})")
        raise ValueError(f"the unit is missing: write '{value} {inside}' if you mean {inside} (units: {allowed})")
    if unit not in units:
        close = next((u for u in units if u.lower() == unit.lower()), None)
        elsewhere = next((d for d, table in UNITS.items() if unit in table), None)
        hint = f"; did you mean '{close}'?" if close else f"; '{unit}' is a unit of {elsewhere}" if elsewhere else ""
        raise ValueError(f"'{unit}' is not a unit of {dimension} (units: {allowed}){hint}")
    result = float(number) * units[unit]
    if not math.isfinite(result):
        raise ValueError(f"'{value}' is not a finite {dimension}")
    return result


def _quantity(dimension: str, sign: str = "") -> tuple[Any, ...]:
    inside = next(iter(UNITS[dimension]))

    def parse(value: Any) -> float:
        result = parse_quantity(value, dimension)
        if (sign == "positive" and result <= 0) or (sign == "not negative" and result < 0):
            raise ValueError(f"a {dimension} here must be {sign}; got '{value}'")
        return result

    def show(value: float) -> str:
        return f"{value!r} {inside}"

    pattern = r"^[-+]?[0-9.]+([eE][-+]?[0-9]+)? ?(" + "|".join(re.escape(u) for u in UNITS[dimension]) + ")$"
    schema = {"type": "string", "pattern": pattern, "description": f"{dimension}, e.g. '1 {inside}'"}
    return BeforeValidator(parse), PlainSerializer(show, when_used="json"), WithJsonSchema(schema)


Temperature = Annotated[float, *_quantity("temperature", "positive")]
"""K inside."""
Time = Annotated[float, *_quantity("time", "positive")]
"""Simulated time; fs inside."""
Duration = Annotated[float, *_quantity("duration", "positive")]
"""Wall time; s inside."""
Pressure = Annotated[float, *_quantity("pressure")]
"""GPa inside; negative = tension."""
Length = Annotated[float, *_quantity("length", "positive")]
"""Å inside."""
LengthOrZero = Annotated[float, *_quantity("length", "not negative")]
"""Å inside; zero allowed."""
Energy = Annotated[float, *_quantity("energy", "positive")]
"""eV inside."""
Force = Annotated[float, *_quantity("force", "positive")]
"""eV/Å inside."""
Wavenumber = Annotated[float, *_quantity("wavenumber", "not negative")]
"""cm⁻¹ inside."""
Angle = Annotated[float, *_quantity("angle")]
"""rad inside."""
Stiffness = Annotated[float, *_quantity("stiffness", "positive")]
"""eV/Å² inside."""
AngularStiffness = Annotated[float, *_quantity("angular stiffness", "positive")]
"""eV/rad² inside."""
SpecificHeat = Annotated[float, *_quantity("specific heat", "positive")]
"""J/(g K) inside."""


def as_range(value: Any) -> Any:
    """One value or a pair [low, high] → pair; order is checked by the section that uses it."""
    return value if isinstance(value, (list, tuple)) else [value, value]
