"""Control arms in a report: learning curves of all arms against labels and against what the labels cost."""

from __future__ import annotations

from collections.abc import Sequence

from clusterflow.evaluate.arms import (
    SELECTED,
    Advantage,
    ArmCurve,
    Interval,
    MeanPoint,
    advantages,
    mean_curves,
)
from clusterflow.evaluate.report.figures import figure
from clusterflow.evaluate.report.markup import Section, fixed, paragraph, table
from clusterflow.evaluate.report.svg import Panel, spanning

_STYLES = (("s1", "circle"), ("s2", "square"), ("s3", "cross"), ("s4", "square"))
_FEW_SECONDS = 20_000.0


def controls(runs: Sequence[Sequence[ArmCurve]]) -> Section:
    """The arms of one run, or of several runs that differ in their seeds."""
    curves, rows = mean_curves(runs), advantages(runs)
    body = arms_figure(curves) + _advantage_table(rows) + _curve_table(curves)
    for k, own in enumerate(runs):
        for curve in own:
            if curve.ended:
                where = f" (run {k + 1})" if len(runs) > 1 else ""
                body += paragraph(f"The arm {curve.arm} went no further{where}: {curve.ended}.", "note")
    if len(runs) == 1:
        body += paragraph(
            "One seed says little: repeat the campaign with other seeds and give all run folders to `clusterflow "
            "compare`.",
            "note",
        )
    return Section("controls", "Control arms", body)


def arms_figure(curves: dict[str, list[MeanPoint]]) -> str:
    """Test force MAE_P95 of every arm, on a logarithmic scale; vertical bars are 95 % intervals over seeds."""
    points = [p for own in curves.values() for p in own]
    if not points:
        return ""
    errors = [v for p in points for v in (p.mae_p95.mean, p.mae_p95.low, p.mae_p95.high) if v is not None and v > 0]
    y = spanning("test force MAE_P95 [meV/Å]", errors, log=True)
    hours = max(p.core_seconds for p in points) > _FEW_SECONDS
    unit = 3600.0 if hours else 1.0
    panels = []
    for title, label, scale in (
        ("against labels", "labels in the training data", 0.0),
        ("against label cost", f"cost of these labels [core-{'h' if hours else 's'}]", unit),
    ):

        def at(p: MeanPoint, scale: float = scale) -> float:
            return p.core_seconds / scale if scale else p.n_labels

        places = [at(p) for p in points]
        panel = Panel(spanning(label, places, log=max(places) > 4.0 * min(places)), y, title)
        content = []
        for (style, shape), own in zip(_STYLES, curves.values(), strict=False):
            xs, ys = [at(p) for p in own], [p.mae_p95.mean for p in own]
            content += [panel.line(xs, ys, style), panel.marks(xs, ys, style, shape)]
            for p in own:
                low, high = p.mae_p95.low, p.mae_p95.high
                if low is not None and high is not None:
                    content.append(panel.line([at(p)] * 2, [max(low, y.low), min(high, y.high)], style))
        panels.append(panel.draw(*content))
    legend = [(f"{style} {shape}", name) for (style, shape), name in zip(_STYLES, curves, strict=False)]
    return figure(
        panels,
        legend,
        "One point per iteration; all arms begin with the same potential and are tested on the same frames."
        + (" Bars: 95 % intervals of the mean over seeds." if any(p.mae_p95.n > 1 for p in points) else ""),
    )


def _advantage_table(rows: Sequence[Advantage]) -> str:
    if not rows:
        return ""
    shown = [(r.arm, _ratio(r.labels), _ratio(r.core_seconds), f"{r.reached} of {r.seeds}") for r in rows]
    return table(
        ("control arm", "times the labels", "times the core-seconds", "seeds compared"),
        shown,
        numeric=(1, 2, 3),
        caption=f"What a control arm needs, relative to {SELECTED}, for the same error",
    ) + paragraph(
        "Above 1: choosing paid. Compared at the lowest error that both reach; a seed in which one of the two never "
        "got better than the first potential is not counted.",
        "note",
    )


def _ratio(found: Interval | None) -> str | None:
    if found is None:
        return None
    spread = "" if found.low is None or found.high is None else f" ({found.low:.2g} … {found.high:.2g})"
    return f"{found.mean:.2g}{spread}"


def _curve_table(curves: dict[str, list[MeanPoint]]) -> str:
    rows = [
        (
            name,
            p.iteration,
            fixed(p.n_labels, 0),
            fixed(p.core_seconds, 0 if p.core_seconds >= 100 else 1),
            fixed(p.mae_p95.mean),
            None if p.mae_p95.low is None else f"{fixed(p.mae_p95.low)} … {fixed(p.mae_p95.high)}",
        )
        for name, points in curves.items()
        for p in points
    ]
    head = ("arm", "iteration", "labels", "core-s", "MAE_P95", "95 % interval")
    return table(head, rows, numeric=range(1, 6), caption="Test force errors [meV/Å]")
