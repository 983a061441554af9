"""The functions that a linear model is linear in: their values per atom, and their derivatives, analytically.

The energy of a structure is a sum over atoms i of element s

    E = Σ_i [ a_s + Σ_j Σ_n b_st(n) R_n(r_ij) + Σ_l Σ_{q ≤ q'} w_s(l, q, q') p_i(l, q, q') ]

with p_i(l, q, q') = Σ_m c_i(q, l, m) c_i(q', l, m) / √(2l + 1), the power spectrum of the densities of its neighbours
(Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115), and
c_i(q, l, m) = Σ_j Σ_n U_s(l; t, n → q) R_n(r_ij) Y_lm(r_ij), t the element of j. The combinations U keep the radial
channels in which the training environments differ most (Goscinski et al., J. Chem. Phys. 155, 104106 (2021),
doi:10.1063/5.0057229). a, b and w are the weights.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.train.linear_config import LinearModelSettings
from clusterflow.train.linear_pairs import Pairs, bessel, degree_slices, harmonics

_PAIRS_AT_ONCE = 500
"""Centres are worked through in groups with about so many pairs: little memory, and all of it stays in the cache."""


@dataclass(frozen=True, slots=True)
class Basis:
    """All that decides the functions: settings, number of elements and the channels.

    ``channels`` (elements, l_max + 1, elements · density, q): how the radial channels of the neighbours' elements
    combine around a centre of each element.
    """

    settings: LinearModelSettings
    n_elements: int
    channels: FloatArray

    @property
    def n_channels(self) -> int:
        return int(self.channels.shape[-1])

    @property
    def n_pair(self) -> int:
        """Two-body functions: per unordered pair of elements."""
        return self.n_elements * (self.n_elements + 1) // 2 * self.settings.radial

    @property
    def n_atom(self) -> int:
        """Three-body functions of one atom: (l, q ≤ q')."""
        return (self.settings.l_max + 1) * self.n_channels * (self.n_channels + 1) // 2

    @property
    def n_weights(self) -> int:
        return self.n_elements * (1 + self.n_atom) + self.n_pair

    def pair_slice(self, one: int, other: int) -> slice:
        """Where the two-body functions of two elements stand in the vector of weights."""
        a, b = min(one, other), max(one, other)
        first = self.n_elements + (a * self.n_elements - a * (a - 1) // 2 + b - a) * self.settings.radial
        return slice(first, first + self.settings.radial)

    def atom_slice(self, element: int) -> slice:
        """Where the three-body functions of atoms of one element stand."""
        first = self.n_elements + self.n_pair + element * self.n_atom
        return slice(first, first + self.n_atom)

    def triangle(self) -> tuple[IntArray, IntArray]:
        """The q and q' of the three-body functions of one l."""
        rows, columns = np.triu_indices(self.n_channels)
        return rows.astype(np.int64), columns.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Densities:
    """What the pairs of a frame give: pair functions, combined radial functions (m, l, q) with derivatives, spherical
    harmonics (m, lm) with r times their gradients (m, 3, lm), and the densities (n, q, lm)."""

    pairs: Pairs
    two_body: FloatArray
    two_body_slope: FloatArray
    radial: FloatArray
    radial_slope: FloatArray
    angular: FloatArray
    angular_gradient: FloatArray
    coefficients: FloatArray


def densities(basis: Basis, pairs: Pairs, first: int = 0, last: int | None = None) -> Densities:
    """Densities around the atoms ``first`` to ``last`` − 1, to which all the pairs belong (None: all atoms)."""
    s, n_q = basis.settings, basis.n_channels
    m, n_l = len(pairs.distance), s.l_max + 1
    values, slopes = bessel(pairs.distance, s.cutoff, max(s.radial, s.density))
    mixed_values, mixed_slopes = np.empty((m, n_l * n_q)), np.empty((m, n_l * n_q))
    centre, neighbour = pairs.types[pairs.centre], pairs.types[pairs.neighbour]
    for a in range(basis.n_elements):
        for b in range(basis.n_elements):
            which = np.flatnonzero((centre == a) & (neighbour == b))
            mixed = basis.channels[a, :, b * s.density : (b + 1) * s.density]  # (l, n, q)
            mixing = np.ascontiguousarray(mixed.transpose(1, 0, 2)).reshape(s.density, n_l * n_q)
            mixed_values[which] = values[which, : s.density] @ mixing
            mixed_slopes[which] = slopes[which, : s.density] @ mixing
    angular, gradient = harmonics(pairs, s.l_max)
    radial, radial_slope = mixed_values.reshape(m, n_l, n_q), mixed_slopes.reshape(m, n_l, n_q)
    table = _Table(pairs, first, pairs.n_atoms if last is None else last)
    radial_table, angular_table = table.fill(radial), table.fill(angular)
    coefficients = np.empty((table.shape[0], n_q, n_l * n_l))
    for degree, where in enumerate(degree_slices(s.l_max)):
        coefficients[:, :, where] = radial_table[:, :, degree].transpose(0, 2, 1) @ angular_table[:, :, where]
    return Densities(
        pairs,
        values[:, : s.radial],
        slopes[:, : s.radial],
        radial,
        radial_slope,
        angular,
        gradient,
        coefficients,
    )


class _Table:
    """Pairs as a table (centres, most neighbours), so that sums over neighbours become products of small matrices."""

    def __init__(self, pairs: Pairs, first: int, last: int) -> None:
        self.row = pairs.centre - first
        counts = np.bincount(self.row, minlength=last - first)
        self.column = np.arange(len(self.row)) - (np.cumsum(counts) - counts)[self.row]
        self.shape = (last - first, int(counts.max(initial=0)))

    def fill(self, values: FloatArray) -> FloatArray:
        """(centres, most neighbours, …) of values (m, …); zero where there is no pair."""
        out = np.zeros(self.shape + values.shape[1:])
        out[self.row, self.column] = values
        return out

    def read(self, table: FloatArray) -> FloatArray:
        """The inverse of `fill`."""
        return np.asarray(table[self.row, self.column])


def power_spectrum(basis: Basis, coefficients: FloatArray) -> FloatArray:
    """(k, n_atom) three-body functions of densities (k, q, lm)."""
    rows, columns = basis.triangle()
    parts = []
    for degree, where in enumerate(degree_slices(basis.settings.l_max)):
        c = coefficients[:, :, where]
        parts.append((c @ c.transpose(0, 2, 1))[:, rows, columns] / np.sqrt(2 * degree + 1))
    return np.concatenate(parts, axis=1)


def energy_and_gradient(basis: Basis, weights: FloatArray, pairs: Pairs) -> tuple[FloatArray, FloatArray]:
    """Energy of each atom (n,) in eV, and dE/d(vector) of each pair (m, 3) in eV/Å."""
    energies = weights[pairs.types].copy()
    gradients = np.empty((len(pairs.distance), 3))
    matrices, table = _matrices(basis, weights), _pair_table(basis, weights)
    for first, last in _groups(pairs):
        part = pairs.part(first, last)
        begin = int(np.searchsorted(pairs.centre, first))
        found = densities(basis, part, first, last)
        own, gradients[begin : begin + len(part.distance)] = _part(basis, table, matrices, found, first, last)
        energies[first:last] += own
    return energies, gradients


def _part(
    basis: Basis, pair_table: FloatArray, matrices: FloatArray, found: Densities, first: int, last: int
) -> tuple[FloatArray, FloatArray]:
    """The same for the atoms ``first`` to ``last`` − 1."""
    pairs, places = found.pairs, _Table(found.pairs, first, last)
    table = pair_table[pairs.types[pairs.centre], pairs.types[pairs.neighbour]]  # (m, radial)
    own: FloatArray = np.zeros(last - first)
    np.add.at(own, places.row, np.einsum("mn,mn->m", found.two_body, table))
    along = np.einsum("mn,mn->m", found.two_body_slope, table)
    radial, angular = places.fill(found.radial), places.fill(found.angular)
    outer, inner = np.empty_like(angular), np.empty_like(radial)
    for degree, where in enumerate(degree_slices(basis.settings.l_max)):
        c = np.ascontiguousarray(found.coefficients[:, :, where])
        derivative = matrices[pairs.types[first:last], degree] @ c
        own += 0.5 * (c * derivative).sum(axis=(1, 2))
        outer[:, :, where] = radial[:, :, degree] @ derivative
        inner[:, :, degree] = angular[:, :, where] @ derivative.transpose(0, 2, 1)
    across = (found.angular_gradient @ places.read(outer)[:, :, None])[:, :, 0]
    along += (found.radial_slope * places.read(inner)).sum(axis=(1, 2))
    return own, along[:, None] * pairs.unit + across / pairs.distance[:, None]


def design(basis: Basis, pairs: Pairs) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How energy (n_weights,), forces (n, 3, n_weights) and virial dE/d(strain) (6, n_weights; xx yy zz yz xz xy) of a
    frame depend on the weights."""
    n = pairs.n_atoms
    energy = np.zeros(basis.n_weights)
    forces, virial = np.zeros((n, 3, basis.n_weights)), np.zeros((6, basis.n_weights))
    energy[: basis.n_elements] = np.bincount(pairs.types, minlength=basis.n_elements)
    found = densities(basis, pairs)
    for element in range(basis.n_elements):
        atoms = np.flatnonzero(pairs.types == element)
        energy[basis.atom_slice(element)] = power_spectrum(basis, found.coefficients[atoms]).sum(axis=0)
    centre, neighbour = pairs.types[pairs.centre], pairs.types[pairs.neighbour]
    for a in range(basis.n_elements):
        for b in range(a, basis.n_elements):
            which = np.flatnonzero(((centre == a) & (neighbour == b)) | ((centre == b) & (neighbour == a)))
            where = basis.pair_slice(a, b)
            energy[where] = found.two_body[which].sum(axis=0)
            change = pairs.unit[which, :, None] * found.two_body_slope[which, None, :]
            _add(forces[:, :, where], virial[:, where], pairs, which, change)
    for first, last in _groups(pairs):
        begin, end = (int(k) for k in np.searchsorted(pairs.centre, [first, last]))
        for element in range(basis.n_elements):
            which = begin + np.flatnonzero(centre[begin:end] == element)
            if len(which):
                where = basis.atom_slice(element)
                _add(forces[:, :, where], virial[:, where], pairs, which, _changes(basis, found, which))
    return energy, forces, virial


def _changes(basis: Basis, found: Densities, which: IntArray) -> FloatArray:
    """(k, 3, n_atom): derivatives of the centre's three-body functions with respect to these pairs' vectors."""
    rows, columns = basis.triangle()
    unit, distance = found.pairs.unit[which], found.pairs.distance[which]
    c = found.coefficients[found.pairs.centre[which]]
    parts = []
    for degree, where in enumerate(degree_slices(basis.settings.l_max)):
        slope = found.radial_slope[which, degree][:, None, :, None] * found.angular[which][:, None, None, where]
        turn = found.radial[which, degree][:, None, :, None] * found.angular_gradient[which][:, :, None, where]
        g = slope * unit[:, :, None, None] + turn / distance[:, None, None, None]  # (k, 3, q, 2l + 1)
        product = g @ c[:, None, :, where].transpose(0, 1, 3, 2)
        product = product + product.swapaxes(2, 3)
        parts.append(product[:, :, rows, columns] / np.sqrt(2 * degree + 1))
    return np.concatenate(parts, axis=2)


def _add(forces: FloatArray, virial: FloatArray, pairs: Pairs, which: IntArray, change: FloatArray) -> None:
    """Adds what dE/d(vector) = ``change`` (k, 3, f) of these pairs gives to forces and virial."""
    k, n = len(which), pairs.n_atoms
    if not k:
        return
    flat = change.reshape(k, -1)
    one = np.ones(k)
    on_centre = csr_array((one, (pairs.centre[which], np.arange(k))), shape=(n, k))
    on_neighbour = csr_array((one, (pairs.neighbour[which], np.arange(k))), shape=(n, k))
    forces += ((on_centre - on_neighbour) @ flat).reshape(n, 3, -1)
    vectors = pairs.unit[which] * pairs.distance[which, None]
    for row, (x, y) in enumerate(VOIGT):
        virial[row] += vectors[:, y] @ change[:, x]


VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""xx yy zz yz xz xy, as ASE orders them."""


def _matrices(basis: Basis, weights: FloatArray) -> FloatArray:
    """(elements, l, q, q') such that the three-body energy of an atom is ½ Σ c·M·c."""
    rows, columns = basis.triangle()
    n_l = basis.settings.l_max + 1
    out = np.zeros((basis.n_elements, n_l, basis.n_channels, basis.n_channels))
    for element in range(basis.n_elements):
        own = weights[basis.atom_slice(element)].reshape(n_l, -1) / np.sqrt(2 * np.arange(n_l) + 1)[:, None]
        out[element][:, rows, columns] += own
        out[element][:, columns, rows] += own
    return out


def _pair_table(basis: Basis, weights: FloatArray) -> FloatArray:
    """(elements, elements, radial): weights of the pair functions by element of centre and neighbour."""
    elements = range(basis.n_elements)
    return np.array([[weights[basis.pair_slice(a, b)] for b in elements] for a in elements])


def _groups(pairs: Pairs) -> list[tuple[int, int]]:
    """Ranges of centres with about `_PAIRS_AT_ONCE` pairs each."""
    counts = np.bincount(pairs.centre, minlength=pairs.n_atoms)
    number = np.cumsum(counts) // _PAIRS_AT_ONCE
    starts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), pairs.n_atoms]
    return list(itertools.pairwise(starts))
