"""Monte Carlo moves of a fully flexible cell, at constant pressure or at constant volume."""

from __future__ import annotations

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.units import BOLTZMANN_EV, GPA

_TARGET_ACCEPTANCE = 0.35
_STIFFNESS = 100.0 * GPA  # eV/Å³: a stiff solid, so that the first moves are rather too small than too large


class AffineBarostat:
    """Isothermal-isobaric or (N, V, σ=0, T) ensemble by Metropolis moves that strain cell and atoms alike.

    A move multiplies the cell h (rows) and all positions by exp(ε), with ε symmetric and its elements normal. The
    stationary distribution is that of Martyna, Tobias and Klein (1994, doi:10.1063/1.467468),
    ``dh V^(N-2) exp(-(U + PV)/kT)`` with fractional coordinates as variables. Because the proposal is symmetric with
    respect to the invariant measure dh/V³ of the cell matrices, N + 1 volume factors remain in the acceptance.
    For an ideal gas the mean volume is (N + 1) kT / P.

    Without a pressure ε is traceless, so that the volume stays and the shape moves: the (N, V, σ=0, T) ensemble of
    Rogge et al. (2015, doi:10.1021/acs.jctc.5b00748). The measure dh/V³ at constant volume is the Haar measure of
    SL(3), which the proposal leaves alone, and no factor remains but exp(−ΔU/kT) (docs/concepts/fixed-volume.md).

    The width of ε is adapted to an acceptance of 35 % with steps that die out (Andrieu and Thoms 2008,
    doi:10.1007/s11222-008-9110-y), so that the ensemble is right in the limit.

    Parameters
    ----------
    pressure_GPa
        External hydrostatic pressure, positive compresses; None: constant volume, free shape.
    volume
        Volume of the start in Å³; with the temperature it sets the first width.
    """

    def __init__(
        self, temperature_K: float, pressure_GPa: float | None, n_atoms: int, volume: float, rng: np.random.Generator
    ) -> None:
        self._kT = BOLTZMANN_EV * temperature_K
        self._pressure = None if pressure_GPa is None else pressure_GPa * GPA
        self._n = n_atoms
        self._rng = rng
        self._log_width = 0.5 * np.log(self._kT / (_STIFFNESS * volume))
        self.attempts = 0
        self.accepted = 0

    @property
    def width(self) -> float:
        """Standard deviation of one element of the strain."""
        return float(np.exp(self._log_width))

    @property
    def state(self) -> FloatArray:
        """What it has learnt: logarithm of the width, moves tried and accepted."""
        return np.array([self._log_width, self.attempts, self.accepted], dtype=np.float64)

    def go_on(self, state: FloatArray, rng: np.random.Generator) -> None:
        """From such a state, with other random numbers."""
        self._log_width, self.attempts, self.accepted = float(state[0]), int(state[1]), int(state[2])
        self._rng = rng

    def propose(self) -> FloatArray:
        """(3, 3) symmetric deformation; new rows = old rows @ deformation. Its determinant is 1 at constant volume."""
        strain = np.zeros((3, 3))
        strain[np.triu_indices(3)] = self._rng.standard_normal(6) * self.width
        values, vectors = np.linalg.eigh(strain, UPLO="U")
        if self._pressure is None:
            values -= values.mean()
        deformation: FloatArray = (vectors * np.exp(values)) @ vectors.T
        return deformation

    def accept(self, energy_change: float, volume: float, new_volume: float) -> bool:
        """Metropolis decision for a change of the potential energy in eV (infinite: never) and volumes in Å³."""
        exponent = -energy_change / self._kT
        if self._pressure is not None:
            work = self._pressure * (new_volume - volume)
            exponent += (self._n + 1) * np.log(new_volume / volume) - work / self._kT
        probability = float(np.exp(min(0.0, exponent))) if np.isfinite(exponent) else 0.0
        self.attempts += 1
        self._log_width += 2.0 * (probability - _TARGET_ACCEPTANCE) / (1.0 + self.attempts) ** 0.6
        taken = bool(self._rng.random() < probability)
        self.accepted += taken
        return taken
