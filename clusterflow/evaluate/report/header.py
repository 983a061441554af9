"""Top of the report: name, verdict and the figures that matter most."""

from __future__ import annotations

from clusterflow.evaluate.learning_curve import error_ratio
from clusterflow.evaluate.metrics import Metrics
from clusterflow.evaluate.report.data import ReportData
from clusterflow.evaluate.report.markup import core_time, duration, paragraph, text


def header(data: ReportData) -> str:
    """Name, verdict and the figures that matter most."""
    tested = data.tested()
    last = tested[-1].metrics if tested else None
    cards = [_error_card(data, last), _label_card(data), _iteration_card(data), _cost_card(data)]
    reason = paragraph(data.reason, "reason") if data.reason else ""
    made = ", ".join(t for t in (data.generated, f"clusterflow {data.clusterflow_version}".strip()) if t)
    return (
        f'<header><p class="over">clusterflow campaign</p><h1>{text(data.campaign)} '
        f'<span class="badge {text(data.state)}">{text(data.state)}</span></h1>{reason}'
        f'<div class="cards">{"".join(cards)}</div>'
        f'<p class="note">{text(data.level_of_theory) or "level of theory not recorded"} · {text(made)}</p></header>'
    )


def _card(title: str, value: str, note: str) -> str:
    return (
        f'<div class="card"><p class="what">{text(title)}</p><p class="value">{text(value)}</p>'
        f'<p class="note">{text(note)}</p></div>'
    )


def _error_card(data: ReportData, metrics: Metrics | None) -> str:
    if metrics is None or metrics.forces is None:
        return _card("test force error", "not yet", "no model has been tested")
    ratio = error_ratio(data.learning)
    change = ""
    if ratio is not None:
        change = f"{100 * abs(ratio - 1):.0f} % {'lower' if ratio <= 1 else 'HIGHER'} than the first model; "
    frames = data.test_frames or metrics.n_frames
    return _card(
        f"test force MAE_P{metrics.percentile:g}", f"{metrics.forces.mae_p:.0f} meV/Å", f"{change}{frames} test frames"
    )


def _label_card(data: ReportData) -> str:
    total = data.labels_done + data.labels_failed
    failed = f"{data.labels_failed} of {total} failed" if total else "none computed yet"
    waiting = f", {data.labels_open} open" if data.labels_open else ""
    return _card("reference labels", str(data.labels_done), failed + waiting)


def _iteration_card(data: ReportData) -> str:
    planned = f"of {data.iterations_planned} planned" if data.iterations_planned is not None else "no fixed number"
    return _card("iterations done", str(data.iterations_done), planned)


def _cost_card(data: ReportData) -> str:
    c = data.cost
    return _card(
        "cost",
        core_time(c.core_seconds),
        f"{core_time(c.label_core_seconds)} for labels; {duration(c.wall_seconds)} elapsed",
    )
