"""Files that were changed, lost or cut behind the campaign's back: noticed and named, set aside on request, and only
what was lost is computed again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from clusterflow.cli.fsck import check_folder
from clusterflow.cli.main import app
from clusterflow.core.data import Task
from clusterflow.core.protocols import Engine
from clusterflow.errors import JournalError, StateError
from clusterflow.state.fsck import examine, set_damage_aside
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import publish_json
from clusterflow.testing.toy_science import drive_toy, final_hash, published_keys, toy_config

pytestmark = pytest.mark.usefixtures("unsynchronised")


class Counted:
    """Which tasks a driver had computed."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.kinds: list[str] = []

    def over(self, engine: Engine) -> Engine:
        self._engine = engine
        return self

    def submit(self, task: Task) -> Any:
        self.keys.append(task.key)
        self.kinds.append(task.kind)
        return self._engine.submit(task)

    def close(self, *, cancel: bool = False) -> None:
        self._engine.close(cancel=cancel)


@pytest.fixture(scope="module")
def whole(memory: Path) -> Path:
    """A finished campaign; copied, not touched."""
    folder = memory / "whole" / "toy"
    assert drive_toy(toy_config(folder)).finished
    return folder


@pytest.fixture(scope="module")
def halfway(memory: Path) -> Path:
    """A campaign that was interrupted after its first model: much of what is published is still needed."""
    from clusterflow.campaign.loop import Interrupted

    folder = memory / "half" / "toy"
    config = toy_config(folder)

    def trained() -> bool:
        return any((folder / "run" / "tasks" / "train").glob("*/result.json"))

    with pytest.raises(Interrupted):
        drive_toy(config, stop=trained)
    return folder


def again(source: Path, fast: Path) -> Path:
    """A copy of a campaign in this test's folder."""
    folder = fast / "toy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return folder


