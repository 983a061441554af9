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


def thermal_expansion(axes: Any, result: PropertyResult) -> None:
    """Volume, and lattice constants relative to the temperature of the table."""
    t, grid = column(result, "points", "temperature [K]"), column(result, "fit", "temperature [K]")
    volume = column(result, "points", "volume [Å³]")
    axes[0].errorbar(t, volume, yerr=column(result, "points", "error of volume [Å³]"), fmt="ko", markersize=3.5,
                     elinewidth=0.8)  # fmt: skip
    axes[0].plot(grid, column(result, "fit", "volume [Å³]"))
    axes[0].set_ylabel("volume [Å³]", fontsize=9)
    for name, shift in (("a", -1.0), ("b", 0.0), ("c", 1.0)):
        first = result.quantities[name].value
        relative = 100.0 * (column(result, "points", f"{name} [Å]") / first - 1.0)
        error = 100.0 * column(result, "points", f"error of {name} [Å]") / first
        aside = shift * 0.006 * float(np.ptp(t))  # so that equal ones are seen
        mark = axes[1].errorbar(t + aside, relative, yerr=error, fmt="o", markersize=3.5, elinewidth=0.8,
                                label=f"{name} = {first:.5g} Å")  # fmt: skip
        fit = 100.0 * (column(result, "fit", f"{name} [Å]") / first - 1.0)
        axes[1].plot(grid, fit, color=mark.lines[0].get_color(), linewidth=1.0)
    axes[1].set_ylabel("change of the lattice constants [%]", fontsize=9)
    axes[1].legend(fontsize=7, frameon=False)
    for a in axes:
        a.set_xlabel("temperature [K]", fontsize=9)


def compare_thermal_expansion(axis: Any, results: Mapping[str, PropertyResult]) -> None:
    """Volumes relative to that at the temperature of the table."""
    for name, result in results.items():
        v = result.quantities["V"].value
        (line,) = axis.plot(column(result, "fit", "temperature [K]"), column(result, "fit", "volume [Å³]") / v,
                            label=name)  # fmt: skip
        axis.errorbar(
            column(result, "points", "temperature [K]"), column(result, "points", "volume [Å³]") / v,
            yerr=column(result, "points", "error of volume [Å³]") / v, fmt="o", markersize=3, elinewidth=0.8,
            color=line.get_color(),
        )  # fmt: skip
    axis.set_xlabel("temperature [K]", fontsize=9)
    axis.set_ylabel("volume, relative", fontsize=9)


def vibrational_spectrum(axes: Any, result: PropertyResult) -> None:
    """The spectrum with that of the Hessian, and its parts per element."""
    columns = result.curves["spectrum"].columns
    nu, total = column(result, "spectrum", "wavenumber [cm⁻¹]"), column(result, "spectrum", "total [1/cm⁻¹]")
    axes[0].plot(nu, total, linewidth=1.0, label="dynamics")
    if "error of total [1/cm⁻¹]" in columns:
        error = column(result, "spectrum", "error of total [1/cm⁻¹]")
        axes[0].fill_between(nu, total - error, total + error, alpha=0.3, linewidth=0)
    if "Hessian [1/cm⁻¹]" in columns:
        axes[0].plot(nu, column(result, "spectrum", "Hessian [1/cm⁻¹]"), "k--", linewidth=0.7, label="Hessian, at Γ")
    axes[0].legend(fontsize=7, frameon=False)
    for name in columns:
        if name.split(" ", maxsplit=1)[0] in ("wavenumber", "total", "error", "Hessian"):
            continue
        axes[1].plot(nu, column(result, "spectrum", name), linewidth=1.0, label=name.split(" ", maxsplit=1)[0])
    axes[1].legend(fontsize=7, frameon=False)
    end = _end(nu, total)
    for a in axes:
        a.set_xlim(0.0, end)
        a.set_xlabel("wavenumber [cm⁻¹]", fontsize=9)
        a.set_ylabel("modes per cm⁻¹", fontsize=9)


def compare_vibrational_spectrum(axis: Any, results: Mapping[str, PropertyResult]) -> None:
    """Spectra per degree of freedom."""
    end = 0.0
    for name, result in results.items():
        nu, total = column(result, "spectrum", "wavenumber [cm⁻¹]"), column(result, "spectrum", "total [1/cm⁻¹]")
        axis.plot(nu, 1000.0 * total / result.quantities["modes"].value, linewidth=1.0, label=name)
        end = max(end, _end(nu, total))
    axis.set_xlim(0.0, end)
    axis.set_xlabel("wavenumber [cm⁻¹]", fontsize=9)
    axis.set_ylabel("share of the modes per 1000 cm⁻¹", fontsize=9)


def _end(nu: np.ndarray[Any, np.dtype[np.float64]], total: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """A little above the last wavenumber at which anything is seen."""
    return float(nu[np.flatnonzero(total > 2e-3 * total.max())[-1]] * 1.05 + 5.0)
