"""Pictures of force matching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clusterflow.extract.force_matching import Match

_COLOURS = ("#30507a", "#6f9fc8", "#c8772e", "#6a9a52", "#8a6bb1")


def region_figure(
    matches: Sequence[Match],
    path: Path,
    *,
    regions: Sequence[str] = ("fragment", "core", "metals", "formate"),
    beside: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
) -> None:
    """Bars of the RMSE (meV/Å) by region, one panel per level, one colour per blueprint; the standard error as a line.

    ``beside``: level → blueprint → region → meV/Å of others, in panels of their own.
    """
    from matplotlib.figure import Figure

    panels: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    for m in matches:
        values = {k: (1000 * r.rmse, 1000 * r.error) for k, r in m.regions.items()}
        panels.setdefault(m.level, {})[f"{m.blueprint} ({m.n_atoms} atoms)"] = values
    for level, others in (beside or {}).items():
        panels[level] = {n: {k: (v, 0.0) for k, v in row.items()} for n, row in others.items()}
    figure = Figure(figsize=(3.2 * len(panels) + 0.4, 3.6), layout="constrained")
    for axes, (level, rows) in zip(
        np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels.items(), strict=True
    ):
        shown = [r for r in regions if any(r in row for row in rows.values())]
        width = 0.8 / len(rows)
        for k, (name, row) in enumerate(rows.items()):
            x = np.arange(len(shown)) + (k - (len(rows) - 1) / 2) * width
            height = [row.get(r, (float("nan"), 0.0)) for r in shown]
            bars, errors = np.array(height).T
            axes.bar(x, bars, 0.9 * width, yerr=np.nan_to_num(errors), color=_COLOURS[k % len(_COLOURS)], label=name)
        axes.set_xticks(range(len(shown)), shown)
        axes.set_title(level)
        axes.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("RMSE of fragment − parent, meV/Å")
    figure.savefig(path, dpi=90)
