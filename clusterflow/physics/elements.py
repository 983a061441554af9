"""Small tables of chemistry: metals, covalent radii, valences, oxidation states.

Covalent radii are those that ASE carries (Cordero et al. 2008, doi:10.1039/b801115j), in Å.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from ase.data import atomic_numbers
from ase.data import covalent_radii as _ase_radii

from clusterflow.core.data import BoolArray, FloatArray, IntArray

NONMETALS: Final = frozenset(
    [
        "H",
        "He",
        "B",
        "C",
        "N",
        "O",
        "F",
        "Ne",
        "Si",
        "P",
        "S",
        "Cl",
        "Ar",
        "Ge",
        "As",
        "Se",
        "Br",
        "Kr",
        "Te",
        "I",
        "Xe",
        "At",
        "Rn",
    ]  # metalloids bond covalently: here they belong
)

COVALENT_RADII: Final[FloatArray] = np.asarray(_ase_radii, dtype=np.float64)
"""Indexed by atomic number, in Å."""

_METAL_MASK: Final[BoolArray] = np.ones(len(COVALENT_RADII), dtype=bool)
_METAL_MASK[[0, *(atomic_numbers[s] for s in NONMETALS)]] = False

VALENCES: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "H": (1,),
        "B": (3,),
        "C": (4,),
        "N": (3,),
        "O": (2,),
        "F": (1,),
        "Si": (4,),
        "P": (3, 5),
        "S": (2, 4, 6),
        "Cl": (1, 3, 5, 7),
        "Ge": (4,),
        "As": (3, 5),
        "Se": (2, 4, 6),
        "Br": (1, 3, 5, 7),
        "Te": (2, 4, 6),
        "I": (1, 3, 5, 7),
    }
)
"""Bonds that a neutral non-metal atom makes to other non-metals, lowest first."""

OXIDATION_STATES: Final[Mapping[str, int]] = MappingProxyType(
    {
        **dict.fromkeys(["Li", "Na", "K", "Rb", "Cs", "Ag"], 1),
        **dict.fromkeys(["Be", "Mg", "Ca", "Sr", "Ba", "Mn", "Co", "Ni", "Cu", "Zn", "Cd", "Hg", "Pd", "Pb"], 2),
        **dict.fromkeys(["Al", "Ga", "In", "Sc", "Y", "V", "Cr", "Fe", "Bi"], 3),
        **dict.fromkeys(["La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu"], 3),
        **dict.fromkeys(["Ti", "Zr", "Hf", "Sn", "Th"], 4),
    }
)
"""The state each metal has in most carboxylate frameworks. Other states exist (Fe(II), Ce(IV), Cu(I)): the resulting
charge is then wrong by their number, which shows as a fragment that is not neutral."""

UNPAIRED: Final[Mapping[str, int]] = MappingProxyType(
    {
        **{"V": 2, "Cr": 3, "Mn": 5, "Fe": 5, "Co": 3, "Ni": 2, "Cu": 1},
        **{"Ce": 1, "Pr": 2, "Nd": 3, "Pm": 4, "Sm": 5, "Eu": 6, "Gd": 7},
        **{"Tb": 6, "Dy": 5, "Ho": 4, "Er": 3, "Tm": 2, "Yb": 1},
    }
)
"""Unpaired electrons of the high-spin ion in the state of `OXIDATION_STATES`; metals not listed are closed-shell."""


def is_metal(numbers: IntArray) -> BoolArray:
    """Which of the atomic numbers (n,) are metals, as (n,) bool."""
    return _METAL_MASK[numbers]
