"""What a NequIP model is made of and how it is trained: two frozen records with the paper's presets.

Source: Table SI.1 and section SI 2 of Dobbelaere et al., arXiv:2504.03881 (written for NequIP 0.5.6), carried over to
NequIP 0.19 as `NequIPModelSettings` states field by field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.errors import InputError
from clusterflow.train.core_mask import force_weights

Schedule = Literal["plateau", "cosine"]


@dataclass(frozen=True, slots=True)
class NequIPModelSettings:
    """Hyperparameters of one NequIP model.

    ``r_max`` Å: neighbour cutoff. ``layers``: interaction blocks, so an atom feels others up to ``layers * r_max``.
    ``features``: channels per irrep up to ``l_max``, both parities if ``parity``. ``invariant_layers`` and
    ``invariant_neurons``: depth and width of the radial network. ``resnet``: layers add to their input where the shapes
    allow. ``readout_neurons``: width of the hidden layer of the per-atom energy readout, which is the length of the
    feature vector of an atom. NequIP 0.5 halved ``features`` there by itself (8 and 16 in Table SI.1); 0.19 has no
    hidden layer unless it is asked for, so this sets it, with a SiLU in between. ``type_embedding``: width of the
    element embedding; 0.5 used one channel per element, and 8 gives the total number of weights nearest to the table's.
    """

    r_max: float = 4.5
    layers: int = 5
    features: int = 16
    l_max: int = 1
    parity: bool = True
    invariant_layers: int = 2
    invariant_neurons: int = 32
    readout_neurons: int = 8
    type_embedding: int = 8
    num_bessels: int = 8
    polynomial_cutoff_p: int = 6
    resnet: bool = True
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.r_max) and self.r_max > 0):
            raise InputError(
                f"NequIP's cutoff r_max must be positive, not {self.r_max} Å.", todo="4.5 to 5 Å is usual."
            )
        for name in ("layers", "features", "invariant_layers", "invariant_neurons", "num_bessels", "type_embedding"):
            if getattr(self, name) < 1:
                raise InputError(f"NequIP's '{name}' must be at least 1, not {getattr(self, name)}.")
        if self.l_max < 0:
            raise InputError(f"NequIP's l_max must be 0 or more, not {self.l_max}.", todo="1 is the paper's.")
        if self.readout_neurons < 2:
            raise InputError(
                f"'readout_neurons' must be at least 2, not {self.readout_neurons}: it is the length of the features.",
                todo="8 is the paper's base model.",
            )
        if self.dtype not in ("float32", "float64"):
            raise InputError(f"A NequIP model is float32 or float64, not '{self.dtype}'.")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The settings called "base" or "extended" (Table SI.1) or "small" (tests and first steps on two cores).

        Raises
        ------
        InputError
            No such preset, or no such setting in ``changes``.
        """
        if name not in MODEL_PRESETS:
            raise InputError(
                f"There is no NequIP preset '{name}'.", todo=f"Choose one of: {', '.join(sorted(MODEL_PRESETS))}."
            )
        unknown = sorted(set(changes) - set(cls.__dataclass_fields__))
        if unknown:
            raise InputError(
                f"NequIP models have no setting called {', '.join(unknown)}.",
                todo=f"Settings: {', '.join(cls.__dataclass_fields__)}.",
            )
        return cls(**{**MODEL_PRESETS[name], **changes})

    @property
    def reach(self) -> float:
        """Farthest distance in Å at which one atom can change the energy of another."""
        return self.layers * self.r_max

    def to_json(self) -> dict[str, Any]:
        """JSON data from which `from_json` makes an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**data)

    def builder_arguments(self) -> dict[str, Any]:
        """Keyword arguments of `nequip.model.NequIPGNNModel` that follow from these settings alone."""
        return {
            "model_dtype": self.dtype,
            "r_max": self.r_max,
            "num_layers": self.layers,
            "l_max": self.l_max,
            "parity": self.parity,
            "num_features": self.features,
            "type_embed_num_features": self.type_embedding,
            "radial_mlp_depth": self.invariant_layers,
            "radial_mlp_width": self.invariant_neurons,
            "readout_mlp_hidden_layers_depth": 1,
            "readout_mlp_hidden_layers_width": self.readout_neurons,
            "num_bessels": self.num_bessels,
            "polynomial_cutoff_p": self.polynomial_cutoff_p,
            "convnet_resnet": self.resnet,
        }


MODEL_PRESETS: dict[str, dict[str, Any]] = {
    "base": {},
    "extended": {"r_max": 5.0, "layers": 4, "features": 32, "readout_neurons": 16},
    "small": {"r_max": 4.5, "layers": 3, "features": 8, "invariant_layers": 1, "readout_neurons": 8},
}
"""Settings of each preset that differ from the defaults (which are "base")."""


@dataclass(frozen=True, slots=True)
class NequIPTrainingSettings:
    """How a model is optimised. The defaults are those of section SI 2 for final models.

    The loss is (``energy_weight`` x MSE of the energy per atom + ``force_weight`` x MSE of the force components)
    divided by the mean square force component of the training set, so it has no unit and ``min_delta`` means the same
    for every material (NequIP 0.5 normalised by the force RMS too).

    ``schedule`` "plateau": the learning rate falls by ``plateau_factor`` after ``plateau_patience`` epochs without a
    better validation loss; "cosine": from ``learning_rate`` to ``learning_rate_floor`` along half a cosine over
    ``max_epochs``, for runs whose length is fixed beforehand, which no patience ends. Training stops at ``max_epochs``;
    with "plateau" also when the validation loss fell by less than ``min_delta`` over ``stop_patience`` epochs, or when
    the learning rate drops below its floor; or after ``time_limit`` s (a run that ends so is not reproducible; the
    history says so).
    ``ema_decay``: exponential moving average of the weights, per step; its weights are validated and kept.
    ``warmup_epochs`` of a warm start: the learning rate rises linearly from a tenth, and the plateau is not counted.
    ``refit_shifts``: a warm start first moves the per-element energy shifts so that the old model's mean energy errors
    of the new compositions vanish (forces do not change). ``core_only``: forces of mantle and termination atoms are not
    learned. ``certificate_weights``: forces of certified fragments count by their bounds
    (`clusterflow.train.core_mask.certificate_weights`). ``label_noise``: element → standard deviation of a force label
    in eV/Å; forces then also count by it, against ``noise_scale`` eV/Å (`clusterflow.train.core_mask.force_weights`).
    ``threads``: CPU threads; results are bit-identical for one
    thread only. ``device`` "auto", "cpu", "cuda".
    """

    learning_rate: float = 0.004
    batch_size: int = 5
    energy_weight: float = 100.0
    force_weight: float = 1.0
    schedule: Schedule = "plateau"
    plateau_factor: float = 0.75
    plateau_patience: int = 25
    learning_rate_floor: float = 1e-5
    max_epochs: int = 10_000
    min_delta: float = 1e-5
    stop_patience: int = 250
    ema_decay: float = 0.999
    warmup_epochs: int = 10
    refit_shifts: bool = True
    core_only: bool = False
    certificate_weights: bool = False
    label_noise: Mapping[str, float] | None = None
    noise_scale: float = 0.05
    threads: int = 1
    device: str = "auto"
    time_limit: float | None = None

    def __post_init__(self) -> None:
        positive = ("learning_rate", "learning_rate_floor", "batch_size", "max_epochs", "threads", "stop_patience")
        for name in (*positive, "noise_scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"Training needs a positive '{name}', not {value}.")
        for name in ("energy_weight", "force_weight", "min_delta", "warmup_epochs", "plateau_patience"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"Training needs '{name}' of 0 or more, not {value}.")
        if self.energy_weight + self.force_weight == 0:
            raise InputError("energy_weight and force_weight are both 0: there is nothing to learn.")
        for name in ("plateau_factor", "ema_decay"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"Training needs '{name}' between 0 and 1, not {getattr(self, name)}.")
        for element, noise in (self.label_noise or {}).items():
            if not (math.isfinite(noise) and noise >= 0):
                raise InputError(f"The label noise of {element} must be 0 or more, not {noise} eV/Å.")
        if self.schedule not in ("plateau", "cosine"):
            raise InputError(f"There is no schedule '{self.schedule}'.", todo="Choose 'plateau' or 'cosine'.")
        if self.time_limit is not None and not self.time_limit > 0:
            raise InputError(f"A time limit must be positive, not {self.time_limit} s.")

    @classmethod
    def aggressive(cls, **changes: Any) -> Self:
        """For the models in between: a higher learning rate, patience for fewer epochs (SI 2 gives no numbers; these
        end a run where its curve bends), and an average over the last hundred steps instead of a thousand."""
        early = {
            "learning_rate": 0.008,
            "plateau_patience": 10,
            "min_delta": 1e-3,
            "stop_patience": 50,
            "ema_decay": 0.99,
        }
        return cls(**{**early, **changes})

    @classmethod
    def relaxed(cls, **changes: Any) -> Self:
        """For the final model: the protocol of SI 2, which is the default."""
        return cls(**changes)

    @property
    def weighs_forces(self) -> bool:
        """Whether forces count differently."""
        return self.certificate_weights or self.label_noise is not None

    def force_weights(self, atoms: Atoms) -> FloatArray:
        """(n,) what each force of a labelled frame is worth; ones unless something weighs them."""
        noise, scale = self.label_noise, self.noise_scale
        return force_weights(atoms, certificates=self.certificate_weights, noise=noise, scale=scale)

    def to_json(self) -> dict[str, Any]:
        """JSON data from which `from_json` makes an equal record. What weighs by noise is named only where it is used,
        so that trainings of older versions keep their keys."""
        data = asdict(self)
        if self.label_noise is None:
            del data["label_noise"], data["noise_scale"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**data)
