"""From the frames of walks to annotated fragments: what every way of choosing has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from clusterflow.core import keys
from clusterflow.core.data import FloatArray, Fragment, IntArray, Site
from clusterflow.core.frames import content_hash, fragment_to_atoms, read_optional_frames, unordered_hash
from clusterflow.errors import ExtractionError, StructureError
from clusterflow.execution.workplace import Workplace
from clusterflow.extract.rules import BuildingBlockRule, WholeStructure
from clusterflow.extract.sphere import SphericalCut
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.selection.duplicates import DUPLICATE, drop_duplicates
from clusterflow.selection.held_out import HeldOut


@dataclass(frozen=True)
class Purse:
    """What the labels of a selection may cost: predicted ``seconds`` of each site, and the most that those of all sites
    (``total``) and of single systems (``own``, where each has a part) may take together."""

    seconds: Mapping[Site, float]
    total: float
    own: Mapping[str, float] = field(default_factory=dict)


def walked(walkers: Sequence[str], pool: str, place: Workplace) -> list[Atoms]:
    """The different frames of some walks: all, or the last of each."""
    frames: list[Atoms] = []
    for key in walkers:
        walked = read_optional_frames(place.result("explore", key) / "trajectory.extxyz")
        for atoms in walked if pool == "all" else walked[-1:]:
            atoms.info[keys.WALK] = key
            frames.append(atoms)
    return list({content_hash(a): a for a in frames}.values())


def annotated(
    wanted: Sequence[tuple[Fragment, dict[str, str]]], frames: Sequence[Atoms], scores: Sequence[FloatArray]
) -> tuple[list[Atoms], NDArray[np.int8]]:
    """Fragments with their notes, system and novelty; and which atoms of the frames, one after the other, are core."""
    by_id = {content_hash(a): (a, s) for a, s in zip(frames, scores, strict=True)}
    fragments = []
    first = dict(zip(by_id, np.cumsum([0, *(len(a) for a in frames[:-1])]), strict=True))
    selected = np.zeros(sum(len(a) for a in frames), dtype=np.int8)
    for fragment, info in wanted:
        real = fragment.parent[fragment.core & (fragment.parent >= 0)]
        selected[first[fragment.sites[0].frame_id] + real] = 1
        parent, score = by_id[fragment.sites[0].frame_id]
        about = {k: parent.info[k] for k in (keys.SYSTEM, keys.WALK) if k in parent.info}
        about[keys.FRAME] = fragment.sites[0].frame_id
        atoms = fragment_to_atoms(fragment, **info, **about)
        novelty = np.where(fragment.parent >= 0, np.append(score, np.nan)[fragment.parent], np.nan)
        atoms.set_array(keys.NOVELTY, np.where(np.isfinite(novelty), novelty, 0.0))
        fragments.append(atoms)
    return fragments, selected


def cut(
    frames: Sequence[Atoms],
    sites: Sequence[Site],
    rule: Any,
    along: BlocksAlong,
    known: Sequence[Fragment],
    budget: int,
    held_out: HeldOut,
    limits: Mapping[str, int] | None = None,
    purse: Purse | None = None,
) -> tuple[list[Fragment], list[str]]:
    """Fragments of the sites, best first, without duplicates and without the test set's, until the budget is full.

    ``limits``: how many of each system; ``purse``: what they may cost. What one system cannot use goes to the others.
    """
    cutting = _Cutting({content_hash(a): a for a in frames}, rule, along, known, held_out, purse)
    passed: list[Site] = []
    for site in sites:
        if len(cutting.kept) >= budget:
            break
        system = str(cutting.frames[site.frame_id].info[keys.SYSTEM])
        full = limits is not None and cutting.taken_of.get(system, 0) >= limits.get(system, 0)
        if full or not cutting.can_pay(site, system):
            passed.append(site)
        else:
            cutting.try_at(site, system)
    for site in passed:
        if len(cutting.kept) >= budget:
            break
        if cutting.can_pay(site):
            cutting.try_at(site, str(cutting.frames[site.frame_id].info[keys.SYSTEM]))
    return cutting.kept, cutting.refused


class _Cutting:
    """``kept`` fragments, why others were ``refused``, and how many were ``taken_of`` each system for which price."""

    def __init__(
        self,
        frames: Mapping[str, Atoms],
        rule: Any,
        along: BlocksAlong,
        known: Sequence[Fragment],
        held_out: HeldOut,
        purse: Purse | None,
    ) -> None:
        self.frames, self._rule, self._along, self._known, self._held_out = frames, rule, along, known, held_out
        self._purse, self._spent_of = purse, dict[str, float]()
        self.kept: list[Fragment] = []
        self.refused: list[str] = []
        self.taken_of: dict[str, int] = {}
        # A certified core may be any part of a fragment: one set of atoms is labelled once, whatever its core.
        self._taken = {unordered_hash(f.atoms) for f in known if f.certificate is not None}

    def can_pay(self, site: Site, system: str = "") -> bool:
        """Whether the label of a site is within what is left of the ``system``'s own part, or of all without one."""
        if self._purse is None:
            return True
        limit, spent = self._purse.total, sum(self._spent_of.values())
        if system in self._purse.own:
            limit, spent = self._purse.own[system], self._spent_of.get(system, 0.0)
        return spent + self._purse.seconds[site] <= limit * (1.0 + 1e-9)

    def try_at(self, site: Site, system: str) -> None:
        """Cuts at one site and keeps the fragment, or notes why not."""
        frame = self.frames[site.frame_id]
        try:
            known_blocks = {"blocks": self._along.of(frame)} if isinstance(self._rule, BuildingBlockRule) else {}
            fragment = self._rule.extract(frame, [site], **known_blocks)
        except (ExtractionError, StructureError) as error:
            why = error.what
        else:
            why = self._why_not(fragment, site)
        if why:
            self.refused.append(f"atom {site.index} of frame {site.frame_id[:12]}: {why}")
            return
        self.kept.append(fragment)
        self._taken.add(unordered_hash(fragment.atoms))
        self.taken_of[system] = self.taken_of.get(system, 0) + 1
        if self._purse is not None:
            self._spent_of[system] = self._spent_of.get(system, 0.0) + self._purse.seconds[site]

    def _why_not(self, fragment: Fragment, site: Site) -> str:
        if why := self._held_out.refuses(fragment_to_atoms(fragment, **{keys.FRAME: site.frame_id})):
            return why
        same_atoms = fragment.certificate is not None and unordered_hash(fragment.atoms) in self._taken
        if same_atoms or not drop_duplicates([fragment], known=[*self._known, *self.kept]):
            return DUPLICATE
        return ""


def groups_of(atoms: Atoms, rule: Any, along: BlocksAlong | None) -> IntArray:
    """Which atoms (n,) one fragment covers together: a finite building block; for spheres each atom is its own."""
    if isinstance(rule, WholeStructure):
        return np.zeros(len(atoms), dtype=np.int64)
    if along is None or isinstance(rule, SphericalCut):
        return np.arange(len(atoms), dtype=np.int64)
    try:
        blocks = along.of(atoms)
    except StructureError:  # torn apart: nothing of it can be cut
        return np.full(len(atoms), -1, dtype=np.int64)
    return np.where(np.asarray(blocks.infinite)[blocks.labels], -1, blocks.labels).astype(np.int64)
