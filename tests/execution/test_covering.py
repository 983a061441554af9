"""Selection by empty bins from published walks and labels: whole cells, and fragments around what fills the bins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from clusterflow.config.cbad import CBAD
from clusterflow.config.extract import BuildingBlocks, Whole
from clusterflow.config.section import to_json
from clusterflow.core import keys
from clusterflow.core.data import Label, Prediction, Site
from clusterflow.core.frames import content_hash, fragment_to_atoms, read_frames, write_frames
from clusterflow.errors import StateError
from clusterflow.execution.covering import Covered, cover
from clusterflow.execution.workplace import Workplace, describe_fragments
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.selection.held_out import HeldOut
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import publish_folder, publish_json
from clusterflow.structures.perturbation import perturb

STRUCTURE = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"
LEVEL = "none"


def frame(seed: int, size: float, name: str = "mof5") -> Atoms:
    atoms = perturb(read_frames(STRUCTURE)[0], displacement=size, strain=0.0, rng=np.random.default_rng(seed))
    atoms.info[keys.SYSTEM] = name
    return atoms


class Campaign:
    """A run folder with one system, published walks and labels, as the stages find it."""

    def __init__(self, root: Path) -> None:
        self.folder = CampaignFolder(root)
        self.folder.inputs.mkdir(parents=True)
        write_frames(self.folder.inputs / "mof5.extxyz", [read_frames(STRUCTURE)[0]])
        (self.folder.inputs / "mof5.json").write_text("{}")
        self.out = root / "out"
        self.out.mkdir()
        self.place = Workplace(self.folder, root, self.out)

    def publish(self, kind: str, key: str, frames: list[Atoms], name: str, summary: dict[str, Any]) -> None:
        made = self.folder.root / f"making-{key}"
        made.mkdir()
        write_frames(made / name, frames)
        publish_json(made / "result.json", {"task": kind, "key": key, "summary": summary})
        if kind == "acquire":
            (self.out / "cbad.json").rename(made / "cbad.json")
        publish_folder(made, self.folder.result(kind, key))

    def walk(self, key: str, frames: list[Atoms]) -> None:
        self.publish("explore", key, frames, "trajectory.extxyz", {})

    def label(self, fragments: list[dict[str, Any]], annotated: list[Atoms]) -> list[str]:
        """Labels fragments with forces of nought; returns their keys."""
        store = LabelStore(self.folder.labels)
        for told, atoms in zip(fragments, annotated, strict=True):
            bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            prediction = Prediction(0.0, np.zeros((len(atoms), 3)), None)
            store.put(told["label_key"], bare, Label(prediction, LEVEL, 0, 0, 0, 1.0))
        return [told["label_key"] for told in fragments]

    def select(
        self, walks: dict[str, list[Atoms]], rule: Any, *, labelled: list[str], acquired: list[str], **more: Any
    ) -> Covered:
        payload = {
            "select": to_json(CBAD(**{k: v for k, v in more.items() if k != "budget"})),
            "labelled": labelled,
            "acquired": acquired,
            "walkers": list(walks),
            "budget": more.get("budget", 50),
        }
        frames = [a for own in walks.values() for a in own]
        along = BlocksAlong() if hasattr(rule, "blocks_of") else None
        known = self.place.known_fragments(labelled)
        return cover(payload, frames, rule, along, known, HeldOut([]), self.place)

    def keep(self, key: str, found: Covered) -> tuple[list[dict[str, Any]], list[Atoms]]:
        """Publishes a selection as `acquire` does."""
        annotated = [fragment_to_atoms(f, **{keys.SYSTEM: "mof5"}) for f in found.fragments]
        told = describe_fragments(annotated, LEVEL, ["train"] * len(annotated))
        found.write(self.out, [t["label_key"] for t in told])
        self.publish("acquire", key, annotated, "fragments.extxyz", {"fragments": told})
        return told, annotated


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path / "run")


WHOLE = Whole().build()
BLOCKS = BuildingBlocks(mantle={"node": "none", "linker": "anchors"}).build()


def walks(campaign: Campaign, *, first: int = 0, size: float = 0.04) -> dict[str, list[Atoms]]:
    found = {f"walk{w + first}": [frame(10 * (w + first) + k, size) for k in range(3)] for w in range(3)}
    for key, frames in found.items():
        campaign.walk(key, frames)
    return found


def test_at_most_one_frame_of_each_walk_and_none_twice(campaign: Campaign) -> None:
    own = walks(campaign)
    found = campaign.select(own, WHOLE, labelled=[], acquired=[])
    by_frame = {content_hash(a): w for w, frames in own.items() for a in frames}
    chosen = [by_frame[f.sites[0].frame_id] for f in found.fragments]
    assert sorted(chosen) == ["walk0", "walk1", "walk2"]
    assert found.told["accepted"] == 3
    assert found.told["candidates"] == 9
    assert found.told["bins_before"] == 0
    told, annotated = campaign.keep("first", found)
    labelled = campaign.label(told, annotated)
    again = campaign.select(own, WHOLE, labelled=labelled, acquired=["first"])
    assert again.told["bins_before"] == found.told["bins_after"]
    assert found.told["covered"] == 0.0
    assert 0.5 < again.told["covered"] < 1.0
    assert not {f.sites[0].frame_id for f in again.fragments} & {f.sites[0].frame_id for f in found.fragments}


def test_the_state_is_counted_from_the_labels_and_survives_a_restart(campaign: Campaign, tmp_path: Path) -> None:
    found = campaign.select(walks(campaign), WHOLE, labelled=[], acquired=[])
    told, annotated = campaign.keep("first", found)
    labelled = campaign.label(told, annotated)
    later = walks(campaign, first=3)
    one = campaign.select(later, WHOLE, labelled=labelled, acquired=["first"])
    two = campaign.select(later, WHOLE, labelled=labelled[::-1], acquired=["first"])
    assert one.told == two.told
    assert [f.sites for f in one.fragments] == [f.sites for f in two.fragments]
    # A label that failed leaves the bins of its frame empty: they are filled by others, or wanted again.
    less = campaign.select(later, WHOLE, labelled=labelled[1:], acquired=["first"])
    assert less.told["bins_before"] < one.told["bins_before"]


def test_nothing_is_accepted_where_every_bin_is_filled(campaign: Campaign) -> None:
    coarse = {"cell_length": "9 Å", "cell_angle": 90, "bond": "9 Å", "angle": 180, "dihedral": 180}
    own = walks(campaign)
    found = campaign.select(own, WHOLE, labelled=[], acquired=[], resolution=coarse)
    assert len(found.fragments) == 1  # the first fills all there is
    told, annotated = campaign.keep("first", found)
    labelled = campaign.label(told, annotated)
    assert campaign.select(own, WHOLE, labelled=labelled, acquired=["first"], resolution=coarse).fragments == []


def test_the_budget_holds(campaign: Campaign) -> None:
    assert len(campaign.select(walks(campaign), WHOLE, labelled=[], acquired=[], budget=2).fragments) == 2


def test_a_frame_that_cannot_be_labelled_makes_room_for_another_of_its_walk(campaign: Campaign) -> None:
    torn = frame(1, 0.04)
    torn.positions[0] = torn.positions[1] + [0.1, 0.0, 0.0]  # overlap: fills more bins than any other, is refused
    fine = frame(2, 0.04)
    campaign.walk("walk0", [torn, fine])
    found = campaign.select({"walk0": [torn, fine]}, WHOLE, labelled=[], acquired=[])
    assert [f.sites[0].frame_id for f in found.fragments] == [content_hash(fine)]
    assert len(found.refused) == 1
    assert content_hash(torn)[:12] in found.refused[0]


def test_fragments_are_cut_around_what_fills_empty_bins(campaign: Campaign) -> None:
    own, coarse = {"walk0": [frame(1, 0.04)]}, {"bond": "0.25 Å", "angle": 180, "dihedral": 180}
    campaign.walk("walk0", own["walk0"])
    found = campaign.select(own, BLOCKS, labelled=[], acquired=[], resolution=coarse, per_frame=20)
    told, annotated = campaign.keep("first", found)
    labelled = campaign.label(told, annotated)
    again: dict[str, Any] = {"labelled": labelled, "acquired": ["first"], "resolution": coarse}
    assert campaign.select(own, BLOCKS, **again).fragments == []
    # The same bins, but for one long C–H bond: the fragment is that linker.
    odd = own["walk0"][0].copy()
    hydrogen = int(np.flatnonzero(odd.symbols == "H")[5])
    carbon = int(np.argmin(odd.get_distances(hydrogen, range(len(odd)), mic=True) + 9.0 * (odd.numbers != 6)))
    odd.positions[hydrogen] += 0.3 * odd.get_distance(carbon, hydrogen, mic=True, vector=True)
    campaign.walk("odd", [odd])
    (fragment,) = campaign.select({"odd": [odd]}, BLOCKS, **again).fragments
    assert hydrogen in fragment.parent[fragment.core]
    assert len(fragment.atoms) < len(odd)
    assert not fragment.atoms.pbc.any()


def test_per_frame_cuts_several_blocks_of_one_frame_each_once(campaign: Campaign) -> None:
    own = {"walk0": [frame(1, 0.05)]}
    campaign.walk("walk0", own["walk0"])
    found = campaign.select(own, BLOCKS, labelled=[], acquired=[], per_frame=4)
    assert 2 <= len(found.fragments) <= 4
    cores = [set(f.parent[f.core & (f.parent >= 0)].tolist()) for f in found.fragments]
    assert not set.intersection(*cores[:2])


def test_a_record_of_other_resolutions_is_refused(campaign: Campaign) -> None:
    own = walks(campaign)
    found = campaign.select(own, BLOCKS, labelled=[], acquired=[])
    campaign.keep("first", found)
    with pytest.raises(StateError, match="were filled with resolutions"):
        campaign.select(own, BLOCKS, labelled=[], acquired=["first"], resolution={"bond": "0.2 Å"})


def test_labels_of_nothing_known_are_counted_not_hidden(campaign: Campaign) -> None:
    """Frames of a seed dataset, and starting fragments: their bins are not known."""
    own = walks(campaign)
    cut = replace(BLOCKS).extract(frame(9, 0.03), [Site(content_hash(frame(9, 0.03)), 0)])
    annotated = [fragment_to_atoms(cut, **{keys.SYSTEM: "seed"})]
    told = describe_fragments(annotated, LEVEL, ["train"])
    campaign.publish("start", "start", annotated, "fragments.extxyz", {"fragments": told})
    labelled = campaign.label(told, annotated)
    assert campaign.select(own, BLOCKS, labelled=labelled, acquired=[]).told["not_counted"] == 1


def test_the_record_reads_as_json_by_name(campaign: Campaign) -> None:
    found = campaign.select(walks(campaign), WHOLE, labelled=[], acquired=[])
    found.write(campaign.out, ["a", "b", "c"])
    data = json.loads((campaign.out / "cbad.json").read_text())
    assert set(data["fragments"]) == {"a", "b", "c"}
    assert "bond C(CCH)-H(C)" in data["bins"]["filled"]
    assert data["bins"]["resolutions"]["bond"] == 0.05
