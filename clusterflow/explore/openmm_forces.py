"""Forces of OpenMM on torsions and distances: collective variables and walls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from clusterflow.errors import InputError
from clusterflow.physics.torsions import Wall
from clusterflow.units import ANGSTROM_IN_NM, EV_IN_KJ_PER_MOL


def torsion_force(atoms: Sequence[int]) -> Any:
    """A force whose energy is the torsion of four atoms, rad: a collective variable."""
    import openmm

    force = openmm.CustomTorsionForce("theta")
    force.addTorsion(*atoms)
    return force


def wall_force(wall: Wall) -> Any:
    """A wall in OpenMM's units; a torsion is measured from the middle of its walls, around the circle.

    Raises
    ------
    InputError
        A torsion with one wall only.
    """
    import openmm

    if len(wall.atoms) == 2:
        scale, constant = ANGSTROM_IN_NM, wall.constant * EV_IN_KJ_PER_MOL / ANGSTROM_IN_NM**2
        parts = []
        if wall.upper is not None:
            parts.append(f"max(0, r - {wall.upper * scale!r})^2")
        if wall.lower is not None:
            parts.append(f"max(0, {wall.lower * scale!r} - r)^2")
        force = openmm.CustomBondForce(f"{constant!r} * ({' + '.join(parts)})")
        force.addBond(*wall.atoms)
        return force
    if wall.lower is None or wall.upper is None:
        raise InputError(
            f"The wall on the torsion {list(wall.atoms)} has one side only, but a torsion is periodic.",
            todo="Give both `lower:` and `upper:`.",
        )
    middle, half = 0.5 * (wall.upper + wall.lower), 0.5 * (wall.upper - wall.lower)
    force = openmm.CustomTorsionForce(
        f"{wall.constant * EV_IN_KJ_PER_MOL!r} * max(0, abs(d) - {half!r})^2; "
        f"d = theta - {middle!r} - {2.0 * math.pi!r} * floor((theta - {middle!r} + {math.pi!r}) / {2.0 * math.pi!r})"
    )
    force.addTorsion(*wall.atoms)
    return force
