"""Ranks building blocks by how little the model knows about their atoms, and picks one site per chosen block.

Scores are novelties (negative log-likelihood or another uncertainty): larger = less known, +inf for an element that was
never seen. The default ranking is that of Dobbelaere et al. 2025 (arXiv:2504.03881), SI 5; the others are alternatives
which that section suggests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, IntArray, Site
from clusterflow.core.frames import content_hash
from clusterflow.errors import InputError, StructureError
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.physics.electrons import valence_electrons

Ranking = Callable[[FloatArray, IntArray, float], float]
"""(novelty (k,), atomic numbers (k,) of one block, threshold) → value, the largest first."""

COST_EXPONENT = 2.5
"""DFT cost against the number of valence electrons: between the cubic limit and the near-linear start. A heuristic."""


def least_likely_atom(novelty: FloatArray, _numbers: IntArray, _threshold: float) -> float:
    """Novelty of the block's least known atom: the paper's choice."""
    return float(novelty.max())


def sum_below_threshold(novelty: FloatArray, _numbers: IntArray, threshold: float) -> float:
    """Sum, over atoms whose likelihood is below the threshold (novelty above it), of the novelty beyond it."""
    return float(np.maximum(novelty - threshold, 0.0).sum())


def mean_without_h(novelty: FloatArray, numbers: IntArray, _threshold: float) -> float:
    """Mean novelty of the atoms other than hydrogen; of all atoms where there is nothing but hydrogen."""
    heavy = numbers != 1
    return float(novelty[heavy].mean() if heavy.any() else novelty.mean())


def per_cost(novelty: FloatArray, numbers: IntArray, threshold: float) -> float:
    """`sum_below_threshold` divided by an estimate of what a DFT label of the block costs."""
    return sum_below_threshold(novelty, numbers, threshold) / block_cost(numbers)


RANKINGS: Final[Mapping[str, Ranking]] = MappingProxyType(
    {f.__name__: f for f in (least_likely_atom, sum_below_threshold, mean_without_h, per_cost)}
)


def block_cost(numbers: IntArray) -> float:
    """Relative DFT cost: (number of valence electrons)^2.5, a heuristic that ignores mantle and basis set."""
    return float(valence_electrons(np.asarray(numbers, dtype=np.int64)).sum() ** COST_EXPONENT)


@dataclass(frozen=True)
class BlockSelector:
    """Chooses the building blocks with the highest rank over all frames, and in each its most novel atom.

    Parameters
    ----------
    ranking
        A name from `RANKINGS`.
    threshold
        Novelty above which an atom counts as unknown, for the rankings "sum_below_threshold" (required) and "per_cost"
        (None: the lowest finite novelty of all frames at hand).
    per_frame
        At most so many blocks from one frame, since blocks of one frame are correlated; None: no limit.
    along
        Finds the blocks of frame after frame; None: anew in each call.

    Raises
    ------
    InputError
        Unknown ranking, missing or unusable threshold, or a limit below one.
    """

    ranking: str = "least_likely_atom"
    threshold: float | None = None
    per_frame: int | None = None
    along: BlocksAlong | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.ranking not in RANKINGS:
            raise InputError(f"'{self.ranking}' is not a ranking.", todo=f"Take one of: {', '.join(RANKINGS)}.")
        if self.ranking == "sum_below_threshold" and self.threshold is None:
            raise InputError("The ranking sum_below_threshold needs a threshold.", todo="Give a novelty, e.g. in nats.")
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise InputError(f"threshold = {self.threshold} is not a number.", todo="Give a finite novelty.")
        if self.per_frame is not None and self.per_frame < 1:
            raise InputError(f"per_frame = {self.per_frame} allows no block.", todo="Give a number ≥ 1, or none.")

    def select(
        self, frames: Sequence[Atoms], scores: Sequence[FloatArray], *, budget: int, rng: np.random.Generator
    ) -> list[Site]:
        """Up to ``budget`` sites, best first, one per block; no two of them in the same block of the same frame.

        ``scores`` (n,) per frame, NaN counts as unknown (+inf). Ties fall to the block with more atoms of infinite
        novelty, then to the frame of lower content hash and the lower atom index, so ``rng`` is not needed. Frames that
        have no building blocks (a framework that came apart) and endless blocks are passed over.

        Raises
        ------
        InputError
            A frame and its scores differ in length.
        StructureError
            No frame has building blocks.
        """
        del rng  # part of the protocol; nothing here is random
        if len(frames) != len(scores) or any(len(a) != len(s) for a, s in zip(frames, scores, strict=False)):
            raise InputError(
                f"{len(frames)} frames with {[len(a) for a in frames][:5]} atoms, but {len(scores)} arrays of scores "
                f"of {[len(s) for s in scores][:5]} values.",
                todo="Give one score per atom of every frame.",
            )
        cleaned = [np.where(np.isnan(s), np.inf, np.asarray(s, dtype=np.float64)) for s in scores]
        candidates = self._rank(frames, cleaned)
        chosen: list[Site] = []
        taken: dict[str, int] = {}
        seen: set[Site] = set()
        for *_, frame_id, index in sorted(candidates):
            site = Site(frame_id, index)
            if len(chosen) >= budget:
                break
            # The same frame may have been passed twice; its blocks are not counted again.
            if site in seen or (self.per_frame is not None and taken.get(frame_id, 0) >= self.per_frame):
                continue
            seen.add(site)
            taken[frame_id] = taken.get(frame_id, 0) + 1
            chosen.append(site)
        return chosen

    def _rank(self, frames: Sequence[Atoms], scores: Sequence[FloatArray]) -> list[tuple[float, int, str, int]]:
        """(−value, −atoms of infinite novelty, frame_id, most novel atom) of every block of every frame."""
        rank = RANKINGS[self.ranking]
        threshold = self.threshold
        if threshold is None:
            threshold = min((float(s[np.isfinite(s)].min(initial=np.inf)) for s in scores), default=0.0)
            threshold = threshold if np.isfinite(threshold) else 0.0
        candidates = []
        along = self.along or BlocksAlong()
        refused: list[StructureError] = []
        for atoms, novelty in zip(frames, scores, strict=True):
            try:
                blocks = along.of(atoms)
            except StructureError as error:
                refused.append(error)
                continue
            frame_id = content_hash(atoms)
            numbers = np.asarray(atoms.numbers, dtype=np.int64)
            for block in np.flatnonzero(~blocks.infinite).tolist():
                members = blocks.members(block)
                own = novelty[members]
                value = rank(own, numbers[members], threshold)
                index = int(members[int(np.argmax(own))])
                candidates.append((-value, -int(np.isinf(own).sum()), frame_id, index))
        if refused and len(refused) == len(frames):
            raise refused[0]
        return candidates
