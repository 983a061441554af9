"""`train:` — the potential and how it is trained (Dobbelaere 2025, SI 2)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from clusterflow.config.quantities import Duration, Force, Length
from clusterflow.config.section import Section


class NequIPModel(Section):
    """Architecture: a preset of Table SI.1 (`base`, `extended`) or `small` (for two CPU cores).

    Each field given beside it overrides the preset's.
    """

    preset: Literal["small", "base", "extended"] = "base"
    r_max: Length | None = None
    layers: int | None = Field(None, ge=1, le=8)
    features: int | None = Field(None, ge=1, le=256)
    l_max: int | None = Field(None, ge=0, le=4)
    parity: bool | None = None
    invariant_layers: int | None = Field(None, ge=1)
    invariant_neurons: int | None = Field(None, ge=1)

    def build(self) -> Any:
        from dataclasses import replace

        from clusterflow.train.nequip_config import NequIPModelSettings

        given = {k: v for k in type(self).model_fields if k != "preset" and (v := getattr(self, k)) is not None}
        return replace(NequIPModelSettings.preset(self.preset), **given)


class Stage(Section):
    """Overrides for one kind of training; what is not given comes from the protocol's own defaults."""

    max_epochs: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0, lt=1)
    """0.004 for the final model (SI 2), 0.008 within the campaign."""
    schedule: Literal["plateau", "cosine"] | None = None
    """`plateau` (SI 2) lowers the learning rate when the validation loss stalls; `cosine` along half a cosine over
    `max_epochs`, for trainings whose length is fixed beforehand."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Of the moving average of the weights, per step; the average is what is kept."""
    stop_patience: int | None = Field(None, ge=1)
    """Epochs without a lower validation loss after which training ends (schedule `plateau`)."""
    time_limit: Duration | None = None
    """Stops cleanly at the best epoch so far. Not deterministic: prefer `max_epochs` where it matters."""


class NequIP(Section):
    """NequIP ≥ 0.19, one potential for all systems."""

    kind: Literal["nequip"] = "nequip"
    model: NequIPModel = NequIPModel()
    validation_fraction: float = Field(0.2, gt=0, lt=0.9)
    """Of the labels that are not in the test set (80/20 in the paper)."""
    batch_size: int = Field(5, ge=1)
    force_weight: float = Field(1.0, ge=0)
    energy_weight: float = Field(100.0, ge=0)
    """Per-atom energy and force mean squared errors, 100 : 1."""
    core_only: bool = False
    """Mask the forces of mantle and termination atoms; the paper keeps them (SI 5)."""
    certificate_weights: bool = False
    """Weight the forces of certified fragments by their bounds: 1 / (1 + (bound / tolerance)²)."""
    label_noise: dict[str, Force] | None = None
    """Element → noise of its force labels, as `clusterflow label --noise` measures it for the level of theory. It is
    reported beside the test errors, and `stop: {noise_floor: true}` needs it."""
    noise_weights: bool = False
    """Weight forces by it too: 1 / (1 + (noise / `noise_scale`)²)."""
    noise_scale: Force = 0.05
    """The error that the potential will have anyway."""
    intermediate: Stage = Stage()
    """Within the campaign: aggressive stopping."""
    final: Stage = Stage()
    """The last model: relaxed stopping."""
    packaged: tuple[Literal["ase", "lammps"], ...] = ("ase",)
    """What NequIP's own tools make of the final model; `lammps` takes minutes and needs a C++ compiler."""

    @field_validator("label_noise")
    @classmethod
    def _elements(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        from ase.data import atomic_numbers

        unknown = sorted(set(value or {}) - set(atomic_numbers))
        if unknown:
            raise ValueError(f"label_noise names no elements: {', '.join(unknown)}")
        return value

    @model_validator(mode="after")
    def _noise(self) -> NequIP:
        if self.noise_weights and not self.label_noise:
            raise ValueError("noise_weights needs label_noise: measure it with `clusterflow label --noise`")
        return self

    def build_model(self) -> Any:
        return self.model.build()

    def build_settings(self, *, final: bool, threads: int = 1, damping: float = 1.0) -> Any:
        """``damping`` < 1 lowers the learning rate after a diverged training."""
        from dataclasses import replace

        from clusterflow.train.nequip_config import NequIPTrainingSettings

        base = NequIPTrainingSettings.relaxed() if final else NequIPTrainingSettings.aggressive()
        stage = self.final if final else self.intermediate
        given = {k: v for k in type(stage).model_fields if (v := getattr(stage, k)) is not None}
        given["learning_rate"] = given.get("learning_rate", base.learning_rate) * damping
        return replace(
            base,
            batch_size=self.batch_size,
            force_weight=self.force_weight,
            energy_weight=self.energy_weight,
            core_only=self.core_only,
            certificate_weights=self.certificate_weights,
            label_noise=dict(self.label_noise) if self.noise_weights and self.label_noise else None,
            noise_scale=self.noise_scale,
            threads=threads,
            **given,
        )


Train = NequIP
