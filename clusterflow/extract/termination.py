"""Hydrogen atoms that close the bonds a cut leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from clusterflow.core.data import FloatArray
from clusterflow.errors import ExtractionError

HYDROGEN_LENGTHS: Final[Mapping[int, float]] = MappingProxyType(
    {
        atomic_numbers[symbol]: length
        for symbol, length in {
            "B": 1.19,
            "C": 1.09,
            "N": 1.01,
            "O": 0.97,
            "Si": 1.48,
            "P": 1.42,
            "S": 1.34,
            "Ge": 1.53,
            "Se": 1.46,
        }.items()
    }
)
"""X–H bond lengths in Å by atomic number of X, rounded from gas-phase molecules (CH4, NH3, H2O, SiH4, PH3, H2S, …)."""


def cap(number: int, position: FloatArray, towards: FloatArray) -> FloatArray:
    """Position of the hydrogen that replaces a bond of the atom ``number`` at ``position`` to the point ``towards``.

    Raises
    ------
    ExtractionError
        No X–H length is known for the element.
    """
    if number not in HYDROGEN_LENGTHS:
        raise ExtractionError(
            f"A bond of {chemical_symbols[number]} would be cut, but it cannot be closed by hydrogen.",
            todo="Use a mantle that keeps this bond; hydrogen can close bonds of "
            + ", ".join(chemical_symbols[z] for z in HYDROGEN_LENGTHS)
            + ".",
        )
    bond = towards - position
    return np.asarray(position + HYDROGEN_LENGTHS[number] * bond / np.sqrt(bond @ bond))
