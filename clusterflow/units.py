"""Units: what clusterflow uses inside, and the factors to what other programs use.

Inside: eV, Å, eV/Å, eV/Å³, e, amu; time in fs; temperature in K; pressure in GPa where a name says so
(``pressure_GPa``). Stress follows ASE: eV/Å³, tension positive, so pressure = −tr(stress)/3. Values are CODATA 2018,
as OpenMM's and ASE's own to the digits that matter here.
"""

from typing import Final

EV_PER_A3_IN_GPA: Final = 160.21766208
"""1 eV/Å³ in GPa."""

GPA: Final = 1.0 / EV_PER_A3_IN_GPA
"""1 GPa in eV/Å³."""

EV_IN_KJ_PER_MOL: Final = 96.48533212331
"""1 eV in kJ/mol, OpenMM's energy unit."""

ANGSTROM_IN_NM: Final = 0.1
"""1 Å in nm, OpenMM's length unit."""

BOLTZMANN_EV: Final = 8.617333262e-5
"""Boltzmann's constant in eV/K."""

BAR_PER_GPA: Final = 10_000.0
"""1 GPa in bar, OpenMM's pressure unit."""
