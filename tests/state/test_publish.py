"""Whole or not at all, and the first one wins."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clusterflow.errors import StateError
from clusterflow.state.disk import TEMPORARY, replace_bytes, storage_error
from clusterflow.state.publish import (
    MANIFEST,
    decode,
    encode,
    publish_folder,
    publish_json,
    read_json,
    set_aside,
    verify_folder,
)

BODY = {"energy": -0.1 + 0.2, "forces": [[1e-300, -3.3, 5e22]], "name": "Å–σ", "none": None}


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob(f"{TEMPORARY}*"))


def make_folder(path: Path, text: str = "weights") -> Path:
    (path / "deep" / "er").mkdir(parents=True)
    (path / "model.bin").write_bytes(text.encode() * 1000)
    (path / "deep" / "er" / "notes.txt").write_text("x")
    (path / "empty").write_bytes(b"")
    return path


# -- one file


def test_round_trip_is_exact_and_first_wins(tmp_path):
    path = tmp_path / "ab" / "result.json"
    assert publish_json(path, BODY) is True
    assert publish_json(path, {"other": 1}) is False
    assert read_json(path) == BODY
    assert read_json(path)["energy"].hex() == BODY["energy"].hex()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("bad", [{"e": float("nan")}, {"e": float("inf")}, {"e": {1, 2}}, {"e": b"bytes"}])
def test_what_is_not_json_is_refused_and_leaves_nothing(tmp_path, bad):
    with pytest.raises(StateError, match="cannot be stored as JSON"):
        publish_json(tmp_path / "x.json", bad)
    assert list(tmp_path.iterdir()) == []


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path):
    raw = encode({"a": [1.5, "b"], "n": None})
    path = tmp_path / "x.json"
    for i in range(len(raw)):
        for bit in range(8):
            with pytest.raises(StateError):
                decode(raw[:i] + bytes([raw[i] ^ (1 << bit)]) + raw[i + 1 :], path)
        path.write_bytes(raw[:i])
        with pytest.raises(StateError):
            read_json(path)
    path.write_bytes(raw)
    assert read_json(path) == {"a": [1.5, "b"], "n": None}


def test_damage_names_the_file_and_what_to_do(tmp_path):
    path = tmp_path / "label.json"
    path.write_text('{"body": {}, "format": 1, "sha256": "00"}')
    with pytest.raises(StateError) as error:
        read_json(path)
    assert "'label.json' is damaged" in error.value.what
    assert error.value.where == str(path)
    assert "backup" in error.value.todo
    with pytest.raises(StateError, match=r"no file 'gone\.json'"):
        read_json(tmp_path / "gone.json")


def test_newer_format_is_not_called_damage(tmp_path):
    document = json.loads(encode({}))
    document["format"] = 2
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(StateError, match="format 2; this clusterflow knows formats up to 1"):
        read_json(tmp_path / "x.json")


def race(count: int, work) -> list[object]:
    """Runs ``work(i)`` in processes that start together; their answers."""
    reads, gate = [], os.pipe()
    for i in range(count):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(gate[1])
            os.read(gate[0], 1)  # until the parent closes its end
            try:
                os.write(w, json.dumps(work(i)).encode())
            finally:
                os._exit(0)
        os.close(w)
        reads.append((pid, r))
    os.close(gate[1])
    os.close(gate[0])
    answers = []
    for pid, r in reads:
        answers.append(json.loads(os.read(r, 10_000)))
        os.close(r)
        os.waitpid(pid, 0)
    return answers


@pytest.mark.parametrize("links", [True, False])
def test_of_many_publishers_exactly_one_wins(tmp_path, monkeypatch, links):
    if not links:  # a file system without hard links

        def no_link(*_args, **_kwargs):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_link)
    for n in range(10):
        path = tmp_path / f"{n}.json"
        answers = race(6, lambda i, path=path: publish_json(path, {"winner": i}))
        assert sorted(answers) == [False] * 5 + [True]
        assert read_json(path) == {"winner": answers.index(True)}
    assert leftovers(tmp_path) == []


def test_a_link_whose_answer_was_lost_counts_as_won(tmp_path, monkeypatch):
    """NFS: the server made the link, the answer got lost, the retry says that it exists."""
    link = os.link

    def lossy(source, target, **kwargs):
        link(source, target, **kwargs)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lossy)
    assert publish_json(tmp_path / "x.json", {}) is True


def test_claim_of_a_dead_publisher_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *a, **k: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "no links")))
    claim = tmp_path / f"{TEMPORARY}claim-x.json"
    claim.write_text("host 1")
    os.utime(claim, (1, 1))
    assert publish_json(tmp_path / "x.json", {"a": 1}) is True
    assert read_json(tmp_path / "x.json") == {"a": 1}
    assert not claim.exists()


# -- crashes: killed at every n-th call that touches the disk

CALLS = ("open", "write", "fsync", "link", "rename", "unlink", "mkdir", "replace")


def killed_at(n: int, work) -> bool:
    """Runs ``work`` in a process that is killed by SIGKILL at its n-th call; False if it ended before that."""
    pid = os.fork()
    if pid == 0:
        left = [n]

        def deadly(call):
            def wrapper(*args, **kwargs):
                left[0] -= 1
                if left[0] == 0:
                    if call is real["write"] and len(args[1]) > 1:
                        call(args[0], args[1][: len(args[1]) // 2])  # torn
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return wrapper

        real = {name: getattr(os, name) for name in CALLS}
        for name, call in real.items():
            setattr(os, name, deadly(call))
        try:
            work()
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return os.WIFSIGNALED(status)


def test_kill_at_any_moment_leaves_nothing_or_the_whole_file(tmp_path):
    outcomes = set()
    n = 1
    while True:
        path = tmp_path / str(n) / "x.json"
        if not killed_at(n, lambda path=path: publish_json(path, BODY)):
            break
        outcomes.add(path.exists())
        if path.exists():
            assert read_json(path) == BODY
        assert publish_json(path, BODY) is not path.exists() or read_json(path) == BODY
        assert read_json(path) == BODY
        n += 1
    assert outcomes == {True, False}
    assert n > 6  # open, write, fsync, link, unlink and the folder's fsync at least


def test_kill_at_any_moment_leaves_nothing_or_the_whole_folder(tmp_path):
    outcomes = set()
    n = 1
    while True:
        tmp, final = make_folder(tmp_path / f"{n}.work"), tmp_path / f"{n}" / "final"
        if not killed_at(n, lambda tmp=tmp, final=final: publish_folder(tmp, final)):
            break
        outcomes.add(final.exists())
        if final.exists():
            verify_folder(final)
        else:  # the task is done again
            shutil.rmtree(tmp)
            assert publish_folder(make_folder(tmp), final)
            verify_folder(final)
        n += 1
    assert outcomes == {True, False}
    assert n > 10


# -- folders


def test_folder_is_published_whole_and_verified(tmp_path):
    final = tmp_path / "tasks" / "train" / "k"
    assert publish_folder(make_folder(tmp_path / "w"), final) is True
    assert not (tmp_path / "w").exists()
    assert set(verify_folder(final)) == {"model.bin", "deep/er/notes.txt", "empty"}
    (final / "notes of the user.txt").write_text("nice")
    verify_folder(final)


def test_second_folder_loses_and_is_removed(tmp_path):
    final = tmp_path / "final"
    assert publish_folder(make_folder(tmp_path / "a", "first"), final)
    assert publish_folder(make_folder(tmp_path / "b", "second"), final) is False
    assert (final / "model.bin").read_bytes().startswith(b"first")
    assert not (tmp_path / "b").exists()


def test_of_many_folder_publishers_exactly_one_wins(tmp_path):
    for n in range(5):
        for i in range(4):
            make_folder(tmp_path / f"{n}-{i}", f"w{i}")
        final = tmp_path / f"final{n}"
        answers = race(4, lambda i, n=n, final=final: publish_folder(tmp_path / f"{n}-{i}", final))
        assert sorted(answers) == [False] * 3 + [True]
        verify_folder(final)
        assert (final / "model.bin").read_bytes().startswith(f"w{answers.index(True)}".encode())
        assert not any((tmp_path / f"{n}-{i}").exists() for i in range(4))


def test_folder_from_another_file_system_is_copied_then_published(tmp_path, monkeypatch):
    real = Path.rename

    def across(self, target):
        if self.parent.name == "scratch":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", across)
    tmp = make_folder(tmp_path / "scratch" / "w")
    assert publish_folder(tmp, tmp_path / "final")
    verify_folder(tmp_path / "final")
    assert not tmp.exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.bin").write_bytes(b"Weights" + b"weights" * 999), "model.bin has changed"),
        (lambda f: (f / "model.bin").write_bytes(b""), "model.bin has 0 bytes instead of 7000"),
        (lambda f: (f / "empty").unlink(), "empty is missing"),
        (lambda f: (f / MANIFEST).unlink(), "no file 'manifest.json'"),
        (lambda f: (f / MANIFEST).write_text("{}"), "'manifest.json' is damaged"),
        (shutil.rmtree, "no published result"),
    ],
)
def test_damaged_folder_is_noticed(tmp_path, damage, message):
    final = tmp_path / "final"
    publish_folder(make_folder(tmp_path / "w"), final)
    damage(final)
    with pytest.raises(StateError, match=message) as error:
        verify_folder(final)
    assert error.value.todo


def test_links_cannot_be_published(tmp_path):
    tmp = make_folder(tmp_path / "w")
    (tmp / "best.ckpt").symlink_to("model.bin")
    with pytest.raises(StateError, match=r"'best\.ckpt' is neither a file nor a folder"):
        publish_folder(tmp, tmp_path / "final")
    assert not (tmp_path / "final").exists()


def test_set_aside_never_overwrites(tmp_path):
    for n in range(3):
        (tmp_path / "x.json").write_text(str(n))
        set_aside(tmp_path / "x.json", tmp_path / "damaged")
    assert sorted(p.read_text() for p in (tmp_path / "damaged").iterdir()) == ["0", "1", "2"]


def test_replace_is_seen_whole_by_readers(tmp_path):
    path = tmp_path / "beat"
    replace_bytes(path, b"0" * 4096)
    stop, torn = threading.Event(), []

    def read():
        while not stop.is_set():
            data = path.read_bytes()
            if len(data) != 4096 or len(set(data)) != 1:
                torn.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(100):
        replace_bytes(path, str(n % 10).encode() * 4096)
    stop.set()
    reader.join()
    assert torn == []
    assert leftovers(tmp_path) == []


# -- disks


def test_full_disk(small_disk):
    """On a real file system of 1 MB that is really full."""
    assert publish_json(small_disk / "fits.json", {"a": "x" * 10_000})
    with pytest.raises(StateError, match="no space left on the disk") as error:
        publish_json(small_disk / "large.json", {"a": "x" * 3_000_000})
    assert "MB free" in error.value.where
    assert "Free some space" in error.value.todo
    assert not (small_disk / "large.json").exists()
    assert leftovers(small_disk) == []
    assert publish_json(small_disk / "fits too.json", {"a": "x" * 10_000})


def test_full_disk_for_a_folder(small_disk):
    """Not even the manifest fits: nothing is published, and the work is still there to be published later."""
    tmp = make_folder(small_disk / "w")
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * shutil.disk_usage(small_disk).free)
    with pytest.raises(StateError, match="no space left"):
        publish_folder(tmp, small_disk / "final")
    assert not (small_disk / "final").exists()
    filler.unlink()
    assert publish_folder(tmp, small_disk / "final")
    verify_folder(small_disk / "final")


def test_file_size_limit_is_reported_as_such(tmp_path):
    """Works for every user: the limit makes write() fail in mid-file, as a full disk does."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from clusterflow.state.publish import publish_json\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "publish_json(Path(sys.argv[1]), {'a': 'x' * 100000})\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20000
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x.json")], capture_output=True, text=True, check=False
    )
    assert "StateError: 'x.json' could not be written: the file would be larger than allowed here" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "reports an error"),
        (errno.ENOSPC, "no space left"),
        (errno.ENAMETOOLONG, "file name too long"),
    ],
)
def test_disk_errors_say_what_to_do(tmp_path, number, message):
    error = storage_error(OSError(number, os.strerror(number)), tmp_path / "x.json", "written")
    assert message in error.what
    assert error.todo


def test_no_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(StateError, match="permission denied"):
        publish_json(tmp_path / "x.json", {})
