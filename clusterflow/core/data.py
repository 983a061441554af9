"""The records that move between stages. Units: eV, Å, eV/Å, eV/Å³ (tension positive), fs, K.

All of them are frozen; arrays inside are not copied, so treat them as read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Energy and its derivatives for one structure.

    ``energy`` in eV; ``forces`` (n, 3) in eV/Å; ``stress`` (3, 3) in eV/Å³, tension positive, or None for a
    structure that is not periodic in three directions.
    """

    energy: float
    forces: FloatArray
    stress: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A converged reference calculation.

    ``charge`` in e; ``spin`` = number of unpaired electrons (2S); ``wall_time`` in s; ``cores`` used; ``steps`` on the
    ladder of SCF remedies that were needed (empty: the first attempt converged).
    """

    prediction: Prediction
    level_of_theory: str
    charge: int
    spin: int
    scf_steps: int
    wall_time: float
    cores: int = 1
    peak_memory_MB: float = 0.0
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """One atom of one frame: ``frame_id`` is the frame's content hash, ``index`` the atom in it."""

    frame_id: str
    index: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """How far the forces on a fragment's atoms may be from the parent's, at the level of theory of its label.

    ``bound`` (n,) eV/Å: with ``confidence``, the force errors (vector norms) of all core atoms are below their bounds
    at once; infinite where nothing is claimed, which is everywhere while ``confidence`` is 0. ``estimate`` (n,) eV/Å:
    the error to expect. ``confirmations``: fragments that the bound was calibrated on. ``tolerance`` eV/Å that was
    asked for; ``passed``: the bounds of the atoms that the fragment was cut for, ``required`` (n,) bool, meet it.
    ``method``: what all this was derived from, that is ``indicators`` (n, m), NaN for termination atoms, and
    ``environments`` (n,), "-" for them.
    """

    bound: FloatArray
    estimate: FloatArray
    tolerance: float
    confidence: float
    confirmations: int
    method: str
    passed: bool
    required: BoolArray
    indicators: FloatArray
    environments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fragment:
    """A finite, terminated piece of a parent frame, unwrapped, with no periodic boundary.

    ``core`` (n,) bool; ``parent`` (n,) int, index in the parent frame, −1 for termination atoms; mantle atoms are
    those that are neither core nor termination. ``rule`` names the extraction rule with its settings; ``kind`` the
    core block. Charge and spin as in `Label`; ``spins_to_try``: spins that may be the ground state, lowest first (more
    than one where a metal has a partly filled shell; empty: only ``spin``). ``certificate``: what is known of its force
    errors, None if nothing is.
    """

    atoms: Atoms
    core: BoolArray
    parent: IntArray
    sites: tuple[Site, ...]
    rule: str
    charge: int
    spin: int
    kind: str = ""
    spins_to_try: tuple[int, ...] = ()
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Frames of one walker: ``times`` (n,) in fs, ``stop_reason`` = "" if it ran its full length.

    Every frame is sane: a frame that tripped the blow-up detection is not part of it.
    """

    frames: list[Atoms]
    times: FloatArray
    stop_reason: str = ""
    steps_done: int = 0


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained potential: ``path`` is its folder, ``model_id`` a hash of configuration and weights (equal id = equal
    predictions), ``metrics`` what the training itself measured."""

    path: Path
    model_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work for an engine.

    ``kind`` names a row of the app table, ``key`` is the content hash of (kind, payload), ``lane`` where it runs,
    ``payload`` JSON data only; inputs that other tasks made are referred to by their keys. ``time_limit`` in s.
    """

    kind: str
    key: str
    lane: str
    payload: Mapping[str, Any]
    time_limit: float = 86_400.0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What comes back from an engine: the key, a small JSON summary, and what the task cost.

    ``wall_time`` in s, ``cores`` it held, ``peak_memory_MB`` of the worker process and its children.
    """

    key: str
    summary: Mapping[str, Any]
    wall_time: float
    cores: int
    peak_memory_MB: float
