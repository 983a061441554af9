"""What every piece of work has in common: what its scratch folder holds when it begins, and when it is published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clusterflow.core.data import Task
from clusterflow.errors import ExecutionError, ScienceError
from clusterflow.execution import apps
from clusterflow.execution.messages import task_to_json
from clusterflow.execution.workplace import Workplace
from clusterflow.state.layout import CampaignFolder


@pytest.mark.parametrize(
    ("kind", "kept"), [("train", True), ("explore", True), ("acquire", False), ("evaluate", False)]
)
def test_what_was_interrupted_finds_what_it_left(
    kind: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk and a training go on from their own checkpoints; other work begins in an empty folder. What was to be
    published does not stay."""
    seen: list[list[str]] = []

    def stage(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
        del payload
        seen.append(sorted(p.name for p in (*place.scratch.iterdir(), *place.out.iterdir()) if p.is_file()))
        (place.scratch / "checkpoint").write_text("half-way")
        (place.out / "half").write_text("half a result")
        if len(seen) == 1:
            raise RuntimeError("the worker was killed")
        (place.out / "half").unlink()
        return {"steps": 10}

    monkeypatch.setitem(apps.STAGES, kind, stage)
    task, folder = task_to_json(Task(kind, "ab" * 32, "md", {})), CampaignFolder(tmp_path)
    with pytest.raises((ScienceError, ExecutionError)):
        apps.run_task(task, str(tmp_path))
    assert apps.run_task(task, str(tmp_path))["summary"] == {"steps": 10}
    assert seen == [[], ["checkpoint", "traceback.txt"] if kept else []]
    assert sorted(p.name for p in folder.result(kind, "ab" * 32).iterdir()) == ["manifest.json", "result.json"]
    assert not folder.scratch(kind, "ab" * 32).exists()
