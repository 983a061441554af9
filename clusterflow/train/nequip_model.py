"""A NequIP model on disk and in memory: built from JSON, its weights in safetensors, no pickle.

A model folder holds ``model.json`` (settings, elements, statistics, versions, model_id), ``weights.safetensors`` and,
from a training, ``history.json``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import InputError, StateError
from clusterflow.train.dataset import Statistics
from clusterflow.train.model_folder import (
    CONFIG_FILE,
    HISTORY_FILE,
    MODEL_FORMAT,
    WEIGHTS_FILE,
    read_document,
    write_folder,
)
from clusterflow.train.nequip_config import NequIPModelSettings

if TYPE_CHECKING:
    import torch

__all__ = [
    "CONFIG_FILE", "HISTORY_FILE", "MODEL_FORMAT", "WEIGHTS_FILE", "ModelConfig", "build_model", "builder_arguments",
    "choose_device", "cpu_threads", "load_weights", "model_identity", "read_config", "read_document", "read_weights",
    "readout_module", "write_model",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """All that decides a model besides its weights. ``level_of_theory`` of the labels it was trained on."""

    settings: NequIPModelSettings
    elements: tuple[str, ...]
    statistics: Statistics
    level_of_theory: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "kind": "nequip",
            "settings": self.settings.to_json(),
            "elements": list(self.elements),
            "statistics": self.statistics.to_json(),
            "level_of_theory": self.level_of_theory,
        }


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """PyTorch computes with ``count`` threads inside; the number is a global of the process, so it is set back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(device: str) -> str:
    """ "auto" → "cuda" where there is one, else "cpu".

    Raises
    ------
    InputError
        CUDA is asked for and missing.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            f"The device '{device}' is not available: PyTorch {torch.__version__} finds no GPU.",
            todo="Use device 'auto' or 'cpu', or install a PyTorch with CUDA.",
        )
    return device


def build_model(config: ModelConfig, *, seed: int = 0, dtype: str | None = None) -> Any:
    """NequIP's eager `GraphModel` with fresh weights drawn from ``seed``; ``dtype`` overrides that of the settings."""
    from lightning.pytorch.utilities.seed import isolate_rng
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state

    with warnings.catch_warnings(), isolate_rng():  # NequIP's set-up seeds the process's global generators
        warnings.simplefilter("ignore")
        set_global_state()
        return NequIPGNNModel(seed=seed, **builder_arguments(config, dtype=dtype))


def builder_arguments(config: ModelConfig, *, dtype: str | None = None) -> dict[str, Any]:
    """Keyword arguments of `nequip.model.NequIPGNNModel`, as plain data."""
    arguments = config.settings.builder_arguments()
    if dtype is not None:
        arguments["model_dtype"] = dtype
    return {
        **arguments,
        "type_names": list(config.elements),
        "avg_num_neighbors": config.statistics.avg_num_neighbors,
        "per_type_energy_shifts": dict(config.statistics.shifts),
        "per_type_energy_scales": dict(config.statistics.scales),
        "per_type_energy_scales_trainable": True,
    }


def readout_module(model: Any) -> Any:
    """The last linear layer of the per-atom energy readout; its input (n, width) is the feature vector of each atom.

    NequIP 0.19 names the readout ``…per_atom_energy_readout``; with one hidden layer its MLP is linear, SiLU, linear.

    Raises
    ------
    StateError
        This version of NequIP has no such module.
    """
    found = [m for name, m in model.named_modules() if name.split(".")[-1] == "per_atom_energy_readout"]
    layers = [m for m in found[0].modules() if hasattr(m, "in_features")] if len(found) == 1 else []
    if len(layers) < 2:
        raise StateError(
            f"The features cannot be found: the model of NequIP {version('nequip')} has {len(found)} modules named "
            f"'per_atom_energy_readout' with {len(layers)} linear layers (needed: 1 with 2).",
            todo="Install a supported NequIP: pip install 'nequip>=0.19.1,<0.20'.",
        )
    return layers[-1]


def model_identity(config: ModelConfig, state: Mapping[str, torch.Tensor]) -> str:
    """Hash of the configuration and of every weight, bit by bit."""
    parts: list[str | bytes] = [canonical_json({"format": MODEL_FORMAT, **config.to_json()})]
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}", tensor.numpy().tobytes()]
    return digest(*parts)[:32]


def write_model(
    folder: Path,
    config: ModelConfig,
    state: Mapping[str, torch.Tensor],
    *,
    history: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Writes a model folder (complete or not at all, over an older one) and returns the model_id.

    ``provenance``: further JSON data for ``model.json``; it does not enter the model_id.
    """
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    identity = model_identity(config, tensors)
    document = {
        "model_id": identity,
        **config.to_json(),
        "versions": {name: version(name) for name in ("nequip", "e3nn", "torch")},
        **(provenance or {}),
    }
    write_folder(folder, document, lambda path: save_file(tensors, path), history=history)
    return identity


def read_config(folder: Path) -> ModelConfig:
    """What `write_model` was given; raises StateError as `read_document`, or where a field is missing."""
    document = read_document(folder)
    try:
        return ModelConfig(
            settings=NequIPModelSettings.from_json(document["settings"]),
            elements=tuple(document["elements"]),
            statistics=Statistics.from_json(document["statistics"]),
            level_of_theory=document["level_of_theory"],
        )
    except (KeyError, TypeError, InputError) as error:
        raise StateError(
            f"The model in '{folder}' is incomplete: {type(error).__name__}: {error}",
            where=str(Path(folder) / CONFIG_FILE),
            todo="Restore the folder from a copy, or train again.",
        ) from error


def read_weights(folder: Path, config: ModelConfig) -> dict[str, torch.Tensor]:
    """The weights, checked against the model_id of ``model.json``.

    Raises
    ------
    StateError
        Missing, damaged, or not the weights that belong to this ``model.json``.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / WEIGHTS_FILE
    todo = "Restore the folder from a copy, or train again."
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except FileNotFoundError as error:
        raise StateError(f"The model in '{folder}' has no {WEIGHTS_FILE}.", where=str(path), todo=todo) from error
    except (OSError, SafetensorError, ValueError) as error:
        raise StateError(f"The weights in '{path}' cannot be read: {error}", where=str(path), todo=todo) from error
    expected, found = read_document(folder).get("model_id"), model_identity(config, state)
    if found != expected:
        raise StateError(
            f"The weights in '{path}' are not those of its {CONFIG_FILE}: model_id {found} instead of {expected}.",
            where=str(path),
            todo=todo,
        )
    return state


def load_weights(model: Any, state: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Copies weights into a model that was built from the same configuration.

    Raises
    ------
    StateError
        Names or shapes differ (written by a NequIP that builds other modules).
    """
    import torch

    own = model.state_dict()
    wrong = sorted(set(own) ^ set(state)) or [n for n in own if own[n].shape != state[n].shape]
    if wrong:
        raise StateError(
            f"NequIP {version('nequip')} builds a model with other weights than the stored ones; first: {wrong[:3]}.",
            where=where,
            todo="Install the NequIP version that model.json names, or train again.",
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])
