"""What a model card says of a potential, gathered from a run folder or from a model folder alone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from clusterflow import __version__
from clusterflow.campaign.calibrations import standing_alarms
from clusterflow.campaign.status import campaign_status
from clusterflow.core import keys
from clusterflow.core.frames import formula
from clusterflow.exchange.citations import citations
from clusterflow.exchange.dataset_file import LICENCE
from clusterflow.exchange.model_card import ModelCard, SystemCard
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.snapshot import Snapshot

_SETTINGS: Mapping[str, str] = {
    "r_max": "cutoff, Å",
    "cutoff": "cutoff, Å",
    "layers": "layers",
    "features": "features",
    "l_max": "l_max",
    "radial": "radial functions",
    "density": "density functions",
    "channels": "channels",
    "dtype": "precision",
}
"""Of the model → how the card calls it."""
_NO_LICENCE = (
    "not stated; write `licence:` into the campaign file and run that again (nothing is computed anew), or give "
    "--licence"
)
Origins = Mapping[str, tuple[str, str]]
"""System → (source, licence) of its structure; "" where not stated."""


def origins(config: Mapping[str, Any], licence: str) -> dict[str, tuple[str, str]]:
    """From the campaign's `systems:`; ``licence`` where they state none."""
    told = {}
    for system in config.get("systems", ()):
        built = f", then {', '.join(str(step['kind']) for step in system['build'])}" if system.get("build") else ""
        source = system.get("source") or Path(str(system["structure"])).name
        told[str(system["name"])] = (f"{source}{built}", str(system.get("licence") or licence))
    return told


def licences_told(config: Mapping[str, Any], frames: Sequence[Atoms], licence: str) -> list[str]:
    """Under which licence the data of each system go out, as `origins` and the frames have it, and who said so."""
    said: dict[str, list[str]] = defaultdict(list)
    for system in config.get("systems", ()):
        name, stated = str(system["name"]), str(system.get("licence") or "")
        if stated:
            kept = f"; --licence {licence} does not change that" if licence not in ("", stated) else ""
            said[f"{stated}, as the campaign file states{kept}"].append(name)
        elif licence:
            said[f"{licence}, by --licence, since the campaign file states none"].append(name)
        else:
            said[_NO_LICENCE].append(name)
        own = {str(a.info[LICENCE]) for a in frames if a.info.get(keys.SYSTEM) == name and LICENCE in a.info}
        if own:
            said[f"frames that state {', '.join(sorted(own))} themselves keep it"].append(name)
    return [f"{', '.join(names)}: {what}" for what, names in said.items()]


def campaign_facts(
    folder: CampaignFolder,
    snapshot: Snapshot,
    frames: Sequence[Atoms],
    config: Mapping[str, Any],
    document: Mapping[str, Any],
    *,
    licence: str,
) -> ModelCard:
    """The card of the final potential of a campaign; ``document`` is its ``model.json``."""
    metrics = json.loads(folder.metrics.read_text(encoding="utf-8")) if folder.metrics.is_file() else {}
    environment = json.loads(folder.environment.read_text(encoding="utf-8")) if folder.environment.is_file() else {}
    status = campaign_status(snapshot)
    test = metrics.get("test_set", {})
    ended = f", which {status.state}: {status.reason}" if status.reason else ""
    places = origins(config, licence)
    return ModelCard(
        **_of_model(document),
        name=str(config.get("name", folder.root.name)),
        systems=_systems(snapshot, frames, places),
        metrics=metrics.get("metrics"),
        test_set=_test_set(test, frames),
        noise=status.noise or str(metrics.get("noise") or ""),
        caveats=_caveats(snapshot, frames, config, status.certificates),
        versions={"clusterflow": environment.get("clusterflow", __version__), **environment.get("packages", {})},
        made=(
            f"By the clusterflow campaign '{config.get('name', '')}'{ended}. "
            f"{len(frames)} labels, {status.core_hours:.2f} core hours, "
            f"commit {environment.get('commit') or 'not recorded'}; `config.json` of the run folder repeats it."
        ),
        licence=licence,
        citations=citations(str(document.get("kind", "nequip")), config, str(document.get("level_of_theory", ""))),
    )


