"""What a selection asks labels for: scores the pool of frames, chooses sites, cuts them into fragments that are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from clusterflow.config.extract import Certified, Extract
from clusterflow.config.selection import Select
from clusterflow.core import keys
from clusterflow.core.data import FloatArray, Fragment, Site
from clusterflow.core.frames import content_hash, write_frames
from clusterflow.errors import ScienceError, StructureError
from clusterflow.execution.certifying import certified_rule, confirming_fragments
from clusterflow.execution.choosing import Choosing, Explored
from clusterflow.execution.covering import Covered, cover
from clusterflow.execution.cutting import annotated, cut, walked
from clusterflow.execution.scoring import novelty_of, outside_of, potential_of, scores_of
from clusterflow.execution.workplace import Workplace, describe_fragments, section
from clusterflow.extract.rules import WholeStructure
from clusterflow.extract.sphere import SphericalCut
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.physics.building_blocks import CUTS, DEFAULT_MAX_COST
from clusterflow.selection.held_out import HeldOut


@dataclass(frozen=True, slots=True)
class _Pool:
    """Frames with the features and scores of their atoms, and the density that gave the scores."""

    frames: list[Atoms]
    features: list[FloatArray]
    scores: list[FloatArray]
    potential: Any
    density: Any


@dataclass(frozen=True, slots=True)
class _Cuts:
    """How fragments are cut: as the configuration says (``plain``), by the ``rule`` that may certify them; blocks along
    the walks, None where fragments have none; and what must not be cut again, or never."""

    plain: Any
    rule: Any
    along: BlocksAlong
    has_blocks: bool
    known: Any
    held_out: HeldOut


@dataclass(frozen=True, slots=True)
class _Kept:
    """Fragments that were cut, lines on sites that were refused, what the journal is told, and what CBAD covered."""

    fragments: list[Fragment]
    refused: list[str]
    told: dict[str, Any]
    covered: Covered | None = None


def acquire(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Scores the pool of frames, ranks building blocks, cuts the best into fragments that are not known yet."""
    pool = _pool(payload, place)
    rng, settings = np.random.default_rng(payload["seed"]), section(Extract, payload["extract"])
    cuts = _cuts(payload, settings, pool, place)
    if payload["select"].get("kind") == "cbad":
        along = cuts.along if cuts.has_blocks else None
        covered = cover(payload, pool.frames, cuts.rule, along, cuts.known, cuts.held_out, place)
        kept = _Kept(covered.fragments, covered.refused, {"cbad": covered.told}, covered)
    else:
        kept = _chosen(payload, pool, cuts, place, rng)
    wanted: list[tuple[Fragment, dict[str, str]]] = [(f, {}) for f in kept.fragments]
    told = dict(kept.told)
    if isinstance(settings, Certified):
        by_id, left = {content_hash(a): a for a in pool.frames}, payload["labels_left"]
        wanted += confirming_fragments(
            cuts.rule,
            [(by_id[f.sites[0].frame_id], f) for f in kept.fragments],
            settings,
            known=cuts.known,
            most=None if left is None else left - len(kept.fragments),
            rng=rng,
            held_out=cuts.held_out,
        )
        told["error_model"] = cuts.rule.error_model.to_json()
    fragments, selected = annotated(wanted, pool.frames, pool.scores)
    write_frames(place.out / "fragments.extxyz", fragments)
    described = describe_fragments(fragments, payload["level_of_theory"], ["train"] * len(fragments))
    if kept.covered is not None:
        kept.covered.write(place.out, [str(f["label_key"]) for f in described])
    return {
        "fragments": described,
        "novelty": _write_pool(payload, pool, selected, place),
        "n_frames": len(pool.frames),
        "refused": kept.refused[:50],
        **told,
    }


def _pool(payload: Mapping[str, Any], place: Workplace) -> _Pool:
    potential = potential_of(payload["model"], place)
    density = novelty_of(payload["mixture"], potential, place)
    frames = walked(payload["walkers"], payload["pool"], place)
    features = [potential.features(a) for a in frames]
    return _Pool(frames, features, scores_of(density, frames, features), potential, density)


