"""The user's own command: told the news, never a shell, never in the way."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from clusterflow.campaign.notify import notify
from clusterflow.config.notify import Notify

HOSTILE = "$(touch owned) `touch owned`; touch owned\n-rf --help"


def script(folder: Path, text: str) -> list[str]:
    (folder / "tell.py").write_text(text)
    return [sys.executable, str(folder / "tell.py")]


def test_it_is_told_what_happened_and_where(tmp_path: Path) -> None:
    got = str(tmp_path / "got")
    keep = f"import os, sys; open({got!r}, 'w').write(sys.stdin.read() + os.environ['CLUSTERFLOW_REASON'])"
    wanted = Notify(command=tuple(script(tmp_path, keep)))
    assert notify(wanted, "finished", campaign="mof", reason=HOSTILE, folder=tmp_path) == ""
    assert (tmp_path / "got").read_text() == f"clusterflow campaign mof finished: {HOSTILE}\n{tmp_path}\n{HOSTILE}"
    assert not (tmp_path / "owned").exists()


def test_only_when_asked_for(tmp_path: Path) -> None:
    wanted = Notify(command=("/does/not/exist",), on=("failed",))
    assert notify(wanted, "finished", campaign="m", reason="r", folder=tmp_path) == ""
    assert notify(None, "failed", campaign="m", reason="r", folder=tmp_path) == ""


def test_arguments_are_never_read_by_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keep = f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(repr(sys.argv[1:]))"
    words = ("; touch owned", "$(touch owned)", "`touch owned`", "-rf", "a b")
    assert (
        notify(Notify(command=(*script(tmp_path, keep), *words)), "failed", campaign="m", reason="r", folder=tmp_path)
        == ""
    )
    assert (tmp_path / "got").read_text() == repr(list(words))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "said"), [("raise SystemExit(3)", "ended with 3"), ("import time; time.sleep(600)", "was ended after 1 s")]
)
def test_its_failure_is_a_remark(tmp_path: Path, text: str, said: str) -> None:
    began = time.monotonic()
    wanted = Notify.model_validate({"command": script(tmp_path, text), "time_limit": "1 s"})
    assert said in notify(wanted, "failed", campaign="m", reason="r", folder=tmp_path)
    assert time.monotonic() - began < 60


def test_a_missing_program_is_a_remark(tmp_path: Path) -> None:
    assert "cannot be run" in notify(
        Notify(command=("/does/not/exist",)), "failed", campaign="m", reason="r", folder=tmp_path
    )


@pytest.mark.parametrize("command", [[], "mail me", ["mail", "a\nb"], ["mail", ""], ["mail", "a\x00b"]])
def test_what_is_no_list_of_words_is_refused(command: object) -> None:
    with pytest.raises(ValidationError):
        Notify.model_validate({"command": command})
