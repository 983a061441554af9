"""The section on what novelty means in eV/Å: alarms, reliability diagrams, coverage and rank correlation."""

from __future__ import annotations

from clusterflow.evaluate.report.calibration_data import CalibrationView, ReliabilityView
from clusterflow.evaluate.report.data import ReportData
from clusterflow.evaluate.report.figures import figure
from clusterflow.evaluate.report.markup import Section, fixed, missing, paragraph, table, text
from clusterflow.evaluate.report.svg import Panel, spanning

_MEV = 1000.0


def calibration(data: ReportData) -> Section:
    """The newest calibration, on the test set and on new labels."""
    noise = paragraph(f"{data.noise[:1].upper()}{data.noise[1:]}.") if data.noise else ""
    newest = {c.new: c for c in sorted(data.calibrations, key=lambda c: c.iteration)}
    if not newest:
        return Section(
            "calibration", "Novelty as a force error", missing("Not yet: no novelty has been calibrated.") + noise
        )
    shown = [newest[which] for which in (False, True) if which in newest]
    body = "".join(f'<p class="reason">Warning: {text(a)} ({_where(c)}).</p>' for c in shown for a in c.alarms)
    body += paragraph(
        "Held-out labels (the validation split) say how large a force error to expect at a given novelty, and which "
        f"bound holds with {shown[0].confidence:.0%}. Here this is judged on labels that it has not seen."
    )
    panels = [p for c in shown if (p := _diagram(c))]
    if panels:
        body += figure(
            panels,
            [("s1 circle", "mean force error"), ("s2", f"{shown[0].confidence:.0%} bound"), ("guide", "as expected")],
            "Equally many atoms per point, ordered by the error that their novelty makes expect.",
        )
    for c in shown:
        body += _table(c)
    return Section("calibration", "Novelty as a force error", body + noise)


def _where(c: CalibrationView) -> str:
    return f"new labels of iteration {c.iteration}" if c.new else f"test set, iteration {c.iteration}"


def _diagram(c: CalibrationView) -> str:
    rows = next((r.diagram for r in c.elements if r.element == "all"), ())
    if not rows:
        return ""
    expected = [_MEV * r[0] for r in rows]
    true = [_MEV * r[1] for r in rows]
    bounds = [(_MEV * r[0], _MEV * r[2]) for r in rows if r[2] is not None]
    x = spanning("expected |ΔF| [meV/Å]", expected, zero=True)
    y = spanning("true |ΔF| [meV/Å]", [*true, *(b for _, b in bounds)], zero=True)
    panel = Panel(x, y, _where(c))
    end = min(x.high, y.high)
    return panel.draw(
        panel.line([0.0, end], [0.0, end], "guide"),
        panel.line([a for a, _ in bounds], [b for _, b in bounds], "s2"),
        panel.line(expected, true, "s1"),
        panel.marks(expected, true, "s1", "circle"),
    )


def _table(c: CalibrationView) -> str:
    if c.refused:
        return paragraph(f"Not calibrated ({_where(c)}): {c.refused}", "note")
    head = ("element", "atoms", "expected", "true", "within bound", "95 % interval", "beyond", "rank", "95 % interval")
    body = table(
        head,
        [_row(r) for r in c.elements],
        numeric=range(1, 9),
        caption=f"{_where(c)}: mean |ΔF| [meV/Å]; atoms more novel than any calibrated on; rank correlation",
    )
    if c.elements and all(r.coverage is None for r in c.elements):
        needed = round(c.confidence / (1.0 - c.confidence))
        had = f"{c.structures} independent structures (those of one walk count as one)"
        body += paragraph(f"No bounds: calibrated on {had}, and it takes {needed}.", "note")
    return body


def _row(r: ReliabilityView) -> tuple[object, ...]:
    return (
        r.element,
        r.n_atoms,
        None if r.mean_expected is None else fixed(_MEV * r.mean_expected, 0),
        None if r.mean_error is None else fixed(_MEV * r.mean_error, 0),
        None if r.coverage is None else f"{r.coverage:.0%}",
        None if r.coverage_low is None or r.coverage_high is None else f"{r.coverage_low:.0%} … {r.coverage_high:.0%}",
        r.n_extrapolated,
        fixed(r.spearman, 2),
        None if r.spearman_low is None else f"{fixed(r.spearman_low, 2)} … {fixed(r.spearman_high, 2)}",
    )
