"""Error metrics of a potential against reference labels: energies in meV/atom, forces in meV/Å.

The force metrics run over all Cartesian components of all atoms of a group together. MAE_P(k) and the split of the
energy error into an offset and a spread are those of Dobbelaere et al. (2025), arXiv:2504.03881, eqs. 6 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from clusterflow.core import keys
from clusterflow.core.data import FloatArray, Prediction
from clusterflow.errors import InputError, ScienceError

MEV = 1000.0
PERCENTILE = 95.0
"""The k of MAE_P(k) that the paper reports, and the default here."""


@dataclass(frozen=True, slots=True)
class ForceErrors:
    """Force errors of one group of atoms, in meV/Å, over ``n_components`` Cartesian components of ``n_atoms`` atoms.

    ``mae_p`` is MAE_P(k): the mean of |x| over the components with |x| ≥ P_k.
    """

    mae: float
    rmse: float
    mae_p: float
    maximum: float
    n_atoms: int
    n_components: int


@dataclass(frozen=True, slots=True)
class EnergyErrors:
    """Energy errors of one group of frames, in meV/atom; an error is (model − reference) / number of atoms.

    ``average`` is ΔE_avg, the offset; ``std`` is ΔE_std, the spread around it (population standard deviation: 0 for a
    single frame); ``mae`` and ``rmse`` contain both.
    """

    average: float
    std: float
    mae: float
    rmse: float
    n_frames: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Errors of one potential on one set of labelled frames.

    A group without a label is absent from the mappings; ``forces`` or ``energy`` is None when no frame has that label.
    ``percentile`` is the k of MAE_P(k).
    """

    n_frames: int
    percentile: float = PERCENTILE
    forces: ForceErrors | None = None
    energy: EnergyErrors | None = None
    forces_by_element: Mapping[str, ForceErrors] = field(default_factory=dict)
    forces_by_region: Mapping[str, ForceErrors] = field(default_factory=dict)
    forces_by_system: Mapping[str, ForceErrors] = field(default_factory=dict)
    energy_by_system: Mapping[str, EnergyErrors] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        forces, energy = data.get("forces"), data.get("energy")
        return cls(
            n_frames=int(data["n_frames"]),
            percentile=float(data.get("percentile", PERCENTILE)),
            forces=None if forces is None else ForceErrors(**forces),
            energy=None if energy is None else EnergyErrors(**energy),
            forces_by_element={k: ForceErrors(**v) for k, v in data.get("forces_by_element", {}).items()},
            forces_by_region={k: ForceErrors(**v) for k, v in data.get("forces_by_region", {}).items()},
            forces_by_system={k: ForceErrors(**v) for k, v in data.get("forces_by_system", {}).items()},
            energy_by_system={k: EnergyErrors(**v) for k, v in data.get("energy_by_system", {}).items()},
        )

    def to_text(self) -> str:
        """An aligned text table, one line per group."""
        return metrics_table(self)


def thresholded_mae(errors: ArrayLike, percentile: float = PERCENTILE) -> float:
    """MAE_P(X, k): the mean of |x| over those x with |x| ≥ P_k(X), P_k the k-th percentile of |X|.

    k = 0 is the MAE and k = 100 the largest error. P_k is interpolated linearly between order statistics; an error
    equal to P_k counts. Same unit as ``errors``, which may have any shape (arXiv:2504.03881, eq. 6).

    Raises
    ------
    InputError
        No errors, or a percentile outside 0 to 100.
    """
    size = np.abs(np.asarray(errors, dtype=np.float64)).ravel()
    if size.size == 0:
        raise InputError("MAE_P of no errors is not defined.", todo="Give at least one labelled force component.")
    if not 0.0 <= percentile <= 100.0:
        raise InputError(f"The percentile of MAE_P is {percentile}.", todo="Give a number from 0 to 100 (paper: 95).")
    # Interpolation may round above the largest value, which would leave nothing to average.
    threshold = min(float(np.percentile(size, percentile)), float(size.max()))
    return float(size[size >= threshold].mean())


