"""The journal: a chain that any damage breaks, and that a torn last line does not."""

import contextlib
import errno
import os
import signal
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from clusterflow.errors import JournalError, LeaseError, StateError
from clusterflow.state import journal_lines
from clusterflow.state.disk import Disk, replaced_by
from clusterflow.state.journal import Journal, decisions_digest, read_events, scan_journal
from clusterflow.state.snapshot import fold


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def write(path, count=4, epoch=1):
    with Journal.open(path, epoch) as journal:
        for n in range(count):
            journal.append("sent", key=f"k{n}", value=[n, 0.1 * n], text="Å")
    return path.read_bytes()


def test_events_read_back_as_they_were_written(path):
    with Journal.open(path, 3) as journal:
        event = journal.append("decision", name="selected/1", value={"b": (1, 2), "a": 0.1})
        assert event.data == {"name": "selected/1", "value": {"b": [1, 2], "a": 0.1}}
        assert journal.last == read_events(path)[-1]
    first, second = read_events(path)
    assert first.kind == "journal"
    assert first.data == {"format": 1}
    assert second == event
    assert (first.seq, second.seq, second.epoch) == (0, 1, 3)
    assert second.prev == first.checksum
    assert datetime.fromisoformat(second.time).utcoffset().total_seconds() == 0


def test_reopening_continues_the_chain(path):
    write(path, 3, epoch=1)
    write(path, 3, epoch=2)
    events = read_events(path)
    assert [e.seq for e in events] == list(range(7))
    assert [e.epoch for e in events] == [1] * 4 + [2] * 3


def test_truncation_at_every_byte(path, tmp_path):
    raw = write(path, 1)
    ends = [i + 1 for i, b in enumerate(raw) if b == 10]
    for length in range(len(raw) + 1):
        folder = tmp_path / str(length)
        folder.mkdir()
        cut = folder / "journal.jsonl"
        cut.write_bytes(raw[:length])
        whole = sum(e <= length for e in ends)
        assert len(read_events(cut)) == whole
        assert cut.read_bytes() == raw[:length]  # a reader changes nothing
        with Journal.open(cut, 2) as journal:
            journal.append("resumed")
        events = read_events(cut)
        assert [e.kind for e in events[-1:]] == ["resumed"]
        assert len(events) == max(whole, 1) + 1
        torn = length - max([e for e in ends if e <= length], default=0)
        kept = list(folder.glob("journal.torn-*"))
        assert [k.read_bytes() for k in kept] == ([raw[length - torn : length]] if torn else [])


def test_a_flipped_bit_in_any_byte_is_noticed(path):
    raw = write(path, 2)
    line_of = [raw[:i].count(b"\n") + 1 for i in range(len(raw))]
    opened = set()
    for i in range(len(raw) - 1):
        path.write_bytes(raw[:i] + bytes([raw[i] ^ (1 << (i % 8))]) + raw[i + 1 :])
        with pytest.raises(JournalError) as error:
            read_events(path)
        if "damaged" in error.value.what:
            assert f"line {line_of[i]}" in error.value.where
        if line_of[i] not in opened:
            with pytest.raises(JournalError):
                Journal.open(path, 9)
        opened.add(line_of[i])
    assert opened == {1, 2, 3}
    path.write_bytes(raw[:-1] + b"\x0b")  # the last newline: the line counts as torn, which it might be
    assert len(read_events(path)) == 2


@pytest.mark.parametrize("change", ["lost", "swapped", "doubled", "inserted"])
def test_lost_swapped_and_foreign_lines_are_noticed(path, tmp_path, change):
    lines = write(path).splitlines(keepends=True)
    other = write(tmp_path / "other.jsonl").splitlines(keepends=True)
    if change == "lost":
        del lines[2]
    elif change == "swapped":
        lines[2], lines[3] = lines[3], lines[2]
    elif change == "doubled":
        lines.insert(2, lines[2])
    else:
        lines[2] = other[2]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=r"Line [34] of the journal is damaged") as error:
        read_events(path)
    assert "clusterflow fsck" in error.value.todo


def test_not_a_journal_and_newer_format(path):
    path.write_text("hello\n")
    with pytest.raises(JournalError, match="Line 1"):
        read_events(path)
    path.write_text('{"data":{"format":2},"kind":"journal"}\n')
    with pytest.raises(JournalError, match="format 2"):
        read_events(path)
    path.unlink()
    with pytest.raises(StateError, match="no journal"):
        read_events(path)


