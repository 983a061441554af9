"""What a campaign would do, said without doing it: fragments per kind of block, number of labels, cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from clusterflow.campaign.inputs import gather_inputs
from clusterflow.campaign.split import shares
from clusterflow.config.campaign import Campaign
from clusterflow.config.extract import Certified, Sphere, Whole
from clusterflow.config.label import GPAW, XTB
from clusterflow.config.start import Perturbed
from clusterflow.core.data import Site
from clusterflow.core.frames import content_hash, formula

Row = tuple[str, int, str, int, str, str, int, int, int, str]


@dataclass(frozen=True, slots=True)
class Forecast:
    """``fragments``: (system, atoms, kind of block, how many in the cell, core, fragment, atoms, charge, unpaired
    electrons, seconds per label). ``labels_confirming``: larger fragments that confirm certified ones.
    ``label_core_seconds`` is None where no cost model exists for the level. ``charges``: a sentence for each system
    whose fragments are not neutral, which says why."""

    level_of_theory: str
    fragments: tuple[Row, ...]
    labels_start: int
    labels_test: int
    labels_per_iteration: int
    labels_confirming: int
    labels_total: int
    walkers: int
    md_steps: int
    label_core_seconds: float | None
    charges: tuple[str, ...] = ()


def forecast(config: Campaign) -> Forecast:
    """Builds the structures, cuts one fragment per kind of block, and counts."""
    from clusterflow.explore.schedule import steps_for

    inputs, structures = gather_inputs(config)
    rows: list[Row] = []
    seconds: list[float] = []
    charges: list[str] = []
    for name, atoms in structures.items():
        found, azolates = _examples(config, name, atoms)
        rows += [row for row, _ in found]
        seconds += [cost for _, cost in found if cost is not None]
        if said := _said_of_charges(name, [row[7] for row, _ in found], azolates=azolates):
            charges.append(said)
    start = config.start
    n_start = start.fragments + start.test_fragments if isinstance(start, Perturbed) else 0
    n_test = start.test_fragments if isinstance(start, Perturbed) else 0
    confirming = _confirming(config)
    total = n_start + config.stop.iterations * config.select.fragments + confirming
    if config.stop.labels is not None:
        total = min(total, config.stop.labels)
    walkers = sum(shares([s.weight for s in config.systems], config.explore.walkers))
    schedule = config.explore.steps
    steps = sum(
        steps_for(i, first=schedule.first, growth=schedule.growth, maximum=schedule.maximum)
        for i in range(config.stop.iterations)
    )
    return Forecast(
        level_of_theory=inputs.level_of_theory,
        fragments=tuple(rows),
        labels_start=n_start,
        labels_test=n_test,
        labels_per_iteration=config.select.fragments,
        labels_confirming=confirming,
        labels_total=total,
        walkers=walkers,
        md_steps=walkers * steps,
        label_core_seconds=sum(seconds) / len(seconds) * total if seconds else None,
        charges=tuple(charges),
    )


def _said_of_charges(system: str, charges: Sequence[int], *, azolates: bool) -> str:
    """Why fragments of a system are ions; "" if none is."""
    if not any(charges):
        return ""
    if azolates and min(charges) >= 0:
        return (
            f"note: fragments of {system} are cations on purpose: wherever the second metal of an azolate is left out, "
            "its N gets a hydrogen, since in the bulk it binds two metals alike; forces stay near the parent's, "
            "energies do not (train.energy_weight; docs/concepts/fragments.md, What happens at a cut)"
        )
    return (
        f"note: fragments of {system} are ions, by the usual oxidation states and what the cuts leave; if the material "
        "has no ions that explain it, an oxidation state is not the usual one (docs/concepts/fragments.md, Charge and "
        "spin)"
    )


def _confirming(config: Campaign) -> int:
    """At most so many larger fragments are labelled to confirm certified ones."""
    if not isinstance(config.extract, Certified):
        return 0
    wanted, per_iteration, done = config.extract.confirm, config.select.fragments, 0
    for _ in range(config.stop.iterations):
        done += min(per_iteration, max(wanted.first - done, math.ceil(wanted.share * per_iteration)))
    return done


def _examples(config: Campaign, name: str, atoms: Atoms) -> tuple[list[tuple[Row, float | None]], bool]:
    """One fragment per kind of block of this structure; whether azolates are cut, which makes cations of them."""
    from clusterflow.physics.building_blocks import find_blocks

    rule, azolates = config.extract.build(), False
    if isinstance(config.extract, Whole):
        groups = {("whole", formula(atoms)): [0]}
    elif isinstance(config.extract, Sphere):
        groups = {("sphere", e): np.flatnonzero(atoms.symbols == e).tolist() for e in sorted(set(atoms.symbols))}
    else:
        blocks = getattr(rule, "blocks_of", find_blocks)(atoms)
        azolates = any("neutralise" in (cut.first, cut.second) for cut in blocks.cut_rules)
        groups = {}
        for block, label in enumerate(zip(blocks.kinds, blocks.formulas, strict=True)):
            groups.setdefault(label, []).append(int(blocks.members(block)[0]))
    out: list[tuple[Row, float | None]] = []
    for (kind, core), members in sorted(groups.items()):
        fragment = rule.extract(atoms, [Site(content_hash(atoms), members[0])])
        cost = _label_seconds(config, fragment.atoms)
        row = (
            name,
            len(atoms),
            kind,
            len(members),
            core,
            formula(fragment.atoms),
            len(fragment.atoms),
            fragment.charge,
            fragment.spin,
            "·" if cost is None else f"{cost:.0f}" if cost >= 1 else "<1",
        )
        out.append((row, cost))
    return out, azolates


def _label_seconds(config: Campaign, fragment: Atoms) -> float | None:
    """Core seconds of a label, where there is a cost model: GPAW's LCAO mode and xTB."""
    from clusterflow.label.cost import estimate_seconds, estimate_xtb_seconds

    if isinstance(config.label, XTB):
        return estimate_xtb_seconds(fragment)
    if not isinstance(config.label, GPAW):
        return None
    reference = config.label.build()
    if reference.mode != "lcao":
        return None
    points = math.ceil(math.prod(reference.kpts) / 2) if fragment.pbc.any() else 1  # k and −k are the same
    return points * estimate_seconds(fragment, reference.h, reference.vacuum)
