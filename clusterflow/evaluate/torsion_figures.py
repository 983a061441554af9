"""Figures of torsional free energies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.evaluate.property_result import PropertyResult

_TICKS = (-180, -120, -60, 0, 60, 120, 180)


def torsion_free_energy(axes: Any, result: PropertyResult) -> None:
    """Left the profiles with their errors; right the barriers over time, or the map over two torsions."""
    for name, label in (("profile", "torsion 1"), ("profile2", "torsion 2")):
        if name in result.curves:
            _line(axes[0], result, name, label if "map" in result.curves else None)
    _angles(axes[0])
    if "map" in result.curves:
        axes[0].legend(fontsize=7, frameon=False)
        _map(axes[1], result)
        return
    times = _values(result, "convergence", "time per replica [ps]")
    for name, style in (("barrier", "o-"), ("barrier of a turn", "s--")):
        values = _values(result, "convergence", f"{name} [eV]")
        (line,) = axes[1].plot(times, values, style, markersize=3, label=name)
        q = result.quantities[name]
        if q.uncertainty is not None and np.isfinite(q.uncertainty):
            axes[1].axhspan(q.value - q.uncertainty, q.value + q.uncertainty, color=line.get_color(), alpha=0.15)
    axes[1].set_xlabel("time per replica [ps]", fontsize=9)
    axes[1].set_ylabel("barrier [eV]", fontsize=9)
    axes[1].set_ylim(bottom=0.0)
    axes[1].legend(fontsize=7, frameon=False)


def compare_torsion_free_energy(axis: Any, results: Mapping[str, PropertyResult]) -> None:
    """Profiles of the first torsion over each other."""
    for name, result in results.items():
        _line(axis, result, "profile", name)
    _angles(axis)


def _line(axis: Any, result: PropertyResult, curve: str, label: str | None) -> None:
    x = _values(result, curve, "torsion [°]")
    f, e = (1000.0 * _values(result, curve, f"{name} [eV]") for name in ("free energy", "error"))
    (line,) = axis.plot(x, f, label=label)
    axis.fill_between(x, f - e, f + e, color=line.get_color(), alpha=0.25, linewidth=0)


def _angles(axis: Any) -> None:
    axis.set_xlabel("torsion [°]", fontsize=9)
    axis.set_ylabel("Helmholtz free energy [meV]", fontsize=9)
    axis.set_xlim(-180, 180)
    axis.set_xticks(_TICKS)


def _map(axis: Any, result: PropertyResult) -> None:
    x = np.unique(_values(result, "map", "torsion 1 [°]"))
    surface = _values(result, "map", "free energy [eV]").reshape(len(x), len(x))
    image = axis.pcolormesh(x, x, surface.T, shading="nearest", rasterized=True)
    axis.set_xlabel("torsion 1 [°]", fontsize=9)
    axis.set_ylabel("torsion 2 [°]", fontsize=9)
    axis.set_xticks(_TICKS)
    axis.set_yticks(_TICKS)
    axis.grid(visible=False)
    bar = axis.figure.colorbar(image, ax=axis, fraction=0.16, pad=0.02, aspect=25)
    bar.set_label("free energy [eV]", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _values(result: PropertyResult, curve: str, name: str) -> FloatArray:
    return np.array([np.nan if v is None else v for v in result.curves[curve].columns[name]], dtype=np.float64)
