"""Sections on the work: walks, failures, time, and who did what when."""

from __future__ import annotations

from collections import Counter

from clusterflow.evaluate.report.data import ReportData
from clusterflow.evaluate.report.gantt import gantt
from clusterflow.evaluate.report.markup import Section, fixed, folded, missing, paragraph, table


def walkers(data: ReportData) -> Section:
    """Every walk and why it stopped."""
    if not data.walkers:
        return Section("walkers", "Walkers", missing("Not yet: no dynamics have been run."))
    early = Counter(w.stop_reason for w in data.walkers if w.stop_reason)
    full = sum(not w.stop_reason for w in data.walkers)
    body = paragraph(f"{full} of {len(data.walkers)} walks ran their full length.")
    rows = [
        (
            w.iteration,
            w.walker,
            w.system,
            fixed(w.temperature_K, 0),
            fixed(w.pressure_GPa, 2),
            f"{w.steps} / {w.planned_steps}" if w.planned_steps else w.steps,
            w.frames,
            w.stop_reason or "full length",
        )
        for w in data.walkers
    ]
    head = ("iteration", "walker", "system", "T [K]", "P [GPa]", "steps", "frames", "stopped by")
    body += table(head, rows, numeric=(0, 3, 4, 5, 6), caption="Walkers")
    if early:
        body += folded(
            "Reasons counted", table(("stopped by", "walks"), early.most_common(), numeric=(1,), caption="Stops")
        )
    return Section("walkers", "Walkers", body)


def failures(data: ReportData) -> Section:
    """What failed, why, and what to do."""
    if not data.failures:
        return Section("failures", "Failures", missing("None."))
    head = ("iteration", "stage", "item", "what happened", "where", "what to do")
    rows = [(f.iteration, f.stage, f.item, f.what, f.where, f.todo) for f in data.failures]
    counts = ", ".join(f"{n} in {stage}" for stage, n in Counter(f.stage for f in data.failures).most_common())
    return Section(
        "failures", "Failures", paragraph(f"{counts}.") + table(head, rows, numeric=(0,), caption="Failures")
    )


def timings(data: ReportData) -> Section:
    """Cost per stage."""
    if not data.timings:
        return Section("timings", "Time and memory", missing("Not yet: no task has finished."))
    rows = [
        (
            "all" if t.iteration is None else t.iteration,
            t.stage,
            t.tasks,
            fixed(t.wall_seconds),
            fixed(t.wall_seconds / t.tasks) if t.tasks else None,
            fixed(t.core_seconds),
            fixed(t.peak_memory_MB, 0) if t.peak_memory_MB else None,
        )
        for t in data.timings
    ]
    head = ("iteration", "stage", "tasks", "time [s]", "per task [s]", "core-s", "peak memory [MB]")
    body = table(head, rows, numeric=range(2, 7), caption="Time and memory per stage")
    if data.cost.driver_memory_MB:
        body += paragraph(f"The driver itself used at most {data.cost.driver_memory_MB:.0f} MB.", "note")
    return Section("timings", "Time and memory", body)


def workers(data: ReportData) -> Section:
    """Who worked when, what waited, and how old the potentials were that asked for labels."""
    used = [strip for strip in data.lanes if strip.tasks]
    if not used:
        return Section("workers", "Workers over time", missing("Not yet: no task has finished."))
    head = ("lane", "tasks", "at once", "busy", "median wait [s]", "longest wait [s]")
    rows = [(s.lane, s.tasks, s.at_once, f"{s.busy:.0%}", fixed(s.median_wait), fixed(s.longest_wait)) for s in used]
    body = f'<figure><div class="panels one">{gantt(used, data.periods)}</div>' + (
        "<figcaption>One row per worker that was in use at once; shaded: no driver was running.</figcaption></figure>"
    )
    body += table(head, rows, numeric=range(1, 6), caption="Lanes")
    body += paragraph("Busy: of as many workers as ever ran at once, while a driver was running.", "note")
    if data.queue:
        columns = ("lane", "blocks", "median wait [s]", "longest wait [s]")
        queued = [(q.lane, q.blocks, fixed(q.median_wait), fixed(q.longest_wait)) for q in data.queue]
        body += table(columns, queued, numeric=range(1, 4), caption="Blocks in the queue of the cluster")
    if data.lags:
        labels = sum(r.labels for r in data.lags)
        mean = sum(r.mean * r.labels for r in data.lags) / labels
        body += paragraph(
            f"Model lag: {labels} labels were trained on {mean:.1f} versions after the potential that asked for them, "
            f"on average; at most {max(r.mean for r in data.lags):.1f} in one training."
        )
    return Section("workers", "Workers over time", body)
