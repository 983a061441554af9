"""What every `Explorer` must do. Each check raises AssertionError; run them all for a new implementation::

    @pytest.mark.parametrize("check", EXPLORER_CHECKS)
    def test_contract(check, tmp_path):
        check(my_explorer, start, potential, tmp_path)

The explorer should be set to walk at least three frames, in about a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import Prediction, Trajectory
from clusterflow.core.frames import content_hash
from clusterflow.core.protocols import Explorer, Potential
from clusterflow.errors import ExploreError
from clusterflow.testing.analytic_potentials import PredictionCalculator


class NaNAfter:
    """A potential that turns to NaN after ``calls`` predictions: a damaged model, an overflow."""

    def __init__(self, potential: Potential, calls: int) -> None:
        self._potential = potential
        self._left = calls
        self.cutoff = potential.cutoff
        self.reach = potential.reach
        self.model_id = f"{potential.model_id}, NaN after {calls}"
        self.elements = potential.elements

    def predict(self, frames: Sequence[Atoms]) -> list[Prediction]:
        """As the potential inside, until it is not."""
        self._left -= 1
        if self._left >= 0:
            return self._potential.predict(frames)
        return [Prediction(float("nan"), np.full((len(a), 3), np.nan), np.full((3, 3), np.nan)) for a in frames]

    def calculator(self) -> Any:
        """ASE calculator that fails in the same way."""
        return PredictionCalculator(self)


def _assert_sane(trajectory: Trajectory, start: Atoms) -> None:
    assert len(trajectory.frames) == len(trajectory.times) >= 1
    assert np.all(np.diff(trajectory.times) > 0), "times do not increase"
    for frame in trajectory.frames:
        assert np.array_equal(frame.numbers, start.numbers), "the order of the atoms changed"
        assert np.array_equal(frame.pbc, start.pbc)
        assert np.isfinite(frame.positions).all()
        assert np.isfinite(frame.cell.array).all()
        assert np.isfinite(frame.get_momenta()).all()


def frames_are_ordered_and_sane(explorer: Explorer, start: Atoms, potential: Potential, workdir: Path) -> None:
    """The start comes first; times increase; atoms keep their order; an undisturbed walk gives no reason to stop."""
    trajectory = explorer.explore(start, potential, seed=1, workdir=workdir)
    _assert_sane(trajectory, start)
    assert trajectory.stop_reason == ""
    assert trajectory.steps_done > 0
    assert len(trajectory.frames) >= 3
    assert np.allclose(trajectory.frames[0].positions, start.positions, rtol=0, atol=1e-9)
    assert not np.allclose(trajectory.frames[-1].positions, start.positions, rtol=0, atol=1e-3), "nothing moved"


def same_seed_same_walk(explorer: Explorer, start: Atoms, potential: Potential, workdir: Path) -> None:
    """Equal seeds give equal frames, bit by bit; different seeds do not."""
    first, again, other = (
        explorer.explore(start, potential, seed=seed, workdir=workdir / name)
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert len(first.frames) == len(again.frames)
    for a, b in zip(first.frames, again.frames, strict=True):
        assert np.array_equal(a.positions, b.positions)
        assert np.array_equal(a.cell.array, b.cell.array)
        assert np.array_equal(a.get_momenta(), b.get_momenta())
    assert not np.allclose(first.frames[-1].positions, other.frames[-1].positions, rtol=0, atol=1e-6)


def start_is_left_alone(explorer: Explorer, start: Atoms, potential: Potential, workdir: Path) -> None:
    """The caller's structure is not changed, and no frame shares memory with it."""
    before = content_hash(start)
    trajectory = explorer.explore(start, potential, seed=2, workdir=workdir)
    assert content_hash(start) == before
    assert start.calc is None
    assert not any(np.shares_memory(f.positions, start.positions) for f in trajectory.frames)


def energies_belong_to_frames(explorer: Explorer, start: Atoms, potential: Potential, workdir: Path) -> None:
    """The potential gives, for each frame as handed out, the energy that the dynamics saw: positions and cell fit."""
    for frame in explorer.explore(start, potential, seed=3, workdir=workdir).frames:
        energy = potential.predict([frame])[0].energy
        assert np.isclose(energy, frame.info["potential_energy"], rtol=1e-6, atol=1e-6)


def nan_stops_at_a_sane_frame(explorer: Explorer, start: Atoms, potential: Potential, workdir: Path) -> None:
    """NaN in the middle ends the walk with a reason; nothing insane is handed out."""
    trajectory = explorer.explore(start, NaNAfter(potential, 40), seed=4, workdir=workdir)
    _assert_sane(trajectory, start)
    assert "NaN" in trajectory.stop_reason or "nan" in trajectory.stop_reason
    assert trajectory.times[-1] > 0


def insane_start_is_an_error(explorer: Explorer, start: Atoms, potential: Potential, workdir: Path) -> None:
    """NaN for the start, and overlapping atoms, raise `ExploreError`."""
    overlapping = start.copy()
    overlapping.positions[1] = overlapping.positions[0] + [0.05, 0.0, 0.0]
    for atoms, model in ((start, NaNAfter(potential, 0)), (overlapping, potential)):
        caught: ExploreError | None = None
        try:
            explorer.explore(atoms, model, seed=5, workdir=workdir)
        except ExploreError as error:
            caught = error
        assert caught is not None, "an insane start was accepted"
        assert caught.todo, "the message does not say what to do"


EXPLORER_CHECKS: tuple[Callable[[Explorer, Atoms, Potential, Path], None], ...] = (
    frames_are_ordered_and_sane,
    same_seed_same_walk,
    start_is_left_alone,
    energies_belong_to_frames,
    nan_stops_at_a_sane_frame,
    insane_start_is_an_error,
)
