"""A walk whose worker dies goes on from its checkpoint, and ends as the walk that nobody disturbed, bit by bit."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from clusterflow.core.data import Prediction, Trajectory
from clusterflow.errors import ExecutionError
from clusterflow.explore import checkpoint, walk
from clusterflow.explore.ase_md import ASEExplorer
from clusterflow.explore.checkpoint import Checkpoints
from clusterflow.explore.openmm_md import OpenMMExplorer
from clusterflow.explore.stop import BlowUpLimits
from clusterflow.testing.analytic_potentials import LennardJones

COPPER = LennardJones(epsilon=0.25, sigma=2.6, cutoff=5.2)
STEPS, SEGMENT, FRAMES = 230, 40, 25
"""Frames and ends of segments fall together once in 200 steps."""


class Dies:
    """A potential that takes its process with it after so many calls; here, an error that nobody catches."""

    def __init__(self, calls: int) -> None:
        self._left = calls
        self.cutoff, self.reach, self.elements = COPPER.cutoff, COPPER.reach, COPPER.elements
        self.model_id = COPPER.model_id
        self.calls = 0

    def predict(self, frames: Sequence[Atoms]) -> list[Prediction]:
        self.calls += 1
        if self.calls > self._left:
            raise ExecutionError("The worker was killed.")
        return COPPER.predict(frames)

    def calculator(self) -> Any:
        from clusterflow.testing.analytic_potentials import PredictionCalculator

        return PredictionCalculator(self)


def copper() -> Atoms:
    return bulk("Cu", "fcc", a=3.8, cubic=True).repeat(2)


def explorer(name: str) -> Any:
    kind = ASEExplorer if name.startswith("ase") else OpenMMExplorer
    more: dict[str, Any] = {"barostat_interval": 7} if kind is OpenMMExplorer else {}
    pressure = 0.5 if "pressure" in name else None
    return kind(300.0, pressure, STEPS, timestep_fs=2.0, frame_interval=FRAMES, **more)


KINDS = ["openmm", "openmm, pressure", "ase", "ase, pressure"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short segments, each of which is saved."""
    monkeypatch.setattr(walk, "SEGMENT", SEGMENT)
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)


def same(one: Trajectory, other: Trajectory) -> None:
    assert (one.steps_done, one.stop_reason) == (other.steps_done, other.stop_reason)
    assert np.array_equal(one.times, other.times)
    for a, b in zip(one.frames, other.frames, strict=True):
        assert a.info == b.info
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.get_momenta(), b.get_momenta())
        assert np.array_equal(a.cell.array, b.cell.array)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", KINDS)
def test_a_walk_that_dies_again_and_again_ends_as_one_that_does_not(kind: str, tmp_path: Path) -> None:
    whole = explorer(kind).explore(copper(), COPPER, seed=5, workdir=tmp_path / "whole")
    assert whole.steps_done == STEPS
    assert not list((tmp_path / "whole").glob("walk-*"))  # nothing goes on from a walk that has ended
    calls = []
    for _ in range(20):
        potential = Dies(110)
        try:
            again = explorer(kind).explore(copper(), potential, seed=5, workdir=tmp_path / "killed")
            break
        except ExecutionError:
            calls.append(sorted(p.name for p in (tmp_path / "killed").glob("walk-*")))
    assert len(calls) >= 2
    assert calls[0] != calls[-1]
    same(again, whole)


@pytest.mark.usefixtures("short")
def test_a_blow_up_is_the_same_after_a_death(tmp_path: Path) -> None:
    """The last sane configuration is no frame yet when it is saved."""
    limits = BlowUpLimits(max_force=6.0)
    hot = OpenMMExplorer(600.0, None, STEPS, timestep_fs=2.0, frame_interval=150, limits=limits)
    whole = hot.explore(copper(), COPPER, seed=6, workdir=tmp_path / "whole")
    assert "force" in whole.stop_reason
    assert SEGMENT < whole.steps_done < 150
    with pytest.raises(ExecutionError):
        hot.explore(copper(), Dies(whole.steps_done - 5), seed=6, workdir=tmp_path / "killed")
    assert list((tmp_path / "killed").glob("walk-*"))
    again = Dies(1000)
    same(hot.explore(copper(), again, seed=6, workdir=tmp_path / "killed"), whole)
    assert again.calls < whole.steps_done / 2  # it did not begin anew


@pytest.mark.usefixtures("short")
def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    """Cut short, with a flipped bit, empty, or not even a checkpoint: the one before it serves, or the start."""
    made = explorer("openmm")
    whole = made.explore(copper(), COPPER, seed=5, workdir=tmp_path / "whole")
    with pytest.raises(ExecutionError):
        made.explore(copper(), Dies(200), seed=5, workdir=tmp_path / "killed")
    files = {p.name: p.read_bytes() for p in sorted((tmp_path / "killed").glob("walk-*"))}
    assert len(files) >= 3
    last = list(files)[-1]
    middle = len(files[last]) // 2
    flipped = bytearray(files[last])
    flipped[middle] ^= 1
    damages = [files[last][:n] for n in (0, 10, middle, len(files[last]) - 1)]
    damages += [bytes(flipped), b"\0" * len(flipped), pickle.dumps({"step": 1})]
    for number, damage in enumerate(damages):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(damage if name == last else content)
        store = Checkpoints(folder, walk.walk_key(made, copper(), COPPER, 5))
        found = store.load(copper())
        assert found is not None
        assert found.step == int(list(files)[-2].removeprefix("walk-").removesuffix(".npz"))
        same(made.explore(copper(), COPPER, seed=5, workdir=folder), whole)
    first = next(iter(files))  # the chain is broken: what comes after it does not hold all frames
    for name, content in files.items():
        (tmp_path / name).write_bytes(content[:99] if name == first else content)
    assert Checkpoints(tmp_path, walk.walk_key(made, copper(), COPPER, 5)).load(copper()) is None


