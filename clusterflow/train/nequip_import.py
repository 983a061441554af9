"""Takes the weights out of a checkpoint or package that NequIP's own tools wrote, if the architecture is one of ours.

Both kinds of file are loaded by NequIP itself. A checkpoint is a pickle and a package contains program code: whoever
names such a file trusts it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from clusterflow.core.data import FloatArray
from clusterflow.errors import InputError
from clusterflow.train import nequip_model
from clusterflow.train.dataset import Statistics
from clusterflow.train.nequip_config import NequIPModelSettings
from clusterflow.train.nequip_model import ModelConfig
from clusterflow.train.nequip_potential import NequIPPotential

SUFFIXES = (".ckpt", ".nequip.zip")
_SHIFTS, _SCALES = "per_type_energy_scale_shift.shifts", "per_type_energy_scale_shift.scales"
_NORM = "avg_num_neighbors_norm.norm_const"
_TOLERANCE = 1e-3
"""eV/atom and eV/Å; what the same weights in single precision may differ by is a hundredth of it."""


def import_saved(file: Path, settings: NequIPModelSettings) -> tuple[ModelConfig, dict[str, Any]]:
    """Configuration and weights of a saved NequIP model whose architecture is that of ``settings``.

    The imported model is compared with the saved one on small random clusters of all its elements.

    Raises
    ------
    InputError
        NequIP cannot load the file; types that are not elements; another architecture.
    """
    saved = _load(file)
    elements = _elements(saved, file)
    r_max = float(dict(saved.metadata)["r_max"])
    if abs(r_max - settings.r_max) > 1e-6:
        raise _other(file, f"its cutoff is {r_max:g} Å; `train: {{model: …}}` says {settings.r_max:g} Å")
    state = {name: tensor.detach().clone() for name, tensor in saved.state_dict().items()}
    config = ModelConfig(settings, elements, _statistics(saved, state, elements, file), "")
    model = nequip_model.build_model(config)
    own = model.state_dict()
    wrong = [
        f"{name} is {_shape(state, name)} in the file and {_shape(own, name)} here"
        for name in sorted({*own, *state})
        if name not in own or name not in state or own[name].shape != state[name].shape
    ]
    if wrong:
        raise _other(file, f"{len(wrong)} arrays of weights differ, first: {wrong[0]}")
    nequip_model.load_weights(model, state, where=str(file))
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    _check_predictions(file, model.eval(), config)
    return config, weights


def _load(file: Path) -> Any:
    from lightning.pytorch.utilities.seed import isolate_rng
    from nequip.model.saved_models.load_utils import load_saved_model
    from nequip.utils.global_state import set_global_state

    if not str(file).endswith(SUFFIXES):
        raise InputError(
            f"'{file.name}' is neither a model folder nor a file that NequIP saves ({', '.join(SUFFIXES)}).",
            where=str(file.absolute()),
            todo="Give a model folder of clusterflow, or a checkpoint or package of NequIP.",
        )
    try:
        with warnings.catch_warnings(), isolate_rng():
            warnings.simplefilter("ignore")
            set_global_state()
            return load_saved_model(file)
    except Exception as error:  # whatever an unknown file makes NequIP or pickle say
        raise InputError(
            f"NequIP cannot load '{file.name}': {type(error).__name__}: {str(error)[:300]}",
            where=str(file.absolute()),
            todo="Write it again with the NequIP that is installed here, or package it with `nequip-package build`.",
        ) from error


def _elements(saved: Any, file: Path) -> tuple[str, ...]:
    names = str(dict(saved.metadata)["type_names"]).split()
    strange = [n for n in names if n not in atomic_numbers or n == "X"]
    if strange:
        raise InputError(
            f"The atom types of '{file.name}' are not all elements: {', '.join(strange)}.",
            where=str(file.absolute()),
            todo="Only models whose types are chemical symbols can be fine-tuned here.",
        )
    return tuple(names)


def _statistics(saved: Any, state: Mapping[str, Any], elements: tuple[str, ...], file: Path) -> Statistics:
    norms = {float(v) for n, t in saved.named_buffers() if n.endswith(_NORM) for v in t.reshape(-1).tolist()}
    found = {key: [t for n, t in state.items() if n.endswith(key)] for key in (_SHIFTS, _SCALES)}
    if len(norms) != 1 or any(len(t) != 1 or t[0].numel() != len(elements) for t in found.values()):
        raise _other(
            file,
            f"{len(norms)} numbers of neighbours and {len(found[_SHIFTS])}, {len(found[_SCALES])} arrays of energy "
            "shifts and scales (needed: one of each)",
        )
    shifts, scales = (dict(zip(elements, found[k][0].reshape(-1).tolist(), strict=True)) for k in (_SHIFTS, _SCALES))
    rms = float(np.sqrt(np.mean(np.square(list(scales.values())))))
    return Statistics(1.0 / norms.pop() ** 2, shifts, scales, rms if rms > 0 else 1.0)


def _shape(state: Mapping[str, Any], name: str) -> str:
    return "×".join(map(str, state[name].shape)) if name in state else "missing"


def _check_predictions(file: Path, model: Any, config: ModelConfig) -> None:
    from nequip.integrations.ase import NequIPCalculator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original = NequIPCalculator._from_saved_model(file, device="cpu", chemical_species_to_atom_type_map=True)
    mine = NequIPPotential(model, config, "imported", device="cpu", threads=1)
    for atoms in _clusters(config.elements):
        expected = mine.predict([atoms])[0]
        probe = atoms.copy()
        probe.calc = original
        energy = abs(float(probe.get_potential_energy()) - expected.energy) / len(atoms)
        force = float(np.abs(probe.get_forces() - expected.forces).max())
        size = max(1.0, float(np.abs(expected.forces).max()))
        if not (energy <= _TOLERANCE * size and force <= _TOLERANCE * size):
            raise _other(
                file,
                f"with the same weights, energies differ by {energy:.3g} eV/atom and forces by {force:.3g} eV/Å on a "
                f"cluster of {len(atoms)} atoms",
            )


def _clusters(elements: tuple[str, ...]) -> list[Atoms]:
    """Two loose random clusters that hold every element, with no two atoms closer than 1.2 Å."""
    rng, found = np.random.default_rng(0), []
    for _ in range(2):
        symbols = [*elements, *elements[:4]]
        placed: list[FloatArray] = []
        width = 1.5 * len(symbols) ** (1 / 3) + 1.0
        while len(placed) < len(symbols):
            point = rng.uniform(0.0, width, 3)
            if all(np.linalg.norm(point - p) > 1.2 for p in placed):
                placed.append(point)
        found.append(Atoms(symbols, np.array(placed)))
    return found


def _other(file: Path, what: str) -> InputError:
    return InputError(
        f"'{file.name}' has another architecture than `train: {{model: …}}` states: {what}.",
        where=str(file.absolute()),
        todo="State the architecture of the file under `train: {model: …}` (preset, r_max, layers, features, l_max, "
        "parity, …); other than plain NequIP models with one hidden readout layer cannot be fine-tuned here.",
    )


__all__ = ["SUFFIXES", "import_saved"]
