"""A model folder: ``model.json`` says of which kind it is, ``weights.safetensors`` holds its numbers. No pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clusterflow.core.data import TrainedModel
from clusterflow.errors import StateError

MODEL_FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE, HISTORY_FILE = "model.json", "weights.safetensors", "history.json"
FIRST_KIND = "nequip"
"""The kind of a folder that states none."""


def read_document(folder: Path) -> dict[str, Any]:
    """``model.json`` of a model folder.

    Raises
    ------
    StateError
        Missing, unreadable, or of another format.
    """
    path = Path(folder) / CONFIG_FILE
    todo = "Point to a folder written by a training (it holds model.json and weights.safetensors), or train again."
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        found = document["format"]
    except FileNotFoundError as error:
        raise StateError(f"There is no model in '{folder}': {CONFIG_FILE} is missing.", todo=todo) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"The model in '{folder}' cannot be read: {type(error).__name__}: {error}", where=str(path), todo=todo
        ) from error
    if found != MODEL_FORMAT:
        raise StateError(
            f"The model in '{folder}' has format {found}; this clusterflow reads format {MODEL_FORMAT}.",
            where=str(path),
            todo="Use the version of clusterflow that wrote it, or train again.",
        )
    return document


def kind_of(folder: Path) -> str:
    """The kind of model in a folder ("nequip", "linear", …); raises as `read_document`."""
    return str(read_document(folder).get("kind", FIRST_KIND))


def finished_training(folder: Path, key: str, identify: Callable[[Path], str]) -> TrainedModel | None:
    """The model of an earlier, complete training with this key; ``identify`` reads and verifies a folder and returns
    the model_id. None if there is no such model, or a damaged one."""
    try:
        training: Mapping[str, Any] = read_document(folder).get("training", {})
        if training.get("key") != key:
            return None
        return TrainedModel(folder, identify(folder), dict(training["metrics"]))
    except StateError:
        return None


def write_folder(
    folder: Path,
    document: Mapping[str, Any],
    write_weights: Callable[[Path], None],
    *,
    history: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model folder, complete or not at all, over an older one; ``write_weights`` gets the file to write."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_weights(temporary / WEIGHTS_FILE)
    (temporary / CONFIG_FILE).write_text(json.dumps({"format": MODEL_FORMAT, **document}, indent=1))
    if history is not None:
        (temporary / HISTORY_FILE).write_text(json.dumps(history, indent=1))
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
