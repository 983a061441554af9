"""The label's own error: how much the forces of one structure change under what must not change them.

A calculation on a grid knows where the grid is: moving the atoms, turning them, or taking a slightly other spacing
changes each force a little and erratically (the egg-box effect). What is left after undoing the motion is noise of the
label, which no potential can learn and below which a test error means nothing. The three ways and the reading of the
result follow Dobbelaere et al. (2025), arXiv:2504.03881, SI 1; they vary one at a time, and their variances are added
as those of independent errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from clusterflow.core.data import FloatArray, Label
from clusterflow.core.protocols import Reference
from clusterflow.errors import InputError, LabelError

KINDS = ("translation", "rotation", "grid spacing")
_SPACING = 0.03
"""Grid spacings are varied by this share at most, "close to" the level's own."""


@dataclass(frozen=True, slots=True)
class KindOfNoise:
    """What one kind of change does over ``repeats`` of it, in eV/Å.

    ``rmse`` and ``maximum`` over force components against the unchanged label, as the paper reports them; ``sigma``
    (n,): standard deviation of each atom's force vector between equivalent labels, the noise of a single one.
    ``energy`` eV/atom: standard deviation. ``failed``: labels that did not come.
    """

    repeats: int
    rmse: float
    maximum: float
    sigma: FloatArray
    energy: float
    failed: int = 0


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """Noise of the forces of one structure at one level of theory, by kind; kinds that cannot be varied are absent."""

    level_of_theory: str
    formula: str
    symbols: tuple[str, ...]
    kinds: Mapping[str, KindOfNoise] = field(default_factory=dict)

    @property
    def sigma(self) -> FloatArray:
        """(n,) eV/Å: standard deviation of each force vector, all kinds together."""
        return np.asarray(np.sqrt(sum(k.sigma**2 for k in self.kinds.values())), dtype=np.float64)

    def by_element(self) -> dict[str, float]:
        """Element → root mean square of ``sigma`` over its atoms, eV/Å."""
        names, sigma = np.asarray(self.symbols), self.sigma
        return {str(e): float(np.sqrt(np.mean(sigma[names == e] ** 2))) for e in np.unique(names)}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `from_json` reads it. Per element and in total for people, per atom for programs."""
        kinds = {
            name: {**{f: getattr(k, f) for f in k.__dataclass_fields__}, "sigma": k.sigma.tolist()}
            for name, k in self.kinds.items()
        }
        return {
            "level_of_theory": self.level_of_theory,
            "formula": self.formula,
            "symbols": list(self.symbols),
            "unit": "eV/Å",
            "by_element": self.by_element(),
            "total_rms": float(np.sqrt(np.mean(self.sigma**2))),
            "kinds": kinds,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        kinds = {
            name: KindOfNoise(**{**k, "sigma": np.asarray(k["sigma"], dtype=np.float64)})
            for name, k in data["kinds"].items()
        }
        return cls(str(data["level_of_theory"]), str(data["formula"]), tuple(data["symbols"]), kinds)


@dataclass(frozen=True, slots=True)
class _Variant:
    """The same structure told otherwise: what to label with what, and the rotation (3, 3) that was applied."""

    reference: Reference
    atoms: Atoms
    rotation: FloatArray


def measure_noise(
    reference: Reference,
    atoms: Atoms,
    *,
    repeats: int,
    workdir: Path,
    charge: int = 0,
    spin: int = 0,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> LabelNoise:
    """Labels ``atoms`` once, and ``repeats`` times for each kind of change; ``workdir`` keeps what the level writes.

    Translations are within one grid spacing for levels on a grid, else up to 5 Å; rotations are random, of finite
    structures only; the grid spacing varies by up to 3 %. A changed label that fails is counted and left out.

    Raises
    ------
    InputError
        No repeats.
    LabelError
        The unchanged structure cannot be labelled, or all its changes of a kind fail.
    """
    if repeats < 1:
        raise InputError(f"Noise cannot be seen in {repeats} repetitions.", todo="Give 5 or more, such as --noise 5.")
    base = reference.label(atoms, charge=charge, spin=spin, workdir=workdir / "base")
    progress(f"unchanged: {base.wall_time:.1f} s")
    rng = np.random.default_rng(seed)
    kinds: dict[str, KindOfNoise] = {}
    for kind in KINDS:
        labels, rotations, failed, reason = [], [], 0, ""
        for number, variant in enumerate(_variants(kind, reference, atoms, repeats, rng)):
            folder = workdir / f"{kind.replace(' ', '-')}-{number}"
            try:
                label = variant.reference.label(variant.atoms, charge=charge, spin=spin, workdir=folder)
            except LabelError as error:
                failed, reason = failed + 1, error.what
                progress(f"{kind} {number + 1} failed: {error.what}")
                continue
            labels.append(label)
            rotations.append(variant.rotation)
            progress(f"{kind} {number + 1} of {repeats}: {label.wall_time:.1f} s")
        if labels:
            kinds[kind] = _compare(base, labels, rotations, failed)
        elif failed:
            raise LabelError(
                f"None of {failed} labels of the kind '{kind}' succeeded: {reason}",
                where=str(workdir),
                todo="Label the structure by itself first, and see that it converges easily.",
            )
    return LabelNoise(
        reference.level_of_theory, str(atoms.get_chemical_formula()), tuple(atoms.get_chemical_symbols()), kinds
    )


def _variants(kind: str, level: Any, atoms: Atoms, repeats: int, rng: np.random.Generator) -> Iterator[_Variant]:
    spacing = float(level.h) if getattr(level, "mode", "") in ("fd", "lcao") else None
    one = np.eye(3)
    for number in range(repeats):
        if kind == "translation":
            yield _Variant(*_moved(level, atoms, spacing, rng), one)
        elif kind == "rotation" and not atoms.pbc.any() and len(atoms) > 1:
            turn = _random_rotation(rng)
            turned = atoms.copy()
            turned.positions = atoms.positions @ turn.T
            yield _Variant(level, turned, turn)
        elif kind == "grid spacing" and spacing:
            # Evenly on both sides, never the level's own.
            share = _SPACING * (2.0 * (number + 0.5) / repeats - 1.0) or _SPACING
            yield _Variant(replace(level, h=spacing * (1.0 + share)), atoms, one)


def _moved(level: Any, atoms: Atoms, spacing: float | None, rng: np.random.Generator) -> tuple[Any, Atoms]:
    """A fragment is put in the middle of its box by the level itself, which must then be told of the shift."""
    if hasattr(level, "offset") and not atoms.pbc.any():
        return replace(level, offset=tuple(float(x) for x in rng.uniform(0.0, spacing or 0.2, 3))), atoms
    moved = atoms.copy()
    moved.positions += rng.uniform(0.0, spacing or 5.0, 3)
    return level, moved


def _random_rotation(rng: np.random.Generator) -> FloatArray:
    """Uniformly distributed (3, 3), by the QR decomposition of a Gaussian matrix."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return np.asarray(q * np.linalg.det(q), dtype=np.float64)


