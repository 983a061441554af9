"""The figures of the report, each a string of small SVG panels with its legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from clusterflow.evaluate.learning_curve import CurvePoint
from clusterflow.evaluate.report.collect import MAX_POINTS, thinned
from clusterflow.evaluate.report.data import FeatureMap, Histogram, ModelResult, NoveltyHistograms, Pairs
from clusterflow.evaluate.report.svg import Axis, Panel, central_range, spanning

MEV = 1000.0
_FEW_SECONDS = 20_000.0


def figure(panels: Sequence[str], legend: Sequence[tuple[str, str]], caption: str = "") -> str:
    """Panels side by side, as many as fit; ``legend`` pairs a style ("s1 circle") with its text."""
    keys = "".join(f'<span class="key"><i class="{escape(s, quote=True)}"></i>{escape(t)}</span>' for s, t in legend)
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="legend">{keys}</div><div class="panels">{"".join(panels)}</div>{note}</figure>'


def learning_figure(curve: Sequence[CurvePoint], percentile: float = 95.0) -> str:
    """Test force MAE_P and MAE against the number of labels and against their cost."""
    used = [p for p in curve if p.force_mae_p is not None and p.force_mae is not None]
    tail = [float(p.force_mae_p or 0.0) for p in used]
    mean = [float(p.force_mae or 0.0) for p in used]
    log = bool(tail) and min(mean) > 0 and max(tail) / min(mean) > 4
    y = spanning("test force error [meV/Å]", [*tail, *mean], zero=True, log=log)
    hours = bool(used) and used[-1].core_seconds > _FEW_SECONDS
    cost = [p.core_seconds / (3600.0 if hours else 1.0) for p in used]
    labels = [float(p.n_labels) for p in used]
    panels = []
    for title, x_label, xs in (
        ("against labels", "labels in the training data", labels),
        ("against label cost", f"cost of these labels [core-{'h' if hours else 's'}]", cost),
    ):
        panel = Panel(spanning(x_label, xs, zero=True), y, title)
        content = [
            panel.line(xs, tail, "s1"),
            panel.line(xs, mean, "s2"),
            panel.marks(xs, tail, "s1", "circle"),
            panel.marks(xs, mean, "s2", "square"),
        ]
        panels.append(panel.draw(*content))
    return figure(
        panels,
        [("s1 circle", f"MAE_P{percentile:g}"), ("s2 square", "MAE")],
        "One point per iteration, from left to right.",
    )


def _pair_limits(final: Pairs) -> tuple[float, float]:
    low = min(final.reference + final.predicted)
    high = max(final.reference + final.predicted)
    # A few wild predictions must not squeeze everything else into a dot.
    a, b = min(final.reference), max(final.reference)
    room = 0.5 * max(b - a, 1e-3)
    low, high = max(low, a - room), min(high, b + room)
    margin = 0.05 * max(high - low, 1e-6)
    return low - margin, high + margin


def _parity_panel(title: str, final: Pairs, first: Pairs | None, *, labels: tuple[str, str], scale: float) -> str:
    def shown(pairs: Pairs) -> Pairs:
        index = thinned(len(pairs.reference), MAX_POINTS)
        return Pairs(
            tuple(pairs.reference[i] * scale for i in index),
            tuple(pairs.predicted[i] * scale for i in index),
        )

    now = shown(final)
    low, high = _pair_limits(now)
    panel = Panel(Axis(labels[0], low, high), Axis(labels[1], low, high), title)
    size = 3.0 if len(now.reference) > 100 else 5.0
    content = [panel.line([low, high], [low, high], "guide")]
    off = 0
    if first is not None:
        before = shown(first)
        content.append(panel.dots(before.reference, before.predicted, "s2 faint", size))
        off += sum(not (panel.x.holds(a) and panel.y.holds(b)) for a, b in zip(*_both(before), strict=True))
    content.append(panel.dots(now.reference, now.predicted, "s1", size))
    off += sum(not (panel.x.holds(a) and panel.y.holds(b)) for a, b in zip(*_both(now), strict=True))
    if off:
        content.append(panel.note(f"{off} points outside"))
    return panel.draw(*content)


def _both(pairs: Pairs) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return pairs.reference, pairs.predicted


def parity_figures(first: ModelResult | None, last: ModelResult) -> tuple[str, str]:
    """Forces per element and energies per system: the last model, with the first one behind it. "" without data."""
    now = last.parity
    if now is None:
        return "", ""
    before = first.parity if first is not None else None
    legend = [("s1 circle", f"iteration {last.iteration}")]
    if first is not None and before is not None:
        legend.append(("s2 circle", f"iteration {first.iteration}, the first model"))
    legend.append(("guide", "perfect"))
    forces = [
        _parity_panel(
            e, p, before.forces.get(e) if before else None, labels=("reference [eV/Å]", "model [eV/Å]"), scale=1.0
        )
        for e, p in now.forces.items()
        if p.reference
    ]
    energies = []
    for system, pairs in list(now.energies.items())[:12]:
        if pairs.reference:
            energies.append(
                _parity_panel(
                    system,
                    pairs,
                    before.energies.get(system) if before else None,
                    labels=("reference − mean ref. [meV/atom]", "model − mean ref. [meV/atom]"),
                    scale=MEV,
                )
            )
    force_figure = energy_figure = ""
    if forces:
        force_figure = figure(forces, legend, f"Force components on the test set, {now.n_components} in all.")
    if energies:
        energy_figure = figure(
            energies,
            legend,
            f"Energies of {now.n_energies} test frames; both axes are relative to the mean reference energy of "
            "the frames of the same composition, so a constant offset of the model stays visible.",
        )
    return force_figure, energy_figure


def residual_figure(last: ModelResult) -> str:
    """Residuals of the force components against the reference, per element, with the middle 90 %. "" without data."""
    panels = []
    for element, pairs in (last.parity.forces if last.parity is not None else {}).items():
        residuals = [MEV * (p - r) for p, r in zip(pairs.predicted, pairs.reference, strict=True)]
        if not residuals:
            continue
        low, high = central_range(residuals, 0.9)
        most = 1.1 * max(abs(v) for v in central_range(residuals, 0.995)) or 1.0
        x = spanning("reference [eV/Å]", pairs.reference)
        panel = Panel(x, Axis("model − reference [meV/Å]", -most, most), element)
        ends = [x.low, x.high]
        content = [panel.line(ends, [v, v], "guide") for v in (low, high)]
        content.append(panel.dots(pairs.reference, residuals, "s1", 3.0 if len(residuals) > 100 else 5.0))
        off = sum(abs(v) > most for v in residuals)
        panels.append(panel.draw(*content, panel.note(f"{off} points outside") if off else ""))
    legend = [("s1 circle", f"iteration {last.iteration}"), ("guide", "90 % of the components are between")]
    return figure(panels, legend) if panels else ""


def novelty_figure(entries: Sequence[NoveltyHistograms]) -> str:
    """Training atoms (filled) against explored atoms (outline), one panel per element, one iteration."""
    levels = "Levels of different iterations or elements are not comparable: features and densities are fitted anew."
    if any(e.unit == "eV/Å" for e in entries):
        levels = "The disagreement of the committee on the force on an atom; comparable from iteration to iteration."
    return figure(
        [_novelty_panel(e) for e in entries],
        [("s3 fill", "training atoms"), ("s2 rule", "atoms of the explored frames")],
        f"Each histogram sums to 100 %. Further right = less known. {levels}",
    )


def _novelty_panel(entry: NoveltyHistograms) -> str:
    both = [h for h in (entry.training, entry.explored) if h is not None]
    edges = both[0].edges if both else (0.0, 1.0)
    beyond = any(h.above or h.infinite for h in both)
    width = edges[-1] - edges[0]
    x = Axis(f"novelty [{entry.unit}]", edges[0], edges[-1] + (0.08 * width if beyond else 0.0))
    top = max([_percent(h, c) for h in both for c in (*h.counts, h.above + h.infinite)], default=1.0)
    panel = Panel(x, Axis("atoms [%]", 0.0, max(top, 1e-3) * 1.08), f"{entry.element}, iteration {entry.iteration}")
    content = []
    if entry.training is not None:
        h = entry.training
        content += [
            panel.bar(a, b, _percent(h, c), "fill s3")
            for a, b, c in zip(h.edges, h.edges[1:], h.counts, strict=False)
            if c
        ]
    if entry.explored is not None:
        h = entry.explored
        xs = [v for edge in h.edges for v in (edge, edge)]
        ys = [0.0, *(v for c in h.counts for v in (_percent(h, c),) * 2), 0.0]
        content.append(panel.line(xs, ys, "s2"))
        lost = h.above + h.infinite
        if lost:
            content.append(panel.bar(edges[-1] + 0.02 * width, x.high - 0.01 * width, _percent(h, lost), "fill s2"))
            unseen = f", {h.infinite} of them infinite" if h.infinite else ""
            content.append(panel.note(f"{lost} beyond{unseen}", 0))
    if entry.training is None:
        content.append(panel.note("no such atom in the training data ", 1))
    return panel.draw(*content)


def _percent(h: Histogram, count: int) -> float:
    return 100.0 * count / max(sum(h.counts) + h.above + h.infinite, 1)


def feature_map_figure(maps: Sequence[FeatureMap]) -> str:
    """Training density (shaded), explored and selected atoms on the two leading principal axes, per element."""
    return figure(
        [_feature_panel(m) for m in maps],
        [("cell", "training density"), ("s1 circle", "explored"), ("s2 cross", "selected for labelling")],
        "Principal components of the standardised features of the training atoms, without unit. Atoms outside the "
        "shaded area are in environments that the training data do not have; two axes do not show every difference.",
    )


def _feature_panel(m: FeatureMap) -> str:
    explored = [m.explored[i] for i in thinned(len(m.explored), MAX_POINTS)]
    axes = []
    for k, edges in enumerate((m.x_edges, m.y_edges)):
        low, high = (edges[0], edges[-1]) if edges else (-1.0, 1.0)
        values = [p[k] for p in explored]
        inner = central_range(values) if values else (low, high)
        chosen = [p[k] for p in m.selected] or [low]
        # The training data keep at least a quarter of the width, however far the walkers have strayed.
        room = 1.5 * (high - low)
        a = max(min(low, inner[0], *chosen), low - room)
        b = min(max(high, inner[1], *chosen), high + room)
        share = f" ({100 * m.explained[k]:.0f} % of variance)" if len(m.explained) > k else ""
        pad = 0.05 * max(b - a, 1e-6)
        axes.append(Axis(f"component {k + 1}{share}", a - pad, b + pad))
    mixture = "" if m.components is None else f", {m.components} Gaussian{'s' if m.components > 1 else ''}"
    panel = Panel(axes[0], axes[1], f"{m.element}, iteration {m.iteration}{mixture}")
    most = max((c for row in m.density for c in row), default=0)
    content = [
        panel.cells(
            [
                (m.x_edges[i], m.x_edges[i + 1], m.y_edges[j], m.y_edges[j + 1], _level(c, most))
                for j, row in enumerate(m.density)
                for i, c in enumerate(row)
                if c
            ]
        )
    ]
    content.append(panel.dots([p[0] for p in explored], [p[1] for p in explored], "s1", 2.5))
    content.append(panel.marks([p[0] for p in m.selected], [p[1] for p in m.selected], "s2", "cross"))
    off = sum(not (panel.x.holds(a) and panel.y.holds(b)) for a, b in [*explored, *m.selected])
    if off:
        content.append(panel.note(f"{off} points outside"))
    return panel.draw(*content, points=_drawn(panel, m))


def _drawn(panel: Panel, m: FeatureMap) -> list[tuple[float, float, int, int]]:
    """Points that lead to an atom: where they are in the panel, structure, atom; selected ones last, on top."""
    both = [*zip(m.explored, m.explored_atoms, strict=False), *zip(m.selected, m.selected_atoms, strict=False)]
    return [
        (round(u, 1), round(v, 1), s, a)
        for (x, y), (s, a) in both
        if s >= 0 and panel.x.holds(x) and panel.y.holds(y)
        for u, v in [panel.at(x, y)]
    ]


def _level(count: int, most: int) -> float:
    return math.log1p(count) / math.log1p(most) if most else 0.0


def bic_figure(maps: Sequence[FeatureMap]) -> str:
    """BIC against the number of components, per element. "" if no curve has two points."""
    panels = []
    for m in maps:
        curve: Mapping[int, float] = dict(sorted((int(k), v) for k, v in m.bic.items()))
        if len(curve) < 2:
            continue
        xs, ys = [float(k) for k in curve], [v - min(curve.values()) for v in curve.values()]
        panel = Panel(
            spanning("Gaussians in the mixture", xs), spanning("BIC − smallest BIC", ys, zero=True), m.element
        )
        best = ys.index(0.0)
        panels.append(
            panel.draw(
                panel.line(xs, ys, "s1"),
                panel.marks(xs, ys, "s1", "circle"),
                panel.marks(xs[best : best + 1], ys[best : best + 1], "s2", "square"),
            )
        )
    if not panels:
        return ""
    return figure(panels, [("s1 circle", "tried"), ("s2 square", "chosen")], "Last iteration; lower is better.")
