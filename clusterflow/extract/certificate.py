"""Finds the cheapest fragment whose core forces are the parent's, and says how sure that is.

For a core, candidates of growing cost are built (`clusterflow.extract.candidates`); for each, the force error of every
atom is estimated from what is known without a label (`clusterflow.extract.indicators`) and bounded by an error model
that confirmed fragments have calibrated (`clusterflow.extract.calibration`). The cheapest candidate whose required
atoms are all bounded by the tolerance is taken, and the bound of every atom becomes its certificate. Further atoms of
it that meet the tolerance are core too: their forces are as good.

Until the model has seen enough confirmations there is no bound. The cheapest candidate whose *estimate*, doubled, meets
the tolerance is then proposed, and its certificate says that it has not passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from clusterflow.core.data import Certificate, FloatArray, Fragment, IntArray, Site
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.calibration import Confirmation, ErrorModel
from clusterflow.extract.candidates import Candidate, Surroundings, candidates
from clusterflow.extract.cut import DEFAULT_CAPS, BlockImage, Frame
from clusterflow.extract.fragment import build_fragment
from clusterflow.extract.indicators import FARTHEST, SAME_PLACE, environments, indicators
from clusterflow.extract.termination import Caps

TOLERANCE = 0.1
"""eV/Å, on the norm of each core atom's force error: what a good potential reaches, and above the noise of DFT labels
(Dobbelaere et al. 2025, arXiv:2504.03881, SI 1 and 6)."""
FURTHER = 3.0
"""Å by which a fragment that confirms another must reach beyond it."""
PROVISIONAL = 2.0
"""Without a calibrated bound, this many times the estimate must meet the tolerance."""

_BEYOND = 100.0
"""eV/Å, in place of a difference that is not a number."""

Forces = Callable[[Atoms], FloatArray]
"""(n, 3) eV/Å of a structure at the level of the current potential."""


@dataclass(frozen=True)
class SearchSettings:
    """Limits of the search for a fragment.

    ``max_radius`` Å around the required atoms; ``max_atoms`` of a fragment; ``confirm_atoms`` of a larger fragment that
    confirms one (None: twice as many); ``caps``, ``min_distance_factor`` and ``open_shell`` as in `BuildingBlockRule`.
    """

    max_radius: float = 10.0
    max_atoms: int = 250
    confirm_atoms: int | None = None
    caps: Caps = DEFAULT_CAPS
    min_distance_factor: float = 0.55
    open_shell: str = "refuse"


@dataclass(frozen=True, slots=True)
class Option:
    """One candidate that could be built, what a label of it would cost in core-seconds, and whether it is small enough
    to be chosen (the others serve to confirm)."""

    candidate: Candidate
    fragment: Fragment
    cost: float
    eligible: bool


@dataclass(frozen=True)
class Options:
    """All candidates around the required atoms of one frame, cheapest first; ``refused``: what could not be built, and
    why; ``environments`` (n,) of the frame's atoms."""

    surroundings: Surroundings
    options: tuple[Option, ...]
    environments: tuple[str, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """An option that was judged.

    Per atom of the fragment: ``estimate`` and ``bound`` (n,) eV/Å, infinite for termination atoms; ``indicators``
    (n, m), NaN for termination atoms; ``environments`` (n,). ``exact``: it is the whole of a finite parent.
    """

    option: Option
    estimate: FloatArray
    bound: FloatArray
    indicators: FloatArray
    environments: tuple[str, ...]
    exact: bool

    @property
    def fragment(self) -> Fragment:
        """As built: its core are the required atoms."""
        return self.option.fragment

    @property
    def required(self) -> IntArray:
        """Atoms of the fragment that the certificate is for."""
        return np.flatnonzero(self.fragment.core)


@dataclass(frozen=True, slots=True)
class Search:
    """The ``chosen`` trial, whether it meets the tolerance with the model's confidence, and how many were judged."""

    chosen: Trial
    passed: bool
    judged: int


def find_options(
    frame: Frame,
    sites: Sequence[Site],
    core: Sequence[BlockImage],
    required: Sequence[int],
    *,
    cost: Callable[[Atoms], float],
    settings: SearchSettings,
    rule: str,
) -> Options:
    """Every candidate fragment for some atoms of one frame.

    ``core`` are the block images that hold the ``required`` atoms (indices in the parent), ``cost`` the core-seconds of
    a label of a structure; ``sites`` and ``rule`` are recorded in the fragments.

    Raises
    ------
    ExtractionError
        Not one candidate could be built.
    """
    wanted = np.asarray(sorted(set(required)), dtype=np.int64)
    image_of = dict(core)
    cells = np.array([image_of[int(frame.blocks.labels[a])] for a in wanted]) + frame.blocks.offsets[wanted]
    radius = settings.max_radius + FURTHER
    surroundings = Surroundings.of(frame, frame.atoms.positions[wanted] + cells @ frame.cell, radius + FARTHEST)
    most = 2 * settings.max_atoms if settings.confirm_atoms is None else settings.confirm_atoms
    found: list[Option] = []
    refused: list[str] = []
    seen: set[tuple[int, ...]] = set()
    for candidate in candidates(surroundings, core, max_radius=radius, max_atoms=max(most, settings.max_atoms)):
        try:
            fragment = build_fragment(
                frame,
                wanted.tolist(),
                candidate.images,
                sites=sites,
                rule=f"{rule}: {candidate.name}",
                groups=candidate.groups,
                caps=settings.caps,
                min_distance_factor=settings.min_distance_factor,
                max_atoms=max(most, settings.max_atoms),
                open_shell=settings.open_shell,
            )
        except ExtractionError as error:
            refused.append(f"{candidate.name}: {error.what}")
            continue
        content = tuple(sorted(fragment.parent.tolist()))
        if content not in seen:  # what a closure added may have made two candidates the same
            seen.add(content)
            small = len(fragment.atoms) <= settings.max_atoms and candidate.radius <= settings.max_radius
            found.append(Option(candidate, fragment, cost(fragment.atoms), small))
    azolates = any("neutralise" in (rule.first, rule.second) for rule in frame.blocks.cut_rules)
    if not azolates and any(o.fragment.charge == 0 for o in found):  # the parent has no charge
        found = [o for o in found if o.fragment.charge == 0]
    if not any(o.eligible for o in found):
        smallest = min((len(o.fragment.atoms) for o in found), default=0)
        what = f"the smallest has {smallest} atoms" if found else refused[0]
        raise ExtractionError(
            f"No fragment around atom(s) {wanted[:6].tolist()} can be built: {what}",
            todo=f"Allow more atoms (max_atoms = {settings.max_atoms}), or label the whole structure.",
        )
    found.sort(key=lambda o: (o.cost, o.candidate.radius))
    names = environments(frame.blocks.graph, frame.numbers)
    return Options(surroundings, tuple(found), tuple(names), tuple(refused))


def search(
    options: Options,
    *,
    model: ErrorModel,
    tolerance: float,
    forces: Forces | None = None,
    parent_forces: FloatArray | None = None,
) -> Search:
    """The cheapest option whose required atoms meet the tolerance (eV/Å); failing that, the one that comes closest, of
    those that can be confirmed if there are any.

    An option that nothing within the limits could confirm is not certified: what is never checked stays out of the
    calibration too. ``model`` estimates and bounds errors; where it has no bound (too few confirmations, or none of
    this environment), the estimate times `PROVISIONAL` decides and nothing passes. Where nothing passes, what can be
    confirmed goes before what cannot: it may pass once it has been. ``forces`` is the current potential,
    ``parent_forces`` (n, 3) eV/Å what it says of the frame; without them the graph alone decides.
    """
    best: tuple[tuple[bool, float], Trial] | None = None
    eligible = [o for o in options.options if o.eligible]
    for number, option in enumerate(eligible, start=1):
        trial = judge(options, option, model=model, forces=forces, parent_forces=parent_forces)
        if trial.exact:
            return Search(trial, True, number)
        bounded = bool(np.isfinite(trial.bound[trial.required]).all())
        limit = float((trial.bound if bounded else PROVISIONAL * trial.estimate)[trial.required].max())
        confirmable = confirming(options, option) is not None
        if limit <= tolerance and confirmable:
            return Search(trial, bounded, number)
        rank = (not confirmable, limit)
        if best is None or rank < best[0]:
            best = (rank, trial)
    assert best is not None  # find_options never returns an empty tuple
    return Search(best[1], False, len(eligible))


def judge(
    options: Options,
    option: Option,
    *,
    model: ErrorModel,
    forces: Forces | None = None,
    parent_forces: FloatArray | None = None,
) -> Trial:
    """Estimates and bounds the force error of every atom of one option; arguments as in `search`."""
    fragment = option.fragment
    real = np.flatnonzero(fragment.parent >= 0)
    parents = fragment.parent[real]
    difference = None
    if forces is not None and parent_forces is not None:
        difference = np.linalg.norm(forces(fragment.atoms)[real] - parent_forces[parents], axis=1)
        difference = np.where(np.isfinite(difference), difference, _BEYOND)  # a potential far outside its data
    x = indicators(fragment, options.surroundings, real.tolist(), difference=difference)
    around = [options.environments[p] for p in parents]
    n = len(fragment.atoms)
    estimate, bound = np.full(n, np.inf), np.full(n, np.inf)
    estimate[real] = model.estimate(x, around)
    bound[real] = model.bound(x, around, fragment.core[real])
    table = np.full((n, x.shape[1]), np.nan)
    table[real] = x
    exact = not options.surroundings.frame.atoms.pbc.any() and len(real) == len(options.environments)
    if exact:
        estimate[real] = bound[real] = 0.0
    everywhere = np.full(n, "-", dtype=object)
    everywhere[real] = around
    return Trial(option, estimate, bound, table, tuple(everywhere), exact)


def certify(found: Search, *, model: ErrorModel, tolerance: float, method: str) -> Fragment:
    """The chosen fragment with its certificate. If it passed, every atom that meets the tolerance joins its core."""
    trial = found.chosen
    calibrated = bool(np.isfinite(model.factor))
    fragment = trial.fragment
    return replace(
        fragment,
        core=fragment.core | (trial.bound <= tolerance) if found.passed else fragment.core,
        certificate=Certificate(
            bound=trial.bound,
            estimate=trial.estimate,
            tolerance=tolerance,
            confidence=1.0 if trial.exact else model.confidence if calibrated else 0.0,
            confirmations=model.n,
            method=method,
            passed=found.passed,
            required=fragment.core,
            indicators=trial.indicators,
            environments=trial.environments,
        ),
    )


def confirming(options: Options, chosen: Option, *, further: float = FURTHER) -> Option | None:
    """The option that a label of the chosen one is confirmed with: the cheapest that holds all its blocks and every
    block within ``further`` Å more of the core. None if none reaches that far."""
    needed = set(chosen.candidate.images)
    enough = [
        o
        for o in options.options
        if o.candidate.radius >= chosen.candidate.radius + further
        and len(o.fragment.atoms) > len(chosen.fragment.atoms)
        and needed <= set(o.candidate.images)
    ]
    return min(enough, key=lambda o: o.cost, default=None)


def confirmation(
    name: str, small: Fragment, small_forces: FloatArray, large: Fragment, large_forces: FloatArray
) -> Confirmation | None:
    """What a label of a larger fragment says about the certificate of a smaller one; None if they share no atom.

    Forces (n, 3) in eV/Å of either, at the level of the labels. Of the smaller one every atom counts that the larger
    one also holds.

    Raises
    ------
    InputError
        The smaller fragment has no certificate.
    """
    certificate = small.certificate
    if certificate is None:
        raise InputError(f"Fragment '{name}' has no certificate that could be confirmed.")
    atoms, partners = _shared(small, large)
    if len(atoms) == 0:
        return None
    judge, exact = large.certificate, large.atoms.pbc.any()
    if judge is not None:
        exact = exact or bool((judge.estimate[partners] == 0.0).all())  # the whole of a finite parent
    return Confirmation(
        fragment=name,
        indicators=certificate.indicators[atoms],
        environments=tuple(certificate.environments[k] for k in atoms),
        errors=np.linalg.norm(small_forces[atoms] - large_forces[partners], axis=1),
        required=certificate.required[atoms],
        larger=None if judge is None or exact else judge.indicators[partners],
    )


def compare(
    small: Fragment, small_forces: FloatArray, large: Fragment, large_forces: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Atoms of the parent (k,) in ``small`` that ``large`` also holds, and the norms (k,) of their force differences.

    Both fragments must be cut from one frame, where it stands. ``large`` may be the periodic parent itself, whose atoms
    are found in any image.
    """
    atoms, partners = _shared(small, large)
    return atoms, np.linalg.norm(small_forces[atoms] - large_forces[partners], axis=1)


def _shared(small: Fragment, large: Fragment) -> tuple[IntArray, IntArray]:
    """Atoms of the parent (k,) in ``small`` that ``large`` also holds, and which of its atoms (k,) they are."""
    atoms = np.flatnonzero(small.parent >= 0)
    if large.atoms.pbc.any():
        return atoms, small.parent[atoms]
    real = np.flatnonzero(large.parent >= 0)
    away, place = cKDTree(large.atoms.positions[real]).query(small.atoms.positions[atoms])
    same = (away < SAME_PLACE) & (large.parent[real[place]] == small.parent[atoms])
    return atoms[same], real[place[same]]