def test_data_that_is_not_json_is_refused_and_writes_nothing(path):
    with Journal.open(path, 1) as journal:
        before = path.read_bytes()
        with pytest.raises(JournalError, match="not JSON"):
            journal.append("done", energy=float("nan"))
        assert path.read_bytes() == before
        journal.append("done", energy=1.0)
    assert len(read_events(path)) == 2


def test_batch_is_one_write_and_keeps_what_had_happened(path, monkeypatch):
    syncs = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (syncs.append(fd), real(fd)))
    with Journal.open(path, 1) as journal:
        syncs.clear()
        with journal.batch():
            for n in range(5):
                journal.append("sent", n=n)
            assert len(read_events(path)) == 1
        assert len(syncs) == 1
        with contextlib.suppress(KeyboardInterrupt), journal.batch(), journal.batch():
            journal.append("done", n=5)
            raise KeyboardInterrupt
        journal.append("done", n=6)
    assert [e.data["n"] for e in read_events(path)[1:]] == list(range(7))


def test_older_epoch_and_lost_lease_are_refused(path):
    write(path, epoch=5)
    with pytest.raises(JournalError, match="epoch 5, this driver holds epoch 4"):
        Journal.open(path, 4)
    owned = [True]

    def guard():
        if not owned[0]:
            raise LeaseError("taken over")

    with Journal.open(path, 5, guard=guard) as journal:
        journal.append("sent")
        before = path.read_bytes()
        owned[0] = False
        with pytest.raises(LeaseError):
            journal.append("sent")
        assert path.read_bytes() == before


def test_two_writers_notice_each_other(path):
    a, b = Journal.open(path, 1), Journal.open(path, 1)
    a.append("sent")
    with pytest.raises(StateError, match="somebody else changed its length"):
        b.append("sent")
    with pytest.raises(StateError):  # and it stays refused
        b.append("sent")
    a.append("sent")
    assert len(read_events(path)) == 3
    a.close()
    b.close()
    with pytest.raises(StateError, match="closed"):
        a.append("sent")


def test_full_disk_takes_the_torn_line_back(small_disk):
    path = small_disk / "journal.jsonl"
    with Journal.open(path, 1) as journal:
        journal.append("sent", text="x" * 100_000)
        good = path.read_bytes()
        with pytest.raises(StateError, match="no space left"):
            journal.append("sent", text="y" * 2_000_000)
        assert path.read_bytes() == good
        journal.append("sent", text="z")  # there is space for this one
    assert [e.data.get("text", "")[:1] for e in read_events(path)] == ["", "x", "z"]


def test_unconfirmed_write_is_never_built_upon(path, monkeypatch):
    """After a failed fsync nobody knows what the disk holds."""
    with Journal.open(path, 1) as journal:

        def failing(_fd):
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            with pytest.raises(StateError, match="reports an error"):
                journal.append("sent")
        with pytest.raises(StateError, match="failed to confirm"):
            journal.append("sent")
    write(path, 1, epoch=2)
    read_events(path)


def test_kill_9_in_the_middle_of_writing(path):
    for round_ in range(8):
        news, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            journal = Journal.open(path, round_)
            while True:
                event = journal.append("done", text="x" * 20_000)
                os.write(tell, event.seq.to_bytes(4, "little"))
        os.close(tell)
        seen = os.read(news, 4 * (3 + 5 * round_))
        time.sleep(0.001 * round_)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        while more := os.read(news, 4096):
            seen += more
        os.close(news)
        confirmed = int.from_bytes(seen[-4:], "little")
        events = read_events(path)
        assert events[-1].seq >= confirmed  # what was confirmed is there
        assert [e.seq for e in events] == list(range(len(events)))


def test_ten_thousand_events_are_read_fast(path):
    with Journal.open(path, 1) as journal, journal.batch():
        for n in range(10_000):
            journal.append("done", key="f" * 64, task="label", summary={"energy": -1.5, "n": n}, wall_time=12.5)
    began = time.process_time()
    events = read_events(path)
    seconds = time.process_time() - began
    assert len(events) == 10_001
    assert seconds < 2.0, f"{seconds:.2f} s"


def test_digest_of_decisions_ignores_interruptions_only(tmp_path):
    def run(name, epochs, values):
        path = tmp_path / name
        for epoch, value in zip(epochs, values, strict=True):
            with Journal.open(path, epoch) as journal:
                journal.append("opened", epoch=epoch)
                journal.append("sent", key="k")
                journal.append("decision", name="split/0", value=value)
        return decisions_digest(read_events(path))

    whole = run("whole", [1, 1], [["a"], ["b"]])
    assert run("resumed", [1, 7], [["a"], ["b"]]) == whole
    assert run("other", [1, 1], [["a"], ["c"]]) != whole
    assert run("order", [1, 1], [["b"], ["a"]]) != whole
    assert run("fewer", [1], [["a"]]) != whole


