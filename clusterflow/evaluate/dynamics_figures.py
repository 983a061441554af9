"""Figures of properties from dynamics: each draws into axes that `property_figures` made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clusterflow.evaluate.property_result import PropertyResult


def column(result: PropertyResult, curve: str, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A column of a curve; NaN where it has none."""
    return np.array([np.nan if v is None else v for v in result.curves[curve].columns[name]], dtype=np.float64)


def pressure_volume(axes: Any, result: PropertyResult) -> None:
    """Points with errors and the curve; K and P_max as more of every run is discarded."""
    grid, curve = column(result, "fit", "volume [Å³]"), column(result, "fit", "pressure [GPa]")
    error = column(result, "fit", "error of pressure [GPa]")
    left, right = axes
    left.fill_between(grid, curve - 2 * error, curve + 2 * error, color="tab:blue", alpha=0.2, linewidth=0)
    left.plot(grid, curve, color="tab:blue", label="Gaussian process, ±2σ")
    at_volume = column(result, "points", "at constant volume") > 0.5
    for mask, style, label in ((~at_volume, "o", "constant pressure"), (at_volume, "s", "constant volume")):
        if mask.any():
            left.errorbar(
                column(result, "points", "volume [Å³]")[mask], column(result, "points", "pressure [GPa]")[mask],
                xerr=column(result, "points", "error of volume [Å³]")[mask],
                yerr=column(result, "points", "error of pressure [GPa]")[mask],
                fmt=style, color="k", markersize=3.5, elinewidth=0.8, markerfacecolor="none" if style == "s" else "k",
                label=label,
            )  # fmt: skip
    q = result.quantities
    left.axhline(0.0, color="0.6", linewidth=0.8)
    left.axvline(q["V0"].value, color="0.6", linewidth=0.8)
    if "P_max" in q:
        left.plot([q["V at P_max"].value], [q["P_max"].value], "r^", markersize=5, label="P_max")
    left.set_xlabel("volume [Å³]", fontsize=9)
    left.set_ylabel("pressure [GPa]", fontsize=9)
    left.legend(fontsize=7, frameon=False)
    share = 100.0 * column(result, "convergence", "discarded")
    bulk, top = column(result, "convergence", "K [GPa]"), column(result, "convergence", "P_max [GPa]")
    right.plot(share, bulk - bulk[0], "o-", markersize=3.5, label="K [GPa]")
    if np.isfinite(top).any():
        right.plot(share, 10.0 * (top - top[0]), "s--", markersize=3.5, label="P_max [0.1 GPa]")
    right.axhline(0.0, color="0.6", linewidth=0.8)
    right.set_xlabel("discarded of every run [%]", fontsize=9)
    right.set_ylabel("change of the result", fontsize=9)
    right.legend(fontsize=7, frameon=False)


def compare_pressure_volume(axis: Any, results: Mapping[str, PropertyResult]) -> None:
    """Curves relative to the volume without pressure."""
    for name, result in results.items():
        v0 = result.quantities["V0"].value
        (line,) = axis.plot(
            column(result, "fit", "volume [Å³]") / v0, column(result, "fit", "pressure [GPa]"), label=name
        )
        axis.plot(
            column(result, "points", "volume [Å³]") / v0, column(result, "points", "pressure [GPa]"), "o",
            markersize=3, color=line.get_color(),
        )  # fmt: skip
    axis.axhline(0.0, color="0.6", linewidth=0.8)
    axis.set_xlabel("volume relative to that without pressure", fontsize=9)
    axis.set_ylabel("pressure [GPa]", fontsize=9)
