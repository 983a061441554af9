"""Figures of properties with matplotlib, as PNG and SVG bytes: one per structure, one that compares structures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from clusterflow.evaluate.dynamics_figures import (
    column,
    compare_pressure_volume,
    compare_thermal_expansion,
    compare_vibrational_spectrum,
    pressure_volume,
    thermal_expansion,
    vibrational_spectrum,
)
from clusterflow.evaluate.property_result import PropertyResult
from clusterflow.evaluate.torsion_figures import compare_torsion_free_energy, torsion_free_energy

HEADLINES: Mapping[str, tuple[str, ...]] = {
    "energy_volume": ("K", "V0", "K'", "E0 per atom"),
    "heat_capacity": ("c_V", "C_V per cell", "zero-point energy", "imaginary modes"),
    "torsion_free_energy": ("barrier", "barrier of a turn", "crossings", "sampling time"),
    "pressure_volume": ("K", "V0", "P_max"),
    "thermal_expansion": ("α_V", "V", "a", "b", "c"),
    "vibrational_spectrum": ("mean wavenumber", "strongest peak", "overlap with the Hessian", "temperature"),
}
"""Kind of property → the quantities of the comparison table; the first is drawn."""
Images = Mapping[str, bytes]
"""File ending (png, svg) → bytes."""
_FORMS = ("polynomial", "birch_murnaghan", "vinet")


def figure(result: PropertyResult, title: str) -> Images:
    """The figure of one result."""
    canvas, axes = _canvas(2)
    _DRAW[result.kind][0](axes, result)
    canvas.suptitle(title, fontsize=10)
    return _images(canvas)


def comparison(results: Mapping[str, PropertyResult], title: str) -> Images:
    """One kind of property of several structures (name → result): curves over each other, and the first headline."""
    kind = next(iter(results.values())).kind
    canvas, axes = _canvas(2)
    _DRAW[kind][1](axes[0], results)
    _bars(axes[1], results, HEADLINES[kind][0])
    axes[0].legend(fontsize=7, frameon=False)
    canvas.suptitle(title, fontsize=10)
    return _images(canvas)


def _canvas(panels: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(4.2 * panels, 3.4))
    canvas.subplots_adjust(left=0.085, right=0.985, bottom=0.2, top=0.89, wspace=0.25)  # a layout engine draws twice
    axes = canvas.subplots(1, panels)
    for a in np.atleast_1d(axes):
        a.tick_params(labelsize=8)
        a.grid(alpha=0.25, linewidth=0.6)
        a.set_axisbelow(True)
    return canvas, axes


def _images(canvas: Any) -> Images:
    import matplotlib

    images = {}
    with matplotlib.rc_context({"svg.hashsalt": "clusterflow"}):  # equal data give equal files
        for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            out = io.BytesIO()
            canvas.savefig(out, format=ending, dpi=150, metadata=metadata)
            images[ending] = out.getvalue()
    return images


def _energy_volume(axes: Any, result: PropertyResult) -> None:
    v, e = column(result, "points", "volume [Å³]"), column(result, "points", "energy [eV]")
    grid = column(result, "fits", "volume [Å³]")
    q = result.quantities
    lowest, v0 = q["E0"].value, q["V0"].value
    for a in axes:
        a.axvspan(grid[0], grid[-1], facecolor="0.92", edgecolor="0.6", linewidth=0.5, label="in the fits")
        a.axvline(v0, color="0.6", linewidth=0.8)
        a.set_xlabel("volume [Å³]", fontsize=9)
    for form, style in zip(_FORMS, ("-", "--", ":"), strict=True):
        label = f"{form.replace('_', '–')}: {q[f'K, {form}'].value:.4g} GPa"
        axes[0].plot(grid, 1000.0 * (column(result, "fits", f"energy, {form} [eV]") - lowest), style, label=label)
        axes[1].plot(grid, column(result, "fits", f"pressure, {form} [GPa]"), style)
    axes[0].plot(v, 1000.0 * (e - lowest), "ko", markersize=3.5)
    axes[1].plot(v, column(result, "points", "pressure from stress [GPa]"), "ko", markersize=3.5, label="from stress")
    axes[0].set_ylabel("energy above the minimum [meV]", fontsize=9)
    axes[1].set_ylabel("pressure [GPa]", fontsize=9)
    for a in axes:
        a.legend(fontsize=7, frameon=False)


def _heat_capacity(axes: Any, result: PropertyResult) -> None:
    t = column(result, "temperature", "temperature [K]")
    axes[0].plot(t, column(result, "temperature", "c_V [J/(g K)]"))
    axes[0].set_xlabel("temperature [K]", fontsize=9)
    axes[0].set_ylabel("$c_V$ [J/(g K)]", fontsize=9)
    nu = column(result, "modes", "wavenumber [cm⁻¹]")
    lowest = min(0.0, float(nu.min()))
    axes[1].hist(nu, bins=np.linspace(lowest, float(nu.max()) * 1.02 + 1.0, 60))
    axes[1].axvline(0.0, color="0.6", linewidth=0.8)
    axes[1].set_xlabel("wavenumber [cm⁻¹], imaginary ones negative", fontsize=9)
    axes[1].set_ylabel("number of modes", fontsize=9)


def _compare_energy_volume(axis: Any, results: Mapping[str, PropertyResult]) -> None:
    for name, result in results.items():
        q = result.quantities
        v0, e0 = q["V0"].value, q["E0"].value
        atoms = e0 / q["E0 per atom"].value if q["E0 per atom"].value else 1.0
        grid = column(result, "fits", "volume [Å³]")
        energy = column(result, "fits", "energy, birch_murnaghan [eV]")
        (line,) = axis.plot(grid / v0, 1000.0 * (energy - e0) / atoms, label=name)
        v, e = column(result, "points", "volume [Å³]"), column(result, "points", "energy [eV]")
        axis.plot(v / v0, 1000.0 * (e - e0) / atoms, "o", markersize=3, color=line.get_color())
    axis.set_xlabel("volume relative to the minimum", fontsize=9)
    axis.set_ylabel("energy above the minimum [meV/atom]", fontsize=9)


def _compare_heat_capacity(axis: Any, results: Mapping[str, PropertyResult]) -> None:
    for name, result in results.items():
        t = column(result, "temperature", "temperature [K]")
        axis.plot(t, column(result, "temperature", "c_V [J/(g K)]"), label=name)
    axis.set_xlabel("temperature [K]", fontsize=9)
    axis.set_ylabel("$c_V$ [J/(g K)]", fontsize=9)


def _bars(axis: Any, results: Mapping[str, PropertyResult], headline: str) -> None:
    names: Sequence[str] = list(results)
    found = [results[n].quantities[headline] for n in names]
    errors = [q.uncertainty or 0.0 for q in found]
    axis.bar(range(len(names)), [q.value for q in found], yerr=errors, capsize=3, color="0.6", width=0.6)
    axis.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0, fontsize=8)
    symbol = "$c_V$" if headline == "c_V" else headline
    axis.set_ylabel(f"{symbol} [{found[0].unit}]" if found[0].unit else symbol, fontsize=9)
    axis.grid(axis="x", visible=False)


_DRAW: Mapping[str, tuple[Callable[[Any, PropertyResult], None], Callable[[Any, Mapping[str, PropertyResult]], None]]]
_DRAW = {
    "energy_volume": (_energy_volume, _compare_energy_volume),
    "heat_capacity": (_heat_capacity, _compare_heat_capacity),
    "pressure_volume": (pressure_volume, compare_pressure_volume),
    "thermal_expansion": (thermal_expansion, compare_thermal_expansion),
    "vibrational_spectrum": (vibrational_spectrum, compare_vibrational_spectrum),
    "torsion_free_energy": (torsion_free_energy, compare_torsion_free_energy),
}
"""Kind of property → what draws one result into two axes, and what draws the curves of several into one."""