def model_facts(folder: Path, document: Mapping[str, Any], *, licence: str) -> ModelCard:
    """The card of a model folder without its campaign: what it cannot know it says."""
    return ModelCard(
        **_of_model(document),
        name=folder.resolve().name,
        versions=dict(document.get("versions", {})),
        made="By `clusterflow train`, or in a campaign whose run folder was not given.",
        licence=licence,
        citations=citations(str(document.get("kind", "nequip")), {}, str(document.get("level_of_theory", ""))),
    )


def _of_model(document: Mapping[str, Any]) -> dict[str, Any]:
    settings = document.get("settings", {})
    rows = [(told, str(settings[name])) for name, told in _SETTINGS.items() if name in settings]
    training = document.get("training", {})
    told = training.get("settings", {}) if isinstance(training, Mapping) else {}
    if "core_only" in told:
        rows.append(("trained on the forces of", "core atoms only" if told["core_only"] else "all atoms"))
    return {
        "kind": str(document.get("kind", "nequip")),
        "model_id": str(document["model_id"]),
        "elements": tuple(document.get("elements", ())),
        "level_of_theory": str(document.get("level_of_theory", "")),
        "settings": tuple(rows),
    }


def _test_set(told: Mapping[str, Any], frames: Sequence[Atoms]) -> str:
    labelled = told.get("labelled", sum(a.info.get(keys.SPLIT) == "test" for a in frames))
    known = f", hash {told['hash'][:16]} journaled before the first label" if told.get("hash") else ""
    return f"{labelled} frames{known}"


def _systems(snapshot: Snapshot, frames: Sequence[Atoms], places: Origins) -> list[SystemCard]:
    members: dict[str, list[Atoms]] = defaultdict(list)
    for atoms in frames:
        members[str(atoms.info.get(keys.SYSTEM, ""))].append(atoms)
    walks: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for outcome in snapshot.outcomes.values():
        if outcome.kind == "explore" and outcome.status == "done":
            walks[str(outcome.summary["system"])].append(outcome.summary)
    return [
        _system(name, members[name], walks[name], places.get(name, ("", "")))
        for name in dict.fromkeys((*places, *members, *walks))
    ]


def _system(
    name: str, frames: Sequence[Atoms], walks: Sequence[Mapping[str, Any]], origin: tuple[str, str]
) -> SystemCard:
    n_frames, n_atoms = Counter[str](), Counter[str]()
    for atoms in frames:
        split = str(atoms.info.get(keys.SPLIT, ""))
        n_frames[split] += 1
        n_atoms[split] += len(atoms)
    whole = [w for w in walks if not w["stop_reason"]]
    pressures = [float(w["pressure_GPa"]) for w in whole if w["pressure_GPa"] is not None]
    temperatures = [float(w["temperature_K"]) for w in whole]
    return SystemCard(
        name=name or "(without a name)",
        formulas=tuple(f for f, _ in Counter(formula(a) for a in frames).most_common()),
        frames=n_frames,
        atoms=n_atoms,
        source=origin[0],
        licence=origin[1],
        temperatures=(min(temperatures), max(temperatures)) if temperatures else None,
        pressures=(min(pressures), max(pressures)) if pressures else None,
        walks=len(walks),
        stopped=len(walks) - len(whole),
        stopped_from=min((float(w["temperature_K"]) for w in walks if w["stop_reason"]), default=None),
    )


def _caveats(
    snapshot: Snapshot, frames: Sequence[Atoms], config: Mapping[str, Any], certificates: Mapping[str, int]
) -> list[str]:
    told = []
    level = str((config.get("label") or {}).get("kind", ""))
    if level == "xtb":
        told.append("The labels are semiempirical (xTB), not DFT: for trying things out and for teaching.")
    if (config.get("label") or {}).get("preset") == "quick":
        told.append("The labels are of the preset `quick`, which is not converged; the preset `paper` is.")
    if any(not a.pbc.any() for a in frames) and not any(a.pbc.all() for a in frames):
        told.append("All labels are of finite fragments: no stress was trained on, nor any energy of a crystal.")
    if certificates:
        verdicts = {"not yet": "without a bound, for want of confirmations"}
        counted = ", ".join(f"{n} {verdicts.get(k, k)}" for k, n in certificates.items())
        told.append(f"Certificates of the fragments that were asked for: {counted}.")
    told += [f"Warning of the campaign: {alarm}" for alarm in standing_alarms(snapshot)]
    if snapshot.finished is None:
        told.append("The campaign has not finished.")
    return told
