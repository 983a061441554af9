"""Fits a linear potential: seconds on one core, no random start, no learning rate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ase import Atoms
from threadpoolctl import threadpool_limits

from clusterflow.core.data import FloatArray, TrainedModel
from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import InputError, LevelOfTheoryError
from clusterflow.train import core_mask, dataset
from clusterflow.train.core_mask import learnable_sets
from clusterflow.train.linear_basis import Basis
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.linear_fit import Fit, choose_channels, normal_equations, solve
from clusterflow.train.linear_model import LinearModel, fit_features, read_model, write_model
from clusterflow.train.linear_potential import LinearPotential
from clusterflow.train.model_folder import finished_training

MODEL_FOLDER, LOG_FILE = "model", "train.log"


class LinearTrainer:
    """Fits one linear potential; implements `clusterflow.core.protocols.Trainer`.

    ``elements`` are fixed once for a campaign: those of all its systems, also if early data lack some.
    """

    def __init__(self, model: LinearModelSettings, training: LinearTrainingSettings, elements: tuple[str, ...]) -> None:
        self.model, self.settings, self.elements = model, training, dataset.check_elements(elements)

    def train(
        self,
        training: Sequence[Atoms],
        validation: Sequence[Atoms],
        *,
        start: Path | None,
        seed: int,
        workdir: Path,
    ) -> TrainedModel:
        """Fits to labelled frames (finite and periodic ones may be mixed) and writes ``workdir/model``.

        ``start``: folder of an earlier linear model of the same settings; its functions are taken, and the weights are
        pulled to its weights instead of to zero. It may know more elements. Equal arguments give equal weights on one
        CPU thread; a call that was finished in ``workdir`` returns at once. The seed decides only what no data decide:
        channels and features of elements that do not occur.

        Raises
        ------
        InputError
            No frames, a frame without energy and forces, no force to learn, an element that is not in ``elements``,
            another kind of model to start from.
        LevelOfTheoryError
            Frames of different levels, or of another level than the start model's.
        TrainError
            The equations cannot be solved.
        """
        level, training, validation = learnable_sets(training, validation, core_only=self.settings.core_only)
        before = self._start_model(start, level) if start is not None else None
        key = self._key(training, validation, before.model_id if before is not None else "", seed)
        finished = finished_training(workdir / MODEL_FOLDER, key, lambda folder: read_model(folder).model_id)
        if finished is not None:
            return finished
        workdir.mkdir(parents=True, exist_ok=True)
        with threadpool_limits(self.settings.threads):
            return self._train(training, validation, before, level=level, seed=seed, workdir=workdir, key=key)

    def _start_model(self, start: Path, level: str) -> LinearModel:
        before = read_model(start)
        if before.settings != self.model or set(self.elements) != set(before.elements):
            mine, its = self.model.to_json(), before.settings.to_json()
            differ = [f"{k} {its[k]} → {mine[k]}" for k in mine if mine[k] != its.get(k)]
            raise InputError(
                "The model to start from has other settings or elements: "
                f"{', '.join(differ) or ', '.join(before.elements)}.",
                where=str(start),
                todo="A warm start needs the same model settings and elements; start from nothing instead.",
            )
        if before.level_of_theory and level and before.level_of_theory != level:
            raise LevelOfTheoryError(
                f"The model to start from was trained at '{before.level_of_theory}', the new labels are '{level}'.",
                where=str(start),
                todo="Train a new model from nothing, or label at the model's level.",
            )
        return before

    def _key(self, training: Sequence[Atoms], validation: Sequence[Atoms], start_id: str, seed: int) -> str:
        """Hash of all that decides the outcome of a fit."""

        def fingerprint(atoms: Atoms) -> str:
            weights = core_mask.certificate_weights(atoms) if self.settings.certificate_weights else None
            return dataset.fingerprint(atoms, force_weights=weights)

        return digest(
            canonical_json([self.model.to_json(), self.settings.to_json(), list(self.elements), start_id, seed]),
            canonical_json({name: version(name) for name in ("numpy", "scipy", "sphericart")}),
            dataset.check_levels([*training, *validation]),
            *(fingerprint(a) for a in training),
            "validation",
            *(fingerprint(a) for a in validation),
        )

    def _train(
        self,
        training: Sequence[Atoms],
        validation: Sequence[Atoms],
        before: LinearModel | None,
        *,
        level: str,
        seed: int,
        workdir: Path,
        key: str,
    ) -> TrainedModel:
        begun, rng = time.perf_counter(), np.random.default_rng(seed)
        elements = before.elements if before is not None else self.elements
        found = dataset.statistics(training, elements, self.model.cutoff)
        if before is None:
            basis = Basis(self.model, len(elements), choose_channels(training, elements, self.model, rng=rng))
            offsets = np.array([found.shifts[e] for e in elements])
            features = fit_features(training, basis, elements, rng=rng)
        else:
            basis, features = before.basis, before.features
            offsets = before.offsets + _energy_shifts(before, training)
        equations = [normal_equations(s, basis, elements, offsets, self.settings) for s in (training, validation)]
        fit = solve(equations[0], equations[1], self.settings, centre=None if before is None else before.weights)
        model = LinearModel(basis, elements, fit.weights, offsets, features, level, seed)
        metrics = self._metrics(model, fit, validation, rms=found.force_rms)
        metrics |= {"fitted_numbers": float(equations[0].rows), "weights": float(basis.n_weights)}
        metrics["seconds"] = time.perf_counter() - begun
        _log(workdir, len(training), len(validation), level, metrics, fit)
        history = {"key": key, "seed": seed, "warm_start": before is not None, "tried": fit.tried, "reproducible": True}
        told = {"key": key, "settings": self.settings.to_json(), "metrics": metrics}
        write_model(workdir / MODEL_FOLDER, model, history=history, provenance={"training": told})
        return TrainedModel(workdir / MODEL_FOLDER, model.model_id, metrics)

    def _metrics(self, model: LinearModel, fit: Fit, validation: Sequence[Atoms], *, rms: float) -> dict[str, float]:
        predictions = LinearPotential(model, threads=self.settings.threads).predict(validation)
        labels = [dataset.labels(a) for a in validation]
        pairs = list(zip(predictions, labels, validation, strict=True))
        energy = [abs(p.energy - e) / len(a) for p, (e, _), a in pairs]
        force = np.abs(np.concatenate([(p.forces - f).ravel() for p, (_, f), _ in pairs]))
        known = force[np.isfinite(force)]
        metrics = {
            "regularisation": fit.regularisation,
            "train_loss": min(t["train_loss"] for t in fit.tried if t["regularisation"] == fit.regularisation) / rms**2,
            "val_loss": min(t["val_loss"] for t in fit.tried) / rms**2,
            "val_energy_mae_eV_per_atom": float(np.mean(energy)),
        }
        if known.size:
            metrics["val_force_mae_eV_per_A"] = float(known.mean())
        return metrics


def _energy_shifts(before: LinearModel, frames: Sequence[Atoms]) -> FloatArray:
    """Changes of the reference energies (elements,) eV after which the start model's mean energy errors on the new
    compositions vanish; forces stay as they are."""
    predictions = LinearPotential(before).predict(frames)
    errors = [dataset.labels(a)[0] - p.energy for a, p in zip(frames, predictions, strict=True)]
    size = len(before.elements)
    counts = [np.bincount(dataset.type_indices(a, before.elements), minlength=size) for a in frames]
    return dataset.fit_shifts(np.array(counts, dtype=np.float64), np.array(errors), prior=0.0)


def _log(workdir: Path, n_train: int, n_validation: int, level: str, metrics: Mapping[str, float], fit: Fit) -> None:
    lines = [f"{n_train} training and {n_validation} validation frames at '{level}'"]
    lines.append(f"{metrics['fitted_numbers']:.0f} numbers for {metrics['weights']:.0f} weights")
    lines += [
        f"regularisation {t['regularisation']:.0e} train {t['train_loss']:.6g} val {t['val_loss']:.6g} eV²/Å²"
        for t in fit.tried
    ]
    lines.append(f"took {fit.regularisation:.0e} after {metrics['seconds']:.1f} s")
    (workdir / LOG_FILE).write_text("\n".join(lines) + "\n")


__all__ = ["LOG_FILE", "MODEL_FOLDER", "LinearTrainer"]
