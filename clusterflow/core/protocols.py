"""The extension points. Each is a small Protocol; a config section builds an implementation of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from ase import Atoms

from clusterflow.core.data import (
    FloatArray,
    Fragment,
    Label,
    Prediction,
    Site,
    Task,
    TaskResult,
    TrainedModel,
    Trajectory,
)


@runtime_checkable
class Potential(Protocol):
    """Energies and forces, fast. ``cutoff`` is the neighbour radius in Å, ``reach`` the farthest distance in Å at which
    moving an atom can change a force; equal ``model_id`` = equal predictions; ``elements`` it knows."""

    @property
    def cutoff(self) -> float: ...
    @property
    def reach(self) -> float: ...
    @property
    def model_id(self) -> str: ...
    @property
    def elements(self) -> tuple[str, ...]: ...
    def predict(self, frames: Sequence[Atoms]) -> list[Prediction]: ...
    def calculator(self) -> Any: ...


@runtime_checkable
class SecondDerivatives(Protocol):
    """A potential with a Hessian of its own. Rows (k, 3, n, 3) eV/Å² are d²E/dx(indices[k]) dx(j), all atoms for None;
    ``hessian_vector`` multiplies the Hessian with displacements (k, n, 3) and gives (k, n, 3)."""

    def hessian_rows(self, atoms: Atoms, indices: Sequence[int] | None = None) -> FloatArray: ...
    def hessian_vector(self, atoms: Atoms, vectors: FloatArray) -> FloatArray: ...


@runtime_checkable
class Featurizer(Protocol):
    """Per-atom features (n, n_features), invariant under rotation and translation, equivariant under relabelling."""

    def features(self, atoms: Atoms) -> FloatArray: ...


class Reference(Protocol):
    """A level of theory. `label` raises `LabelError` and never returns an unconverged result."""

    @property
    def level_of_theory(self) -> str: ...
    def label(self, atoms: Atoms, *, charge: int, spin: int, workdir: Path) -> Label: ...


class Explorer(Protocol):
    """Samples configurations from ``start`` on; stops at the last sane frame."""

    def explore(self, start: Atoms, potential: Potential, *, seed: int, workdir: Path) -> Trajectory: ...


class Uncertainty(Protocol):
    """Per-atom novelty, larger = less known, in ``unit`` ("nats", "eV/Å")."""

    @property
    def unit(self) -> str: ...
    def fit(self, frames: Sequence[Atoms]) -> Self: ...
    def score(self, atoms: Atoms) -> FloatArray: ...


class Selector(Protocol):
    """Chooses sites: ``scores`` maps frame_id → (n,)."""

    def select(
        self, frames: Sequence[Atoms], scores: Sequence[FloatArray], *, budget: int, rng: np.random.Generator
    ) -> list[Site]: ...


class FragmentRule(Protocol):
    """Cuts one fragment around sites of one frame."""

    @property
    def name(self) -> str: ...
    def extract(self, atoms: Atoms, sites: Sequence[Site]) -> Fragment: ...


class Trainer(Protocol):
    """Trains a potential on labelled frames (energy and forces in a SinglePointCalculator); ``start`` is the folder of
    an earlier model of the same kind for a warm start."""

    def train(
        self,
        training: Sequence[Atoms],
        validation: Sequence[Atoms],
        *,
        start: Path | None,
        seed: int,
        workdir: Path,
    ) -> TrainedModel: ...


class Engine(Protocol):
    """Runs tasks somewhere. The future raises `ClusterflowError`s: `ScienceError` when the work itself failed,
    `ExecutionError` when the machinery did."""

    def submit(self, task: Task) -> Future[TaskResult]: ...
    def close(self, *, cancel: bool = False) -> None: ...
