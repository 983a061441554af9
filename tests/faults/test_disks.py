"""Disks that are full, or may not be written to: real ones, of a few pages, where a test may mount one."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from clusterflow.campaign import session
from clusterflow.campaign.loop import Interrupted
from clusterflow.cli.fsck import check_folder
from clusterflow.cli.status import find_campaign
from clusterflow.errors import ClusterflowError, StateError
from clusterflow.state import lease
from clusterflow.state.disk import Disk, replaced_by
from clusterflow.state.fsck import examine
from clusterflow.state.journal import read_events
from clusterflow.state.layout import CampaignFolder
from clusterflow.testing.toy_science import drive_toy, final_hash, toy_config

Mount = Callable[[str], None]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A file system in memory, and what changes its options while it is mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")

    def change(options: str, *more: str) -> None:
        subprocess.run([mount, *more, "-o", options, str(place)], capture_output=True, text=True, check=True)

    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    try:
        yield place, lambda options: change(f"remount,{options}")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture(scope="module")
def whole(memory: Path) -> str:
    folder = memory / "undisturbed"
    drive_toy(toy_config(folder))
    return final_hash(folder / "run")


def test_a_disk_that_is_full_in_the_middle(
    whole: str, small: tuple[Path, Mount], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From too small for anything to just large enough; each time more space is made and `run` goes on."""
    monkeypatch.setattr(session, "_MIN_FREE", 0)
    runs = count()
    # Each run is a process of its own in life: the one that met the full disk is gone when the next one begins.
    monkeypatch.setattr(lease, "process_start", lambda _: f"run {runs}")
    place, remount = small
    folder, stopped = place / "toy", {}
    for pages in range(8, 200, 3):
        shutil.rmtree(folder, ignore_errors=True)
        remount(f"size={pages * 4096}")
        try:
            config = toy_config(folder)
        except OSError:  # not even the structure file fits: the user's own copy of it fails, not the campaign
            continue
        next(runs)
        try:
            finished = drive_toy(config).finished
        except ClusterflowError as error:
            stopped[pages] = error
            finished = ""
        if finished:
            break
        remount("size=8m")
        next(runs)
        assert drive_toy(config).finished, pages
        assert final_hash(folder / "run") == whole, pages
        assert examine(CampaignFolder(folder / "run")).damage == []
    else:
        pytest.fail("it never fitted")
    assert len(stopped) > 10
    for pages, error in stopped.items():
        assert isinstance(error, StateError), f"{pages} pages: {error}"
        assert "space" in str(error).lower(), f"{pages} pages: {error}"
        assert error.todo, f"{pages} pages: {error}"


def test_too_little_space_is_said_before_anything_is_done(small: tuple[Path, Mount]) -> None:
    with pytest.raises(StateError, match="it needs at least 200 MB"):
        drive_toy(toy_config(small[0] / "toy"))
    assert not (small[0] / "toy" / "run" / "journal.jsonl").exists()


