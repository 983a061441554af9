"""A linear model in memory and on disk: its functions, weights, reference energies, and how its features are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import InputError, StateError
from clusterflow.train.linear_basis import Basis, densities, power_spectrum
from clusterflow.train.linear_config import LinearModelSettings
from clusterflow.train.linear_pairs import Pairs, find_pairs
from clusterflow.train.model_folder import CONFIG_FILE, MODEL_FORMAT, WEIGHTS_FILE, read_document, write_folder

_TENSORS = ("channels", "weights", "offsets", "feature_mean", "feature_scale", "feature_directions")


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """From the power spectrum of an atom to its features, per element: (p · scale) along ``directions``, and how far p
    lies outside of them.

    ``mean`` and ``scale`` (elements, n_atom); ``directions`` (elements, n_atom, features − 1), orthonormal.
    """

    mean: FloatArray
    scale: FloatArray
    directions: FloatArray

    def apply(self, element: int, spectrum: FloatArray) -> FloatArray:
        """(k, features) of (k, n_atom). The last is the logarithm of the squared distance from the directions: what a
        new kind of environment has and the training ones have not."""
        along = self.directions[element]
        centred = (spectrum - self.mean[element]) * self.scale[element]
        rest = centred - (centred @ along) @ along.T
        inside = (spectrum * self.scale[element]) @ along
        outside = np.log(1e-3 + np.einsum("kf,kf->k", rest, rest) / along.shape[1])
        return np.column_stack((inside, outside))


@dataclass(frozen=True, slots=True)
class LinearModel:
    """``weights`` of the basis' functions in eV; ``offsets`` (elements,) eV: the reference energy of each element;
    ``level_of_theory`` of the labels it was fitted to; ``seed`` of the fit."""

    basis: Basis
    elements: tuple[str, ...]
    weights: FloatArray
    offsets: FloatArray
    features: FeatureMap
    level_of_theory: str = ""
    seed: int = 0

    @property
    def settings(self) -> LinearModelSettings:
        return self.basis.settings

    def tensors(self) -> dict[str, FloatArray]:
        """All numbers, by name."""
        f = self.features
        values = (self.basis.channels, self.weights, self.offsets, f.mean, f.scale, f.directions)
        return {n: np.ascontiguousarray(v, dtype=np.float64) for n, v in zip(_TENSORS, values, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """All but the numbers, as JSON data."""
        return {
            "kind": "linear",
            "settings": self.settings.to_json(),
            "elements": list(self.elements),
            "level_of_theory": self.level_of_theory,
            "seed": self.seed,
        }

    @property
    def model_id(self) -> str:
        """Hash of settings and numbers; the seed counts, so that two fits are two models even where they agree."""
        parts: list[str | bytes] = [canonical_json({"format": MODEL_FORMAT, **self.to_json()})]
        for name, value in self.tensors().items():
            parts += [name, str(value.shape), value.tobytes()]
        return digest(*parts)


def fit_features(
    frames: Sequence[Atoms], basis: Basis, elements: Sequence[str], *, rng: np.random.Generator
) -> FeatureMap:
    """The directions in which the training environments of each element differ most, each function in units of its
    standard deviation; random directions where there are fewer atoms than features."""
    count, size = min(basis.settings.features - 1, basis.n_atom), basis.n_atom
    mean, scale = np.zeros((len(elements), size)), np.ones((len(elements), size))
    directions = np.empty((len(elements), size, count))
    spectra: list[list[FloatArray]] = [[] for _ in elements]
    for atoms in frames:
        pairs = find_pairs(atoms, elements, basis.settings.cutoff)
        for element, spectrum in spectra_by_element(basis, pairs):
            spectra[element].append(spectrum[1])
    for element, parts in enumerate(spectra):
        random = np.linalg.qr(rng.normal(size=(size, count)))[0]
        if not parts:
            directions[element] = random
            continue
        p = np.concatenate(parts)
        mean[element] = p.mean(axis=0)
        spread = p.std(axis=0)
        scale[element] = 1.0 / np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-9))
        centred = (p - mean[element]) * scale[element]
        values, vectors = np.linalg.eigh(centred.T @ centred)
        known = vectors[:, ::-1][:, : min(count, int((values > 1e-9 * max(values[-1], 1e-300)).sum()))]
        more = random - known @ (known.T @ random)
        both = np.concatenate([known, np.linalg.qr(more)[0]], axis=1)[:, :count]
        sign = np.sign(both[np.argmax(np.abs(both), axis=0), np.arange(count)])
        directions[element] = both * sign
    return FeatureMap(mean, scale, directions)


def spectra_by_element(basis: Basis, pairs: Pairs) -> list[tuple[int, tuple[Any, FloatArray]]]:
    """For each element of a frame: (its position in the list, (indices of its atoms, their power spectra))."""
    c = densities(basis, pairs).coefficients
    found = []
    for element in np.unique(pairs.types).tolist():
        atoms = np.flatnonzero(pairs.types == element)
        found.append((int(element), (atoms, power_spectrum(basis, c[atoms]))))
    return found


def write_model(
    folder: Path, model: LinearModel, *, history: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
) -> None:
    """Writes a model folder, complete or not at all. ``provenance``: further JSON data, not part of the model_id."""
    from safetensors.numpy import save_file

    document = {
        "model_id": model.model_id,
        **model.to_json(),
        "reference_energies_eV": {e: float(o) for e, o in zip(model.elements, model.offsets, strict=True)},
        "versions": {name: version(name) for name in ("numpy", "scipy", "sphericart")},
        **(provenance or {}),
    }
    write_folder(folder, document, lambda path: save_file(model.tensors(), path), history=history)


def read_model(folder: Path) -> LinearModel:
    """What `write_model` was given.

    Raises
    ------
    StateError
        Missing, damaged, of another kind or format, or numbers that are not those of its ``model.json``.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    document = read_document(folder)
    path = Path(folder) / WEIGHTS_FILE
    todo = "Restore the folder from a copy, or train again."
    if document.get("kind") != "linear":
        raise StateError(
            f"The model in '{folder}' is of the kind '{document.get('kind', 'nequip')}', not 'linear'.",
            where=str(Path(folder) / CONFIG_FILE),
            todo="Give the folder of a linear model.",
        )
    try:
        tensors = load_file(path)
        settings = LinearModelSettings.from_json(document["settings"])
        elements = tuple(document["elements"])
        values = {name: np.asarray(tensors[name], dtype=np.float64) for name in _TENSORS}
        model = LinearModel(
            Basis(settings, len(elements), values["channels"]),
            elements,
            values["weights"],
            values["offsets"],
            FeatureMap(values["feature_mean"], values["feature_scale"], values["feature_directions"]),
            str(document["level_of_theory"]),
            int(document["seed"]),
        )
    except FileNotFoundError as error:
        raise StateError(f"The model in '{folder}' has no {WEIGHTS_FILE}.", where=str(path), todo=todo) from error
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, InputError) as error:
        raise StateError(
            f"The model in '{folder}' cannot be read: {type(error).__name__}: {error}", where=str(path), todo=todo
        ) from error
    if model.model_id != document.get("model_id"):
        raise StateError(
            f"The weights in '{path}' are not those of its {CONFIG_FILE}: model_id {model.model_id} instead of "
            f"{document.get('model_id')}.",
            where=str(path),
            todo=todo,
        )
    return model
