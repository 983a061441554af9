"""Reliability diagrams as a picture: expected against true force errors, for several novelties and sets of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clusterflow.score.correlation import ALL
from clusterflow.score.reliability import Reliability

_MEV = 1000.0


def reliability_figure(views: Mapping[tuple[str, str], Mapping[str, Reliability]], path: Path) -> None:
    """One panel per set, one line per kind of novelty; ``views``: (kind, set) → reliability per element (`assess`).

    Points are mean true against mean expected errors of equally many atoms, dashes the bound.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds, sets = list(dict.fromkeys(k for k, _ in views)), list(dict.fromkeys(s for _, s in views))
    figure = Figure(figsize=(3.6 * len(sets), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(sets):
        axes = figure.add_subplot(1, len(sets), number + 1)
        largest = top = 0.0
        for colour, kind in zip(("C0", "C1", "C2", "C3", "C4"), kinds, strict=False):
            rows = views[kind, name][ALL].diagram
            expected, true = [_MEV * r[0] for r in rows], [_MEV * r[1] for r in rows]
            axes.plot(expected, true, "o-", color=colour, markersize=4, label=kind)
            bounded = [(_MEV * r[0], _MEV * r[2]) for r in rows if r[2] is not None]
            axes.plot(*zip(*bounded, strict=True), "--", color=colour, linewidth=0.8) if bounded else None
            largest = max([largest, *expected])
            top = max([top, *true, *(b for _, b in bounded)])
        axes.plot([0, largest], [0, largest], color="0.6", linewidth=0.8, zorder=0)
        axes.set(title=name, xlabel="expected |ΔF| [meV/Å]", xlim=(0, 1.05 * largest), ylim=(0, 1.05 * top))
        if number == 0:
            axes.set_ylabel("true |ΔF| [meV/Å]")
            axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
