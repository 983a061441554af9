"""A trained NequIP model as a potential and as the source of per-atom features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Prediction
from clusterflow.errors import InputError
from clusterflow.physics.hessian import matrix, row_atoms
from clusterflow.train import dataset, nequip_hessian, nequip_model
from clusterflow.train.calculator import PotentialCalculator
from clusterflow.train.loaded_model import LoadedModel
from clusterflow.train.nequip_forward import (
    energies_only,
    energy_and_gradient,
    forces_from_gradient,
    virial_from_gradient,
)
from clusterflow.train.nequip_loop import to_device
from clusterflow.train.nequip_model import ModelConfig

_BATCH_ATOMS = 256
"""Frames are predicted together up to this many atoms: more gains nothing on a CPU and costs memory."""


class NequIPPotential(LoadedModel):
    """A model folder in use; implements `Potential` and `Featurizer` of `clusterflow.core.protocols`.

    The feature vector of an atom is the input of the last linear layer of NequIP's per-atom energy readout: the
    ``readout_neurons`` activations of its hidden layer (8 in the paper's base model). How the layer is found:
    `clusterflow.train.nequip_model.readout_module`. Not to be shared between threads.
    """

    def __init__(self, model: Any, config: ModelConfig, model_id: str, *, device: str, threads: int) -> None:
        readout = nequip_model.readout_module(model)
        super().__init__(
            model_id=model_id,
            elements=config.elements,
            level_of_theory=config.level_of_theory,
            cutoff=config.settings.r_max,
            layers=config.settings.layers,
            feature_width=int(readout.in_features),
        )
        self._model, self._config = model, config
        self._device, self._threads = device, threads
        self._seen: list[Any] = []
        readout.register_forward_pre_hook(lambda _, inputs: self._seen.append(inputs[0]))

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", dtype: str | None = None, threads: int = 1) -> Self:
        """Rebuilds the eager model of a folder written by `NequIPTrainer`.

        ``dtype`` "float64" computes in double precision with the same weights (for Hessians and finite differences; its
        model_id says so); None keeps the precision of the training.

        Raises
        ------
        StateError
            The folder is missing, damaged, or written for another format or NequIP.
        InputError
            An unknown dtype or a device that is not there.
        """
        if dtype not in (None, "float32", "float64"):
            raise InputError(f"A potential computes in float32 or float64, not '{dtype}'.")
        folder = Path(folder)
        config = nequip_model.read_config(folder)
        weights = nequip_model.read_weights(folder, config)
        where = nequip_model.choose_device(device)
        model = nequip_model.build_model(config, dtype=dtype)
        nequip_model.load_weights(model, weights, where=str(folder))
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)  # half of the backward pass would be gradients nobody asks for
        identity = nequip_model.model_identity(config, weights)
        if dtype not in (None, config.settings.dtype):
            identity = f"{identity}-{dtype}"
        return cls(model.to(where), config, identity, device=where, threads=threads)

    def predict(self, frames: Sequence[Atoms]) -> list[Prediction]:
        """Energy, forces and, for frames periodic in three directions, stress of each frame.

        Raises
        ------
        InputError
            An element that the model does not know, or a frame without atoms.
        StructureError
            Positions that are not finite, or a periodic frame without a cell.
        """
        predictions: list[Prediction] = []
        with nequip_model.cpu_threads(self._threads):
            for group in _groups(frames):
                predictions += self._predict_batch(group)
        return predictions

    def features(self, atoms: Atoms) -> FloatArray:
        """(n, feature_width) per-atom features, no unit; raises as `predict`."""
        with nequip_model.cpu_threads(self._threads):
            self._seen.clear()
            energies_only(self._model, self._graph(atoms))
            return self._take_features()

    def predict_with_features(self, atoms: Atoms) -> tuple[Prediction, FloatArray]:
        """Both from one pass; raises as `predict`."""
        with nequip_model.cpu_threads(self._threads):
            self._seen.clear()
            prediction = self._predict_one(atoms)
            return prediction, self._take_features()

    def hessian_rows(
        self, atoms: Atoms, indices: Sequence[int] | None = None, *, chunk: int | None = None
    ) -> FloatArray:
        """(k, 3, n, 3) eV/Å²: exact rows d²E/dx(indices[k]) dx(j); None means all atoms. Load the potential in float64.

        The cost depends on how many atoms are within 2 · layers hops of those of the rows, not on the size of the cell.
        ``chunk``: rows at once; None chooses by the free memory. Raises as `predict`, InputError for a wrong index, and
        ScienceError where not even one row fits into memory.
        """
        rows = row_atoms(atoms, indices)
        with nequip_model.cpu_threads(self._threads):
            try:
                return nequip_hessian.hessian_rows(
                    self._model, self._graph(atoms), rows, self._config.settings.layers, chunk=chunk
                )
            finally:
                self._seen.clear()

    def hessian_vector(self, atoms: Atoms, vectors: FloatArray, *, chunk: int | None = None) -> FloatArray:
        """(k, n, 3): the Hessian times each of the displacements (k, n, 3), eV/Å² times their unit; raises as
        `hessian_rows`, and InputError for vectors of another shape. Give many at once: they share the preparation."""
        vectors = np.asarray(vectors, dtype=np.float64)
        if vectors.ndim != 3 or vectors.shape[1:] != (len(atoms), 3):
            raise InputError(
                f"Displacements of {len(atoms)} atoms have the shape (k, {len(atoms)}, 3), not {vectors.shape}.",
                todo="For a single one give vector[None].",
            )
        with nequip_model.cpu_threads(self._threads):
            try:
                return nequip_hessian.hessian_products(self._model, self._graph(atoms), vectors, chunk=chunk)
            finally:
                self._seen.clear()

    def hessian(self, atoms: Atoms, *, chunk: int | None = None) -> FloatArray:
        """(3n, 3n) eV/Å², symmetric, atom by atom; raises as `hessian_rows`."""
        return matrix(self.hessian_rows(atoms, chunk=chunk))

    def calculator(self) -> PotentialCalculator:
        """A new ASE calculator: energy, free_energy, forces and, for periodic frames, stress."""
        return PotentialCalculator(self)

    def _graph(self, atoms: Atoms) -> dataset.Graph:
        if len(atoms) == 0:
            raise InputError("A frame to predict has no atoms.")
        return to_device(dataset.graph(atoms, self.elements, self.cutoff), self._device)

    def _take_features(self) -> FloatArray:
        features = self._seen.pop().detach().cpu().numpy().astype(np.float64)
        self._seen.clear()
        return np.asarray(features, dtype=np.float64)

    def _predict_one(self, atoms: Atoms) -> Prediction:
        data = self._graph(atoms)
        energy, gradient = energy_and_gradient(self._model, data, for_training=False)
        forces = forces_from_gradient(data, gradient).detach().cpu().numpy().astype(np.float64)
        stress = None
        if atoms.pbc.all():
            virial = virial_from_gradient(data, gradient).detach().cpu().numpy().astype(np.float64)
            stress = virial / abs(atoms.cell.volume)
        return Prediction(float(energy.detach()), forces, stress)

    def _predict_batch(self, frames: Sequence[Atoms]) -> list[Prediction]:
        self._seen.clear()
        if len(frames) == 1:
            return [self._predict_one(frames[0])]
        import torch
        from nequip.data import AtomicDataDict as Key

        graphs = [self._graph(a) for a in frames]
        batch = dataset.collate(graphs)
        energies, gradient = energy_and_gradient(self._model, batch, for_training=False)
        forces = torch.split(forces_from_gradient(batch, gradient).detach(), [len(a) for a in frames])
        parts = torch.split(gradient, [g[Key.EDGE_VECTORS_KEY].shape[0] for g in graphs])
        out = []
        for atoms, graph, energy, force, part in zip(frames, graphs, energies.tolist(), forces, parts, strict=True):
            stress = None
            if atoms.pbc.all():
                virial = virial_from_gradient(graph, part).detach().cpu().numpy().astype(np.float64)
                stress = virial / abs(atoms.cell.volume)
            out.append(Prediction(energy, force.cpu().numpy().astype(np.float64), stress))
        return out


def _groups(frames: Sequence[Atoms]) -> list[list[Atoms]]:
    """Consecutive frames, together up to a number of atoms."""
    groups: list[list[Atoms]] = []
    size = _BATCH_ATOMS + 1
    for atoms in frames:
        if size + len(atoms) > _BATCH_ATOMS:
            groups.append([])
            size = 0
        groups[-1].append(atoms)
        size += len(atoms)
    return groups
