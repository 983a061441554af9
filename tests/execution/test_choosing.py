"""The stages that choose: `start` keeps test and training apart, `acquire` and `control` cut what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.campaign.inputs import gather_inputs
from clusterflow.campaign.nothing_found import nothing
from clusterflow.config.campaign import Campaign
from clusterflow.config.selection import Select
from clusterflow.config.start import Dataset
from clusterflow.core import keys
from clusterflow.core.data import Fragment, Label, Prediction, Site
from clusterflow.core.frames import content_hash, fragment_to_atoms, read_frames, write_frames
from clusterflow.errors import ConfigError, InputError
from clusterflow.execution import controls
from clusterflow.execution.choosing import Choosing, Explored
from clusterflow.execution.controls import control
from clusterflow.execution.cutting import Purse, cut
from clusterflow.execution.starting import start
from clusterflow.execution.workplace import Workplace, describe_fragments
from clusterflow.extract.rules import WholeStructure
from clusterflow.physics.block_reuse import BlocksAlong
from clusterflow.selection.held_out import HeldOut
from clusterflow.state.labels import label_key
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import publish_folder, publish_json
from clusterflow.structures.perturbation import perturb

CONFIGS = Path(__file__).parents[2] / "configs"
LEVEL = "toy"


def thermal(seed: int, name: str = "CH3OH") -> Atoms:
    return perturb(molecule(name), displacement=0.05, strain=0.0, rng=np.random.default_rng(seed))


def turned(atoms: Atoms, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    out: Atoms = atoms[rng.permutation(len(atoms))]
    out.positions = out.positions @ rotation
    return out


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    for name in ("scratch", "out", "run"):
        (tmp_path / name).mkdir()
    return Workplace(CampaignFolder(tmp_path / "run"), tmp_path / "scratch", tmp_path / "out")


# -- start ----------------------------------------------------------------------------------------------------------


def seed_dataset(place: Workplace, frames: list[Atoms]) -> dict[str, Any]:
    """Payload of a start from these frames."""
    for a in frames:
        a.calc = SinglePointCalculator(a, energy=-1.0, forces=np.zeros((len(a), 3)))
        a.info[keys.LEVEL] = LEVEL
    place.folder.inputs.mkdir()
    file = place.folder.inputs / "dataset.extxyz"
    write_frames(file, frames)
    settings = Dataset(file=file, test_fraction=0.25).model_dump(mode="json")
    return {"start": settings, "level_of_theory": LEVEL, "seed": 1, "systems": [], "extract": {"kind": "whole"}}


def test_copies_of_test_frames_in_a_seed_dataset_are_left_out(place: Workplace) -> None:
    """Each of four structures is there twice, once turned: whichever is drawn for the test set takes its copy away."""
    frames = [f(a) for a in map(thermal, range(4)) for f in (lambda a: a, lambda a: turned(a, 7))]
    told = start(seed_dataset(place, frames), place)
    sets = [f["set"] for f in told["fragments"]]
    assert len(told["left_out"]) >= 1
    assert sets.count("test") == 2
    assert len(sets) == 8 - len(told["left_out"])
    shapes = {s: {f["structure"] for f in told["fragments"] if f["set"] == s} for s in ("test", "train")}
    assert not shapes["test"] & shapes["train"]


def test_a_larger_fragment_of_a_test_frame_is_left_out(place: Workplace) -> None:
    """A dataset that an earlier campaign with certificates made: fragments with their confirmations."""
    frames = []
    for k in range(8):
        frame = thermal(k, "C6H6")
        for parent in ([0, 1, 6, 7], [0, 1, 2, 6, 7, 8]):
            core = np.isin(parent, [0, 1])
            piece = Fragment(frame[parent], core, np.array(parent), (Site(f"frame{k}", 0),), "rule", 0, 0)
            frames.append(fragment_to_atoms(piece, **{keys.FRAME: f"frame{k}"}))
    told = start(seed_dataset(place, frames), place)
    described = [f["set"] for f in told["fragments"]]
    from ase.io import read

    kept = read(place.out / "fragments.extxyz", ":")
    by_set = {
        s: {a.info[keys.FRAME] for a, its in zip(kept, described, strict=True) if its == s} for s in ("test", "train")
    }
    assert not by_set["test"] & by_set["train"]
    assert told["left_out"]


def test_nothing_left_to_train_on_is_said(place: Workplace) -> None:
    with pytest.raises(InputError, match="none is apart from the test set") as said:
        start(seed_dataset(place, [turned(thermal(1), k) for k in range(4)]), place)
    assert "start.displacement" in said.value.todo


# -- choosing -------------------------------------------------------------------------------------------------------


class Positions:
    """Features that are good enough to tell frames apart."""

    def features(self, atoms: Atoms) -> Any:
        return np.sort(atoms.get_all_distances(), axis=1)[:, 1:4]


class Elements:
    """Features by which atoms of molecules of different size differ, and hardly any others."""

    def features(self, atoms: Atoms) -> Any:
        size = {3: 30.0, 5: -9.0, 6: 6.0}[len(atoms)]
        return np.column_stack([np.full(len(atoms), size), 0.01 * atoms.positions[:, 0]])


def labelled(place: Workplace, frames: list[Atoms]) -> list[str]:
    """Publishes frames as the fragments of a start, with labels that took a second per atom; returns their keys."""
    fragments = []
    for a in frames:
        whole = Fragment(a, np.ones(len(a), bool), np.arange(len(a)), (Site(content_hash(a), 0),), "whole", 0, 0)
        fragments.append(fragment_to_atoms(whole, **{keys.SYSTEM: "x"}))
    made = place.scratch / "start"
    made.mkdir()
    write_frames(made / "fragments.extxyz", fragments)
    told = describe_fragments(fragments, LEVEL, ["train"] * len(fragments))
    publish_json(made / "result.json", {"summary": {"fragments": told}})
    publish_folder(made, place.folder.result("start", "aa"))
    for a in fragments:
        key = label_key(a, level_of_theory=LEVEL, charge=0, spin=0)
        forces = np.zeros((len(a), 3))
        place.labels.put(key, a, Label(Prediction(0.0, forces), LEVEL, 0, 0, 1, float(len(a))))
    return [str(t["label_key"]) for t in told]


def explored(needs: dict[str, float], n: int = 6) -> Explored:
    """``n`` thermal frames of each system, all of whose atoms have this score."""
    frames, scores = [], []
    for k, (system, need) in enumerate(sorted(needs.items())):
        for i in range(n):
            frames.append(thermal(100 * k + i))
            frames[-1].info[keys.SYSTEM] = system
            scores.append(np.full(6, need))
    return Explored(frames, scores, [Positions().features(a) for a in frames], {1: 1.0, 6: 1.0, 8: 1.0})


@pytest.mark.parametrize("ranking", ["least_likely_atom", "coverage"])
@pytest.mark.parametrize(
    ("share", "counts"),
    [("need", {"a": 1, "b": 3, "c": 4}), ("weight", {"a": 4, "b": 3, "c": 1})],
)
def test_labels_are_shared_among_systems(place: Workplace, ranking: Any, share: Any, counts: dict[str, int]) -> None:
    """By need, what is above 1 counts: 0, 2 and 3 per atom; a has the floor."""
    known = labelled(place, [thermal(k) for k in range(900, 905)])
    found = explored({"a": 1.0, "b": 3.0, "c": 4.0})
    payload = {"budget": 8, "known": known, "held_out": [], "weights": {"a": 4.0, "b": 2.5, "c": 0.5}}
    settings = Select(fragments=8, ranking=ranking, share=share, share_floor=0.4)
    rule, along = WholeStructure(), BlocksAlong()
    rng = np.random.default_rng(0)
    chosen = Choosing(payload, settings, rule, along, Positions(), place, rng).sites(found)
    assert chosen.limits == counts
    assert chosen.told["shares"] == counts
    assert ("coverage" in chosen.told) == (ranking == "coverage")
    kept, _ = cut(found.frames, chosen.sites, rule, along, [], chosen.budget, HeldOut([]), chosen.limits)
    system = {content_hash(a): a.info[keys.SYSTEM] for a in found.frames}
    taken = [system[f.sites[0].frame_id] for f in kept]
    assert {s: taken.count(s) for s in counts} == counts


def test_what_a_system_cannot_use_goes_to_the_others() -> None:
    found = explored({"a": 1.0, "b": 1.0}, n=4)
    sites = [Site(content_hash(a), 0) for a in found.frames]
    held_out = HeldOut(found.frames[:3])  # of system a only one is left
    kept, refused = cut(found.frames, sites, WholeStructure(), BlocksAlong(), [], 4, held_out, {"a": 3, "b": 1})
    assert len(kept) == 4
    assert [f.sites[0] for f in kept] == [sites[3], sites[4], sites[5], sites[6]]
    assert sum("test set" in why for why in refused) == 3


def test_a_control_arm_labels_nothing_of_the_test_set(place: Workplace) -> None:
    """Its only frames are three, of which one is turned from a test fragment and one is labelled."""
    test, known = thermal(1), thermal(2)
    keys_ = labelled(place, [test, known])
    frames = [turned(test, 5), turned(known, 6), thermal(3)]
    walk = place.scratch / "walk"
    walk.mkdir()
    for a in frames:
        a.info[keys.SYSTEM] = "x"
    write_frames(walk / "trajectory.extxyz", frames)
    publish_folder(walk, place.folder.result("explore", "bb"))
    payload = {
        "arm": "random", "model": "", "walkers": ["bb"], "pool": "all", "extract": {"kind": "whole"}, "known": keys_,
        "held_out": keys_[:1], "level_of_theory": LEVEL, "budget": 3, "seed": 1,
    }  # fmt: skip
    told = control(payload, place)
    assert [f["structure"] for f in told["fragments"]] == [
        describe_fragments([fragment_to_atoms_of(thermal(3))], LEVEL, ["train"])[0]["structure"]
    ]
    assert any("copy of one of the test set" in why for why in told["refused"])
    (chosen,) = read_frames(place.out / "fragments.extxyz")
    assert chosen.info[keys.WALK] == "bb"  # by which calibration knows what belongs together


@pytest.mark.parametrize("how", ["coverage", "farthest_point"])
def test_a_fragment_whose_label_failed_is_not_known(place: Workplace, monkeypatch: Any, how: str) -> None:
    """Water, the most novel, has only a failed label: with it among the known, methane would be chosen."""
    *trained, failed = labelled(place, [*map(thermal, range(3)), thermal(6, "H2O")])
    found = [*(thermal(k, "H2O") for k in range(20, 24)), thermal(24, "CH4")]
    for atoms in found:
        atoms.info[keys.SYSTEM] = "x"

    def first(lost: list[str]) -> str:
        payload = {"known": [*trained, failed], "failed": lost, "held_out": [], "budget": 1, "model": ""}
        if how == "coverage":
            features = [Elements().features(a) for a in found]
            scores = [np.full(len(a), 5.0 if len(a) == 3 else 1.0) for a in found]
            seen = Explored(found, scores, features, {})
            settings = Select(fragments=1, ranking="coverage")
            rng = np.random.default_rng(0)
            choosing = Choosing(payload, settings, WholeStructure(), BlocksAlong(), Elements(), place, rng)
            sites = choosing.sites(seen).sites
        else:
            monkeypatch.setattr(controls, "potential_of", lambda *_: Elements())
            selector = controls._farthest(payload, place, found, WholeStructure(), None)
            sites = selector.select(found, [np.zeros(len(a)) for a in found], budget=1, rng=np.random.default_rng(0))
        return {content_hash(a): str(a.symbols) for a in found}[sites[0].frame_id]

    assert first([failed]) == "OH2"
    assert first([]) == "CH4"


def fragment_to_atoms_of(atoms: Atoms) -> Atoms:
    atoms.info.update({keys.CHARGE: 0, keys.SPIN: 0})
    return atoms


def test_farthest_points_in_the_features_of_the_arms_own_potential(place: Workplace, tmp_path: Path) -> None:
    """A real potential: of three frames it takes the one that is like nothing that it was trained on."""
    from clusterflow.testing.potential_contract import tiny_labelled_frames
    from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
    from clusterflow.train.nequip_train import NequIPTrainer

    frames = tiny_labelled_frames(6, seed=1)
    trainer = NequIPTrainer(
        NequIPModelSettings.preset("small", layers=1, features=4, r_max=4.0),
        NequIPTrainingSettings(learning_rate=0.01, max_epochs=1),
        ("C", "H", "O"),
    )
    (tmp_path / "fit").mkdir()
    made = trainer.train(frames[:4], frames[4:], start=None, seed=3, workdir=tmp_path / "fit")
    model = tmp_path / "published"
    model.mkdir()
    Path(made.path).rename(model / "model")
    publish_folder(model, place.folder.result("train", "cc"))

    known = [thermal(k) for k in range(4)]
    odd = thermal(11)
    odd.positions *= 1.15
    walked = [thermal(10), odd, thermal(12)]
    walk = place.scratch / "walk"
    walk.mkdir()
    for a in walked:
        a.info[keys.SYSTEM] = "x"
    write_frames(walk / "trajectory.extxyz", walked)
    publish_folder(walk, place.folder.result("explore", "bb"))
    payload = {
        "arm": "farthest_point", "model": "cc", "walkers": ["bb"], "pool": "all", "extract": {"kind": "whole"},
        "known": labelled(place, known), "held_out": [], "level_of_theory": LEVEL, "budget": 1, "seed": 1,
    }  # fmt: skip
    told = control(payload, place)
    assert told["arm"] == "farthest_point"
    (found,) = told["fragments"]
    assert found["structure"] == describe_fragments([fragment_to_atoms_of(odd)], LEVEL, ["train"])[0]["structure"]


# -- inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("structure", "max_atoms", "said"),
    [("MOF-5_primitive.extxyz", 100, "cells of 106 atoms"), ("water.extxyz", 250, "is not periodic")],
)
def test_whole_cells_must_be_possible(tmp_path: Path, structure: str, max_atoms: int, said: str) -> None:
    write_frames(tmp_path / "water.extxyz", [molecule("H2O")])
    file = CONFIGS / "structures" / structure if structure.startswith("MOF") else tmp_path / structure
    config = Campaign.model_validate(
        {
            "name": "toy",
            "systems": [{"name": "x", "structure": str(file)}],
            "extract": {"kind": "whole"},
            "label": {"kind": "xtb"},
            "controls": {"arms": ["periodic"], "max_atoms": max_atoms},
        }
    )
    with pytest.raises(ConfigError, match=said):
        gather_inputs(config)


def test_a_limit_in_seconds_is_kept_and_a_number_is_filled(place: Workplace) -> None:
    """A label of six atoms takes six seconds by the labels so far."""
    known = labelled(place, [thermal(k) for k in range(900, 905)])
    found = explored({"a": 3.0, "b": 4.0})
    payload = {"budget": 8, "known": known, "held_out": []}
    common: dict[str, Any] = {"fragments": 8, "ranking": "coverage"}
    for limits, most in (({}, 8), ({"core_seconds": "20 s"}, 3)):
        settings = Select.model_validate({**common, **limits})
        rng = np.random.default_rng(0)
        chosen = Choosing(payload, settings, WholeStructure(), BlocksAlong(), Positions(), place, rng).sites(found)
        assert chosen.budget == most
    assert chosen.told["coverage"]["core_seconds"] == pytest.approx(18.0, rel=1e-2)
    assert "cheapest" not in chosen.told["coverage"]


def test_a_selection_of_the_streaming_loop_has_its_part_of_the_limit(place: Workplace) -> None:
    """Of 48 s for eight fragments, two get twelve: two labels of six seconds."""
    known = labelled(place, [thermal(k) for k in range(900, 905)])
    settings = Select(fragments=8, ranking="coverage", core_seconds="48 s")
    for payload, budget in (({"of_iteration": 8}, 2), ({}, 2)):
        told = {"budget": budget, "known": known, "held_out": [], **payload}
        rng = np.random.default_rng(0)
        choosing = Choosing(told, settings, WholeStructure(), BlocksAlong(), Positions(), place, rng)
        assert choosing.seconds == (12.0 if payload else 48.0)
        purse = choosing.sites(explored({"a": 3.0})).purse
        assert purse is not None
        assert purse.total == choosing.seconds


@pytest.mark.parametrize("share", [None, "weight"])
def test_a_limit_below_the_cheapest_label_is_told_with_numbers(place: Workplace, share: Any) -> None:
    known = labelled(place, [thermal(k) for k in range(900, 905)])
    found = explored({"a": 3.0, "b": 4.0})
    payload = {"budget": 8, "known": known, "held_out": [], "weights": {"a": 1.0, "b": 1.0}}
    settings = Select(fragments=8, ranking="coverage", core_seconds="4 s", share=share)
    rng = np.random.default_rng(0)
    chosen = Choosing(payload, settings, WholeStructure(), BlocksAlong(), Positions(), place, rng).sites(found)
    assert chosen.sites == []
    said = nothing(chosen.told, then="run again")
    assert f"is predicted to take 6 core-seconds, and {2 if share else 4} may be spent on it" in said
    assert said.endswith("raise `select.core_seconds` and run again")


def test_spares_are_paid_from_the_same_purse() -> None:
    """The first site, dear, is a duplicate; what takes its place may not cost more than is left."""
    found = explored({"a": 1.0, "b": 1.0}, n=4)
    sites = [Site(content_hash(a), 0) for a in found.frames]
    seconds = dict(zip(sites, [8.0, 5.0, 5.0, 2.0, 3.0, 9.0, 1.0, 1.0], strict=True))
    held_out = HeldOut(found.frames[:1])

    def kept(purse: Purse | None, limits: dict[str, int] | None = None) -> list[int]:
        chosen, _ = cut(found.frames, sites, WholeStructure(), BlocksAlong(), [], 4, held_out, limits, purse)
        return [sites.index(f.sites[0]) for f in chosen]

    assert kept(None) == [1, 2, 3, 4]
    assert kept(Purse(seconds, 10.0)) == [1, 2]
    assert kept(Purse(seconds, 9.0)) == [1, 3, 6, 7]
    own = {"a": 7.0, "b": 2.0}  # what a leaves of its part, b may use
    assert kept(Purse(seconds, 9.0, own), {"a": 2, "b": 2}) == [1, 3, 6, 7]
    assert kept(Purse(seconds, 9.0, {"a": 5.0, "b": 4.0}), {"a": 2, "b": 2}) == [1, 4, 6]
