"""The optimisation loop of `clusterflow.train.nequip_train`: epochs, EMA, schedule, stopping, restart file."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterflow.errors import TrainError
from clusterflow.train.dataset import FORCE_WEIGHT, Graph, collate, mean_force_weight
from clusterflow.train.nequip_config import NequIPTrainingSettings
from clusterflow.train.nequip_forward import energy_and_gradient, forces_from_gradient

if TYPE_CHECKING:
    import torch

_RESTART_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors over a set of frames: ``loss`` (no unit), per-atom energy MAE and RMSE in eV, force component MAE and RMSE
    in eV/Å (of the forces that are not masked)."""

    loss: float
    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float

    def to_json(self, prefix: str) -> dict[str, float]:
        """Flat JSON data."""
        return {
            f"{prefix}_loss": self.loss,
            f"{prefix}_energy_mae_eV_per_atom": self.energy_mae,
            f"{prefix}_energy_rmse_eV_per_atom": self.energy_rmse,
            f"{prefix}_force_mae_eV_per_A": self.force_mae,
            f"{prefix}_force_rmse_eV_per_A": self.force_rmse,
        }


def residuals(model: Any, batch: Graph, *, for_training: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Errors of the energies per atom (frames,) in eV and of the force components that have a label (k,) in eV/Å, and
    the weights (k,) of the latter."""
    import torch
    from nequip.data import AtomicDataDict as Key

    energy, gradient = energy_and_gradient(model, batch, for_training=for_training)
    energy_error = (energy - batch[Key.TOTAL_ENERGY_KEY].reshape(-1)) / batch[Key.NUM_NODES_KEY]
    target = batch[Key.FORCE_KEY]
    known = ~torch.isnan(target)
    weight = batch[FORCE_WEIGHT].to(target.dtype)[:, None].expand_as(target)[known]
    return energy_error, forces_from_gradient(batch, gradient)[known] - target[known], weight


def evaluate(
    model: Any, graphs: Sequence[Graph], settings: NequIPTrainingSettings, *, force_rms: float, device: str
) -> Errors:
    """The model's errors on labelled graphs, in batches, all forces pooled; weights count in the loss alone."""
    energy, force, weight = [], [], []
    for start in range(0, len(graphs), settings.batch_size):
        batch = to_device(collate(graphs[start : start + settings.batch_size]), device)
        e, f, w = residuals(model, batch, for_training=False)
        weight.append(w.detach().cpu().double().numpy())
        energy.append(e.detach().cpu().double().numpy())
        force.append(f.detach().cpu().double().numpy())
    e_all, f_all = np.concatenate(energy), np.concatenate(force)
    energy_mse = float(np.mean(e_all**2))
    force_mse = float(np.mean(f_all**2)) if f_all.size else 0.0
    w_all = np.concatenate(weight)
    weighted_mse = float((w_all * f_all**2).sum() / w_all.sum()) if w_all.sum() > 0 else 0.0
    return Errors(
        loss=(settings.energy_weight * energy_mse + settings.force_weight * weighted_mse) / force_rms**2,
        energy_mae=float(np.mean(np.abs(e_all))),
        energy_rmse=math.sqrt(energy_mse),
        force_mae=float(np.mean(np.abs(f_all))) if f_all.size else 0.0,
        force_rmse=math.sqrt(force_mse),
    )


def to_device(data: Graph, device: str) -> Graph:
    """The graph on another device; itself on the CPU."""
    return data if device == "cpu" else {k: v.to(device) for k, v in data.items()}


@dataclass
class Progress:
    """Where a training stands; JSON data, part of the restart file. ``epoch``: epochs done. ``reference`` and
    ``reference_epoch``: the last validation loss that was a fall of more than min_delta, and when. ``first``: errors
    before the first epoch."""

    epoch: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    reference: float = math.inf
    reference_epoch: int = 0
    seconds: float = 0.0
    resumed: int = 0
    stop_reason: str = ""
    first: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)


