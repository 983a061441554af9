"""The model that a campaign fine-tunes, as a model folder of the campaign's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusterflow.errors import InputError
from clusterflow.train.model_folder import kind_of

ORIGIN = "fine_tuned_from"
"""Entry of ``model.json``: file and level of theory of the model that was given."""


def import_start_model(
    source: Path, folder: Path, *, kind: str, model: Mapping[str, Any], elements: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """Writes ``folder``, a copy that the trainers of ``kind`` can start from; returns its model_id and its elements.

    ``source``: a model folder, or for NequIP a checkpoint or package. ``model``: the settings of the campaign.
    ``elements`` that it must know; it may know more. The level of theory is left open in the copy: labels for
    fine-tuning may be of another one (the trainers move the energy shifts to it first).

    Raises
    ------
    InputError
        There is nothing, or a model of another kind, architecture, or without some of the elements.
    StateError
        A model folder is damaged.
    """
    if not source.exists():
        raise InputError(
            f"There is no model to start from: '{source}'.",
            where=str(source.absolute()),
            todo="Mend `train: {start_from: …}`: a model folder, or a checkpoint or package of NequIP.",
        )
    if source.is_dir() and kind_of(source) != kind:
        raise InputError(
            f"The model to start from is of the kind '{kind_of(source)}', but `train:` trains '{kind}'.",
            where=str(source.absolute()),
            todo="Give a model of the same kind, or change `train: {kind: …}`.",
        )
    if kind == "linear":
        return _linear(source, folder, model, elements)
    return _nequip(source, folder, model, elements)


def _nequip(
    source: Path, folder: Path, model: Mapping[str, Any], elements: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    from clusterflow.train import nequip_model
    from clusterflow.train.nequip_config import NequIPModelSettings
    from clusterflow.train.nequip_import import import_saved

    settings = NequIPModelSettings.from_json(model)
    if source.is_dir():
        config = nequip_model.read_config(source)
        weights = nequip_model.read_weights(source, config)
        _check_settings(source, settings.to_json(), config.settings.to_json())
    else:
        config, weights = import_saved(source, settings)
    _check_elements(source, elements, config.elements)
    origin = {ORIGIN: {"file": source.name, "level_of_theory": config.level_of_theory}}
    config = replace(config, level_of_theory="")
    return nequip_model.write_model(folder, config, weights, provenance=origin), config.elements


def _linear(
    source: Path, folder: Path, model: Mapping[str, Any], elements: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    from clusterflow.train.linear_model import read_model, write_model

    if not source.is_dir():
        raise InputError(
            f"'{source}' is not a model folder.",
            where=str(source.absolute()),
            todo="A linear potential starts from the folder of an earlier linear potential.",
        )
    found = read_model(source)
    _check_settings(source, model, found.settings.to_json())
    _check_elements(source, elements, found.elements)
    origin = {ORIGIN: {"file": source.name, "level_of_theory": found.level_of_theory}}
    found = replace(found, level_of_theory="")
    write_model(folder, found, history={"seed": found.seed}, provenance=origin)
    return found.model_id, found.elements


def _check_settings(source: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    differ = [f"{k}: {found.get(k)} there, {wanted[k]} here" for k in wanted if wanted[k] != found.get(k)]
    if differ:
        raise InputError(
            f"The model to start from is not the one that `train: {{model: …}}` states ({'; '.join(differ)}).",
            where=str(source.absolute()),
            todo="State its architecture under `train: {model: …}`.",
        )


def _check_elements(source: Path, wanted: Sequence[str], known: Sequence[str]) -> None:
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise InputError(
            f"The model to start from does not know {', '.join(missing)}; it knows {', '.join(known)}.",
            where=str(source.absolute()),
            todo="Start from a model that was trained on all elements of the systems, or from nothing.",
        )


__all__ = ["ORIGIN", "import_start_model"]
