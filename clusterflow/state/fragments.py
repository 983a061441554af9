"""The fragments that a campaign has asked labels for, with their annotations (region, parent, system, rule).

The label store knows structures and results only, since campaigns that share it may have cut the same atoms for
different reasons; what this campaign knows of a fragment stands in the published results of the stage that cut it.
"""

from __future__ import annotations

from ase import Atoms

from clusterflow.core.frames import read_optional_frames
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import read_json

SOURCES = ("start", "acquire")
"""Kinds of task that make fragments: each publishes ``fragments.extxyz`` and names their label keys in its summary."""


def annotated_fragments(folder: CampaignFolder) -> dict[str, Atoms]:
    """Label key → annotated atoms, without energies.

    Raises
    ------
    StateError
        A published result is damaged.
    """
    found: dict[str, Atoms] = {}
    for kind in SOURCES:
        for result in sorted(folder.tasks.joinpath(kind).glob("*/result.json")):
            told = read_json(result)["summary"]["fragments"]
            frames = read_optional_frames(result.with_name("fragments.extxyz"))
            for entry, atoms in zip(told, frames, strict=True):
                atoms.calc = None
                found.setdefault(entry["label_key"], atoms)
    return found