def _cuts(payload: Mapping[str, Any], settings: Any, pool: _Pool, place: Workplace) -> _Cuts:
    plain = settings.build()
    along = BlocksAlong(cuts=getattr(plain, "cuts", CUTS), max_cost=getattr(plain, "max_cost", DEFAULT_MAX_COST))
    has_blocks = not isinstance(plain, (WholeStructure, SphericalCut))
    if has_blocks:
        for name in sorted({str(a.info[keys.SYSTEM]) for a in pool.frames}):
            along.of(place.system(name))  # walks start here: its bonds hold until they break
    rule = plain
    if isinstance(settings, Certified):
        failed = payload.get("failed", ())
        rule = certified_rule(settings, payload["labelled"], failed, pool.potential, place, along)
    known, held_out = place.known_fragments(payload["known"]), HeldOut(place.annotated(payload["held_out"]))
    return _Cuts(plain, rule, along, has_blocks, known, held_out)


def _chosen(payload: Mapping[str, Any], pool: _Pool, cuts: _Cuts, place: Workplace, rng: np.random.Generator) -> _Kept:
    """The sites that the selection prefers, cut until its budget is spent."""
    frames, scores, density = pool.frames, pool.scores, pool.density
    elements = {e for a in frames for e in a.get_chemical_symbols()}
    floor = {atomic_numbers[e]: density.known_up_to(e) for e in elements}
    try:
        select = section(Select, payload["select"])
        choosing = Choosing(payload, select, cuts.plain, cuts.along, pool.potential, place, rng)
        chosen = choosing.sites(Explored(frames, scores, pool.features, floor))
    except StructureError as error:  # of frames that the potential made, not of what the user gave
        raise ScienceError(
            f"No explored frame can be divided into building blocks: {error.what}",
            where=error.where,
            todo="The potential has torn the structure apart: label more at the start, or shorten the first walks.",
        ) from error
    sites, agreed = _worth_asking(chosen.sites, frames, scores, getattr(density, "threshold", None))
    kept, refused = cut(
        frames, sites, cuts.rule, cuts.along, cuts.known, chosen.budget, cuts.held_out, chosen.limits, chosen.purse
    )
    return _Kept(kept, refused, {**chosen.told, **({"below_threshold": agreed} if agreed else {})})


def _write_pool(payload: Mapping[str, Any], pool: _Pool, selected: Any, place: Workplace) -> dict[str, Any]:
    """Leaves the frames and their atoms for the report; returns how novel they are."""
    frames, density = pool.frames, pool.density
    write_frames(place.out / "frames.extxyz", frames)
    novelty = np.concatenate(pool.scores)
    outside = np.concatenate(
        [outside_of(payload["mixture"], f, a, place) for f, a in zip(pool.features, frames, strict=True)]
    )
    np.savez_compressed(
        place.out / "pool.npz",
        features=np.concatenate(pool.features),
        numbers=np.concatenate([a.numbers for a in frames]),
        novelty=novelty,
        selected=selected,
        outside=outside,
    )
    known_up_to = np.array([density.known_up_to(e) for a in frames for e in a.get_chemical_symbols()])
    return {**_novelty_found(novelty, known_up_to), "outside": int(outside.sum())}


def _worth_asking(
    sites: Sequence[Site], frames: Sequence[Atoms], scores: Sequence[FloatArray], threshold: float | None
) -> tuple[list[Site], int]:
    """The sites whose novelty reaches the threshold, if there is one, and how many do not."""
    if threshold is None:
        return list(sites), 0
    by_id = {content_hash(a): s for a, s in zip(frames, scores, strict=True)}
    kept = [s for s in sites if by_id[s.frame_id][s.index] >= threshold]
    return kept, len(sites) - len(kept)


def _novelty_found(novelty: FloatArray, known_up_to: FloatArray) -> dict[str, Any]:
    """Largest novelty in nats, as it is and above what the training atoms of the element reach (None with elements that
    were never seen), its median, and how many atoms are of such elements."""
    finite = novelty[np.isfinite(novelty)]
    seen_all = finite.size == novelty.size
    return {
        "max": float(novelty.max()) if seen_all else None,
        "excess": float((novelty - known_up_to).max()) if seen_all else None,
        "median": float(np.median(finite)) if finite.size else None,
        "never_seen": int(novelty.size - finite.size),
    }