def force_errors(errors: ArrayLike, percentile: float = PERCENTILE) -> ForceErrors | None:
    """Force metrics in meV/Å of ``errors`` (n, 3) in eV/Å, model − reference; NaN components are left out.

    None if no component is left.
    """
    x = np.asarray(errors, dtype=np.float64).reshape(-1, 3) * MEV
    known = ~np.isnan(x)
    if not known.any():
        return None
    size = np.abs(x[known])
    return ForceErrors(
        mae=float(size.mean()),
        rmse=float(np.sqrt(np.mean(size**2))),
        mae_p=thresholded_mae(size, percentile),
        maximum=float(size.max()),
        n_atoms=int(known.any(axis=1).sum()),
        n_components=int(size.size),
    )


def energy_errors(errors: ArrayLike) -> EnergyErrors | None:
    """Energy metrics in meV/atom of ``errors`` (m,) in eV/atom, model − reference; NaN frames are left out.

    None if no frame is left. Offset and spread are those of eq. 7 of arXiv:2504.03881.
    """
    x = np.asarray(errors, dtype=np.float64).ravel() * MEV
    x = x[~np.isnan(x)]
    if x.size == 0:
        return None
    average = float(x.mean())
    return EnergyErrors(
        average=average,
        std=float(np.sqrt(np.mean((x - average) ** 2))),
        mae=float(np.abs(x).mean()),
        rmse=float(np.sqrt(np.mean(x**2))),
        n_frames=int(x.size),
    )


def at_noise_floor(rmse: float, noise: float) -> bool:
    """Whether a potential with this test RMSE is as good as its labels, whose noise has this RMS (one unit for both).

    Test labels are noisy too: RMSE² = error of the potential² + noise². Its own error is at the noise or below for
    RMSE ≤ √2 · noise (compare Dobbelaere 2025, SI 1: residual errors that no potential can avoid).
    """
    return rmse <= math.sqrt(2.0) * noise


def reference_energy(atoms: Atoms) -> float:
    """The labelled energy of a frame in eV, NaN if it has none."""
    results = getattr(atoms.calc, "results", {})
    value = results.get("energy")
    return float("nan") if value is None else float(value)


def reference_forces(atoms: Atoms) -> FloatArray:
    """The labelled forces (n, 3) of a frame in eV/Å, NaN where it has none."""
    results = getattr(atoms.calc, "results", {})
    value = results.get("forces")
    if value is None:
        return np.full((len(atoms), 3), np.nan)
    return np.asarray(value, dtype=np.float64).reshape(len(atoms), 3)


def compare(frames: Sequence[Atoms], predictions: Sequence[Prediction], *, percentile: float = PERCENTILE) -> Metrics:
    """Errors of ``predictions`` on labelled ``frames``, overall and per element, region and system.

    Labels are the energy and forces in the frame's SinglePointCalculator; a missing or NaN label is left out. Regions
    come from the array `keys.REGION` ("core", "mantle", "termination"), systems from the info entry `keys.SYSTEM`;
    atoms or frames without them appear in the overall figures only.

    Raises
    ------
    InputError
        Frames and predictions differ in number or in their numbers of atoms.
    ScienceError
        The model predicts NaN or infinity: such an error must not vanish from an average.
    """
    if len(frames) != len(predictions):
        raise InputError(
            f"{len(frames)} labelled frames but {len(predictions)} predictions.",
            todo="Give one prediction per frame, in the same order.",
        )
    if not frames:
        return Metrics(n_frames=0, percentile=percentile)
    force, energy, element, region, system, frame_system = [], [], [], [], [], []
    for number, (atoms, prediction) in enumerate(zip(frames, predictions, strict=True)):
        _check_prediction(number, atoms, prediction)
        name = str(atoms.info.get(keys.SYSTEM, ""))
        force.append(np.asarray(prediction.forces, dtype=np.float64) - reference_forces(atoms))
        energy.append((prediction.energy - reference_energy(atoms)) / len(atoms))
        element.append(np.asarray(atoms.get_chemical_symbols()))
        region.append(np.asarray(atoms.arrays.get(keys.REGION, np.full(len(atoms), ""))).astype(str))
        system.append(np.full(len(atoms), name))
        frame_system.append(name)
    all_forces = np.concatenate(force)
    all_energies = np.asarray(energy)
    return Metrics(
        n_frames=len(frames),
        percentile=percentile,
        forces=force_errors(all_forces, percentile),
        energy=energy_errors(all_energies),
        forces_by_element=_grouped_forces(all_forces, np.concatenate(element), percentile),
        forces_by_region=_grouped_forces(all_forces, np.concatenate(region), percentile, order=keys.REGIONS),
        forces_by_system=_grouped_forces(all_forces, np.concatenate(system), percentile),
        energy_by_system=_grouped_energies(all_energies, np.asarray(frame_system)),
    )


