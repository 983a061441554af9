"""Force matching: how far the forces in a fragment are from those in its parent, and where.

Dobbelaere et al. 2025 (arXiv:2504.03881), section 2.1.1 and SI 6: the smallest fragment blueprint whose core forces
agree with the parent's, for the reference level and for the potential, is the one to train on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray, Fragment, IntArray, Site
from clusterflow.core.frames import content_hash, formula
from clusterflow.core.protocols import FragmentRule
from clusterflow.errors import ExtractionError, InputError
from clusterflow.physics.building_blocks import Blocks
from clusterflow.physics.elements import is_metal

Forces = Callable[[Atoms, int, int], FloatArray]
"""(atoms, charge, number of unpaired electrons) → forces (n, 3) in eV/Å: a level of theory or a potential."""
Cut = Callable[[Atoms], Fragment]
"""A blueprint: the same core, mantle and termination for every frame of a parent."""
Region = Callable[[Atoms], IntArray]
"""Frame → indices of the parent atoms of a region."""
_STILL_SHRINKING = 0.9
"""A difference larger than this times the one before is no trend towards a limit."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Force differences in one fragment of one frame: ``parent`` (m,) indices of its atoms in the parent (termination
    atoms left out), ``core`` (m,) bool, ``vectors`` (m, 3) eV/Å, fragment − parent; ``uncertainty`` (m,) eV/Å per
    component of the parent force, zero where it was computed."""

    parent: IntArray
    core: BoolArray
    vectors: FloatArray
    uncertainty: FloatArray


@dataclass(frozen=True, slots=True)
class RegionError:
    """``rmse`` per Cartesian component over atoms and frames, ``error`` its standard error from the spread over frames
    (NaN for a single frame), ``largest`` component, ``uncertainty`` what an extrapolated parent force may contribute
    (RMS); all in eV/Å. ``n_atoms`` per frame."""

    rmse: float
    error: float
    largest: float
    uncertainty: float
    n_atoms: int


@dataclass(frozen=True, slots=True)
class Match:
    """One blueprint at one level: ``n_atoms`` with termination, the deviation in every frame, errors by region."""

    blueprint: str
    level: str
    n_atoms: int
    fragment_formula: str
    deviations: tuple[Deviation, ...]
    regions: Mapping[str, RegionError]


def match_forces(
    frames: Sequence[Atoms],
    blueprints: Mapping[str, Cut],
    levels: Mapping[str, Forces],
    *,
    regions: Mapping[str, Region] | None = None,
    parent_forces: Mapping[str, Sequence[FloatArray]] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Match]:
    """Compares every blueprint with the parent at every level, over all frames.

    Regions "fragment" (all atoms with a counterpart), "core" and "mantle" are always there; each of ``regions`` is
    taken within the core. A region without atoms is left out. Parents are neutral closed shells.

    Parameters
    ----------
    parent_forces
        Level → (n, 3) eV/Å per frame, where they are known already.

    Raises
    ------
    InputError
        No frames, blueprints or levels.
    ExtractionError
        A blueprint cannot be cut from a frame.
    """
    _check_given(frames, blueprints, levels)
    matches = []
    cuts = {name: [cut(frame) for frame in frames] for name, cut in blueprints.items()}
    for level, forces in levels.items():
        known = (parent_forces or {}).get(level)
        parents = []
        for number, frame in enumerate(frames):
            progress(f"{level}: parent, frame {number}")
            parents.append(np.asarray(known[number]) if known is not None else forces(frame, 0, 0))
        for name, fragments in cuts.items():
            found = []
            for number, (fragment, parent) in enumerate(zip(fragments, parents, strict=True)):
                progress(f"{level}: {name}, frame {number}")
                own = forces(fragment.atoms, fragment.charge, fragment.spin)
                found.append(force_deviation(fragment, own, parent))
            matches.append(_match(name, level, fragments[0], frames, found, regions or {}))
    return matches


def match_extrapolated(
    frames: Sequence[Atoms],
    blueprints: Mapping[str, Cut],
    levels: Mapping[str, Forces],
    *,
    regions: Mapping[str, Region] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Match]:
    """As `match_forces` for a parent that is too large: core forces are compared with their limit, extrapolated over
    the blueprints, which must be three or more with the same core, from the smallest to the largest. There are no
    regions beyond the core.

    Raises
    ------
    InputError
        Fewer than three blueprints, or not in growing order.
    ExtractionError
        A blueprint cannot be cut, or has another core.
    """
    _check_given(frames, blueprints, levels)
    if len(blueprints) < 3:
        raise InputError(
            f"{len(blueprints)} blueprint(s) show no trend to extrapolate.",
            todo="Give three or more, from the smallest to the largest.",
        )
    cuts = {name: [cut(frame) for frame in frames] for name, cut in blueprints.items()}
    sizes = [len(fragments[0].atoms) for fragments in cuts.values()]
    if any(b <= a for a, b in pairwise(sizes)):
        raise InputError(
            f"The blueprints do not grow: {', '.join(f'{n} ({s} atoms)' for n, s in zip(cuts, sizes, strict=True))}.",
            todo="Give them from the smallest to the largest, each larger than the one before.",
        )
    matches = []
    for level, forces in levels.items():
        found: dict[str, list[Deviation]] = {name: [] for name in cuts}
        for number in range(len(frames)):
            cores, first = [], None
            for name, fragments in cuts.items():
                fragment = fragments[number]
                index = fragment.parent[fragment.core]
                first = index if first is None else first
                if not np.array_equal(index, first):
                    raise ExtractionError(f"The core of '{name}' is not that of the others.")
                progress(f"{level}: {name}, frame {number}")
                cores.append(np.asarray(forces(fragment.atoms, fragment.charge, fragment.spin))[fragment.core])
            limit = extrapolate(cores)
            for name, core in zip(cuts, cores, strict=True):
                assert first is not None
                everything = np.ones(len(first), dtype=bool)
                found[name].append(Deviation(first, everything, core - limit.forces, limit.error))
        for name, fragments in cuts.items():
            match = _match(name, level, fragments[0], frames, found[name], regions or {})
            inner = {r: error for r, error in match.regions.items() if r != "fragment"}
            matches.append(replace(match, regions=inner))
    return matches


def blueprint(rule: FragmentRule, site: int) -> Cut:
    """What a rule cuts around one atom, in every frame the same."""
    return lambda frame: rule.extract(frame, [Site(content_hash(frame), site)])


def force_deviation(fragment: Fragment, forces: FloatArray, parent_forces: FloatArray) -> Deviation:
    """Fragment − parent for every atom that has a counterpart (eq. 3); forces (n, 3) of each in eV/Å."""
    own = fragment.parent >= 0
    parent = fragment.parent[own]
    vectors = np.asarray(forces)[own] - np.asarray(parent_forces)[parent]
    return Deviation(parent, fragment.core[own], vectors, np.zeros(len(parent)))


def atom_errors(deviations: Sequence[Deviation]) -> dict[int, float]:
    """Parent atom → RMSE per component (eV/Å) over frames (and images, where an atom is there more than once)."""
    index = np.concatenate([d.parent for d in deviations])
    squares = np.concatenate([(d.vectors**2).mean(axis=1) for d in deviations])
    total = np.bincount(index, weights=squares)
    count = np.bincount(index)
    return {int(k): float(np.sqrt(total[k] / count[k])) for k in np.flatnonzero(count)}


def aggregate(vectors: Sequence[FloatArray], uncertainty: Sequence[FloatArray] = ()) -> RegionError:
    """Errors of one region from its (m, 3) deviations per frame in eV/Å.

    The standard error is that of the mean square over frames, which are taken to be independent.
    """
    squares = np.array([float((v**2).mean()) for v in vectors])
    rmse = float(np.sqrt(squares.mean()))
    spread = float(squares.std(ddof=1) / np.sqrt(len(squares))) if len(squares) > 1 else float("nan")
    return RegionError(
        rmse=rmse,
        error=spread / (2.0 * rmse) if rmse > 0.0 else 0.0,
        largest=float(max(np.abs(v).max() for v in vectors)),
        uncertainty=float(np.sqrt(np.mean([np.mean(u**2) for u in uncertainty]))) if len(uncertainty) else 0.0,
        n_atoms=len(vectors[0]),
    )


def default_regions(blocks: Blocks, atoms: Atoms) -> dict[str, Region]:
    """Regions of Table SI.3: "metals", and "formate" (the carboxylates that carry hydrogen where a linker is missing,
    with that hydrogen). ``blocks`` are those of ``atoms``; other frames keep its order of atoms."""
    graph, anchor = blocks.graph, blocks.anchor
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    bond = (numbers[graph.j] == 1) & (anchor[graph.i] >= 0) & (numbers[graph.i] == 6)
    defects = np.unique(anchor[graph.i[bond]])
    formate = np.union1d(np.flatnonzero(np.isin(anchor, defects)), graph.j[bond]).astype(np.int64)
    metals = np.flatnonzero(is_metal(numbers))
    return {"metals": lambda _: metals, "formate": lambda _: formate}


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """``forces`` (m, 3) eV/Å in the limit; ``error`` (m,) eV/Å per component; ``ratio`` of successive differences, NaN
    where it could not be used and the last fragment with the last difference as its error stands instead."""

    forces: FloatArray
    error: FloatArray
    ratio: float


def extrapolate(sequence: Sequence[FloatArray]) -> Extrapolation:
    """The limit of forces (m, 3) in ever larger fragments, in steps of about equal width.

    Each difference is taken to be a multiple of the one before, d_(k+1) = q_k d_k + noise, q_k by least squares over
    all components. Decays of real forces are slower than geometric, so the ratio is carried on by its last change, q =
    q_n + (q_n − q_(n−1)), and the limit is f_n + d_n q/(1 − q). Its error adds: what the change of q did to the tail
    (with three fragments no change is known: |d_n|/(1 − q)); the part ρ of a difference that the one before does not
    foretell, summed as if it always pointed the same way, ρ|d_n|/(1 − √(q² + ρ²)); and a tenth of the tail. Where
    differences do not shrink, or there are two fragments, nothing is extrapolated.

    Raises
    ------
    InputError
        Fewer than two sets of forces, or of different shapes.
    """
    if len(sequence) < 2 or len({np.shape(f) for f in sequence}) != 1:
        raise InputError(
            f"{len(sequence)} sets of forces with shapes {sorted({np.shape(f) for f in sequence})} have no limit.",
            todo="Give the forces on the same atoms in two or more fragments.",
        )
    forces = np.array(sequence, dtype=np.float64)
    steps = np.diff(forces, axis=0)
    last = steps[-1]
    size = np.sqrt((last**2).mean(axis=-1))
    size = np.sqrt((size**2 + (size**2).mean()) / 2.0)  # one atom may by chance not have moved in the last step
    ratios = [_ratio(a, b) for a, b in pairwise(steps)]
    if not ratios or not np.isfinite(ratios).all():
        return Extrapolation(forces[-1], size, float("nan"))
    now, rest = ratios[-1]
    q = 2.0 * now - ratios[-2][0] if len(ratios) > 1 else now
    shrink = float(np.hypot(q, rest))
    if max(shrink, float(np.hypot(now, rest))) >= _STILL_SHRINKING:
        return Extrapolation(forces[-1], size, float("nan"))
    tail = q / (1.0 - q)
    drift = abs(tail - now / (1.0 - now)) if len(ratios) > 1 else 1.0 / (1.0 - q)
    parts = (drift, rest / (1.0 - shrink), 0.1 * abs(tail))
    return Extrapolation(forces[-1] + last * tail, size * float(np.linalg.norm(parts)), q)


def _ratio(before: FloatArray, after: FloatArray) -> tuple[float, float]:
    """Least-squares factor from one difference to the next, and the size of the rest, in units of the first."""
    norm = float((before**2).sum())
    if norm == 0.0:
        return float("nan"), float("nan")
    q = float((before * after).sum()) / norm
    return q, float(np.sqrt(((after - q * before) ** 2).sum() / norm))


def _match(
    name: str,
    level: str,
    fragment: Fragment,
    frames: Sequence[Atoms],
    deviations: Sequence[Deviation],
    regions: Mapping[str, Region],
) -> Match:
    masks: dict[str, list[BoolArray]] = {
        "fragment": [np.ones(len(d.parent), dtype=bool) for d in deviations],
        "core": [d.core for d in deviations],
        "mantle": [~d.core for d in deviations],
    }
    for region, indices in regions.items():
        masks[region] = [d.core & np.isin(d.parent, indices(f)) for d, f in zip(deviations, frames, strict=True)]
    errors = {
        region: aggregate(
            [d.vectors[m] for d, m in zip(deviations, mask, strict=True)],
            [d.uncertainty[m] for d, m in zip(deviations, mask, strict=True)],
        )
        for region, mask in masks.items()
        if all(m.any() for m in mask)
    }
    return Match(name, level, len(fragment.atoms), formula(fragment.atoms), tuple(deviations), errors)


def _check_given(frames: Sequence[Atoms], blueprints: Mapping[str, Cut], levels: Mapping[str, Forces]) -> None:
    for what, given in (("frame", frames), ("blueprint", blueprints), ("level", levels)):
        if not len(given):
            raise InputError(f"Force matching needs a {what}.", todo=f"Give at least one {what}.")
