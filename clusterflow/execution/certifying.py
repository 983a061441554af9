"""Certificates within a campaign: the error model from the labels there are, and fragments that confirm others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from clusterflow.config.extract import Certified
from clusterflow.core import keys
from clusterflow.core.data import Fragment
from clusterflow.core.frames import fragment_to_atoms, unordered_hash
from clusterflow.core.protocols import Potential
from clusterflow.execution.workplace import Workplace
from clusterflow.extract.calibration import calibrate
from clusterflow.extract.certified_rule import CertifiedRule
from clusterflow.extract.confirm import confirmations
from clusterflow.extract.indicators import indicator_columns
from clusterflow.label.cost import CostModel, fit_cost
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.physics.electrons import valence_electrons
from clusterflow.selection.held_out import HeldOut


def certified_rule(
    settings: Certified,
    labelled: Sequence[str],
    failed: Sequence[str],
    potential: Potential,
    place: Workplace,
    along: BlocksAlong,
) -> CertifiedRule:
    """The certifying rule of an iteration: cost and error model fitted to the labels with these keys; blocks found
    ``along`` the walks.

    Every labelled fragment that a larger labelled one confirms calibrates the error model. A larger one whose label is
    among the ``failed`` counts as an error of any size; one whose label is still on its way tells nothing yet.
    """
    frames = place.labelled(labelled)
    model = calibrate(
        indicator_columns(potential=True),
        confirmations(frames),
        tolerance=settings.tolerance,
        confidence=settings.confidence,
        unconfirmed=_unconfirmed(frames, failed, place),
    )
    rule: CertifiedRule = settings.build_certified(
        cost=cost_model(labelled, place).seconds, model=model, potential=potential, find=along.of
    )
    return rule


def _unconfirmed(frames: Sequence[Atoms], failed: Sequence[str], place: Workplace) -> int:
    """Larger fragments whose label failed although that of the smaller one is there."""
    there = {str(a.info.get(keys.FRAGMENT, "")) for a in frames}
    return sum(str(a.info.get(keys.CONFIRMS, "-")) in there for a in place.annotated(failed))


def cost_model(labelled: Sequence[str], place: Workplace) -> CostModel:
    """Fitted to what the labels with these keys took, as far as they are there."""
    found = [label for key in labelled if (label := place.labels.get(key)) is not None]
    timed = [(a, told.wall_time * told.cores) for a, told in found if told.wall_time > 0]
    return fit_cost([float(valence_electrons(a.numbers).sum()) for a, _ in timed], [s for _, s in timed])


def confirming_fragments(
    rule: CertifiedRule,
    chosen: Sequence[tuple[Atoms, Fragment]],
    settings: Certified,
    *,
    known: Sequence[Fragment],
    most: int | None,
    rng: np.random.Generator,
    held_out: HeldOut,
) -> list[tuple[Fragment, dict[str, str]]]:
    """Larger fragments that confirm some of the ``chosen`` (parent frame, certified fragment), each with the note that
    names the one it confirms.

    All of them until ``settings.confirm.first`` are confirmed, then a random share and those in environments that have
    no bound yet; never more than ``most``, and none of the atoms of a ``known`` or chosen fragment, whose label is
    there or on its way for another purpose; nor any of what is ``held_out`` for testing.
    """
    confirmed = rule.error_model.n
    wanted = max(settings.confirm.first - confirmed, math.ceil(settings.confirm.share * len(chosen)))
    most = len(chosen) if most is None else max(most, 0)
    found: list[tuple[Fragment, dict[str, str]]] = []
    taken = {unordered_hash(f.atoms) for f in (*known, *(f for _, f in chosen))}
    order = rng.permutation(len(chosen)).tolist()
    places = {*order[:wanted], *(k for k in order if _unbounded(chosen[k][1]))}
    for place in sorted([k for k in order if k in places][:most]):
        parent, fragment = chosen[place]
        larger = rule.confirming(parent, fragment)
        if larger is None or held_out.refuses(fragment_to_atoms(larger, **{keys.FRAME: larger.sites[0].frame_id})):
            continue
        if unordered_hash(larger.atoms) not in taken:
            taken.add(unordered_hash(larger.atoms))
            found.append((larger, {keys.CONFIRMS: str(fragment_to_atoms(fragment).info[keys.FRAGMENT])}))
    return found


def _unbounded(fragment: Fragment) -> bool:
    """Whether the certificate has no bound for an atom that the fragment was cut for."""
    certificate = fragment.certificate
    return certificate is not None and not bool(np.isfinite(certificate.bound[certificate.required]).all())
