"""One driver per campaign, also when drivers die, hang or live on another host."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from clusterflow.errors import LeaseError
from clusterflow.state import lease as lease_module
from clusterflow.state.lease import Lease, owner, process_start
from clusterflow.state.publish import publish_json

HOLDER = (
    "import sys, time\n"
    "from clusterflow.state.lease import Lease\n"
    "lease = Lease.acquire(sys.argv[1])\n"
    "print(lease.epoch, flush=True)\n"
    "time.sleep(600)\n"
)


def hold(folder):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip(), "the other driver got no lease"
    return process


def foreign_owner(folder, epoch=1, **changes):
    """An owner on another host, as its files look from here."""
    known = {
        "epoch": epoch,
        "host": "node17",
        "machine": "node17 other-boot",
        "pid": 4242,
        "start": "1",
        "user": "ada",
        "since": "2026-01-01T00:00:00+00:00",
        **changes,
    }
    publish_json(folder / "lease" / f"epoch-{epoch}.json", known)
    (folder / "lease" / f"heartbeat-{epoch}").write_text("x")


def test_epoch_rises_with_each_acquisition(tmp_path):
    assert owner(tmp_path) is None
    for expected in (1, 2, 3):
        with Lease.acquire(tmp_path) as lease:
            assert lease.epoch == expected
            lease.check()
            assert owner(tmp_path)["pid"] == os.getpid()
            assert owner(tmp_path)["released"] is False
    assert owner(tmp_path)["released"] is True


def test_epoch_goes_on_after_the_journal_s(tmp_path):
    with Lease.acquire(tmp_path, after_epoch=41) as lease:
        assert lease.epoch == 42


def test_second_driver_is_refused_at_once_and_told_whom(tmp_path):
    holder = hold(tmp_path)
    try:
        began = time.monotonic()
        with pytest.raises(LeaseError) as error:
            Lease.acquire(tmp_path)
        assert time.monotonic() - began < 5
        assert f"process {holder.pid}" in error.value.what
        assert socket.gethostname() in error.value.what
        assert "since 20" in error.value.what
        assert f"kill {holder.pid}" in error.value.todo
    finally:
        holder.kill()
        holder.wait()


def test_the_same_process_cannot_take_it_twice(tmp_path):
    with Lease.acquire(tmp_path), pytest.raises(LeaseError):
        Lease.acquire(tmp_path)
    with Lease.acquire(tmp_path) as lease:
        assert lease.epoch == 2


def test_killed_owner_is_taken_over_at_once(tmp_path):
    holder = hold(tmp_path)
    holder.send_signal(signal.SIGKILL)
    # Not waited for: it stays a zombie, as under a parent that does not care, and must count as dead.
    deadline = time.monotonic() + 10
    while process_start(holder.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    with Lease.acquire(tmp_path) as lease:
        assert lease.epoch == 2
    holder.wait()


def test_pid_that_another_process_has_now_is_not_the_owner(tmp_path):
    foreign_owner(tmp_path, machine=lease_module._machine(), host=socket.gethostname(), pid=os.getpid(), start="17")
    with Lease.acquire(tmp_path) as lease:
        assert lease.epoch == 2


def test_owner_elsewhere_counts_by_its_heartbeat(tmp_path):
    foreign_owner(tmp_path)
    with pytest.raises(LeaseError) as error:
        Lease.acquire(tmp_path, stale_after=60)
    assert "process 4242 of ada on host node17" in error.value.what
    assert "wait" in error.value.todo
    beat = tmp_path / "lease" / "heartbeat-1"
    old = beat.stat().st_mtime - 61
    os.utime(beat, (old, old))
    with Lease.acquire(tmp_path, stale_after=60) as lease:
        assert lease.epoch == 2


def test_staleness_does_not_ask_this_computer_s_clock(tmp_path, monkeypatch):
    foreign_owner(tmp_path)
    monkeypatch.setattr(time, "time", lambda: 4e9)  # decades ahead
    with pytest.raises(LeaseError):
        Lease.acquire(tmp_path, stale_after=60)


def test_released_by_another_host_is_free_at_once(tmp_path):
    foreign_owner(tmp_path)
    publish_json(tmp_path / "lease" / "released-1.json", {})
    with Lease.acquire(tmp_path) as lease:
        assert lease.epoch == 2


def test_heartbeat_is_renewed(tmp_path):
    with Lease.acquire(tmp_path, heartbeat=0.05) as lease:
        beat = tmp_path / "lease" / f"heartbeat-{lease.epoch}"
        deadline = time.monotonic() + 10
        seen = set()
        while len(seen) < 4 and time.monotonic() < deadline:
            if beat.exists():
                seen.add(beat.stat().st_mtime_ns)
            time.sleep(0.01)
    assert len(seen) >= 4
    assert not list((tmp_path / "lease").glob(".tmp-*"))
    assert not list((tmp_path / "lease").glob("probe-*"))


def test_old_owner_is_fenced_off(tmp_path):
    with Lease.acquire(tmp_path) as old:
        foreign_owner(tmp_path, epoch=2)  # somebody elsewhere thought it dead
        with pytest.raises(LeaseError, match="it holds epoch 2, this one held 1"):
            old.check()


def test_deleted_or_replaced_lease_is_noticed(tmp_path):
    with Lease.acquire(tmp_path) as old:
        (tmp_path / "lease").rename(tmp_path / "gone")
        with pytest.raises(LeaseError, match="was deleted"):
            old.check()
        with Lease.acquire(tmp_path) as new:
            assert new.epoch == 1
            new.check()
            with pytest.raises(LeaseError):
                old.check()


def test_released_lease_is_no_lease(tmp_path):
    lease = Lease.acquire(tmp_path)
    lease.release()
    lease.release()
    with pytest.raises(LeaseError, match="released"):
        lease.check()


def test_a_forked_child_does_not_release_for_its_parent(tmp_path):
    with Lease.acquire(tmp_path) as lease:
        pid = os.fork()
        if pid == 0:
            lease.release()
            os._exit(0)
        os.waitpid(pid, 0)
        lease.check()
        assert owner(tmp_path)["released"] is False


def test_of_many_contenders_exactly_one_gets_it(tmp_path):
    for n in range(5):
        folder = tmp_path / str(n)
        foreign_owner(folder, machine=lease_module._machine(), pid=2**22, start="1")  # died without a word
        gate, news, done = os.pipe(), os.pipe(), os.pipe()
        crowd = []
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                os.close(gate[1])
                os.close(done[1])
                os.read(gate[0], 1)  # until the parent closes its end
                try:
                    Lease.acquire(folder)
                    os.write(news[1], b"o")
                    os.read(done[0], 1)  # an owner lives until all have tried
                except LeaseError:
                    os.write(news[1], b"r")
                finally:
                    os._exit(0)
            crowd.append(pid)
        os.close(gate[1])
        said = b""
        while len(said) < 5:
            said += os.read(news[0], 5)
        os.close(done[1])
        for pid in crowd:
            os.waitpid(pid, 0)
        for end in (gate[0], *news, done[0]):
            os.close(end)
        assert sorted(said) == sorted(b"orrrr")
        assert owner(folder)["epoch"] == 2
