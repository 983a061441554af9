"""How structures are brought to rest before a property is computed, and which structures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from clusterflow.config.quantities import Force, LengthOrZero
from clusterflow.config.section import Section

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,40}$"
"""Names of structures and properties, which become names of files."""


class Relaxation(Section):
    """How structures are brought to rest, and which."""

    structures: tuple[str, ...] = ()
    """Names of structures of this file; default: all of them."""
    fmax: Force = 1e-3
    """No force is larger in the end, eV/Å (Dobbelaere 2025, SI 9.2)."""
    max_steps: int = Field(1000, ge=1)
    """A relaxation that needs more has failed."""
    optimiser: Literal["lbfgs", "fire", "bfgs"] = "lbfgs"
    """ASE's; `bfgs` diagonalises a matrix of all coordinates, so not for thousands of atoms."""
    rattle: LengthOrZero = 0.0
    """Standard deviation of random displacements before the relaxation, so that a symmetric structure can leave a
    saddle point; they follow from `seed:`."""
