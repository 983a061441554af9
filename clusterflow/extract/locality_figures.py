"""Pictures of a locality test: norms against distance, and the piece itself coloured by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.data.colors import jmol_colors

from clusterflow.core.data import FloatArray
from clusterflow.extract.locality import TOLERANCE, Locality, Trial
from clusterflow.physics.elements import is_metal

FLOOR = 1e-4
"""eV/Å²: smaller norms are drawn as this."""
_MAP = "viridis"
_TILT = np.deg2rad(12.0)
"""Turns a piece a little out of its principal axes, so that atoms behind one another are seen."""
_MARKERS = {1: ".", 6: "o", 7: "^", 8: "D"}


def site_figure(locality: Locality, path: Path, *, gamma: float, best: Trial | None, title: str = "") -> None:
    """PNG or SVG: submatrix norms against distance, the fragments' group norms against their force errors, and the
    piece along its principal axes, coloured by norm, with what is in the converged fragment drawn large."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.4), layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=(2.0, 1.6))
    plots, picture = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    left, middle = plots.subplots(1, 2)
    norm_panel(left, {"all": locality}, by_element=True)
    errors = [t.error for t in locality.trials]
    error_panel(middle, {"fragments": (errors, [t.effective_norm for t in locality.trials])}, gamma=gamma)
    structure_panel(picture.subplots(), locality, best)
    if title:
        figure.suptitle(title)
    figure.savefig(path, dpi=90)


def norm_panel(
    axes: Any,
    localities: Mapping[str, Locality],
    *,
    by_element: bool = False,
    element: str = "",
    joined: bool = False,
) -> None:
    """‖h_AB‖ (logarithmic) against distance, per site or per element, without the site itself.

    ``element``: only its atoms; ``joined`` by lines, for chains.
    """
    for name, locality in localities.items():
        numbers = locality.piece.atoms.numbers
        away = locality.distances > 1e-6
        if element:
            away &= np.array(locality.piece.atoms.get_chemical_symbols()) == element
        kinds = sorted(set(numbers[away].tolist())) if by_element else [0]
        for z in kinds:
            chosen = away & (numbers == z) if by_element else away
            order = np.flatnonzero(chosen)[np.argsort(locality.distances[chosen], kind="stable")]
            style: dict[str, Any] = {"marker": "o", "ms": 4, "lw": 1 if joined else 0}
            if by_element:
                marker = _marker(z)
                style |= {"color": _colour(z), "mec": "#444444", "mew": 0.4, "marker": marker}
                style["ms"] = 8 if marker == "." else 5
            label = chemical_symbols[z] if by_element else name
            axes.semilogy(locality.distances[order], np.maximum(locality.norms[order], FLOOR), label=label, **style)
    axes.set(xlabel="distance from the site, Å", ylabel="‖h‖, eV/Å²", title="submatrix norms")
    axes.legend(frameon=False)


def error_panel(
    axes: Any,
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    tolerance: float = TOLERANCE,
    gamma: float | None = None,
) -> None:
    """Effective group norm against force error, both logarithmic: name → (errors eV/Å, norms eV/Å²), with lines at the
    tolerance for errors and, if given, at the threshold Γ for norms."""
    from matplotlib.ticker import NullFormatter

    x, y = [tolerance], [] if gamma is None else [gamma]
    for name, (errors, norms) in points.items():
        x += np.maximum(errors, FLOOR).tolist()
        y += np.maximum(norms, FLOOR).tolist()
        axes.loglog(np.maximum(errors, FLOOR), np.maximum(norms, FLOOR), "o", ms=4, label=name)
    axes.axvline(tolerance, color="#999999", lw=1, label=f"tolerance, {tolerance:g} eV/Å")
    if gamma is not None:
        axes.axhline(gamma, color="#b03a2e", lw=1, label=f"Γ = {gamma:g} eV/Å²")
    # Limits at powers of ten, and labels only there: those between overlap where an axis has few decades.
    for axis, values, limit in ((axes.xaxis, x, axes.set_xlim), (axes.yaxis, y, axes.set_ylim)):
        axis.set_minor_formatter(NullFormatter())
        if values:
            limit(10.0 ** np.floor(np.log10(min(values)) - 0.05), 10.0 ** np.ceil(np.log10(max(values)) + 0.05))
    axes.set(xlabel="force error, eV/Å", ylabel="effective group norm, eV/Å²", title="fragments")
    axes.legend(frameon=False)


