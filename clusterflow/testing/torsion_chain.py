"""Four atoms in a row, like the carbon atoms of butane: a torsion whose free energy is known by quadrature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Prediction
from clusterflow.testing.analytic_potentials import AnalyticPotential, PredictionCalculator
from clusterflow.units import BOLTZMANN_EV


@dataclass(frozen=True)
class TorsionChain(AnalyticPotential):
    """Harmonic bonds and angles, a cosine series in the torsion φ (0: cis), and a 1–4 repulsion that couples them all.

    Energy = Σ k_b/2 (r − r₀)² + Σ k_a/2 (θ − θ₀)² + Σ c_n cos nφ + a exp(−r₁₄/ρ), eV and Å. Periodic frames are allowed
    as long as the chain is whole.
    """

    bond: float = 15.0
    length: float = 1.53
    angle: float = 3.0
    bend: float = 1.95
    series: tuple[float, ...] = (0.02, 0.0, 0.05)
    strength: float = 3.0
    range: float = 0.8

    def torsion(self, phi: FloatArray) -> FloatArray:
        """The cosine series, eV."""
        total: FloatArray = np.zeros_like(np.asarray(phi, dtype=np.float64))
        for n, c in enumerate(self.series, start=1):
            total = total + c * np.cos(n * phi)
        return total

    def one(self, atoms: Atoms) -> Prediction:
        """Energy and forces; no stress."""
        x = np.asarray(atoms.positions, dtype=np.float64)[:4]
        b = x[1:] - x[:-1]
        r = np.sqrt((b * b).sum(axis=1))
        stretch = r - self.length
        energy = 0.5 * self.bond * float(stretch @ stretch)
        gradient = np.zeros((len(atoms), 3))
        along = (self.bond * stretch / r)[:, None] * b
        gradient[1:4] += along
        gradient[0:3] -= along
        for k in (0, 1):
            u, v = -b[k] / r[k], b[k + 1] / r[k + 1]
            cosine = float(u @ v)
            theta = np.arccos(cosine)
            energy += 0.5 * self.angle * (theta - self.bend) ** 2
            slope = -self.angle * (theta - self.bend) / np.sqrt(1.0 - cosine * cosine)
            first, last = slope * (v - cosine * u) / r[k], slope * (u - cosine * v) / r[k + 1]
            gradient[k] += first
            gradient[k + 2] += last
            gradient[k + 1] -= first + last
        n1, n2 = _cross(b[0], b[1]), _cross(b[1], b[2])
        phi = np.arctan2(r[1] * float(b[0] @ n2), float(n1 @ n2))
        energy += float(self.torsion(np.array(phi)))
        slope = -sum(n * c * np.sin(n * phi) for n, c in enumerate(self.series, start=1))
        # Blondel and Karplus 1996: the gradient of a torsion without division by its sine
        g0, g3 = -r[1] / float(n1 @ n1) * n1, r[1] / float(n2 @ n2) * n2
        s, t = float(b[0] @ b[1]) / r[1] ** 2, float(b[2] @ b[1]) / r[1] ** 2
        gradient[0] += slope * g0
        gradient[3] += slope * g3
        gradient[1] += slope * (-(1.0 + s) * g0 + t * g3)
        gradient[2] += slope * (s * g0 - (1.0 + t) * g3)
        d = x[3] - x[0]
        r14 = float(np.sqrt(d @ d))
        push = self.strength * np.exp(-r14 / self.range)
        energy += float(push)
        gradient[3] -= push / self.range * d / r14
        gradient[0] += push / self.range * d / r14
        return Prediction(float(energy), -gradient, None)


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """NumPy's own costs twenty times this."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def chain(potential: TorsionChain, phi: float = np.pi) -> Atoms:
    """Four carbon atoms with equilibrium bonds and angles and this torsion."""
    r, theta = potential.length, potential.bend
    x = np.zeros((4, 3))
    x[0] = [r * np.cos(theta), r * np.sin(theta), 0.0]  # x[1] is the origin, x[2] on the axis
    x[2] = [r, 0.0, 0.0]
    x[3] = x[2] + r * np.array([-np.cos(theta), np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)])
    return Atoms("C4", x)


def exact_profile(potential: TorsionChain, temperature_K: float, phi: FloatArray, points: int = 16) -> FloatArray:
    """Free energy along φ, lowest value 0, eV: exact quadrature over the three bonds and the two angles.

    In bonds, angles and torsion the volume element is r₁² r₂² r₃² sin θ₁ sin θ₂, whatever φ is.
    """
    kt = BOLTZMANN_EV * temperature_K
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    lengths = potential.length + nodes * np.sqrt(kt / potential.bond)
    angles = potential.bend + nodes * np.sqrt(kt / potential.angle)
    few, few_weights = np.polynomial.hermite_e.hermegauss(5)
    bonds = potential.length + few * np.sqrt(kt / potential.bond)
    total = np.zeros(len(phi))
    a1, a2 = np.meshgrid(angles, angles, indexing="ij")
    over_angles = np.outer(weights, weights) * np.sin(a1) * np.sin(a2)
    assert np.all(lengths > 0.0)
    for r1, w1 in zip(bonds, few_weights, strict=True):
        for r2, w2 in zip(bonds, few_weights, strict=True):
            for r3, w3 in zip(bonds, few_weights, strict=True):
                axial = r2 - r1 * np.cos(a1) - r3 * np.cos(a2)
                p, q = r1 * np.sin(a1), r3 * np.sin(a2)
                square = axial**2 + p**2 + q**2
                r14 = np.sqrt(square[..., None] - 2.0 * (p * q)[..., None] * np.cos(phi))
                boltzmann = np.exp(-potential.strength * np.exp(-r14 / potential.range) / kt)
                weight = w1 * w2 * w3 * (r1 * r2 * r3) ** 2
                total += weight * (over_angles[..., None] * boltzmann).sum(axis=(0, 1))
    found: FloatArray = potential.torsion(phi) - kt * np.log(total)
    found -= found.min()
    return found


class ChainCalculator(PredictionCalculator):
    """The default chain as an ASE calculator that a property file can name."""

    def __init__(self) -> None:
        super().__init__(TorsionChain())
