"""Novelty of an atom: how much the members of a committee of potentials disagree on the force on it.

The criterion of Herbold and Behler (2023), Phys. Chem. Chem. Phys. 25, 12979, doi:10.1039/d2cp05976b, section 3:
atoms on which two preliminary potentials differ by 1 eV/Å are labelled. Here for two to eight members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray
from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError, ScienceError

MEASURES = ("maximum", "deviation")
_QUANTILES = (0.05, 0.5, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class CommitteeDisagreement:
    """Per-atom disagreement in eV/Å. Implements `Uncertainty`.

    Parameters
    ----------
    members
        Two or more potentials that were trained alike but for their seeds and their share of the labels.
    measure
        "maximum": the largest distance between the force vectors of two members; "deviation": the root mean square
        distance from the mean force vector.
    threshold
        eV/Å; atoms on which the members agree better count as known.
    quantiles
        What a fit has found: per element, quantiles of the disagreement over the training atoms. None before.
    """

    members: tuple[Potential, ...] = field(repr=False)
    measure: str = "maximum"
    threshold: float = 1.0
    quantiles: Mapping[str, Mapping[str, float]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise InputError(
                f"A committee of {len(self.members)} cannot disagree.", todo="Train two to eight (train.committee)."
            )
        if self.measure not in MEASURES:
            raise InputError(f"There is no measure '{self.measure}'.", todo=f"Choose one of: {', '.join(MEASURES)}.")
        if not (np.isfinite(self.threshold) and self.threshold > 0):
            raise InputError(f"The threshold must be positive, not {self.threshold} eV/Å.", todo="1 eV/Å is usual.")

    @property
    def unit(self) -> str:
        """That of a force."""
        return "eV/Å"

    def fit(self, frames: Sequence[Atoms], *, atoms: Sequence[BoolArray] | None = None) -> Self:
        """A copy that knows which elements were trained on and how much the members disagree there.

        ``atoms`` says for each frame which of its atoms count (n,).

        Raises
        ------
        ScienceError
            No frames.
        """
        if not frames:
            raise ScienceError("There is no frame to look at with the committee.", todo="Give the training frames.")
        chosen = atoms if atoms is not None else [np.ones(len(a), dtype=bool) for a in frames]
        found: dict[str, list[FloatArray]] = {}
        for frame, counts in zip(frames, chosen, strict=True):
            names, scores = np.asarray(frame.get_chemical_symbols()), self._disagreement(frame)
            for element in np.unique(names[counts]):
                found.setdefault(str(element), []).append(scores[counts & (names == element)])
        quantiles = {
            e: {str(q): float(np.quantile(np.concatenate(parts), q)) for q in _QUANTILES} for e, parts in found.items()
        }
        return replace(self, quantiles=quantiles)

    def score(self, atoms: Atoms) -> FloatArray:
        """Disagreement (n,) in eV/Å; +inf for an element that was not trained on, and for all atoms of a frame with an
        element that a member does not know.

        Raises
        ------
        ScienceError
            Before a fit.
        """
        if self.quantiles is None:
            raise ScienceError("The committee has not been fitted.", todo="Use what `fit(frames)` returns.")
        names = np.asarray(atoms.get_chemical_symbols())
        if any(set(names.tolist()) - set(m.elements) for m in self.members):
            return np.full(len(atoms), np.inf)
        return np.where(np.isin(names, list(self.quantiles)), self._disagreement(atoms), np.inf)

    def known_up_to(self, element: str) -> float:
        """The threshold in eV/Å; −inf for an element that was not trained on."""
        return self.threshold if element in (self.quantiles or {}) else -np.inf

    def _disagreement(self, atoms: Atoms) -> FloatArray:
        forces = np.array([m.predict([atoms])[0].forces for m in self.members])
        if self.measure == "maximum":
            apart = np.linalg.norm(forces[:, None] - forces[None], axis=-1).max(axis=(0, 1))
        else:
            apart = np.sqrt(((forces - forces.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
        return np.asarray(np.where(np.isfinite(apart), apart, np.inf), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Settings and what the fit found, as JSON data (the members are not part of it)."""
        return {
            "kind": "committee",
            "measure": self.measure,
            "threshold": self.threshold,
            "unit": self.unit,
            "quantiles": None if self.quantiles is None else {e: dict(q) for e, q in self.quantiles.items()},
            "mixtures": {},  # where readers of a density look for Gaussians
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], members: Sequence[Potential]) -> Self:
        """The inverse of `to_json`, with the members that were fitted."""
        return cls(tuple(members), data["measure"], float(data["threshold"]), data["quantiles"])
