"""Metadynamics in pieces: the bias goes on, walls hold, and blow-ups are told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from clusterflow.core.data import Prediction
from clusterflow.errors import ExploreError, InputError, StructureError
from clusterflow.explore.metadynamics import MetadynamicsSettings, load_state, metadynamics
from clusterflow.physics.torsions import Wall, torsion_angle
from clusterflow.testing.torsion_chain import TorsionChain, chain

POTENTIAL = TorsionChain()
TORSION = (0, 1, 2, 3)
SETTINGS = MetadynamicsSettings(
    (TORSION,), 400.0, timestep_fs=2.0, height=0.02, width=0.3, bias_factor=6.0, interval=20, grid=0.15
)


def test_forces_of_the_chain_are_the_gradient_of_its_energy() -> None:
    atoms = chain(POTENTIAL, 1.0)
    atoms.rattle(0.1, seed=1)
    forces = POTENTIAL.one(atoms).forces
    for i in range(4):
        for k in range(3):
            shifted = [atoms.copy(), atoms.copy()]
            for s, sign in zip(shifted, (1, -1), strict=True):
                s.positions[i, k] += sign * 1e-5
            slope = (POTENTIAL.one(shifted[0]).energy - POTENTIAL.one(shifted[1]).energy) / 2e-5
            assert forces[i, k] == pytest.approx(-slope, abs=1e-7)


def test_pieces_go_on_with_bias_positions_and_velocities(tmp_path: Path) -> None:
    start = chain(POTENTIAL)
    first, state = metadynamics(start, POTENTIAL, SETTINGS, steps=200, seed=1, workdir=tmp_path)
    again, same = metadynamics(start, POTENTIAL, SETTINGS, steps=200, seed=1, workdir=tmp_path)
    assert (first.angles == again.angles).all()
    assert (state.positions == same.positions).all()
    assert len(first) == 40
    assert first.times[-1] < 400.0
    assert state.bias.max() > 0.0
    assert state.bias[0] == pytest.approx(state.bias[-1])
    hills = state.bias.sum() * (2 * np.pi / (len(state.bias) - 1)) / (0.3 * np.sqrt(2 * np.pi))
    assert hills < 10 * 0.02  # ten hills, each smaller than the one before
    assert hills > 10 * 0.02 * 0.5
    state.save(tmp_path / "state.npz")
    second, later = metadynamics(
        start, POTENTIAL, SETTINGS, steps=200, seed=2, workdir=tmp_path, state=load_state(tmp_path / "state.npz")
    )
    assert later.steps == 400
    assert second.times[0] > 400.0
    assert second.bias.max() > 0.5 * state.bias.max()
    assert later.bias.max() >= state.bias.max()
    angle = torsion_angle(state.positions, TORSION)
    assert abs(np.angle(np.exp(1j * (second.angles[0, 0] - angle)))) < 0.5  # it went on where it was


def test_the_bias_of_a_sample_is_that_on_the_grid(tmp_path: Path) -> None:
    start = chain(POTENTIAL)
    _, state = metadynamics(start, POTENTIAL, SETTINGS, steps=200, seed=1, workdir=tmp_path)
    samples, _ = metadynamics(start, POTENTIAL, SETTINGS, steps=20, seed=2, workdir=tmp_path, state=state)
    grid = np.linspace(-np.pi, np.pi, len(state.bias))
    expected = np.interp(samples.angles[:, 0], grid, state.bias)
    assert samples.bias == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("middle", [0.0, 3.0])
def test_a_torsion_between_walls_stays_there(tmp_path: Path, middle: float) -> None:
    wall = Wall(TORSION, middle - 0.4, middle + 0.4, 25.0)
    walled = MetadynamicsSettings(
        (TORSION,), 400.0, timestep_fs=2.0, height=0.05, width=0.3, bias_factor=20.0, interval=20, walls=(wall,)
    )
    start = chain(POTENTIAL, middle)
    samples, _ = metadynamics(start, POTENTIAL, walled, steps=1000, seed=1, workdir=tmp_path)
    away = np.abs(np.angle(np.exp(1j * (samples.angles[:, 0] - middle))))
    assert away.max() < 0.7
    assert away.max() > 0.3  # it was pushed against them


def test_a_wall_on_a_distance(tmp_path: Path) -> None:
    start = chain(POTENTIAL)  # trans: the ends are 3.9 Å apart
    wall = Wall((0, 3), None, 3.2, 25.0)
    walled = MetadynamicsSettings((TORSION,), 300.0, timestep_fs=2.0, interval=20, walls=(wall,))
    _, state = metadynamics(start, POTENTIAL, walled, steps=1000, seed=1, workdir=tmp_path)
    assert start.get_distance(0, 3) > 3.8
    assert np.linalg.norm(state.positions[3] - state.positions[0]) < 3.45


@dataclass(frozen=True)
class Torn(TorsionChain):
    """The first bond is pulled apart."""

    def one(self, atoms: Atoms) -> Prediction:
        found = super().one(atoms)
        forces = found.forces.copy()
        forces[0] += (
            20.0 * (atoms.positions[0] - atoms.positions[1]) / np.linalg.norm(np.diff(atoms.positions[:2], axis=0))
        )
        return Prediction(found.energy, forces)


@dataclass(frozen=True)
class Failing(TorsionChain):
    def one(self, atoms: Atoms) -> Prediction:
        raise InputError("The potential has had enough.")


def test_what_goes_wrong_is_told(tmp_path: Path) -> None:
    start = chain(POTENTIAL)
    with pytest.raises(ExploreError, match=r"the bond C\d–C\d has broken") as error:
        metadynamics(start, Torn(), SETTINGS, steps=400, seed=1, workdir=tmp_path)
    assert "add walls" in error.value.todo
    with pytest.raises(InputError, match="has had enough"):
        metadynamics(start, Failing(), SETTINGS, steps=20, seed=1, workdir=tmp_path)
    with pytest.raises(StructureError, match="does not know C"):
        metadynamics(start, TorsionChain(elements=("H",)), SETTINGS, steps=20, seed=1, workdir=tmp_path)
    other = MetadynamicsSettings(((0, 2, 1, 3),), 300.0)
    with pytest.raises(StructureError, match="not bonded"):
        metadynamics(start, POTENTIAL, other, steps=20, seed=1, workdir=tmp_path)
    for wrong in ({"bias_factor": 1.0}, {"grid": 0.5}, {"interval": 2}, {"height": 0.0}):
        with pytest.raises(InputError, match="makes no sense"):
            MetadynamicsSettings((TORSION,), 300.0, **wrong)  # type: ignore[arg-type]
    one_sided = MetadynamicsSettings((TORSION,), 300.0, walls=(Wall(TORSION, None, 1.0, 25.0),))
    with pytest.raises(InputError, match="one side only"):
        metadynamics(start, POTENTIAL, one_sided, steps=20, seed=1, workdir=tmp_path)


def test_two_torsions_are_biased_together(tmp_path: Path) -> None:
    atoms = chain(POTENTIAL)
    both = MetadynamicsSettings((TORSION, (3, 2, 1, 0)), 300.0, timestep_fs=2.0, width=0.4, grid=0.3, interval=20)
    samples, state = metadynamics(atoms, POTENTIAL, both, steps=100, seed=1, workdir=tmp_path)
    assert samples.angles.shape == (20, 2)
    assert samples.angles[:, 0] == pytest.approx(samples.angles[:, 1])
    assert state.bias.shape == (both.points, both.points)
