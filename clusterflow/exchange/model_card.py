"""The model card: one page of Markdown that says what a potential was made of, how wrong it is, and where it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clusterflow.exchange.examples import INSTALL

NOT_STATED = "not stated"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SystemCard:
    """Of one system: its training data and what was sampled.

    ``frames`` and ``atoms``: labelled, by split. ``temperatures`` (K) and ``pressures`` (GPa; None: constant volume)
    are of the walks that ran to their end; ``walks`` and ``stopped`` count all, and those that a blow-up ended, the
    coldest at ``stopped_from`` K.
    """

    name: str
    formulas: tuple[str, ...] = ()
    frames: Mapping[str, int] = field(default_factory=dict)
    atoms: Mapping[str, int] = field(default_factory=dict)
    source: str = ""
    licence: str = ""
    temperatures: tuple[float, float] | None = None
    pressures: tuple[float, float] | None = None
    walks: int = 0
    stopped: int = 0
    stopped_from: float | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the card says; empty fields are said to be unknown, never left out in silence.

    ``metrics``: JSON form of `clusterflow.evaluate.metrics.Metrics` on the test set. ``settings``: (name, value) of the
    model. ``files``: name → SHA-256. ``caveats``: what the reader must know.
    """

    name: str
    kind: str
    model_id: str
    elements: tuple[str, ...]
    level_of_theory: str
    settings: Sequence[tuple[str, str]] = ()
    systems: Sequence[SystemCard] = ()
    metrics: Mapping[str, Any] | None = None
    test_set: str = ""
    noise: str = ""
    caveats: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    made: str = ""
    licence: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    citations: Sequence[tuple[str, str]] = ()


def model_card(card: ModelCard) -> str:
    """The page."""
    parts = [_head(card), _data(card), _errors(card), _range(card), _made(card), _citing(card)]
    return "\n\n".join(p.strip() for p in parts) + "\n"


def _head(card: ModelCard) -> str:
    rows = [
        ("kind", card.kind),
        ("model_id", f"`{card.model_id}`"),
        ("elements", ", ".join(card.elements)),
        ("level of theory of the labels", f"`{card.level_of_theory}`" if card.level_of_theory else NOT_STATED),
        *card.settings,
        ("units", "eV, Å, eV/Å; stress eV/Å³, tension positive"),
        ("licence of the potential", card.licence or NOT_STATED),
    ]
    needs = f"To use it in Python you need {INSTALL}{_version(card)}. Then:\n\n"
    use = (
        f"{needs}```python\nfrom clusterflow.train.learners import load_potential\n\n"
        'atoms.calc = load_potential("model").calculator()  # any ase.Atoms of these elements\n'
        "print(atoms.get_potential_energy())\n```"
    )
    caveats = "\n".join(f"- {c}" for c in card.caveats)
    warned = f"\n\n**Before you use it**\n\n{caveats}" if caveats else ""
    return f"# {card.name}: an interatomic potential\n\n{_table(('', ''), rows)}\n\n{use}{warned}"


def _version(card: ModelCard) -> str:
    made = card.versions.get("clusterflow", "")
    return f"; this potential was made with version {made}" if made else ""


def _data(card: ModelCard) -> str:
    if not card.systems:
        return f"## Training data\n\n{NOT_STATED}: the card was made from the model alone, without its campaign."
    head = ("system", "composition of the frames", "train", "validation", "test", "structure from", "licence")
    rows = []
    for s in card.systems:
        counts = (f"{s.frames.get(k, 0)} frames, {s.atoms.get(k, 0)} atoms" for k in SPLITS)
        rows.append((s.name, _some(s.formulas), *counts, s.source or NOT_STATED, s.licence or NOT_STATED))
    if len(card.systems) > 1:
        total = (
            f"{sum(s.frames.get(k, 0) for s in card.systems)} frames, "
            f"{sum(s.atoms.get(k, 0) for s in card.systems)} atoms"
            for k in SPLITS
        )
        rows.append(("all", "", *total, "", ""))
    return (
        f"## Training data\n\n{_table(head, rows)}\n\n"
        "Validation chose the epoch or the regularisation; the test set was frozen before anything was trained."
    )


