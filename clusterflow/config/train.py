"""`train:` — the potential and how it is trained (Dobbelaere 2025, SI 2)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from clusterflow.config.mistakes import PlacedError
from clusterflow.config.quantities import Duration, Force, Length
from clusterflow.config.section import Section
from clusterflow.config.systems import FilePath


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


def _of_elements(value: dict[str, float] | None) -> dict[str, float] | None:
    from ase.data import atomic_numbers

    unknown = sorted(set(value or {}) - set(atomic_numbers))
    if unknown:
        raise ValueError(f"label_noise names no elements: {', '.join(unknown)}")
    return value


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
    committee: int = Field(1, ge=1, le=8)
    """Train so many potentials instead of one, for `score: {kind: committee}`: each from its own seed, on its own
    share of the training labels. The first runs the dynamics and is the one that is kept."""
    start_from: FilePath | None = None
    """Fine-tune: begin with this model instead of random weights. A model folder of clusterflow, or a checkpoint
    (`.ckpt`) or package (`.nequip.zip`) of NequIP with the architecture that `model:` states and all elements of the
    systems. A package contains program code, which is run: give only files that you trust."""

    resampling: ClassVar[Literal["split", "bootstrap"]] = "split"
    """How the members of a committee come to differ besides their seeds."""
    continues: ClassVar[bool] = True
    """Whether a training goes on from the model of the iteration before."""

    _elements = field_validator("label_noise")(_of_elements)

    @model_validator(mode="after")
    def _noise(self) -> NequIP:
        if self.noise_weights and not self.label_noise:
            raise PlacedError(
                "noise_weights needs label_noise: measure it with `clusterflow label --noise`", "noise_weights"
            )
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


class LinearModel(Section):
    """Functions of the environment in which the energy is linear: Bessel functions per pair of elements, and power
    spectra of the neighbour densities (docs/concepts/training.md)."""

    cutoff: Length = 5.0
    radial: int = Field(12, ge=1, le=40)
    """Bessel functions per pair of elements in the two-body part."""
    density: int = Field(6, ge=1, le=20)
    """Bessel functions in which the neighbour densities are expanded …"""
    l_max: int = Field(4, ge=0, le=8)
    """… with spherical harmonics up to this l."""
    channels: int | None = Field(12, ge=1, le=60)
    """Combinations of (element, Bessel function) that are kept per element and l: those that vary most in the training
    environments. `null` keeps all: hardly better in our tests, and many times slower."""
    features: int = Field(8, ge=2, le=32)
    """Length of the per-atom feature vector on which novelty works."""
    repulsion: bool = True
    """Adds the universal repulsion of nuclei (Ziegler, Biersack, Littmark) below three quarters of a bond length."""

    def build(self) -> Any:
        from clusterflow.train.linear_config import LinearModelSettings

        return LinearModelSettings(**{k: getattr(self, k) for k in type(self).model_fields})


class Linear(Section):
    """A linear potential, fitted in seconds on one core by ridge regression."""

    kind: Literal["linear"] = "linear"
    model: LinearModel = LinearModel()
    validation_fraction: float = Field(0.2, gt=0, lt=0.9)
    """Of the labels that are not in the test set; they choose the regularisation."""
    force_weight: float = Field(1.0, ge=0)
    energy_weight: float = Field(100.0, ge=0)
    """Per-atom energy and force mean squared errors, 100 : 1, as for NequIP."""
    stress_weight: float = Field(10.0, ge=0)
    """Of the virial per atom, where periodic frames have a stress label."""
    regularisation: float | None = Field(None, gt=0)
    """Strength of the ridge relative to the largest element of the normal equations; default: the power of ten with the
    lowest validation loss."""
    core_only: bool = False
    """Mask the forces of mantle and termination atoms; the paper keeps them (SI 5)."""
    certificate_weights: bool = False
    """Weight the forces of certified fragments by their bounds: 1 / (1 + (bound / tolerance)²)."""
    label_noise: dict[str, Force] | None = None
    """Element → noise of its force labels, as `clusterflow label --noise` measures it for the level of theory. It is
    reported beside the test errors, and `stop: {noise_floor: true}` needs it."""
    committee: int = Field(1, ge=1, le=8)
    """Fit so many potentials instead of one, for `score: {kind: committee}`: the first to all training labels, the
    others to as many drawn from them with replacement (bootstrap). The first runs the dynamics and is kept."""
    start_from: FilePath | None = None
    """Fine-tune: the model folder of an earlier linear potential with the same `model:` and all elements of the
    systems. Every fit takes its functions and is pulled to its weights instead of to zero."""

    resampling: ClassVar[Literal["split", "bootstrap"]] = "bootstrap"
    continues: ClassVar[bool] = False
    packaged: ClassVar[tuple[str, ...]] = ()

    _elements = field_validator("label_noise")(_of_elements)

    def build_model(self) -> Any:
        return self.model.build()

    def build_settings(self, *, final: bool, threads: int = 1, damping: float = 1.0) -> Any:
        """Final models are fitted like the others. ``damping`` < 1 strengthens a given regularisation."""
        from clusterflow.train.linear_config import LinearTrainingSettings

        del final
        return LinearTrainingSettings(
            energy_weight=self.energy_weight,
            force_weight=self.force_weight,
            stress_weight=self.stress_weight,
            regularisation=None if self.regularisation is None else self.regularisation / damping**4,
            core_only=self.core_only,
            certificate_weights=self.certificate_weights,
            threads=threads,
        )


Train = Annotated[NequIP | Linear, Field(discriminator="kind")]
