"""What a control arm has labelled: chosen otherwise than by novelty, from the same frames, cut by the same rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.config.extract import Extract
from clusterflow.core import keys
from clusterflow.core.frames import write_frames
from clusterflow.core.protocols import Selector
from clusterflow.execution.choosing import learned_from
from clusterflow.execution.cutting import annotated, cut, groups_of, walked
from clusterflow.execution.scoring import potential_of
from clusterflow.execution.workplace import Workplace, describe_fragments, section
from clusterflow.extract.rules import WholeStructure
from clusterflow.extract.sphere import SphericalCut
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.physics.building_blocks import CUTS, DEFAULT_MAX_COST
from clusterflow.selection.farthest_point import FarthestPointSelector
from clusterflow.selection.held_out import HeldOut
from clusterflow.selection.random_sites import RandomSelector

_SPARE = 20
"""Sites per fragment wanted: many random atoms are of a block that is taken."""


def control(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Chooses for one control arm; publishes its fragments or whole cells."""
    frames = walked(payload["walkers"], payload["pool"], place)
    rule: Any = section(Extract, payload["extract"]).build()
    if payload["arm"] == "periodic":
        rule = WholeStructure()
    along = BlocksAlong(cuts=getattr(rule, "cuts", CUTS), max_cost=getattr(rule, "max_cost", DEFAULT_MAX_COST))
    has_blocks = not isinstance(rule, (WholeStructure, SphericalCut))
    if has_blocks:
        for name in sorted({str(a.info[keys.SYSTEM]) for a in frames}):
            along.of(place.system(name))  # walks start here: its bonds hold until they break
    budget = int(payload["budget"])
    spare = _SPARE * budget + 50
    selector: Selector = RandomSelector(one_per_frame=isinstance(rule, WholeStructure))
    scores = [np.zeros(len(a)) for a in frames]
    if payload["arm"] == "farthest_point":
        selector, spare = _farthest(payload, place, frames, rule, along if has_blocks else None), 4 * budget + 8
    sites = selector.select(frames, scores, budget=spare, rng=np.random.default_rng(payload["seed"]))
    held_out = HeldOut(place.annotated(payload["held_out"]))
    kept, refused = cut(frames, sites, rule, along, place.known_fragments(payload["known"]), budget, held_out)
    fragments, _ = annotated([(f, {}) for f in kept], frames, scores)
    for atoms in fragments:
        del atoms.arrays[keys.NOVELTY]  # nobody has asked for it
    write_frames(place.out / "fragments.extxyz", fragments)
    return {
        "arm": payload["arm"],
        "fragments": describe_fragments(fragments, payload["level_of_theory"], ["train"] * len(fragments)),
        "n_frames": len(frames),
        "refused": refused[:50],
    }


def _farthest(
    payload: Mapping[str, Any], place: Workplace, frames: Sequence[Atoms], rule: Any, along: BlocksAlong | None
) -> Selector:
    potential = potential_of(payload["model"], place)
    known = place.annotated(learned_from(payload))
    return FarthestPointSelector(
        features=[potential.features(a) for a in frames],
        known_features=np.concatenate([potential.features(a) for a in known]),
        known_numbers=np.concatenate([a.numbers for a in known]).astype(np.int64),
        groups=[groups_of(a, rule, along) for a in frames],
    )
