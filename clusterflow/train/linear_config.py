"""What a linear model is made of and how it is fitted: two frozen records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from clusterflow.errors import InputError


@dataclass(frozen=True, slots=True)
class LinearModelSettings:
    """Basis of a linear model: pair functions and the power spectrum of the neighbour densities, per element.

    ``cutoff`` Å: neighbours that count. ``radial``: Bessel functions per pair of elements in the two-body part.
    ``density``: Bessel functions in which the neighbour densities of the three-body part are expanded, with spherical
    harmonics up to ``l_max``. ``channels``: so many combinations of (element, Bessel function) are kept per element and
    l, those in which the training environments differ most; None keeps all. ``features``: length of the per-atom
    feature vector on which the novelty works. ``repulsion``: adds the Ziegler-Biersack-Littmark repulsion between atoms
    that are closer than any bond, where there never are data.
    """

    cutoff: float = 5.0
    radial: int = 12
    density: int = 6
    l_max: int = 4
    channels: int | None = 12
    features: int = 12
    repulsion: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cutoff) and self.cutoff > 0):
            raise InputError(f"The cutoff must be positive, not {self.cutoff} Å.", todo="4.5 to 6 Å is usual.")
        for name in ("radial", "density"):
            if getattr(self, name) < 1:
                raise InputError(f"A linear model's '{name}' must be at least 1, not {getattr(self, name)}.")
        if self.channels is not None and self.channels < 1:
            raise InputError(f"'channels' must be at least 1, not {self.channels}.", todo="Leave it out to keep all.")
        if not 0 <= self.l_max <= 12:
            raise InputError(f"A linear model's l_max must be 0 to 12, not {self.l_max}.", todo="3 to 6 is usual.")
        if self.features < 2:
            raise InputError(f"'features' must be at least 2, not {self.features}: one number tells too little.")

    def to_json(self) -> dict[str, Any]:
        """JSON data from which `from_json` makes an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class LinearTrainingSettings:
    """How the weights are fitted.

    The loss is that of the NequIP trainer: (``energy_weight`` x MSE of the energy per atom + ``force_weight`` x MSE of
    the force components + ``stress_weight`` x MSE of the virial per atom, where frames have a stress) divided by the
    mean square force component of the training set. To it comes ``regularisation`` x (the largest diagonal element of
    the normal equations) x the sum of squared weights; None chooses, from the powers of ten from 1 down to
    10^−``decades``, the one with the lowest validation loss. ``core_only`` and ``certificate_weights`` as for
    NequIP. ``threads``: of the linear algebra.
    """

    energy_weight: float = 100.0
    force_weight: float = 1.0
    stress_weight: float = 10.0
    regularisation: float | None = None
    decades: int = 13
    core_only: bool = False
    certificate_weights: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("energy_weight", "force_weight", "stress_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"A fit needs '{name}' of 0 or more, not {value}.")
        if self.energy_weight + self.force_weight == 0:
            raise InputError("energy_weight and force_weight are both 0: there is nothing to learn.")
        if self.regularisation is not None and not (math.isfinite(self.regularisation) and self.regularisation > 0):
            raise InputError(
                f"The regularisation must be positive, not {self.regularisation}.",
                todo="Leave it out: validation chooses it.",
            )
        for name in ("decades", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"A fit needs '{name}' of 1 or more, not {getattr(self, name)}.")

    def to_json(self) -> dict[str, Any]:
        """JSON data from which `from_json` makes an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**data)