def flip(path: Path) -> None:
    raw = path.read_bytes()
    middle = len(raw) // 2
    path.write_bytes(raw[:middle] + bytes([raw[middle] ^ 0x10]) + raw[middle + 1 :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [flip, cut, empty, Path.unlink]


def published_files(root: Path) -> list[Path]:
    return sorted(p for p in [*root.glob("tasks/**/*"), *root.glob("labels/??/*.json")] if p.is_file())


def quiet() -> Console:
    return Console(quiet=True)


# -- the journal


def test_a_journal_cut_at_any_line_or_inside_it_is_mended_by_run(whole: Path, fast: Path) -> None:
    raw = (whole / "run" / "journal.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(raw) if byte == 10]
    wanted = final_hash(whole / "run")
    for length in [n for e in ends for n in (e, e - 1, e - 40)]:
        folder = again(whole, fast)
        (folder / "run" / "journal.jsonl").write_bytes(raw[:length])
        counted = Counted()
        assert drive_toy(toy_config(folder), engine=counted.over).finished, length
        assert counted.keys == [], length  # everything was published
        assert final_hash(folder / "run") == wanted, length
        torn = list((folder / "run").glob("journal.torn-*"))
        assert len(torn) == (0 if length in ends else 1)


def test_a_flipped_bit_in_any_line_is_named_and_fsck_rebuilds(whole: Path, fast: Path) -> None:
    raw = (whole / "run" / "journal.jsonl").read_bytes()
    wanted = final_hash(whole / "run")
    begin = 0
    for number, line in enumerate(raw.splitlines(keepends=True), start=1):
        folder = again(whole, fast)
        journal = folder / "run" / "journal.jsonl"
        at = begin + len(line) // 2
        journal.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        begin += len(line)
        before = journal.read_bytes()
        with pytest.raises(JournalError, match=f"Line {number} of the journal is damaged") as error:
            drive_toy(toy_config(folder))
        assert "clusterflow fsck" in error.value.todo
        assert journal.read_bytes() == before
        assert check_folder(folder / "run", rebuild=False, as_json=False, console=quiet()) == 1
        assert journal.read_bytes() == before
        assert check_folder(folder / "run", rebuild=True, as_json=False, console=quiet()) == 0
        assert [p.read_bytes() for p in (folder / "run" / "damaged").glob("journal*")] == [before]
        counted = Counted()
        assert drive_toy(toy_config(folder), engine=counted.over).finished
        assert counted.keys == []
        assert final_hash(folder / "run") == wanted
        assert examine(CampaignFolder(folder / "run")).damage == []


def test_a_lost_journal_is_made_again_from_what_is_published(whole: Path, fast: Path) -> None:
    folder = again(whole, fast)
    (folder / "run" / "journal.jsonl").unlink()
    counted = Counted()
    drive_toy(toy_config(folder), engine=counted.over)
    assert counted.keys == []
    assert final_hash(folder / "run") == final_hash(whole / "run")


# -- results and labels


@pytest.mark.parametrize("damage", DAMAGES, ids=["bit flipped", "cut", "empty", "missing"])
def test_every_damaged_file_is_found_set_aside_and_computed_again(
    whole: Path, fast: Path, damage: Callable[[Path], None]
) -> None:
    wanted = final_hash(whole / "run")
    names = [p.relative_to(whole) for p in published_files(whole / "run")]
    assert len(names) > 30
    for name in names[DAMAGES.index(damage) % 2 :: 2]:
        folder = again(whole, fast)
        root = CampaignFolder(folder / "run")
        damage(folder / name)
        found = examine(root)
        (key,) = {f.key for f in found.damage if f.key}
        assert key in name.as_posix()
        assert sum(found.again.values()) == 1
        damaged = {p: p.read_bytes() for p in published_files(root.root)}
        moved = set_damage_aside(root, found)
        kept = {p.read_bytes() for m in moved for p in ([m] if m.is_file() else m.rglob("*")) if p.is_file()}
        gone = {p: raw for p, raw in damaged.items() if not p.exists()}
        assert set(gone.values()) <= kept, f"{name}: something was deleted"
        assert examine(root).damage == []
        counted = Counted()
        assert drive_toy(toy_config(folder), engine=counted.over).finished, name
        assert counted.keys == [key]
        assert final_hash(root.root) == wanted, name
        done = [e.data["key"] for e in read_events(root.journal) if e.kind == "done"]
        assert done.count(key) == 2
        assert len(done) == len(set(done)) + 1


@pytest.mark.parametrize("damage", DAMAGES, ids=["bit flipped", "cut", "empty", "missing"])
def test_damage_in_the_middle_of_a_campaign_is_never_used_silently(
    whole: Path, halfway: Path, fast: Path, damage: Callable[[Path], None]
) -> None:
    """Either `run` stops and names the file, or it did not need it and `fsck` names it."""
    wanted = final_hash(whole / "run")
    stopped = 0
    for name in [p.relative_to(halfway) for p in published_files(halfway / "run")]:
        folder = again(halfway, fast)
        damage(folder / name)
        said: StateError | None = None
        try:
            drive_toy(toy_config(folder))
        except StateError as error:
            said = error
        if said is not None:
            stopped += 1
            assert any(part[:16] in str(said) for part in name.parts if len(part) > 20), f"{name}: {said}"
            assert "clusterflow fsck" in said.todo
        root = CampaignFolder(folder / "run")
        found = examine(root)
        assert {f.key in name.as_posix() for f in found.damage if f.key} == {True}, name
        set_damage_aside(root, found)
        assert drive_toy(toy_config(folder)).finished
        assert final_hash(root.root) == wanted, name
    assert stopped > 5


def test_results_under_the_name_of_others_are_found(whole: Path, fast: Path) -> None:
    folder = again(whole, fast)
    root = folder / "run"
    one, other = sorted(root.glob("tasks/evaluate/*"))[:2]
    shutil.rmtree(one)
    shutil.copytree(other, one)
    first, second = sorted(root.glob("labels/??/*.json"))[:2]
    first.write_bytes(second.read_bytes())
    found = examine(CampaignFolder(root))
    assert {f.path for f in found.damage} == {one, first}
    assert found.again == {"evaluate": 1, "label": 1}


def test_a_damaged_structure_or_configuration_is_named(whole: Path, fast: Path) -> None:
    folder = again(whole, fast)
    copy = folder / "run" / "inputs" / "water.extxyz"
    copy.write_text(copy.read_text().replace("0.11926", "0.11927"))  # still a good structure, and another one
    with pytest.raises(StateError, match=r"'water\.extxyz' is damaged"):
        drive_toy(toy_config(folder))
    (folder / "run" / "config.json").write_text("{")
    found = examine(CampaignFolder(folder / "run"))
    assert {f.path.name for f in found.damage} == {"water.extxyz", "config.json"}
    assert check_folder(folder / "run", rebuild=True, as_json=False, console=quiet()) == 1  # not made again from here
    copy.unlink()  # as the message says
    assert drive_toy(toy_config(folder)).finished
    assert final_hash(folder / "run") == final_hash(whole / "run")
    (folder / "run" / "inputs" / "water.json").write_text("[]")
    with pytest.raises(StateError, match=r"'water\.json' is damaged"):
        drive_toy(toy_config(folder))


def test_a_damaged_lease_blocks_nobody_for_ever(whole: Path, fast: Path) -> None:
    from clusterflow.errors import LeaseError
    from clusterflow.state.lease import Lease, owner

    folder = again(whole, fast)
    room = folder / "run" / "lease"
    for path in [*room.glob("epoch-*"), *room.glob("released-*")]:
        path.write_bytes(b"") if path.name.startswith("epoch") else path.unlink()
    for path in room.iterdir():
        path.touch()  # as if its owner were alive, however long ago the campaign was made
    with pytest.raises(LeaseError, match="is damaged and does not say which"):
        Lease.acquire(folder / "run")
    assert owner(folder / "run") is not None
    with Lease.acquire(folder / "run", stale_after=-1.0) as lease:
        assert lease.epoch == 2


def test_the_copy_of_the_model_is_made_again(whole: Path, fast: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = again(whole, fast)
    weights = folder / "run" / "model" / "weights.safetensors"
    good = weights.read_bytes()
    flip(weights)
    console = Console(width=200)
    assert check_folder(folder / "run", rebuild=False, as_json=False, console=console) == 1
    assert "damaged  model: weights.safetensors: not the final model" in capsys.readouterr().out
    assert check_folder(folder / "run", rebuild=True, as_json=False, console=console) == 0
    assert "dataset, metrics, model and report are written anew" in capsys.readouterr().out
    assert weights.read_bytes() == good
    assert (folder / "run" / "report.html").is_file()


def test_a_lost_folder_of_fragments_is_named_before_anything_runs(halfway: Path, whole: Path, fast: Path) -> None:
    """Without it a training would not know which atoms are core."""
    folder = again(halfway, fast)
    root = CampaignFolder(folder / "run")
    (start,) = root.tasks.glob("start/*")
    shutil.rmtree(start)
    counted = Counted()
    with pytest.raises(StateError, match=f"start {start.name[:16]} is missing"):
        drive_toy(toy_config(folder), engine=counted.over)
    assert counted.keys == []
    found = examine(root)
    assert [(f.level, f.key) for f in found.damage] == [("lost", start.name)]
    set_damage_aside(root, found)
    assert drive_toy(toy_config(folder)).finished
    assert final_hash(root.root) == final_hash(whole / "run")


# -- what fsck says


def test_leftovers_are_named_and_nothing_is_changed(
    whole: Path, fast: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = again(whole, fast)
    root = folder / "run"
    (root / "labels" / "30").mkdir(exist_ok=True)
    (root / "labels" / "30" / ".tmp-x.json-node7-1-abc").write_text("half")
    (root / "dataset.part").write_text("half")
    (root / "work" / "train-0123").mkdir()
    with (root / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"checksum":"ab')
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert check_folder(root, rebuild=False, as_json=False, console=Console(width=200)) == 0
    said = capsys.readouterr().out
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before
    for words in (
        "54 events, 14 results, 5 labels and 1 structure",
        "1 × unfinished, such as labels/30/.tmp-x.json-node7-1-abc",
        "1 × half of a file, such as dataset.part",
        "1 × scratch of a task that did not end, such as work/train-0123",
        "its last line is torn (15 bytes); the next run cuts it off",
        "nothing is damaged or lost",
    ):
        assert words in said


def test_results_of_a_dead_driver_are_counted_not_called_damage(halfway: Path, fast: Path) -> None:
    folder = again(halfway, fast)
    root = CampaignFolder(folder / "run")
    lines = root.journal.read_bytes().splitlines(keepends=True)
    root.journal.write_bytes(b"".join(lines[:3]))  # up to "sent" of the first task
    found = examine(root)
    assert found.damage == []
    assert found.not_in_journal == len(published_keys(root.root))
    assert found.in_flight == 0  # it is published


def test_the_command_and_its_exit_codes(whole: Path, fast: Path) -> None:
    folder = again(whole, fast)
    root = str(folder / "run")
    fsck = CliRunner()
    assert fsck.invoke(app, ["fsck", root]).exit_code == 0
    empty(next((folder / "run").glob("labels/??/*.json")))
    assert fsck.invoke(app, ["fsck", root]).exit_code == 1
    assert fsck.invoke(app, ["fsck", root, "--rebuild"]).exit_code == 0
    assert fsck.invoke(app, ["fsck", root]).exit_code == 0
    assert fsck.invoke(app, ["fsck", str(folder / "nowhere")]).exit_code == 2


def test_json_for_scripts(whole: Path, fast: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    folder = again(whole, fast)
    label = next((folder / "run").glob("labels/??/*.json"))
    empty(label)
    assert check_folder(folder / "run", rebuild=False, as_json=True, console=quiet()) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["again"] == {"label": 1}
    assert told["labels"] == 4
    assert [f["path"] for f in told["findings"] if f["level"] == "damaged"] == [str(label)]


def test_rebuild_is_refused_while_a_driver_runs(whole: Path, fast: Path) -> None:
    from clusterflow.errors import LeaseError
    from clusterflow.state.lease import Lease

    folder = again(whole, fast)
    with Lease.acquire(folder / "run", after_epoch=1):
        label = next((folder / "run").glob("labels/??/*.json"))
        empty(label)
        with pytest.raises(LeaseError, match="Another driver runs"):
            check_folder(folder / "run", rebuild=True, as_json=True, console=quiet())
        assert label.is_file()


def test_a_newer_format_is_refused_not_called_damage(whole: Path, fast: Path) -> None:
    folder = again(whole, fast)
    marker = folder / "run" / "labels" / "format.json"
    marker.unlink()
    publish_json(marker, {"holds": "labels", "version": 2})
    with pytest.raises(StateError, match="has format 2"):
        examine(CampaignFolder(folder / "run"))
    empty(marker)
    label = next((folder / "run").glob("labels/??/*.json"))
    raw = label.read_bytes()
    label.write_bytes(raw.replace(b'"format":1', b'"format":2'))
    with pytest.raises(StateError, match="has format 2"):
        check_folder(folder / "run", rebuild=True, as_json=True, console=quiet())
    label.write_bytes(raw)
    found = examine(CampaignFolder(folder / "run"))
    assert [f.path for f in found.damage] == [marker]
    assert check_folder(folder / "run", rebuild=True, as_json=False, console=quiet()) == 0
    assert drive_toy(toy_config(folder)).finished
