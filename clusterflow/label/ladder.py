"""The bounded ladder of remedies for self-consistent fields that do not converge.

A remedy changes the way to the ground state, never the ground state: mixing, number of steps, and where the iteration
starts. Basis, grid, functional, occupation numbers and the convergence criteria stay those of the level of theory. A
calculation that only converges with smeared occupations, at a level that has none, is a failed label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Remedy:
    """One rung.

    ``name`` is what `Label.steps` records; ``mixing`` = (fraction of the new density, densities kept, weight of long
    wavelengths), or None for GPAW's default; ``step_factor`` multiplies the allowed number of SCF steps;
    ``path_smearing_eV`` > 0 first converges with Fermi–Dirac smearing of that width and then continues from that
    density without it.
    """

    name: str
    mixing: tuple[float, int, float] | None = None
    step_factor: int = 1
    path_smearing_eV: float = 0.0


LADDER: Final[tuple[Remedy, ...]] = (
    Remedy(""),
    Remedy("gentler mixing (0.02, 5, 100), twice the steps", mixing=(0.02, 5, 100.0), step_factor=2),
    Remedy(
        "start from a density smeared by 0.1 eV, then without it",
        mixing=(0.05, 5, 50.0),
        step_factor=3,
        path_smearing_eV=0.1,
    ),
    Remedy("slow mixing (0.01, 8, 100), five times the steps", mixing=(0.01, 8, 100.0), step_factor=5),
)
"""The rungs in order; the first is the plain calculation. Mixing (0.02, 5, 100) and smearing as a path follow the
advice in GPAW's own documentation on convergence problems."""


def rungs(max_attempts: int) -> tuple[Remedy, ...]:
    """The first ``max_attempts`` rungs, at least one and at most all of them."""
    return LADDER[: max(1, min(max_attempts, len(LADDER)))]
