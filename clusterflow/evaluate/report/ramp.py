"""A temperature ramp in a report: what each iteration found, how many walks blew up, and why it went on or ended."""

from __future__ import annotations

from clusterflow.evaluate.report.data import RampRow, ReportData
from clusterflow.evaluate.report.figures import figure
from clusterflow.evaluate.report.markup import Section, fixed, paragraph, table
from clusterflow.evaluate.report.svg import Panel, spanning

_THEN = {"rise": "the temperature rises", "repeat": "repeated", "end": "the ramp is done", "stop": "given up"}


def ramp(data: ReportData) -> Section:
    """Temperature, new environments, blow-ups and test error of every iteration."""
    errors = {p.iteration: p.force_mae for p in data.learning}
    rows = [
        (
            r.iteration,
            fixed(r.temperature_K, 0),
            f"{r.unstable} of {r.walkers}",
            r.accepted,
            fixed(errors.get(r.iteration)),
            _THEN.get(r.then, r.then),
        )
        for r in data.ramp
    ]
    head = ("iteration", "T [K]", "walks that blew up", "accepted", "test MAE [meV/Å]", "then")
    body = _figure(data.ramp) + table(head, rows, numeric=(0, 1, 2, 3, 4), caption="The ramp")
    if data.ramp[-1].then in ("end", "stop"):
        body += paragraph(f"It ended: {data.ramp[-1].reason}.")
    body += paragraph(
        "Accepted: structures that were taken to be labelled. Few of them at a temperature that walks survive says "
        "that the labels cover it; walks that blow up say that they do not.",
        "note",
    )
    return Section("ramp", "Temperature ramp", body)


def _figure(rows: tuple[RampRow, ...]) -> str:
    if len(rows) < 2:
        return ""
    at = [float(r.iteration) for r in rows]
    panels = []
    for title, label, values, style, shape in (
        ("temperature", "T [K]", [r.temperature_K for r in rows], "s1", "circle"),
        ("new environments", "accepted structures", [float(r.accepted) for r in rows], "s2", "square"),
        ("stability", "walks that blew up [%]", [100.0 * r.unstable / max(r.walkers, 1) for r in rows], "s3", "cross"),
    ):
        panel = Panel(spanning("iteration", at), spanning(label, values, zero=True), title)
        panels.append(panel.draw(panel.line(at, values, style), panel.marks(at, values, style, shape)))
    return figure(panels, [])
