"""Whole frames: the most novel first, a frame once."""

from __future__ import annotations

import numpy as np
from ase.build import molecule

from clusterflow.core.frames import content_hash
from clusterflow.selection.frames import FrameSelector


def test_most_novel_frames_first() -> None:
    frames = []
    for i in range(4):
        atoms = molecule("H2O")
        atoms.positions[0, 0] += i
        frames.append(atoms)
    scores = [np.array([0.0, 1.0, 2.0]), np.array([9.0, 0, 0]), np.array([0, np.inf, 0]), np.array([3.0, 0, 0])]
    sites = FrameSelector().select(frames, scores, budget=3, rng=np.random.default_rng(0))
    assert [s.frame_id for s in sites] == [content_hash(frames[i]) for i in (2, 1, 3)]
    assert [s.index for s in sites] == [1, 0, 0]
