"""What the reader of a property must know of its potential: which one it is, of which level of theory, and how good.

Gathered where the potential lies, kept in the run folder, and shown beside the results.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clusterflow.config.potential import Calculator, Model

Facts = Mapping[str, Any]
"""JSON data. ``kind``: "ase", or that of the model; of an ASE calculator its import path and ``arguments``; of a model
``name``, ``folder``, ``model_id``, ``level_of_theory``, ``elements``, and as far as they are known the errors on its
``test`` set (forces meV/Å, energies meV per atom) and those on its ``validation`` set (eV/Å, eV per atom)."""
_KINDS: Mapping[str, str] = {"nequip": "NequIP", "linear": "linear potential"}


def calculator_facts(section: Calculator) -> dict[str, Any]:
    """Of an ASE calculator."""
    told = {"kind": "ase", "calculator": section.calculator, "arguments": dict(section.arguments)}
    return {**told, **({"version": section.version} if section.version else {})}


def model_facts(section: Model, source: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model folder ``source`` with its ``model.json``; errors from the ``metrics.json`` of the run folder or the
    export that it lies in."""
    around = source.parent if source.name == "model" else source
    metrics = _json(around / "metrics.json")
    campaign = _json(around / "config.json") if metrics else {}
    facts: dict[str, Any] = {
        "kind": str(document.get("kind", "nequip")),
        "name": str(campaign.get("name") or (around if metrics else source).resolve().name),
        "folder": str(section.folder),
        "model_id": str(document["model_id"]),
        "level_of_theory": str(document.get("level_of_theory", "")),
        "elements": list(document.get("elements", ())),
    }
    with contextlib.suppress(AttributeError, KeyError, TypeError):  # a metrics.json that is not ours
        facts["test"] = _test(metrics["metrics"])
    training = document.get("training")
    fitted = training.get("metrics", {}) if isinstance(training, Mapping) else {}
    kept = {"val_force_mae_eV_per_A": "force_mae", "val_energy_mae_eV_per_atom": "energy_mae"}
    if validation := {name: fitted[key] for key, name in kept.items() if key in fitted}:
        facts["validation"] = validation
    return facts


def _test(metrics: Mapping[str, Any]) -> dict[str, Any]:
    forces = metrics["forces"]
    told: dict[str, Any] = {
        "frames": metrics["n_frames"],
        "force_mae": forces["mae"],
        "force_rmse": forces["rmse"],
        "force_mae_by_element": {k: v["mae"] for k, v in metrics.get("forces_by_element", {}).items()},
    }
    if energy := metrics.get("energy"):
        told["energy_mae_per_atom"] = energy["mae"]
    return told


def facts_rows(facts: Facts, identity: str) -> dict[str, str]:
    """The facts in words, for a table."""
    if facts.get("kind") == "ase":
        arguments = ", ".join(f"{k}={v!r}" for k, v in facts["arguments"].items())
        told = {"potential": f"ASE calculator {facts['calculator']}", "arguments": arguments or "none"}
        return {**told, **({"version": facts["version"]} if "version" in facts else {})}
    if not facts:
        return {"potential": identity}
    return {
        "potential": f"{facts['name']} ({_KINDS.get(facts['kind'], facts['kind'])})",
        "folder": facts["folder"],
        "trained on": facts["level_of_theory"] or "level of theory not stated",
        "elements": ", ".join(facts["elements"]),
        "its errors": _errors(facts),
        "model_id": facts["model_id"],
    }


def facts_line(facts: Facts, identity: str) -> str:
    """The facts in a line, for a terminal."""
    if not facts or facts["kind"] == "ase":
        return identity
    rows = facts_rows(facts, identity)
    return f"{rows['potential']}, trained on {rows['trained on']}; {rows['its errors']}; {identity[:12]}"


def _errors(facts: Facts) -> str:
    if "test" in facts:
        test = facts["test"]
        each = ", ".join(f"{k} {v:.0f}" for k, v in test["force_mae_by_element"].items())
        energy = f"; energy MAE {test['energy_mae_per_atom']:.1f} meV/atom" if "energy_mae_per_atom" in test else ""
        return (
            f"force MAE {test['force_mae']:.0f} meV/Å{f' ({each})' if each else ''}, RMSE {test['force_rmse']:.0f}"
            f"{energy}, on {test['frames']} test frames that were never trained on"
        )
    if "force_mae" in facts.get("validation", {}):
        force = 1000.0 * facts["validation"]["force_mae"]
        return f"force MAE {force:.0f} meV/Å on the frames that chose it (no test set is known)"
    return "not known: neither a test set nor a validation is on record"


def _json(path: Path) -> dict[str, Any]:
    """A file that may not be there, or may not be ours."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
