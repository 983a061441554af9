"""Locality test: how far around an atom the force on it depends on what is there.

M. Herbold and J. Behler, J. Chem. Phys. 156, 114106 (2022), doi:10.1063/5.0082952; equation numbers are theirs. The row
of the Hessian that belongs to one atom A of a large reference piece says how the force on A depends on each other atom
(eqs. 2, 3). Summed over the groups that a smaller fragment lacks (eq. 4), less what its termination hydrogens put there
instead (eq. 6), it is a measure of the error of the force on A in that fragment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Fragment, IntArray
from clusterflow.errors import InputError
from clusterflow.extract.functional_groups import (
    GroupedPiece,
    check_site,
    completed,
    entities,
    growth,
)
from clusterflow.extract.group_cut import cut_groups
from clusterflow.extract.termination import Caps
from clusterflow.physics.hessian import STEP, central_difference_rows

Forces = Callable[[Atoms, int, int], FloatArray]
"""(atoms, charge, number of unpaired electrons) → forces (n, 3) in eV/Å: a level of theory or a potential."""
Row = Callable[[Atoms, int, int, int], FloatArray]
"""(atoms, index, charge, spin) → (3, n, 3) eV/Å²: the rows of the Hessian that belong to one atom."""

_DEFAULT_CAPS = Caps()
GAMMA = 0.35
"""eV/Å²: the paper's threshold for the effective group norm, for force errors below `TOLERANCE` at RPBE+TS."""
TOLERANCE = 0.15
"""eV/Å: the paper's tolerance for force errors."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A fragment of the reference piece, and what the Hessian and the forces say about it.

    ``removed``: the piece's atoms it lacks; ``group_norm`` (eq. 4) and ``effective_norm`` (eq. 6) in eV/Å²;
    ``force_error`` (3,) eV/Å, force on the site in the piece less that in the fragment (eq. 7).
    """

    fragment: Fragment
    groups: frozenset[int]
    removed: IntArray
    group_norm: float
    effective_norm: float
    force_error: FloatArray

    @property
    def error(self) -> float:
        """Norm of the force error, eV/Å."""
        return float(np.linalg.norm(self.force_error))


@dataclass(frozen=True)
class Locality:
    """The locality of one site: ``row`` (3, n, 3) in eV/Å², and trial fragments from the largest to the smallest."""

    piece: GroupedPiece
    site: int
    row: FloatArray
    force: FloatArray
    trials: tuple[Trial, ...]

    @cached_property
    def norms(self) -> FloatArray:
        """(n,) norms of the atomic submatrices, eV/Å² (eq. 3)."""
        return submatrix_norms(self.row)

    @cached_property
    def distances(self) -> FloatArray:
        """(n,) Å from the site."""
        return self.piece.distances(self.site)


def submatrix_norms(row: FloatArray) -> FloatArray:
    """(n,) Frobenius norms in eV/Å² of the atomic submatrices h_AB of a row (3, n, 3) (eq. 3)."""
    return np.asarray(np.sqrt((row**2).sum(axis=(0, 2))), dtype=np.float64)


def group_matrix(row: FloatArray, group: Sequence[int] | IntArray) -> FloatArray:
    """(3, 3) eV/Å²: sum of h_AB over the atoms B of a group (eqs. 4 and 5)."""
    return np.asarray(row[:, np.asarray(group, dtype=np.int64), :].sum(axis=1))


def effective_group_matrix(
    row: FloatArray,
    removed: Sequence[int] | IntArray,
    fragment_row: FloatArray,
    termination: Sequence[int] | IntArray,
) -> FloatArray:
    """(3, 3) eV/Å² (eq. 6): the group matrix of the removed atoms in the reference, less that of the termination
    hydrogens in the fragment, whose own row (3, m, 3) of the same atom this needs."""
    return np.asarray(group_matrix(row, removed) - group_matrix(fragment_row, termination))


def difference_row(forces: Forces, *, step: float = STEP) -> Row:
    """Hessian rows by central differences of forces, six calls each; the paper's step, 0.0025 Å, by default."""

    def row(atoms: Atoms, index: int, charge: int, spin: int) -> FloatArray:
        rows = central_difference_rows(lambda moved: forces(moved, charge, spin), atoms, [index], step=step)
        return np.asarray(rows[0])

    return row


