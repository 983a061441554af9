"""Opening a campaign: what is frozen, what may change, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read

from clusterflow.campaign import session as sessions
from clusterflow.campaign.session import open_session
from clusterflow.config.campaign import Campaign
from clusterflow.core.frames import content_hash
from clusterflow.errors import ConfigError, JournalError, LeaseError, LevelOfTheoryError, StateError
from clusterflow.state import journal as journals
from clusterflow.state.journal import read_events
from clusterflow.state.lease import Lease

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"


def campaign(folder: Path, structure: Path = MOF5, **changes: Any) -> Campaign:
    system = {"name": "crystal", "structure": str(structure), **changes.pop("system", {})}
    data = {"name": "t", "folder": str(folder), "systems": [system], "label": {"kind": "xtb"}, **changes}
    return Campaign.model_validate(data)


def test_the_structure_is_kept_as_it_was(tmp_path: Path) -> None:
    mine = tmp_path / "mine.extxyz"
    mine.write_text(MOF5.read_text())
    with open_session(campaign(tmp_path / "run", mine), {}) as first:
        identity = first.inputs.systems[0].identity
        assert not first.resumed
    mine.write_text("gone wrong")
    with open_session(campaign(tmp_path / "run", mine), {}) as second:
        assert second.resumed
        assert second.inputs.systems[0].identity == identity
    assert json.loads((tmp_path / "run" / "config.json").read_text())["systems"][0]["name"] == "crystal"


def test_the_copy_is_the_built_structure(tmp_path: Path) -> None:
    build = {"build": [{"kind": "missing_linker", "count": 1}]}
    with open_session(campaign(tmp_path / "run", system=build), {}) as session:
        assert session.inputs.systems[0].n_atoms == 98
    assert len(read(tmp_path / "run" / "inputs" / "crystal.extxyz")) == 98


def test_another_build_under_the_same_name_is_refused(tmp_path: Path) -> None:
    with open_session(campaign(tmp_path / "run"), {}):
        pass
    build = {"build": [{"kind": "supercell", "repeat": [1, 1, 2]}]}
    with (
        pytest.raises(ConfigError, match="was built otherwise"),
        open_session(campaign(tmp_path / "run", system=build), {}),
    ):
        pass


def test_changes_are_listed(tmp_path: Path) -> None:
    with open_session(campaign(tmp_path / "run"), {}) as first:
        assert first.changes == []
    with open_session(campaign(tmp_path / "run", select={"fragments": 7}, seed=0), {}) as second:
        assert second.changes == ["select.fragments: 20 → 7"]


def test_level_may_change_only_before_the_first_label(tmp_path: Path) -> None:
    with open_session(campaign(tmp_path / "run"), {}):
        pass
    other = campaign(tmp_path / "run", label={"kind": "xtb", "method": "GFN2-xTB"})
    with open_session(other, {}) as session:
        session.journal.append(
            "done", key="k", task="label", summary={}, wall_time=1.0, cores=1, peak_memory_MB=1.0, cached=False
        )
    with open_session(other, {}):
        pass
    with pytest.raises(LevelOfTheoryError, match="GFN2-xTB"), open_session(campaign(tmp_path / "run"), {}):
        pass


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    with (
        open_session(campaign(tmp_path / "run"), {}),
        pytest.raises(LeaseError, match="Another driver"),
        open_session(campaign(tmp_path / "run"), {}),
    ):
        pass
    with open_session(campaign(tmp_path / "run"), {}) as again:
        assert again.lease.epoch == 2


def test_a_damaged_journal_is_not_written_to(tmp_path: Path) -> None:
    with open_session(campaign(tmp_path / "run"), {}):
        pass
    path = tmp_path / "run" / "journal.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"opened"', '"opxned"', 1))
    with pytest.raises(JournalError, match="damaged"), open_session(campaign(tmp_path / "run"), {}):
        pass
    assert path.read_text() == text.replace('"opened"', '"opxned"', 1)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be made"), open_session(campaign(tmp_path / "file" / "run"), {}):
        pass


def test_identity_sees_the_structure(tmp_path: Path) -> None:
    moved = read(MOF5)
    moved.positions += np.array([0.0, 0.0, 1e-6])
    assert content_hash(moved) != content_hash(read(MOF5))
    system = campaign(tmp_path).systems[0]
    assert system.identity(moved) != system.identity(read(MOF5))


def test_the_loop_may_change_only_before_the_first_split(tmp_path: Path) -> None:
    streaming = campaign(tmp_path / "run", loop={"kind": "streaming"})
    with open_session(campaign(tmp_path / "run"), {}):
        pass
    with open_session(streaming, {}) as session:
        session.journal.append("decision", name="split/0", value={"train": [], "validation": [], "test": []})
    with open_session(streaming, {}):
        pass
    with (
        pytest.raises(ConfigError, match="began with the streaming loop") as said,
        open_session(campaign(tmp_path / "run"), {}),
    ):
        pass
    assert "labels_folder" in said.value.todo


def count_readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all journals that are read from here on."""
    sizes, scan = [], journals.scan

    def counted(raw: bytes, path: Path) -> Any:
        sizes.append(len(raw))
        return scan(raw, path)

    monkeypatch.setattr(journals, "scan", counted)
    return sizes


def test_a_campaign_is_opened_with_one_reading_of_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = campaign(tmp_path / "run")
    for _ in range(2):
        with open_session(config, {}):
            pass
    sizes = count_readings(monkeypatch)
    with open_session(config, {}) as session:
        assert len(session.snapshot.opened) == 3
    assert len(sizes) == 1
    assert [e.epoch for e in read_events(tmp_path / "run" / "journal.jsonl")] == [1, 1, 2, 3]


def test_what_another_driver_wrote_before_the_lease_was_free_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at the journal and the lease another driver comes, cuts a torn line, writes and goes."""
    config, path = campaign(tmp_path / "run"), tmp_path / "run" / "journal.jsonl"
    with open_session(config, {}):
        pass
    whole = path.stat().st_size
    with open_session(config, {}) as other:
        other.journal.append("decision", name="a", value={})
    added = path.read_bytes()[whole:]
    path.write_bytes(path.read_bytes()[:whole] + b"x" * len(added))  # torn, and as long as what will be written

    class Late(Lease):
        @classmethod
        def acquire(cls, folder: str | Path, **how: Any) -> Lease:  # type: ignore[override]
            monkeypatch.setattr(sessions, "Lease", Lease)
            with open_session(config, {}) as other:
                other.journal.append("decision", name="b", value={})
            return Lease.acquire(folder, **how)

    monkeypatch.setattr(sessions, "Lease", Late)
    with open_session(config, {}) as session:
        assert list(session.snapshot.decisions) == ["b"]
        assert [e.epoch for e in session.snapshot.opened] == [1, 3, 4]
    assert [e.kind for e in read_events(path)] == ["journal", "opened", "opened", "decision", "opened"]
    assert path.stat().st_size > whole + len(added)
