"""The kinds of potential there are: who trains one, and how a model folder becomes a potential again.

A folder says of which kind it is (``kind`` in its ``model.json``; one that says nothing holds a NequIP model). Adding a
learner: a row in `TRAINERS` and one in `POTENTIALS`, and a config section with its ``kind``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusterflow.core.protocols import Trainer
from clusterflow.errors import InputError, StateError
from clusterflow.train.model_folder import CONFIG_FILE, kind_of


def make_trainer(
    kind: str, model: Mapping[str, Any], settings: Mapping[str, Any], elements: Sequence[str], *, threads: int | None
) -> Trainer:
    """The trainer of one kind from the JSON forms of its model and training settings; ``threads`` overrides theirs.

    Raises
    ------
    StateError
        There is no such kind.
    """
    if kind not in TRAINERS:
        raise StateError(
            f"There is no learner '{kind}' in this clusterflow; it knows {', '.join(TRAINERS)}.",
            todo="Use the version of clusterflow that the campaign was begun with.",
        )
    return TRAINERS[kind](model, settings, tuple(elements), threads)


def existing_folder(folder: str | Path) -> Path:
    """The folder of a model.

    Raises
    ------
    InputError
        It is not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"There is no model folder '{folder}'.",
            where=str(folder.absolute()),
            todo="Give the folder with model.json: `<run folder>/model`, or what `clusterflow train` wrote.",
        )
    return folder


def load_potential(folder: str | Path, *, threads: int = 1, dtype: str | None = None) -> Any:
    """The potential in a model folder, whatever its kind.

    ``dtype`` "float64": in double precision (for Hessians and finite differences), where that is not so anyway.

    Raises
    ------
    InputError
        There is no such folder.
    StateError
        It is damaged, or of a kind or format that this clusterflow does not know.
    """
    folder = existing_folder(folder)
    kind = kind_of(folder)
    if kind not in POTENTIALS:
        raise StateError(
            f"The model in '{folder}' is of the kind '{kind}'; this clusterflow knows {', '.join(POTENTIALS)}.",
            where=str(folder / CONFIG_FILE),
            todo="Use the version of clusterflow that wrote it.",
        )
    return POTENTIALS[kind](folder, threads, dtype)


def _nequip_trainer(model: Mapping[str, Any], settings: Mapping[str, Any], elements: Any, threads: int | None) -> Any:
    from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
    from clusterflow.train.nequip_train import NequIPTrainer

    training = NequIPTrainingSettings.from_json(settings)
    training = training if threads is None else replace(training, threads=threads)
    return NequIPTrainer(model=NequIPModelSettings.from_json(model), training=training, elements=elements)


def _linear_trainer(model: Mapping[str, Any], settings: Mapping[str, Any], elements: Any, threads: int | None) -> Any:
    from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
    from clusterflow.train.linear_train import LinearTrainer

    training = LinearTrainingSettings.from_json(settings)
    training = training if threads is None else replace(training, threads=threads)
    return LinearTrainer(model=LinearModelSettings.from_json(model), training=training, elements=elements)


def _nequip_potential(folder: Path, threads: int, dtype: str | None) -> Any:
    from clusterflow.train.nequip_potential import NequIPPotential

    return NequIPPotential.load(folder, dtype=dtype, threads=threads)


def _linear_potential(folder: Path, threads: int, _dtype: str | None) -> Any:
    from clusterflow.train.linear_potential import LinearPotential

    return LinearPotential.load(folder, threads=threads)


TRAINERS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], Any, int | None], Trainer]] = {
    "nequip": _nequip_trainer,
    "linear": _linear_trainer,
}
POTENTIALS: Mapping[str, Callable[[Path, int, str | None], Any]] = {
    "nequip": _nequip_potential,
    "linear": _linear_potential,
}
