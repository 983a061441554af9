"""A linear model as a potential and as the source of per-atom features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from ase import Atoms
from threadpoolctl import threadpool_limits

from clusterflow.core.data import FloatArray, Prediction
from clusterflow.train.calculator import PotentialCalculator
from clusterflow.train.linear_basis import energy_and_gradient
from clusterflow.train.linear_model import LinearModel, read_model, spectra_by_element
from clusterflow.train.linear_pairs import find_pairs
from clusterflow.train.loaded_model import LoadedModel
from clusterflow.train.repulsion import repulsion


class LinearPotential(LoadedModel):
    """A linear model in use; implements `Potential` and `Featurizer` of `clusterflow.core.protocols`.

    The feature vector of an atom is a projection of its power spectrum
    (`clusterflow.train.linear_model.FeatureMap`). Everything is computed in double precision.
    """

    def __init__(self, model: LinearModel, *, threads: int = 1) -> None:
        super().__init__(
            model_id=model.model_id,
            elements=model.elements,
            level_of_theory=model.level_of_theory,
            cutoff=model.settings.cutoff,
            layers=1,
            feature_width=int(model.features.directions.shape[-1]) + 1,
        )
        self._model, self._threads = model, threads

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> Self:
        """The model of a folder written by `LinearTrainer`; raises StateError as `read_model`."""
        return cls(read_model(Path(folder)), threads=threads)

    @property
    def model(self) -> LinearModel:
        return self._model

    def predict(self, frames: Sequence[Atoms]) -> list[Prediction]:
        """Energy, forces and, for frames periodic in three directions, stress of each frame.

        Raises
        ------
        InputError
            An element that the model does not know, or a frame without atoms.
        StructureError
            Positions that are not finite, a periodic frame without a cell, or two atoms in one place.
        """
        with threadpool_limits(self._threads):
            return [self._predict_one(a) for a in frames]

    def features(self, atoms: Atoms) -> FloatArray:
        """(n, feature_width) per-atom features, no unit; raises as `predict`."""
        model = self._model
        with threadpool_limits(self._threads):
            pairs = find_pairs(atoms, model.elements, self.cutoff)
            out = np.empty((len(atoms), self.feature_width))
            for element, (which, spectrum) in spectra_by_element(model.basis, pairs):
                out[which] = model.features.apply(element, spectrum)
            return out

    def calculator(self) -> PotentialCalculator:
        """A new ASE calculator: energy, free_energy, forces and, for periodic frames, stress."""
        return PotentialCalculator(self)

    def _predict_one(self, atoms: Atoms) -> Prediction:
        model = self._model
        pairs = find_pairs(atoms, model.elements, self.cutoff)
        energies, gradient = energy_and_gradient(model.basis, model.weights, pairs)
        energy = float(energies.sum() + model.offsets[pairs.types].sum())
        forces = np.zeros((len(atoms), 3))
        for axis in range(3):
            forces[:, axis] = np.bincount(pairs.centre, gradient[:, axis], minlength=len(atoms))
            forces[:, axis] -= np.bincount(pairs.neighbour, gradient[:, axis], minlength=len(atoms))
        virial = gradient.T @ (pairs.unit * pairs.distance[:, None])
        if model.settings.repulsion:
            close = repulsion(atoms.numbers, pairs)
            energy, forces, virial = energy + close.energy, forces + close.forces, virial + close.virial
        stress = 0.5 * (virial + virial.T) / abs(atoms.cell.volume) if atoms.pbc.all() else None
        return Prediction(energy, forces, stress)