def assess_locality(
    piece: GroupedPiece,
    site: int,
    forces: Forces,
    *,
    row: Row | None = None,
    trials: Sequence[Collection[int]] | None = None,
    shell: float = 0.3,
    caps: Caps = _DEFAULT_CAPS,
    termination_range: float = np.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> Locality:
    """The Hessian row of a site in a reference piece, and group norms and force errors of smaller fragments.

    Parameters
    ----------
    row
        How to compute rows, by default `difference_row(forces)`.
    trials
        Sets of groups to keep, by default those of `growth` with ``shell``. The whole piece is not a trial.
    caps
        X–H lengths (Å) by kind of cap.
    termination_range
        Å. Where every termination hydrogen is farther from the site than this, its part of eq. 6 is taken to be zero,
        which saves six force calls (the paper finds it negligible from about 5 Å on, Fig. S4).
    progress
        Told what is being computed.

    Raises
    ------
    InputError
        There is no such atom, or a trial lacks the site.
    ExtractionError
        As `cut_groups`.
    """
    check_site(piece.atoms, site)
    row = difference_row(forces) if row is None else row
    sets = growth(piece, site, shell=shell)[:-1] if trials is None else [frozenset(t) for t in trials]
    cuts = [cut_groups(piece, kept, site, caps=caps)[0] for kept in sets]
    n = len(piece.atoms)
    progress(f"reference, {n} atoms")
    reference = _checked_row(row(piece.atoms, site, piece.charge, piece.spin), n)
    force = np.asarray(forces(piece.atoms, piece.charge, piece.spin))[site]
    bare = Locality(piece, site, reference, force, ())
    found = []
    for kept, fragment in sorted(zip(sets, cuts, strict=True), key=lambda t: -len(t[1].atoms)):
        progress(f"fragment {fragment.kind}, {len(fragment.atoms)} atoms")
        found.append(_trial(bare, frozenset(kept), fragment, forces, row, termination_range))
    return Locality(piece, site, reference, force, tuple(found))


def assess_groups(
    locality: Locality,
    kept: Collection[int],
    forces: Forces,
    *,
    row: Row | None = None,
    caps: Caps = _DEFAULT_CAPS,
    termination_range: float = np.inf,
) -> Trial:
    """One more fragment of a site that has been assessed: the trial with these groups, computed if there is none.

    Arguments and errors as for `assess_locality`. The whole piece is exact by definition.
    """
    groups = frozenset(kept)
    known = next((trial for trial in locality.trials if trial.groups == groups), None)
    if known is not None:
        return known
    fragment, _ = cut_groups(locality.piece, groups, locality.site, caps=caps)
    if len(groups) == len(locality.piece.groups):
        return Trial(fragment, groups, np.zeros(0, dtype=np.int64), 0.0, 0.0, np.zeros(3))
    return _trial(locality, groups, fragment, forces, difference_row(forces) if row is None else row, termination_range)


def _trial(
    known: Locality, groups: frozenset[int], fragment: Fragment, forces: Forces, row: Row, termination_range: float
) -> Trial:
    """What the reference row and force, and those of the fragment, say about it."""
    piece, site = known.piece, known.site
    here = int(np.flatnonzero(fragment.parent == site)[0])
    removed = np.setdiff1d(np.arange(len(piece.atoms)), fragment.parent)
    termination = np.flatnonzero(fragment.parent < 0)
    matrix = group_matrix(known.row, removed)
    effective = matrix
    away = fragment.atoms.positions[termination] - piece.atoms.positions[site]
    if len(away) and np.linalg.norm(away, axis=1).min() <= termination_range:
        own = _checked_row(row(fragment.atoms, here, fragment.charge, fragment.spin), len(fragment.atoms))
        effective = effective_group_matrix(known.row, removed, own, termination)
    return Trial(
        fragment=fragment,
        groups=groups,
        removed=removed,
        group_norm=float(np.linalg.norm(matrix)),
        effective_norm=float(np.linalg.norm(effective)),
        force_error=known.force - np.asarray(forces(fragment.atoms, fragment.charge, fragment.spin))[here],
    )


def converged(locality: Locality, gamma: float = GAMMA) -> Trial | None:
    """The smallest fragment whose effective norm, and that of every larger one, is not above ``gamma`` (eV/Å²).

    None: not even the largest trial is, so that only the whole piece will do.

    Raises
    ------
    InputError
        A threshold that is not positive.
    """
    if not gamma > 0.0:
        raise InputError(f"A threshold of {gamma} eV/Å² lets nothing pass.", todo=f"Give one such as {GAMMA} eV/Å².")
    best = None
    for trial in locality.trials:
        if trial.effective_norm > gamma:
            break
        best = trial
    return best


def fragment_radius(locality: Locality, groups: Collection[int] | None = None) -> float:
    """r_frag in Å: distance from the site to the atom with the largest submatrix norm in the most distant functional
    group (paper, section IV B 2); ``groups`` None: of the whole piece.

    Groups are compared by their closest atoms, a cluster and its carboxylates being one (`entities`). Of several
    equally far (0.3 Å), the one whose largest norm is largest counts. The site itself does not.
    """
    piece, distance, norms = locality.piece, locality.distances, locality.norms
    chosen = range(len(piece.groups)) if groups is None else groups
    members = [np.concatenate([piece.groups[g] for g in entity]) for entity in entities(piece, chosen)]
    nearest = np.array([distance[atoms].min() for atoms in members])
    far = [atoms for atoms, d in zip(members, nearest, strict=True) if d >= nearest.max() - 0.3]
    candidates = np.setdiff1d(np.concatenate(far), [locality.site])
    if len(candidates) == 0:
        return 0.0
    return float(distance[candidates[int(np.argmax(norms[candidates]))]])


def groups_within(piece: GroupedPiece, site: int, radius: float) -> frozenset[int]:
    """Groups with an atom within a radius (Å) of the site, and those that complete their metals: the fragment that
    belongs to a common radius."""
    check_site(piece.atoms, site)
    near = piece.labels[piece.distances(site) <= radius]
    return completed(piece, {int(g) for g in near})


def decay_rate(locality: Locality, *, element: str, nearest: float = 3.0, floor: float = 1e-3) -> float:
    """Decay of the submatrix norms of one element with distance, in 1/Å: least squares of ln‖h‖ = a − rate·d.

    Only atoms beyond ``nearest`` (Å) with norms above ``floor`` (eV/Å², the noise of the differences) count.

    Raises
    ------
    InputError
        Fewer than two such atoms.
    """
    same = np.array(locality.piece.atoms.get_chemical_symbols()) == element
    far = same & (locality.distances > nearest) & (locality.norms > floor)
    if far.sum() < 2:
        raise InputError(
            f"{int(far.sum())} atoms of {element} are farther than {nearest:g} Å with norms above {floor:g} eV/Å².",
            todo="Give a larger piece, a smaller distance or another element.",
        )
    return -float(np.polyfit(locality.distances[far], np.log(locality.norms[far]), 1)[0])


def implied_threshold(norms: Sequence[float], errors: Sequence[float], tolerance: float) -> float:
    """The group norm (eV/Å²) at which the force error (eV/Å) of shrinking fragments first reaches ``tolerance``.

    ``norms`` and ``errors`` from the largest fragment to the smallest; interpolated linearly between the two fragments
    on either side, from (0, 0) on. Infinite if no fragment is that wrong.

    Raises
    ------
    InputError
        Lists of unequal length, or a tolerance that is not positive.
    """
    if len(norms) != len(errors) or not tolerance > 0.0:
        raise InputError(
            f"A threshold needs as many norms ({len(norms)}) as errors ({len(errors)}) and a tolerance above 0, not "
            f"{tolerance}.",
            todo="Give one norm and one error per fragment.",
        )
    last_norm = last_error = 0.0
    for norm, error in zip(norms, errors, strict=True):
        if error >= tolerance:
            share = (tolerance - last_error) / (error - last_error)
            return float(last_norm + share * (norm - last_norm))
        last_norm, last_error = norm, error
    return float("inf")


def _checked_row(row: FloatArray, n: int) -> FloatArray:
    row = np.asarray(row, dtype=np.float64)
    if row.shape != (3, n, 3) or not np.isfinite(row).all():
        raise InputError(
            f"The Hessian row of an atom among {n} has the shape {row.shape} or numbers that are not finite.",
            todo="It must be (3, n, 3) in eV/Å².",
        )
    return row
