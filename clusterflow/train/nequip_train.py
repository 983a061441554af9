"""Trains a NequIP potential in this process: NequIP's model and EMA, Adam, and a loop that can be resumed bit by bit.

The protocol is that of Dobbelaere et al. (arXiv:2504.03881), SI 2. NequIP's Lightning module is not used for the loop:
its checkpoints are pickles. A restart file in safetensors makes an interrupted training end with the same weights as
one that ran through.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, TrainedModel
from clusterflow.core.frames import canonical_json, content_hash, digest
from clusterflow.errors import InputError, LevelOfTheoryError
from clusterflow.train import dataset, nequip_model
from clusterflow.train.core_mask import learnable_sets
from clusterflow.train.dataset import Graph
from clusterflow.train.model_folder import finished_training
from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
from clusterflow.train.nequip_loop import Loop, evaluate
from clusterflow.train.nequip_model import ModelConfig

MODEL_FOLDER, LOG_FILE, PROGRESS_FILE, RESTART_FILE = "model", "train.log", "progress.json", "restart.safetensors"


class NequIPTrainer:
    """Trains one NequIP potential; implements `clusterflow.core.protocols.Trainer`.

    ``elements`` are fixed once for a campaign: those of all its systems, also if early data lack some.
    """

    def __init__(self, model: NequIPModelSettings, training: NequIPTrainingSettings, elements: tuple[str, ...]) -> None:
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
        """Trains on labelled frames (finite and periodic ones may be mixed) and writes ``workdir/model``.

        ``start``: folder of an earlier model of the same settings and elements; its weights and statistics are taken,
        optimiser and EMA begin anew. Equal arguments give bit-identical weights on one CPU thread; an interrupted call
        continues from ``workdir`` and one that was finished there returns at once. ``workdir`` also gets ``train.log``
        and ``progress.json`` (epoch, max_epochs, learning rate, validation loss; replaced atomically).

        Raises
        ------
        InputError
            No frames, a frame without energy and forces, an element that is not in ``elements``, another kind of model
            to start from.
        LevelOfTheoryError
            Frames of different levels, or of another level than the start model's.
        TrainError
            The loss diverged.
        """
        level, training, validation = learnable_sets(training, validation, core_only=self.settings.core_only)
        config = self._start_config(start, level) if start is not None else self._fresh_config(training, level)
        workdir.mkdir(parents=True, exist_ok=True)
        start_id = str(nequip_model.read_document(start)["model_id"]) if start is not None else ""
        key = self._key(training, validation, start_id, seed)
        finished = finished_training(workdir / MODEL_FOLDER, key, _identity)
        if finished is not None:
            return finished
        with nequip_model.cpu_threads(self.settings.threads):
            return self._train(config, training, validation, start=start, seed=seed, workdir=workdir, key=key)

    def _fresh_config(self, training: Sequence[Atoms], level: str) -> ModelConfig:
        found = dataset.statistics(training, self.elements, self.model.r_max)
        return ModelConfig(self.model, self.elements, found, level)

    def _start_config(self, start: Path, level: str) -> ModelConfig:
        config = nequip_model.read_config(start)
        if (config.settings, config.elements) != (self.model, self.elements):
            mine, its = self.model.to_json(), config.settings.to_json()
            differ = [f"{k} {its[k]} → {mine[k]}" for k in mine if mine[k] != its.get(k)]
            raise InputError(
                f"The model to start from has other settings or elements: {', '.join(differ) or config.elements}.",
                where=str(start),
                todo="A warm start needs the same model settings and elements; start from nothing instead.",
            )
        if config.level_of_theory and level and config.level_of_theory != level:
            raise LevelOfTheoryError(
                f"The model to start from was trained at '{config.level_of_theory}', the new labels are '{level}'.",
                where=str(start),
                todo="Train a new model from nothing, or label at the model's level.",
            )
        return replace(config, level_of_theory=level or config.level_of_theory)

    def _key(self, training: Sequence[Atoms], validation: Sequence[Atoms], start_id: str, seed: int) -> str:
        """Hash of all that decides the outcome of a training."""

        def fingerprint(atoms: Atoms) -> str:
            energy, forces = dataset.labels(atoms)
            weights = self.settings.force_weights(atoms).tobytes() if self.settings.weighs_forces else b""
            return digest(content_hash(atoms), repr(energy), forces.tobytes(), weights)

        settings = self.settings.to_json()
        return digest(
            canonical_json([self.model.to_json(), settings, list(self.elements), start_id, seed]),
            canonical_json({name: version(name) for name in ("nequip", "e3nn", "torch")}),
            dataset.check_levels([*training, *validation]),
            *(fingerprint(a) for a in training),
            "validation",
            *(fingerprint(a) for a in validation),
        )

    def _train(
        self,
        config: ModelConfig,
        training: Sequence[Atoms],
        validation: Sequence[Atoms],
        *,
        start: Path | None,
        seed: int,
        workdir: Path,
        key: str,
    ) -> TrainedModel:
        settings, device = self.settings, nequip_model.choose_device(self.settings.device)
        model = nequip_model.build_model(config, seed=seed % 2**31)
        if start is not None:
            as_stored = nequip_model.read_config(start)  # ``config`` may state another level of theory
            nequip_model.load_weights(model, nequip_model.read_weights(start, as_stored), where=str(start))
        model = model.to(device)
        cutoff, rms = self.model.r_max, config.statistics.force_rms
        train_graphs, val_graphs = (
            [dataset.labelled_graph(a, self.elements, cutoff, force_weights=settings.force_weights(a)) for a in frames]
            for frames in (training, validation)
        )
        history: dict[str, Any] = {"key": key, "seed": seed, "warm_start": start is not None, "device": device}
        if start is not None:
            errors = evaluate(model, val_graphs, settings, force_rms=rms, device=device)
            history["start_model"] = errors.to_json("val")
            if settings.refit_shifts:
                history["shift_change_eV"] = refit_shifts(model, train_graphs, self.elements, device=device)
        loop = Loop(
            model,
            train_graphs,
            val_graphs,
            settings,
            force_rms=rms,
            seed=seed,
            warm=start is not None,
            device=device,
            key=key,
        )
        restart = workdir / RESTART_FILE
        if loop.restore(restart):
            _log(workdir, f"resumed after epoch {loop.progress.epoch}")
        else:
            loss = loop.start().loss
            (workdir / LOG_FILE).write_text("")
            _log(
                workdir,
                f"{len(training)} training and {len(validation)} validation frames at '{config.level_of_theory}'",
            )
            _log(workdir, _opening(model, config, settings, seed=seed, device=device))
            _log(workdir, f"validation loss before the first epoch {loss:.6g}")
        loop.run(restart=restart, report=lambda row: _report(workdir, row, settings.max_epochs))
        return _finish(loop, config, history, workdir)


def refit_shifts(model: Any, graphs: Sequence[Graph], elements: Sequence[str], *, device: str) -> dict[str, float]:
    """Moves the model's per-element energy shifts by the least-squares solution of its energy errors on the training
    set (small ridge towards no change); returns the changes in eV. Forces stay as they are."""
    import torch
    from nequip.data import AtomicDataDict as Key

    from clusterflow.train.nequip_forward import energies_only
    from clusterflow.train.nequip_loop import to_device

    model.eval()
    errors, counts = [], []
    for graph in graphs:
        single = to_device(dataset.collate([graph]), device)
        errors.append(float(graph[Key.TOTAL_ENERGY_KEY]) - float(energies_only(model, single)))
        counts.append(np.bincount(graph[Key.ATOM_TYPE_KEY].numpy(), minlength=len(elements)))
    change: FloatArray = dataset.fit_shifts(np.array(counts, dtype=np.float64), np.array(errors), prior=0.0)
    state = model.state_dict()
    shifts = next(t for n, t in state.items() if n.endswith("per_type_energy_scale_shift.shifts"))
    with torch.no_grad():
        shifts += torch.as_tensor(change, dtype=shifts.dtype, device=shifts.device).view_as(shifts)
    return {e: float(c) for e, c in zip(elements, change, strict=True)}


def _identity(folder: Path) -> str:
    config = nequip_model.read_config(folder)
    return nequip_model.model_identity(config, nequip_model.read_weights(folder, config))


def _finish(loop: Loop, config: ModelConfig, history: dict[str, Any], workdir: Path) -> TrainedModel:
    p = loop.progress
    at_best = p.epochs[p.best_epoch - 1] if p.best_epoch else p.first
    metrics = {"epochs": float(p.epoch), "best_epoch": float(p.best_epoch), "seconds": p.seconds}
    metrics |= {k: float(v) for k, v in at_best.items() if k.startswith("val_")}
    history |= {
        "stop_reason": p.stop_reason,
        "best_epoch": p.best_epoch,
        "resumed": p.resumed,
        "reproducible": loop.device == "cpu"
        and loop.settings.threads == 1
        and not p.stop_reason.startswith("time limit"),
        "epoch_0": p.first,
        "epochs": p.epochs,
    }
    training = {"key": loop.key, "settings": loop.settings.to_json(), "stop_reason": p.stop_reason, "metrics": metrics}
    folder = workdir / MODEL_FOLDER
    identity = nequip_model.write_model(folder, config, loop.best, history=history, provenance={"training": training})
    (workdir / RESTART_FILE).unlink(missing_ok=True)
    _log(workdir, f"stopped after epoch {p.epoch} ({p.stop_reason}); best epoch {p.best_epoch}; model_id {identity}")
    return TrainedModel(folder, identity, metrics)


def _opening(model: Any, config: ModelConfig, settings: NequIPTrainingSettings, *, seed: int, device: str) -> str:
    weights = sum(p.numel() for p in model.parameters())
    return (
        f"NequIP {version('nequip')}, {weights} weights, seed {seed}, {device}, {settings.threads} thread(s)\n"
        f"model {canonical_json(config.settings.to_json())}\ntraining {canonical_json(settings.to_json())}\n"
        f"statistics {canonical_json(config.statistics.to_json())}"
    )


def _log(workdir: Path, text: str) -> None:
    with (workdir / LOG_FILE).open("a") as file:
        file.write(text + "\n")


def _report(workdir: Path, row: dict[str, float], max_epochs: int) -> None:
    _log(
        workdir,
        f"epoch {int(row['epoch'])} lr {row['learning_rate']:.3g} train {row['train_loss']:.6g} "
        f"val {row['val_loss']:.6g} E {1e3 * row['val_energy_mae_eV_per_atom']:.3f} meV/atom "
        f"F {1e3 * row['val_force_mae_eV_per_A']:.2f} meV/Å {row['seconds']:.1f} s",
    )
    state = {
        "epoch": int(row["epoch"]),
        "max_epochs": max_epochs,
        "learning_rate": row["learning_rate"],
        "val_loss": row["val_loss"],
        "val_force_mae_eV_per_A": row["val_force_mae_eV_per_A"],
        "seconds": row["seconds"],
    }
    temporary = workdir / f".{PROGRESS_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(state))
    temporary.replace(workdir / PROGRESS_FILE)


__all__ = ["LOG_FILE", "MODEL_FOLDER", "PROGRESS_FILE", "RESTART_FILE", "NequIPTrainer", "refit_shifts"]