def _compare(base: Label, labels: list[Label], rotations: list[FloatArray], failed: int) -> KindOfNoise:
    first = np.asarray(base.prediction.forces, dtype=np.float64)
    others = np.array([np.asarray(x.prediction.forces) @ r for x, r in zip(labels, rotations, strict=True)])
    difference = others - first
    everything = np.concatenate([first[None], others])
    sigma = np.sqrt(everything.var(axis=0, ddof=1).sum(axis=1))
    energies = np.array([base.prediction.energy, *(x.prediction.energy for x in labels)]) / len(first)
    return KindOfNoise(
        repeats=len(labels),
        rmse=float(np.sqrt(np.mean(difference**2))),
        maximum=float(np.abs(difference).max()),
        sigma=sigma,
        energy=float(energies.std(ddof=1)),
        failed=failed,
    )


def noise_floor(label_noise: Mapping[str, float], symbols: ArrayLike) -> float | None:
    """RMS of a force component in eV/Å that noise alone causes, over atoms with these ``symbols``; ``label_noise``:
    element → standard deviation of a force vector (`LabelNoise.by_element`). None if an element was not measured."""
    names, counts = np.unique(np.asarray(symbols, dtype=np.str_), return_counts=True)
    if not len(names) or any(str(e) not in label_noise for e in names):
        return None
    variance = sum(n * label_noise[str(e)] ** 2 for e, n in zip(names, counts, strict=True)) / counts.sum()
    return float(np.sqrt(variance / 3.0))