def _check_prediction(number: int, atoms: Atoms, prediction: Prediction) -> None:
    shape = np.shape(prediction.forces)
    if shape != (len(atoms), 3):
        raise InputError(
            f"The forces predicted for frame {number} have the shape {shape}, but it has {len(atoms)} atoms.",
            where=f"frame {number} ({atoms.get_chemical_formula()})",
            todo="Give the predictions in the order of the frames.",
        )
    bad = int((~np.isfinite(prediction.forces)).sum()) + int(not np.isfinite(prediction.energy))
    if bad:
        raise ScienceError(
            f"The model predicts {bad} values that are NaN or infinite (energy {prediction.energy} eV).",
            where=f"frame {number} ({atoms.get_chemical_formula()})",
            todo="Look at the training log: this model has diverged or the frame has atoms on top of each other.",
        )


def _grouped_forces(
    errors: FloatArray, group: Any, percentile: float, order: Sequence[str] = ()
) -> dict[str, ForceErrors]:
    names = {str(g) for g in np.unique(group)} - {""}
    ranked = [n for n in order if n in names] + sorted(names - set(order))
    found = {name: force_errors(errors[group == name], percentile) for name in ranked}
    return {name: e for name, e in found.items() if e is not None}


def _grouped_energies(errors: FloatArray, group: Any) -> dict[str, EnergyErrors]:
    names = sorted({str(g) for g in np.unique(group)} - {""})
    found = {name: energy_errors(errors[group == name]) for name in names}
    return {name: e for name, e in found.items() if e is not None}


def metrics_table(metrics: Metrics) -> str:
    """Text tables: forces in meV/Å by group, energies in meV/atom by system."""
    p = f"MAE_P{metrics.percentile:g}"
    lines = []
    if metrics.forces is not None:
        lines.append(f"{'forces [meV/Å]':<28}{'atoms':>9}{'MAE':>10}{'RMSE':>10}{p:>10}{'max':>10}")
        groups = [("all", metrics.forces), *metrics.forces_by_element.items(), *metrics.forces_by_region.items()]
        for name, f in [*groups, *metrics.forces_by_system.items()]:
            lines.append(
                f"  {_clip(name, 25):<26}{f.n_atoms:>9d}{f.mae:>10.1f}{f.rmse:>10.1f}{f.mae_p:>10.1f}{f.maximum:>10.1f}"
            )
    if metrics.energy is not None:
        lines.append(f"{'energy [meV/atom]':<28}{'frames':>9}{'ΔE_avg':>10}{'ΔE_std':>10}{'MAE':>10}{'RMSE':>10}")
        for name, e in [("all", metrics.energy), *metrics.energy_by_system.items()]:
            lines.append(
                f"  {_clip(name, 25):<26}{e.n_frames:>9d}{e.average:>10.2f}{e.std:>10.2f}{e.mae:>10.2f}{e.rmse:>10.2f}"
            )
    return "\n".join(lines) if lines else f"no labels among {metrics.n_frames} frames"


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