def _some(names: Sequence[str], most: int = 4) -> str:
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


def _errors(card: ModelCard) -> str:
    noise = card.noise or "not measured (`clusterflow label --noise` does)"
    if card.metrics is None or not card.metrics.get("forces"):
        return f"## Errors\n\n{NOT_STATED}: there is no evaluation on a test set.\n\nNoise of the labels: {noise}."
    m = card.metrics
    head = ("forces of", "atoms", "MAE", "RMSE", f"MAE_P{m.get('percentile', 95.0):g}", "largest")
    groups = [("all", m["forces"])]
    groups += [(f"element {k}", v) for k, v in m.get("forces_by_element", {}).items()]
    groups += [(f"{k} atoms", v) for k, v in m.get("forces_by_region", {}).items()]
    groups += [(f"system {k}", v) for k, v in m.get("forces_by_system", {}).items()]
    rows = [
        (name, str(v["n_atoms"]), *(f"{v[k]:.1f}" for k in ("mae", "rmse", "mae_p", "maximum"))) for name, v in groups
    ]
    text = (
        f"## Errors on the frozen test set\n\n{card.test_set}. Forces in meV/Å, over Cartesian components; MAE_P95 is "
        f"the mean of the largest 5 %.\n\n{_table(head, rows)}"
    )
    if energies := m.get("energy_by_system") or ({"all": m["energy"]} if m.get("energy") else {}):
        columns = ("energy of", "frames", "offset ΔE_avg", "spread ΔE_std", "MAE")
        told = [
            (k, str(v["n_frames"]), f"{v['average']:.2f}", f"{v['std']:.2f}", f"{v['mae']:.2f}")
            for k, v in energies.items()
        ]
        text += f"\n\nIn meV per atom:\n\n{_table(columns, told)}"
    return f"{text}\n\nNoise of the labels: {noise}."


def _range(card: ModelCard) -> str:
    begun = f"## Where it was sampled\n\nElements: {', '.join(card.elements)}; no others."
    walked = [s for s in card.systems if s.walks]
    if not walked:
        return f"{begun} Temperatures and pressures: {NOT_STATED}, as no dynamics is on record."
    head = ("system", "T of walks that ran to their end", "P", "walks", "ended by a blow-up")
    rows = [
        (
            s.name,
            _span(s.temperatures, "K") if s.temperatures else "none did",
            _span(s.pressures, "GPa") if s.pressures else "constant volume" if s.temperatures else "",
            str(s.walks),
            f"{s.stopped}, at {s.stopped_from:.4g} K or more" if s.stopped_from is not None else str(s.stopped),
        )
        for s in walked
    ]
    return (
        f"{begun}\n\n{_table(head, rows)}\n\nOutside of this it extrapolates, and nothing here says how well: look at "
        "the novelty of your own frames, or label a few of them."
    )


def _span(values: tuple[float, float], unit: str) -> str:
    low, high = values
    # −0.0 would look like a typing error
    return f"{low + 0.0:.4g} {unit}" if low == high else f"{low + 0.0:.4g} to {high + 0.0:.4g} {unit}"


def _made(card: ModelCard) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in card.versions.items()) or NOT_STATED
    text = f"## How it was made\n\n{card.made or NOT_STATED}\n\nVersions: {versions}."
    if card.files:
        rows = [(f"`{name}`", f"`{value}`") for name, value in card.files.items()]
        text += f"\n\n{_table(('file', 'SHA-256'), rows)}"
    return text


def _citing(card: ModelCard) -> str:
    return "## How to cite\n\n" + "\n".join(f"- {what}: {reference}" for what, reference in card.citations)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines)