def test_a_line_written_after_the_campaign_was_taken_over_is_left_out(path):
    """The old driver was stopped between looking at its lease and writing; the new one has written meanwhile."""
    old = Journal.open(path, 1)
    old.append("sent", key="a")

    class Paused(Disk):
        def write(self, descriptor, data):
            with replaced_by(Disk()):
                self.new = Journal.open(path, 2)
                self.new.append("sent", key="b")
            return super().write(descriptor, data)

    with replaced_by(Paused()), contextlib.suppress(StateError):
        old.append("done", key="a")
    raw = path.read_bytes()
    assert [e.data.get("key") for e in read_events(path)] == [None, "a", "b"]
    assert scan_journal(path).stale == 1
    write(path, 1, epoch=2)  # the new driver goes on, or the one after it
    assert [e.data.get("key") for e in read_events(path)] == [None, "a", "b", "k0"]
    assert path.read_bytes().startswith(raw)
    with pytest.raises(StateError):
        old.append("done", key="c")


def test_a_stale_line_does_not_stop_the_new_driver(path):
    old = Journal.open(path, 1)
    new = Journal.open(path, 2)
    old.append("sent", key="stale")  # written after the new driver had read the journal, before it wrote
    new.append("sent", key="mine")
    old._size = path.stat().st_size
    old.append("done", key="stale")
    new.append("done", key="mine")
    assert [(e.epoch, e.data.get("key")) for e in read_events(path)] == [(1, None), (2, "mine"), (2, "mine")]
    assert scan_journal(path).stale == 2
    with path.open("ab") as stream:
        stream.write(b"not a line of a driver\n")
    with pytest.raises(StateError, match="somebody else changed its length"):
        new.append("sent", key="more")


def test_what_an_older_epoch_wrote_may_not_be_built_upon(path):
    """Only the first line of a new epoch may go back, and only over lines of an older one."""
    lines = write(path, 4, epoch=1).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    branch = write(path, 1, epoch=1).splitlines(keepends=True)[2]
    path.write_bytes(b"".join([*lines, branch]))
    with pytest.raises(JournalError, match="Line 6 of the journal is damaged"):
        read_events(path)


FORMAT_1 = Path(__file__).with_name("journal_format_1.jsonl")
"""Written by clusterflow 0.1.0: a whole small campaign, never to be changed."""


def test_a_journal_of_the_first_format_opens_for_ever(path):
    path.write_bytes(FORMAT_1.read_bytes())
    snapshot = fold(read_events(path))
    assert len(snapshot.outcomes) == 16
    assert all(o.status == "done" for o in snapshot.outcomes.values())
    assert snapshot.finished == {"reason": "all 1 iterations are done", "failed": False}
    assert decisions_digest(read_events(path))[:16] == "cda3eb64e9331e3c"
    with Journal.open(path, 2) as journal:
        journal.append("opened", version="later", config="", level_of_theory="", changes=[])
    assert path.read_bytes().startswith(FORMAT_1.read_bytes())  # never rewritten


def test_an_older_journal_is_read_as_this_version_would_have_written_it(path, monkeypatch):
    """The mechanism by which a later format will open today's campaigns."""
    write(path, 2)
    monkeypatch.setattr(journal_lines, "FORMAT", 2)
    monkeypatch.setitem(journal_lines.UPGRADES, 1, lambda e: replace(e, kind="dispatched") if e.kind == "sent" else e)
    assert [e.kind for e in read_events(path)] == ["journal", "dispatched", "dispatched"]
    before = path.read_bytes()
    with Journal.open(path, 2) as journal:
        journal.append("sent", key="new")
    assert path.read_bytes().startswith(before)
    events = read_events(path)
    assert [e.kind for e in events] == ["journal", "dispatched", "dispatched", "journal", "sent"]
    assert events[3].data == {"format": 2}
    monkeypatch.undo()  # and this version says clearly that it cannot read the result
    with pytest.raises(JournalError, match="format 2; this clusterflow knows formats up to 1") as error:
        read_events(path)
    assert "newer" in error.value.todo
    with pytest.raises(JournalError, match="format 2"):
        Journal.open(path, 3)
    assert path.read_bytes().startswith(before)
