"""The fragments that a campaign has asked labels for, with their annotations (region, parent, system, rule).

The label store knows structures and results only, since campaigns that share it may have cut the same atoms for
different reasons; what this campaign knows of a fragment stands in the published results of the stage that cut it.
"""

from __future__ import annotations

from ase import Atoms

from clusterflow.core.frames import read_optional_frames
from clusterflow.errors import StateError
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import REMEDY, read_json, verify_folder
from clusterflow.state.snapshot import Snapshot

SOURCES = ("start", "acquire", "control")
"""Kinds of task that make fragments: each publishes ``fragments.extxyz`` and names their label keys in its summary."""

_FRAGMENTS = "fragments.extxyz"


def require_fragments(folder: CampaignFolder, snapshot: Snapshot) -> None:
    """Returns if every stage that made fragments has left them: later trainings would do without what is known of them.

    Raises
    ------
    StateError
        One is lost; the message names it.
    """
    for key, outcome in snapshot.outcomes.items():
        if outcome.kind in SOURCES and outcome.status == "done" and not folder.result(outcome.kind, key).is_dir():
            raise StateError(
                f"The result of {outcome.kind} {key[:16]} is missing, although the journal says it is done.",
                where=str(folder.result(outcome.kind, key)),
                todo=REMEDY,
            )


def annotated_fragments(folder: CampaignFolder) -> dict[str, Atoms]:
    """Label key → annotated atoms, without energies.

    Raises
    ------
    StateError
        A published result is damaged.
    """
    found: dict[str, Atoms] = {}
    for kind in SOURCES:
        for result in sorted(folder.tasks.joinpath(kind).glob("[!.]*")):
            verify_folder(result, only=("result.json", _FRAGMENTS))
            told = read_json(result / "result.json")["summary"]["fragments"]
            frames = read_optional_frames(result / _FRAGMENTS)
            for entry, atoms in zip(told, frames, strict=True):
                atoms.calc = None
                found.setdefault(entry["label_key"], atoms)
    return found
