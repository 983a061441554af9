"""Vibrational density of states from velocities: the mass-weighted power spectrum.

By the Wiener–Khinchin theorem the Fourier transform of the velocity autocorrelation is the power spectrum, here by
Welch's method (doi:10.1109/TAU.1967.1161901): Hann windows that overlap by half. With equipartition
Σ mᵢ⟨vᵢ²⟩ = kT × (degrees of freedom), so that

    g(ν) = Σᵢ mᵢ S_vᵢ(ν)/kT,   ∫ g dν = number of degrees of freedom,

where S is the one-sided spectral density, and kT that of the run itself. One harmonic mode gives one line of area 1.

The Verlet integrator with the time step Δt moves a harmonic frequency from ν to ν′, sin(πν′Δt) = πνΔt, exactly; the
axis is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.errors import ScienceError

LIGHT = 2.99792458e-5
"""cm per fs."""
_HANN = 1.44
"""Width of a line at half its height × length of the window."""
_FINER = 4
"""Points per point that the window resolves (zeros appended), so that lines have a shape."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """``wavenumber`` (g,) cm⁻¹; ``density`` (k, g) per cm⁻¹, one row for each of ``elements``; ``temperature`` K."""

    wavenumber: FloatArray
    density: FloatArray
    elements: tuple[str, ...]
    temperature: float


def window_steps(resolution: float, spacing: float) -> int:
    """Samples (every ``spacing`` fs) in a window whose lines are ``resolution`` cm⁻¹ wide at half their height."""
    return max(8, int(np.ceil(_HANN / (LIGHT * resolution * spacing))))


def power_spectrum(
    velocities: FloatArray,
    masses: FloatArray,
    symbols: tuple[str, ...],
    *,
    spacing: float,
    timestep: float,
    resolution: float,
    degrees_of_freedom: int,
) -> Spectrum:
    """g(ν) per element, from velocities (n, atoms, 3) in ASE's unit every ``spacing`` fs; ``timestep`` fs of the Verlet
    integrator; masses (atoms,) amu; ``resolution`` cm⁻¹.

    Raises
    ------
    ScienceError
        Fewer samples than one window takes.
    """
    from ase.units import kB
    from scipy.signal import welch

    length = window_steps(resolution, spacing)
    if len(velocities) < length:
        raise ScienceError(
            f"Lines of {resolution:g} cm⁻¹ need {length} samples; there are {len(velocities)}.",
            todo="Give a longer `duration:` or a coarser `resolution:`.",
        )
    # Σ m⟨v²⟩ = kT × degrees of freedom
    thermal = float((masses * (velocities**2).sum(axis=2).mean(axis=0)).sum()) / degrees_of_freedom
    elements = tuple(dict.fromkeys(symbols))
    padded = _FINER * length
    rows = np.zeros((len(elements), padded // 2 + 1))
    frequency = np.zeros(padded // 2 + 1)
    for k, symbol in enumerate(symbols):  # one atom at a time: the memory of all would be that of the run again
        frequency, power = welch(
            velocities[:, k], fs=1.0 / spacing, window="hann", nperseg=length, nfft=padded, detrend=False, axis=0
        )
        rows[elements.index(symbol)] += masses[k] * power.sum(axis=1) / thermal
    seen = np.pi * frequency * timestep
    # g dν stays the same when the axis is stretched
    true, stretch = np.sin(seen) / (np.pi * timestep), np.cos(seen)
    keep = seen < 0.5 * np.pi
    return Spectrum(true[keep] / LIGHT, np.asarray(rows[:, keep] / stretch[keep] * LIGHT), elements, thermal / kB)


def broadened(wavenumbers: FloatArray, grid: FloatArray, resolution: float) -> FloatArray:
    """(g,) per cm⁻¹: modes (m,) cm⁻¹ as Gaussian lines of area 1 and of that width at half their height."""
    sigma = resolution / np.sqrt(8.0 * np.log(2.0))
    found = np.zeros(len(grid))
    for mode in wavenumbers:
        found += np.exp(-0.5 * ((grid - mode) / sigma) ** 2)
    return np.asarray(found / (sigma * np.sqrt(2.0 * np.pi)))