@pytest.mark.usefixtures("short")
def test_a_checkpoint_of_another_walk_is_ignored(tmp_path: Path) -> None:
    made = explorer("openmm")
    with pytest.raises(ExecutionError):
        made.explore(copper(), Dies(200), seed=5, workdir=tmp_path / "a")
    whole = made.explore(copper(), COPPER, seed=6, workdir=tmp_path / "b")
    same(made.explore(copper(), COPPER, seed=6, workdir=tmp_path / "a"), whole)


@pytest.mark.usefixtures("short")
@pytest.mark.usefixtures("short")
def test_what_a_structure_file_says_of_itself_does_not_stop_a_checkpoint(tmp_path: Path) -> None:
    """Numbers and arrays of an extxyz header come back as NumPy's; a walk of a minute would have ended there."""
    start = copper()
    start.info |= {"charge": np.int64(0), "weight": np.float32(0.5), "origin": np.zeros(3), "name": "copper"}
    whole = explorer("openmm").explore(start, COPPER, seed=1, workdir=tmp_path / "whole")
    with pytest.raises(ExecutionError):
        explorer("openmm").explore(start, Dies(170), seed=1, workdir=tmp_path / "died")
    assert list((tmp_path / "died").glob("walk-*.npz"))
    resumed = explorer("openmm").explore(start, COPPER, seed=1, workdir=tmp_path / "died")
    assert len(resumed.frames) == len(whole.frames)
    for mine, its in zip(resumed.frames, whole.frames, strict=True):
        assert np.array_equal(mine.positions, its.positions)
        assert mine.info.keys() == its.info.keys()


def test_velocities_and_masses_belong_to_a_walk_that_keeps_them() -> None:
    start = copper()
    start.set_momenta(np.ones((len(start), 3)))
    other, heavy = start.copy(), start.copy()
    other.set_momenta(-start.get_momenta())
    heavy.set_masses(2.0 * start.get_masses())
    keeps, draws = explorer("openmm"), explorer("openmm")
    keeps = replace(keeps, keep_velocities=True)
    assert walk.walk_key(keeps, start, COPPER, 1) != walk.walk_key(keeps, other, COPPER, 1)
    assert walk.walk_key(draws, start, COPPER, 1) == walk.walk_key(draws, other, COPPER, 1)
    assert walk.walk_key(draws, start, COPPER, 1) != walk.walk_key(draws, heavy, COPPER, 1)


def test_with_the_barostat_of_openmm_a_walk_begins_anew(tmp_path: Path) -> None:
    """It does not tell what it has learnt. The walk is the same all the same."""
    made = OpenMMExplorer(300.0, 0.5, 120, timestep_fs=2.0, frame_interval=FRAMES, barostat="openmm")
    whole = made.explore(copper(), COPPER, seed=5, workdir=tmp_path / "whole")
    with pytest.raises(ExecutionError):
        made.explore(copper(), Dies(110), seed=5, workdir=tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("walk-*"))
    same(made.explore(copper(), COPPER, seed=5, workdir=tmp_path / "killed"), whole)


def test_a_walk_of_a_minute_writes_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "SEGMENT", SEGMENT)
    assert explorer("openmm").explore(copper(), COPPER, seed=1, workdir=tmp_path).steps_done == STEPS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["progress.json"]


CHILD = """
import sys
from pathlib import Path
from clusterflow.explore import checkpoint, walk
sys.path.insert(0, sys.argv[1])
import test_checkpoint as here
walk.SEGMENT, checkpoint.SAVE_EVERY, here.STEPS = here.SEGMENT, 0.0, int(sys.argv[3])
here.explorer("openmm, pressure").explore(here.copper(), here.COPPER, seed=5, workdir=Path(sys.argv[2]))
"""


@pytest.mark.usefixtures("short")
def test_kill_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes, each killed once it has saved something new."""
    steps, folder = 4000, tmp_path / "killed"
    monkeypatch.setattr(sys.modules[__name__], "STEPS", steps)
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(folder), str(steps)]
    newest = 0
    for _ in range(2):
        child = subprocess.Popen(command)
        deadline = time.monotonic() + 180
        while _newest(folder) <= newest:
            assert child.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "it saved nothing"
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        newest = _newest(folder)
    made, potential = explorer("openmm, pressure"), Dies(10**6)
    whole = made.explore(copper(), potential, seed=5, workdir=tmp_path / "whole")
    needed, potential = potential.calls, Dies(10**6)
    same(made.explore(copper(), potential, seed=5, workdir=folder), whole)
    assert potential.calls < needed


def _newest(folder: Path) -> int:
    return max((int(p.stem.split("-")[1]) for p in folder.glob("walk-*.npz")), default=0)
