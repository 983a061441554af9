"""Which larger fragments count against the error model: those whose label failed, not those that are on their way."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.config.extract import Certified
from clusterflow.core import keys
from clusterflow.core.data import Certificate, Fragment, Label, Prediction, Site
from clusterflow.core.frames import content_hash, fragment_to_atoms, write_frames
from clusterflow.execution.certifying import certified_rule
from clusterflow.execution.workplace import Workplace, describe_fragments
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import publish_folder, publish_json
from clusterflow.structures.perturbation import perturb
from clusterflow.testing.analytic_potentials import LennardJones

LEVEL = "toy"
PAIRS = 20


def piece(frame: Atoms, parent: list[int], **info: str) -> Atoms:
    """Atoms of a frame as a certified fragment around its first two."""
    n, core = len(parent), np.isin(parent, [0, 1])
    certificate = Certificate(
        np.full(n, np.inf), np.full(n, 0.1), 0.1, 0.0, 0, "toy", False, core, np.full((n, 3), -1.0), ("X(Y)",) * n
    )
    site = Site(content_hash(frame), 0)
    made = Fragment(frame[parent], core, np.array(parent), (site,), "toy", 0, 0, certificate=certificate)
    return fragment_to_atoms(made, **info)


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Workplace, list[tuple[str, str]]]:
    """Pairs of label keys, of a fragment and of a larger one that confirms it. All have labels but the last larger."""
    for name in ("scratch/made", "out", "run"):
        (tmp_path / name).mkdir(parents=True)
    place = Workplace(CampaignFolder(tmp_path / "run"), tmp_path / "scratch", tmp_path / "out")
    fragments = []
    for k in range(PAIRS):
        frame = perturb(molecule("CH3OH"), displacement=0.05, strain=0.0, rng=np.random.default_rng(k))
        small = piece(frame, [0, 1, 2])
        fragments += [small, piece(frame, [0, 1, 2, 3, 4, 5], **{keys.CONFIRMS: small.info[keys.FRAGMENT]})]
    told = describe_fragments(fragments, LEVEL, ["train"] * len(fragments))
    made = place.scratch / "made"
    write_frames(made / "fragments.extxyz", fragments)
    publish_json(made / "result.json", {"summary": {"fragments": told}})
    publish_folder(made, place.folder.result("acquire", "aa"))
    labels = [str(t["label_key"]) for t in told]
    rng = np.random.default_rng(0)
    for key, atoms in zip(labels[:-1], fragments[:-1], strict=True):
        forces = rng.normal(0.0, 0.02, (len(atoms), 3))
        place.labels.put(key, atoms, Label(Prediction(0.0, forces), LEVEL, 0, 0, 1, 1.0))
    return place, list(zip(labels[::2], labels[1::2], strict=True))


def test_a_larger_fragment_on_its_way_is_not_a_failed_one(pairs: tuple[Workplace, list[tuple[str, str]]]) -> None:
    """19 confirmed fragments bound at 95 %; one failed confirmation more, and it would take 20 others."""
    place, known = pairs
    labelled = [key for pair in known for key in pair][:-1]
    settings = Certified(confidence=0.95)

    def factor(failed: list[str]) -> float:
        rule = certified_rule(settings, labelled, failed, LennardJones(), place, BlocksAlong())
        assert rule.error_model.n == PAIRS - 1
        return rule.error_model.factor

    assert math.isfinite(factor([]))
    assert math.isinf(factor([known[-1][1]]))
