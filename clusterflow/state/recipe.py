"""What is on record about the structures of a campaign, ``inputs/NAME.json`` beside ``inputs/NAME.extxyz``.

How each was built, from which file, and the SHA-256 of the copy, from which all keys of the campaign follow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterflow.errors import StateError


def recipe_bytes(told: Mapping[str, Any], copy: Path) -> bytes:
    """The record of a copy: what is told of it (``build`` and ``structure``), and its hash."""
    return json.dumps({**told, "sha256": hashlib.sha256(copy.read_bytes()).hexdigest()}).encode()


def read_recipe(recipe: Path, copy: Path) -> dict[str, Any]:
    """What is on record about the copy of a structure, which must still be what it was.

    Raises
    ------
    StateError
        One of the two is damaged: every key of the campaign depends on it.
    """
    try:
        told: dict[str, Any] = json.loads(recipe.read_text(encoding="utf-8"))
        known = {"build": told["build"], "structure": told["structure"]}
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"'{recipe.name}' is damaged: it is not what clusterflow writes ({type(error).__name__}).",
            where=str(recipe),
            todo=f"Restore it from a backup, or delete it and '{copy.name}': both are made again from your structure "
            "file, which must be the one that the campaign began with.",
        ) from error
    found = hashlib.sha256(copy.read_bytes()).hexdigest()
    if found != told.get("sha256", found):  # campaigns of before 0.1 have none
        raise StateError(
            f"'{copy.name}' is damaged: it is not the file that was written when the campaign began.",
            where=str(copy),
            todo=f"Restore it from a backup, or delete it and '{recipe.name}': both are made again from your structure "
            "file, which must be the one that the campaign began with.",
        )
    return known
