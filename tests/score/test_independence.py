"""What comes of one walk or one frame is one observation."""

from __future__ import annotations

from ase import Atoms

from clusterflow.core import keys
from clusterflow.score.independence import independent_groups


def test_walks_go_before_frames_and_what_has_neither_stands_alone() -> None:
    about = [
        {keys.WALK: "a", keys.FRAME: "1"},
        {keys.WALK: "a", keys.FRAME: "2"},
        {keys.WALK: "b", keys.FRAME: "3"},
        {keys.FRAME: "1"},
        {keys.FRAME: "1"},
        {},
        {},
        {keys.WALK: 12, keys.FRAME: "4"},  # a name of digits alone, as extxyz reads it back
        {keys.WALK: "12", keys.FRAME: "5"},
    ]
    assert independent_groups([Atoms(info=i) for i in about]).tolist() == [0, 0, 1, 2, 2, 3, 4, 5, 5]
    assert independent_groups([]).tolist() == []