class BecomesReadOnly(Disk):
    """As ext4 does when it finds an error: from the n-th call on nothing can be changed."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def _allow(self, path: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def create(self, path: Path) -> int:
        self._allow(path)
        return super().create(path)

    def append_to(self, path: Path) -> int:
        self._allow(path)
        return super().append_to(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        self._allow(descriptor)
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._allow(descriptor)

    def link(self, source: Path, target: Path) -> None:
        self._allow(target)
        super().link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        self._allow(target)
        super().rename(source, target)

    def replace(self, source: Path, target: Path) -> None:
        self._allow(target)
        super().replace(source, target)

    def unlink(self, path: Path) -> None:
        self._allow(path)
        super().unlink(path)

    def make_folder(self, path: Path) -> None:
        self._allow(path)
        super().make_folder(path)

    def remove_tree(self, path: Path) -> None:
        self._allow(path)
        super().remove_tree(path)


def test_a_disk_that_becomes_read_only_at_any_call(whole: str, fast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = count()
    monkeypatch.setattr(lease, "process_start", lambda _: f"run {runs}")
    for calls in count(0, 17):
        config = toy_config(fast / str(calls))
        next(runs)
        said: StateError | None = None
        with replaced_by(BecomesReadOnly(calls)):
            try:
                drive_toy(config)
            except StateError as error:
                said = error
        if said is None:
            break  # so many calls are enough for all of it
        assert "read-only" in said.what.lower()
        assert said.todo
        next(runs)
        assert drive_toy(config).finished, calls
        assert final_hash(config.run_folder) == whole, calls
    assert calls > 200


def test_a_rebuild_that_is_cut_short_at_any_call_is_done_by_the_next(
    whole: str, fast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = count()
    monkeypatch.setattr(lease, "process_start", lambda _: f"run {runs}")
    source = fast / "source"
    drive_toy(toy_config(source))
    damaged = [*source.glob("run/labels/??/*.json")][:1] + [*source.glob("run/tasks/train/*/result.json")][:1]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-9])
    journal = source / "run" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:20], lines[20].replace(b"kind", b"kinD", 1), *lines[21:]]))
    for calls in count():
        folder = fast / str(calls)
        shutil.copytree(source, folder)
        next(runs)
        said: StateError | None = None
        with replaced_by(BecomesReadOnly(calls)):
            try:
                check_folder(folder / "run", rebuild=True, as_json=False, console=Console(quiet=True))
            except StateError as error:
                said = error
        for _ in range(2):  # the second finds nothing left to do
            next(runs)
            assert check_folder(folder / "run", rebuild=True, as_json=False, console=Console(quiet=True)) == 0
        assert {p.read_bytes() for p in damaged} <= {
            p.read_bytes() for p in [*folder.rglob("damaged/**/*")] if p.is_file()
        }
        next(runs)
        assert drive_toy(toy_config(folder)).finished, calls
        assert final_hash(folder / "run") == whole, calls
        if said is None:
            break
    assert calls > 30


def test_a_disk_that_is_mounted_read_only(
    whole: str, small: tuple[Path, Mount], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "_MIN_FREE", 0)
    place, remount = small
    config = toy_config(place / "toy")
    root = config.run_folder
    with pytest.raises(Interrupted):
        drive_toy(config, stop=lambda: any((root / "tasks" / "train").glob("*/result.json")))
    remount("ro")
    before = (root / "journal.jsonl").read_bytes()
    with pytest.raises(StateError, match=r"[Rr]ead-only") as error:
        drive_toy(config)
    assert error.value.todo
    _, snapshot = find_campaign(root)  # what only reads goes on reading
    assert any(o.kind == "label" for o in snapshot.outcomes.values())
    assert check_folder(root, rebuild=False, as_json=False, console=Console(width=200)) == 0
    assert "nothing is damaged or lost" in capsys.readouterr().out
    with pytest.raises(StateError, match=r"[Rr]ead-only"):
        check_folder(root, rebuild=True, as_json=True, console=Console(quiet=True))
    assert (root / "journal.jsonl").read_bytes() == before
    remount("rw")
    assert drive_toy(config).finished
    assert final_hash(root) == whole


def test_a_folder_without_permission(whole: str, tmp_path: Path) -> None:
    """As another user, since root may write everywhere."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = tmp_path / "toy"
    config = toy_config(folder)
    drive_toy(config)
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from clusterflow.errors import ClusterflowError\n"
        "from clusterflow.testing.toy_science import drive_toy, toy_config\n"
        "config = toy_config(Path(sys.argv[1]))\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try:\n    drive_toy(config)\n"
        "except ClusterflowError as error:\n    print(type(error).__name__, error)\n"
    )
    for path in (folder, *folder.parents):  # the way there is open, the run folder is not
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    before = (folder / "run" / "journal.jsonl").read_bytes()
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("StateError"), done.stdout
    assert "ermi" in done.stdout
    assert (folder / "run" / "journal.jsonl").read_bytes() == before
    assert (folder / "run").stat().st_mode & 0o777 == 0o700
    assert len(read_events(folder / "run" / "journal.jsonl")) > 10