def structure_panel(axes: Any, locality: Locality, best: Trial | None) -> None:
    """The piece seen along its shortest principal axis, the longest horizontal, at equal scales: colour = log10 of the
    submatrix norm, site a magenta star, metals square, the converged fragment large."""
    atoms, graph = locality.piece.atoms, locality.piece.graph
    x = principal_view(atoms.positions)
    across = graph.i < graph.j
    lines = np.stack((x[graph.i[across], :2], x[graph.j[across], :2]), axis=1)
    for (x0, y0), (x1, y1) in lines.tolist():
        axes.plot((x0, x1), (y0, y1), color="#bbbbbb", lw=0.6, zorder=1)
    kept = np.ones(len(atoms), dtype=bool)
    if best is not None:
        kept[best.removed] = False
    size = np.where(atoms.numbers == 1, 0.4, 1.0) * np.where(kept, 45.0, 9.0)
    colour = np.log10(np.maximum(locality.norms, FLOOR))
    others = np.arange(len(atoms)) != locality.site
    scale = {"vmin": float(colour[others].min()), "vmax": float(colour[others].max()), "cmap": _MAP}
    metal = is_metal(np.asarray(atoms.numbers, dtype=np.int64))
    for chosen, marker in ((others & ~metal, "o"), (others & metal, "s")):
        back_first = np.flatnonzero(chosen)[np.argsort(x[chosen, 2], kind="stable")]
        at = x[back_first]
        drawn = axes.scatter(
            at[:, 0], at[:, 1], c=colour[back_first], s=size[back_first], marker=marker,
            edgecolors="#444444", linewidths=0.3, zorder=2, **scale,
        )  # fmt: skip
    star = {"color": "magenta", "edgecolors": "black", "linewidths": 0.5, "s": 140, "marker": "*"}
    axes.scatter(*x[locality.site, :2], zorder=3, **star)
    axes.figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.6, label="log₁₀ ‖h‖ / (eV/Å²)")
    axes.set_aspect("equal")
    axes.margins(0.06)
    axes.set_axis_off()
    large = "no fragment is converged" if best is None else f"large: converged fragment, {int(kept.sum())} of them"
    axes.set_title(f"reference, {len(atoms)} atoms; star: site; {large}", fontsize=10)


def principal_view(positions: FloatArray) -> FloatArray:
    """(n, 3) Å about the centre: the longest principal axis along x, the shortest along z, turned a little out of the
    plane of the picture; a rotation, never a reflection."""
    centred = positions - positions.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=True)
    axes[2] *= np.linalg.det(axes)
    c, s = np.cos(_TILT), np.sin(_TILT)
    tilt = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    return np.asarray(centred @ axes.T @ tilt.T)


def annotated(locality: Locality, best: Trial | None) -> Atoms:
    """The piece with arrays for a viewer: ``submatrix_norm`` (eV/Å²), ``log10_norm``, ``group``, ``distance`` (Å),
    ``kept`` (1 in the converged fragment) and ``parent``; the place of the site in ``info``."""
    atoms: Atoms = locality.piece.atoms.copy()
    kept = np.ones(len(atoms), dtype=np.int64)
    if best is not None:
        kept[best.removed] = 0
    arrays = {
        "submatrix_norm": locality.norms,
        "log10_norm": np.log10(np.maximum(locality.norms, FLOOR)),
        "group": locality.piece.labels,
        "distance": locality.distances,
        "kept": kept,
        "parent": locality.piece.parent,
    }
    for name, values in arrays.items():
        atoms.set_array(name, values)
    atoms.info["site"] = locality.site
    return atoms


def _marker(number: int) -> str:
    return "s" if is_metal(np.array([number]))[0] else _MARKERS.get(number, "v")


def _colour(number: int) -> tuple[float, float, float]:
    """Of ASE's table, with carbon darker: there it is nearly the grey of zinc."""
    red, green, blue = (0.25, 0.25, 0.25) if number == 6 else jmol_colors[number]
    return float(red), float(green), float(blue)
