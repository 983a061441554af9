"""What each walker of an iteration gets: temperature, pressure and seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import InputError


@dataclass(frozen=True, slots=True)
class WalkerConditions:
    """Conditions of one walker; ``pressure_GPa`` None = constant volume, ``seed`` for `Explorer.explore`."""

    walker: int
    temperature_K: float
    pressure_GPa: float | None
    seed: int


def walker_seed(campaign_seed: int, iteration: int, system: str, walker: int) -> int:
    """Seed in [0, 2^63) from a hash of the four, so that no two walkers of a campaign share one."""
    return int(digest(canonical_json(["walker", campaign_seed, iteration, system, walker]))[:16], 16) >> 1


def draw_conditions(
    n_walkers: int,
    *,
    temperature_K: float | tuple[float, float],
    pressure_GPa: float | tuple[float, float] | None,
    campaign_seed: int,
    iteration: int,
    system: str,
) -> list[WalkerConditions]:
    """Conditions of the walkers 0 to n−1 of one system in one iteration.

    A range is drawn from uniformly. Walker i gets the same conditions whatever the number of walkers.
    Dobbelaere et al. 2025 (arXiv:2504.03881), section 3: 600 K, pressures between −1.5 and 1.5 GPa.

    Raises
    ------
    InputError
        No walkers, a range upside down, or a temperature that is not positive.
    """
    if n_walkers < 1:
        raise InputError(f"{n_walkers} walkers cannot explore '{system}'.", todo="Ask for one walker or more.")
    t_low, t_high = _range("temperature_K", temperature_K, system)
    if not t_low > 0.0:
        raise InputError(f"The temperature {t_low:g} K of '{system}' is not positive.", todo="Give it in K, above 0.")
    p_range = None if pressure_GPa is None else _range("pressure_GPa", pressure_GPa, system)
    walkers = []
    for i in range(n_walkers):
        seed = walker_seed(campaign_seed, iteration, system, i)
        # A stream of its own: the dynamics use the seed itself.
        rng = np.random.default_rng([seed, 1])
        temperature = t_low + (t_high - t_low) * float(rng.random())
        pressure = None if p_range is None else p_range[0] + (p_range[1] - p_range[0]) * float(rng.random())
        walkers.append(WalkerConditions(i, temperature, pressure, seed))
    return walkers


def _range(name: str, value: float | tuple[float, float], system: str) -> tuple[float, float]:
    low, high = (float(v) for v in (value if isinstance(value, tuple | list) else (value, value)))
    if not (np.isfinite([low, high]).all() and low <= high):
        raise InputError(
            f"The range {name} = [{low:g}, {high:g}] of '{system}' makes no sense.",
            todo="Give one number, or [smallest, largest].",
        )
    return low, high