class Loop:
    """One training run: `run` goes from wherever it stands to its end.

    ``key`` identifies the run: a restart file of another run is ignored.
    """

    def __init__(
        self,
        model: Any,
        training: Sequence[Graph],
        validation: Sequence[Graph],
        settings: NequIPTrainingSettings,
        *,
        force_rms: float,
        seed: int,
        warm: bool,
        device: str,
        key: str,
    ) -> None:
        import torch
        from nequip.train.ema import EMAWeights

        self.model, self.training, self.validation, self.settings = model, training, validation, settings
        self.force_rms, self.seed, self.device, self.key = force_rms, seed, device, key
        # Over the whole set, not the batch: within a batch of certified frames alone, weights would cancel.
        self.mean_weight = mean_force_weight(training)
        self.warmup = settings.warmup_epochs if warm else 0
        self.ema = EMAWeights(model, decay=settings.ema_decay)
        self.ema.update_parameters(model)
        self.optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=settings.plateau_factor, patience=settings.plateau_patience
        )
        self.progress = Progress()
        self.best = {n: t.detach().clone() for n, t in model.state_dict().items()}

    def validate(self) -> Errors:
        """Errors of the EMA weights on the validation set."""
        self.model.eval()
        self.ema.swap_parameters(self.model)
        try:
            return evaluate(self.model, self.validation, self.settings, force_rms=self.force_rms, device=self.device)
        finally:
            self.ema.swap_parameters(self.model)

    def keep_best(self, loss: float) -> None:
        """Remembers the EMA weights where their validation loss is the lowest so far."""
        p = self.progress
        if loss < p.best_loss:
            p.best_loss, p.best_epoch = loss, p.epoch
            self.ema.swap_parameters(self.model)
            self.best = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
            self.ema.swap_parameters(self.model)
        if loss < p.reference - self.settings.min_delta:
            p.reference, p.reference_epoch = loss, p.epoch

    def start(self) -> Errors:
        """Validation of the weights that the run begins with: a warm start never ends worse than its start model."""
        errors = self.validate()
        self.progress.first = errors.to_json("val")
        self.keep_best(errors.loss)
        return errors

    def set_learning_rate(self) -> float:
        """Warm-up ramp and cosine; the plateau scheduler sets its own after the warm-up."""
        s, epoch = self.settings, self.progress.epoch
        if epoch < self.warmup:
            rate = s.learning_rate * (0.1 + 0.9 * epoch / self.warmup)
        elif s.schedule == "cosine":
            span = max(s.max_epochs - self.warmup, 1)
            wave = 0.5 * (1 + math.cos(math.pi * (epoch - self.warmup) / span))
            rate = s.learning_rate_floor + (s.learning_rate - s.learning_rate_floor) * wave
        elif epoch == self.warmup:
            rate = s.learning_rate
        else:
            return float(self.optimiser.param_groups[0]["lr"])
        self.optimiser.param_groups[0]["lr"] = rate
        return rate

    def train_epoch(self) -> float:
        """One pass over the training set in an order drawn from (seed, epoch); returns the mean loss of the batches.

        Raises
        ------
        TrainError
            A loss that is not finite.
        """
        s, p = self.settings, self.progress
        order = np.random.default_rng([self.seed, p.epoch]).permutation(len(self.training))
        losses = []
        self.model.train()
        for start in range(0, len(order), s.batch_size):
            batch = to_device(collate([self.training[i] for i in order[start : start + s.batch_size]]), self.device)
            energy, force, weight = residuals(self.model, batch, for_training=True)
            loss = s.energy_weight * energy.square().mean()
            if force.numel():
                loss = loss + s.force_weight * (weight * force.square()).mean() / self.mean_weight
            loss = loss / self.force_rms**2
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self.diverged("training", value)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.ema.update_parameters(self.model)
            losses.append(value)
        return float(np.mean(losses))

    def diverged(self, which: str, value: float) -> TrainError:
        """The error for a loss that is not a number, with what led to it."""
        p = self.progress
        last = [round(e["val_loss"], 5) for e in p.epochs[-3:]]
        return TrainError(
            f"The {which} loss became {value} in epoch {p.epoch + 1} at learning rate "
            f"{self.optimiser.param_groups[0]['lr']:.2g}; last validation losses {last}, best {p.best_loss:.4g}.",
            todo="Lower the learning rate (half of it), and look for wrong labels: huge forces, atoms too close.",
        )

    def run(self, *, restart: Path, report: Callable[[dict[str, float]], None], save_every: float = 10.0) -> None:
        """Trains to the end. ``restart``: file that is kept up to date (at most every ``save_every`` s) and read first
        where it belongs to this run; ``report`` is called with each epoch's row of the history.

        Raises
        ------
        TrainError
            The loss diverged.
        """
        p, s = self.progress, self.settings
        saved = time.monotonic()
        while not (reason := self.stop_reason()):
            begun = time.monotonic()
            rate = self.set_learning_rate()
            train_loss = self.train_epoch()
            errors = self.validate()
            p.epoch += 1
            if not math.isfinite(errors.loss):
                raise self.diverged("validation", errors.loss)
            self.keep_best(errors.loss)
            if s.schedule == "plateau" and p.epoch > self.warmup:
                self.plateau.step(errors.loss)
            p.seconds += time.monotonic() - begun
            row = {"epoch": p.epoch, "learning_rate": rate, "train_loss": train_loss, **errors.to_json("val")}
            p.epochs.append({**row, "seconds": round(p.seconds, 3)})
            report(p.epochs[-1])
            if time.monotonic() - saved > save_every:
                self.save(restart)
                saved = time.monotonic()
        p.stop_reason = reason

    def stop_reason(self) -> str:
        """Why the run is over; "" while it is not."""
        p, s = self.progress, self.settings
        if p.epoch >= s.max_epochs:
            return f"max_epochs: {p.epoch}"
        # A cosine run improves at its end: while the rate is high it may be worse than what it started from.
        if s.schedule == "plateau" and p.epoch - max(p.reference_epoch, self.warmup) >= s.stop_patience:
            return f"no improvement: the validation loss fell by less than {s.min_delta:g} in {s.stop_patience} epochs"
        rate = float(self.optimiser.param_groups[0]["lr"])
        if s.schedule == "plateau" and p.epoch > self.warmup and rate < s.learning_rate_floor:
            return f"learning rate: {rate:.2g} is below {s.learning_rate_floor:g}"
        mean = p.seconds / max(p.epoch, 1)
        if s.time_limit is not None and p.epoch > 0 and p.seconds + mean > s.time_limit:
            return f"time limit: {p.seconds:.1f} s of {s.time_limit:g} s used"
        return ""

    def save(self, path: Path) -> None:
        """Writes the restart file: weights, EMA, best weights, Adam moments, schedule, history; atomically."""
        from safetensors.torch import save_file

        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"best.{n}": t for n, t in self.best.items()}
        tensors |= {f"ema.{i}": t for i, t in enumerate(self.ema.ema_weights)}
        moments = self.optimiser.state_dict()["state"]
        tensors |= {f"adam.{i}.{n}": t for i, state in moments.items() for n, t in state.items()}
        document = {
            "format": _RESTART_FORMAT,
            "key": self.key,
            "progress": {k: getattr(self.progress, k) for k in Progress.__dataclass_fields__},
            "ema_updates": self.ema.num_updates,
            "plateau": {k: v for k, v in self.plateau.state_dict().items() if isinstance(v, int | float | list)},
            "learning_rate": float(self.optimiser.param_groups[0]["lr"]),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        tensors = {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}
        document["tensors"] = _checksum(tensors)
        save_file(tensors, temporary, metadata={"clusterflow": json.dumps(document)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or, after a power failure, the new name may stand for nothing
        temporary.replace(path)

    def restore(self, path: Path) -> bool:
        """Continues from a restart file; False where there is none of this run, or it cannot be read."""
        import torch
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                document = json.loads((file.metadata() or {})["clusterflow"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError, KeyError, ValueError):
            return False
        if document.get("format") != _RESTART_FORMAT or document.get("key") != self.key:
            return False
        if document.get("tensors") != _checksum(tensors):
            return False
        with torch.no_grad():
            for n, t in self.model.state_dict().items():
                t.copy_(tensors[f"model.{n}"])
            for n, t in self.best.items():
                t.copy_(tensors[f"best.{n}"])
            for i, t in enumerate(self.ema.ema_weights):
                t.copy_(tensors[f"ema.{i}"])
        self.ema.num_updates = document["ema_updates"]
        moments: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, entry = name.split(".", 2)
                moments.setdefault(int(index), {})[entry] = tensor
        groups = self.optimiser.state_dict()["param_groups"]
        groups[0]["lr"] = document["learning_rate"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self.plateau.load_state_dict({**self.plateau.state_dict(), **document["plateau"]})
        self.progress = Progress(**document["progress"])
        self.progress.resumed += 1
        return True


def _checksum(tensors: Mapping[str, Any]) -> str:
    """Of names and contents: the file format has none of its own."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].numpy().tobytes())
    return found.hexdigest()
