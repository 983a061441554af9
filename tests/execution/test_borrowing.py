"""Campaigns that share a bank: real files, toy science, Lennard-Jones labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clusterflow.cli.console import event_line
from clusterflow.cli.main import app
from clusterflow.core.data import Prediction
from clusterflow.errors import StateError
from clusterflow.state.bank import Bank
from clusterflow.state.journal import read_events
from clusterflow.state.labels import LabelStore
from clusterflow.testing.toy_science import drive_toy, toy_config


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with a bank that was empty."""
    folder = tmp_path_factory.mktemp("lender")
    assert drive_toy(toy_config(folder, bank=str(folder / "bank"))).finished
    return folder


def test_every_label_goes_into_the_bank(lender: Path) -> None:
    store = LabelStore(lender / "run" / "labels")
    assert len(list(Bank(lender / "bank").entries())) == store.count() == 5
    said = CliRunner().invoke(app, ["bank", str(lender / "bank"), "--json"])
    assert said.exit_code == 0
    assert list(json.loads(said.output)["labels"].values()) == [5]


def test_another_campaign_computes_nothing_that_is_there_turned(lender: Path, tmp_path: Path) -> None:
    """The bank has every fragment, but turned and with its atoms in another order."""
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    store, bank, order = LabelStore(lender / "run" / "labels"), Bank(tmp_path / "bank"), [2, 0, 1]
    for key in list(store.keys()):
        atoms, label = store.get(key) or (None, None)
        assert atoms is not None
        assert label is not None
        other = atoms[order]
        other.positions = other.positions @ rotation + 3.0
        turned = Prediction(label.prediction.energy, label.prediction.forces[order] @ rotation)
        bank.put(other, replace(label, prediction=turned), {"campaign": "by hand"})
    assert drive_toy(toy_config(tmp_path, bank=str(tmp_path / "bank"))).finished
    run = tmp_path / "run"
    assert not (run / "computed.log").exists()
    events = list(read_events(run / "journal.jsonl"))
    labels = [e for e in events if e.kind == "done" and e.data["task"] == "label"]
    assert len(labels) == 5
    assert all(e.data["cached"] and e.data["summary"]["bank"]["source"] == {"campaign": "by hand"} for e in labels)
    assert "from the bank" in event_line(labels[0])
    own = LabelStore(run / "labels")
    for key in list(store.keys()):
        mine, theirs = own.get(key), store.get(key)
        assert mine is not None
        assert theirs is not None
        assert np.allclose(mine[1].prediction.forces, theirs[1].prediction.forces, atol=1e-9)
        assert np.array_equal(mine[0].positions, theirs[0].positions)
    (first, *_) = sorted((run / "labels").glob("??/*.json"))
    assert json.loads(first.read_text())["body"]["origin"]["source"] == {"campaign": "by hand"}


def test_a_damaged_entry_is_told_and_its_label_computed(lender: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    assert drive_toy(toy_config(tmp_path, bank=str(bank))).finished
    for path in Bank(bank).entries():
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-9])
    said = CliRunner().invoke(app, ["bank", str(bank)])
    assert said.exit_code == 1
    assert "damaged" in said.output
    again = toy_config(tmp_path, bank=str(bank)).model_copy(update={"folder": tmp_path / "again"})
    assert drive_toy(again).finished
    assert len((tmp_path / "again" / "computed.log").read_text().splitlines()) == 5
    labels = [e for e in read_events(tmp_path / "again" / "journal.jsonl") if e.data.get("task") == "label"]
    lines = [event_line(e) for e in labels if e.kind == "done"]
    assert all("bank: an entry was refused" in line for line in lines)


def test_a_folder_that_is_no_bank_is_refused_before_anything_runs(tmp_path: Path) -> None:
    LabelStore(tmp_path / "labels")
    with pytest.raises(StateError, match="not a bank"):
        drive_toy(toy_config(tmp_path, bank=str(tmp_path / "labels")))
    said = CliRunner().invoke(app, ["bank", str(tmp_path)])
    assert said.exit_code == 2
    assert "no bank of labels" in said.output
