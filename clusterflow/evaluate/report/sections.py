"""The sections of the report. Each takes the whole data and gives one `Section`; empty data gives a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from clusterflow.evaluate.learning_curve import error_ratio, learning_exponent
from clusterflow.evaluate.metrics import ForceErrors, Metrics
from clusterflow.evaluate.report import figures
from clusterflow.evaluate.report.arms import controls
from clusterflow.evaluate.report.calibration import calibration
from clusterflow.evaluate.report.data import Citation, FeatureMap, ModelResult, PotentialFiles, ReportData
from clusterflow.evaluate.report.gallery import fragments, structures
from clusterflow.evaluate.report.gantt import gantt
from clusterflow.evaluate.report.markup import (
    Section,
    code,
    core_time,
    definitions,
    duration,
    fixed,
    folded,
    link,
    missing,
    paragraph,
    table,
    text,
)

_EARLIER = 4

CITATIONS = (
    Citation(
        "P. Dobbelaere, S. Vandenhaute and V. Van Speybroeck: Cluster-based machine learning potentials to describe "
        "disordered metal-organic frameworks up to the mesoscale (2025): the method.",
        "https://arxiv.org/abs/2504.03881",
    ),
    Citation(
        "Zhu et al., J. Chem. Phys. 158, 164111 (2023): Gaussian mixtures as uncertainty.",
        "https://arxiv.org/abs/2211.09866",
    ),
    Citation("Batzner et al., Nat. Commun. 13, 2453 (2022): NequIP.", "https://doi.org/10.1038/s41467-022-29939-5"),
    Citation("Mortensen et al., J. Chem. Phys. 160, 092503 (2024): GPAW.", "https://doi.org/10.1063/5.0182685"),
    Citation("Eastman et al., J. Phys. Chem. B 128, 109 (2024): OpenMM 8.", "https://doi.org/10.1021/acs.jpcb.3c06662"),
    Citation(
        "Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017): ASE.", "https://doi.org/10.1088/1361-648X/aa680e"
    ),
    Citation(
        "Pedregosa et al., J. Mach. Learn. Res. 12, 2825 (2011): scikit-learn.",
        "https://jmlr.org/papers/v12/pedregosa11a.html",
    ),
    Citation("Babuji et al., HPDC 2019: Parsl.", "https://doi.org/10.1145/3307681.3325400"),
)

_FEWEST_FOR_TREND = 4
"""Models: a power law through fewer points says nothing."""


def _tested(data: ReportData) -> list[ModelResult]:
    return sorted((m for m in data.models if m.metrics is not None), key=lambda m: m.iteration)


def header(data: ReportData) -> str:
    """Name, verdict and the figures that matter most."""
    tested = _tested(data)
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


def learning(data: ReportData) -> Section:
    """Test error against labels and cost."""
    if not any(p.force_mae_p is not None for p in data.learning):
        return Section("learning", "Learning curve", missing("Not yet: no trained model has been tested."))
    tested = _tested(data)
    k = tested[-1].metrics.percentile if tested and tested[-1].metrics else 95.0
    rows = [
        (
            p.iteration,
            p.n_labels,
            fixed(p.core_seconds, 0),
            fixed(p.force_mae),
            fixed(p.force_rmse),
            fixed(p.force_mae_p),
            fixed(p.force_maximum),
            fixed(p.energy_average, 2),
            fixed(p.energy_std, 2),
        )
        for p in data.learning
    ]
    head = ("iteration", "labels", "core-s", "MAE", "RMSE", f"MAE_P{k:g}", "max", "ΔE_avg", "ΔE_std")
    exponent = learning_exponent(data.learning)
    trend = (
        ""
        if exponent is None or len(data.learning) < _FEWEST_FOR_TREND
        else paragraph(
            f"Over this curve MAE_P{k:g} goes as the number of labels to the power {fixed(exponent, 2)}.", "note"
        )
    )
    body = (
        figures.learning_figure(data.learning, k)
        + table(head, rows, numeric=range(9), caption="Test errors: forces [meV/Å], energies [meV/atom]")
        + trend
    )
    return Section("learning", "Learning curve", body)


def parity(data: ReportData) -> Section:
    """Model against reference."""
    with_data = [m for m in sorted(data.models, key=lambda m: m.iteration) if m.parity is not None]
    if not with_data:
        return Section("parity", "Parity", missing("Not yet: no model has been compared with the test labels."))
    first = with_data[0] if len(with_data) > 1 else None
    forces, energies = figures.parity_figures(first, with_data[-1])
    residuals = figures.residual_figure(with_data[-1])
    parts = (("Forces", forces), ("Residuals", residuals), ("Energies", energies))
    body = "".join(f"<h3>{name}</h3>{part}" for name, part in parts if part)
    return Section("parity", "Parity", body or missing("The test frames carry no labels."))


def errors(data: ReportData) -> Section:
    """Error tables of the last model."""
    tested = _tested(data)
    metrics = tested[-1].metrics if tested else None
    if metrics is None:
        return Section("errors", "Error tables", missing("Not yet: no model has been tested."))
    body = paragraph(
        f"Model of iteration {tested[-1].iteration} on {metrics.n_frames} test frames. MAE_P{metrics.percentile:g} is "
        f"the mean of the absolute force components at or above their {metrics.percentile:g}th percentile."
    )
    groups: tuple[tuple[str, Mapping[str, ForceErrors]], ...] = (
        ("element", metrics.forces_by_element),
        ("region", metrics.forces_by_region),
        ("system", metrics.forces_by_system),
    )
    rows: list[tuple[object, ...]] = []
    if metrics.forces is not None:
        rows.append(("all", "", *_force_row(metrics.forces)))
    rows += [(kind, name, *_force_row(f)) for kind, group in groups for name, f in group.items()]
    if rows:
        head = ("group", "name", "atoms", "MAE", "RMSE", f"MAE_P{metrics.percentile:g}", "max")
        body += table(head, rows, numeric=range(2, 7), caption="Force errors [meV/Å]")
    if metrics.energy is not None:
        energy = [("all", metrics.energy), *metrics.energy_by_system.items()]
        body += table(
            ("system", "frames", "ΔE_avg", "ΔE_std", "MAE", "RMSE"),
            [(n, e.n_frames, *(fixed(v, 2) for v in (e.average, e.std, e.mae, e.rmse))) for n, e in energy],
            numeric=range(1, 6),
            caption="Energy errors [meV/atom]",
        )
    return Section("errors", "Error tables", body)


def _force_row(f: ForceErrors) -> tuple[object, ...]:
    return f.n_atoms, fixed(f.mae), fixed(f.rmse), fixed(f.mae_p), fixed(f.maximum)


def novelty(data: ReportData) -> Section:
    """Histograms per element and iteration, and the BIC curves."""
    iterations = sorted({h.iteration for h in data.novelty})
    if not iterations:
        return Section("novelty", "Novelty", missing("Not yet: no frames have been scored."))
    body = figures.novelty_figure([h for h in data.novelty if h.iteration == iterations[-1]])
    for i in _earlier(iterations):
        body += folded(f"Iteration {i}", figures.novelty_figure([h for h in data.novelty if h.iteration == i]))
    bic = figures.bic_figure(_last_maps(data))
    return Section("novelty", "Novelty", body + (folded("Number of Gaussians by BIC", bic) if bic else ""))


def _earlier(iterations: Sequence[int]) -> list[int]:
    """Which iterations before the last are shown as well: the newest and the first, so that the file stays small."""
    before = sorted(iterations)[:-1]
    return [*reversed(before[-_EARLIER:]), *(before[:1] if len(before) > _EARLIER else [])]


def _last_maps(data: ReportData) -> list[FeatureMap]:
    last = max((m.iteration for m in data.feature_maps), default=0)
    return [m for m in data.feature_maps if m.iteration == last]


def correlation(data: ReportData) -> Section:
    """Does novelty find wrong forces?"""
    if not data.correlations:
        return Section("correlation", "Novelty against force error", missing("Not yet: no scored test frames."))
    rows = [
        (
            c.iteration,
            c.element,
            c.n_atoms,
            c.n_infinite,
            fixed(c.spearman, 2),
            None if c.spearman_low is None else f"{fixed(c.spearman_low, 2)} … {fixed(c.spearman_high, 2)}",
            fixed(c.pearson, 2),
        )
        for c in sorted(data.correlations, key=lambda c: -c.iteration)
    ]
    head = ("iteration", "element", "atoms", "infinite", "Spearman", "95 % interval", "Pearson")
    body = paragraph(
        "Correlation between the novelty of a test atom and the true error of its force. 1: novelty ranks atoms as "
        "their errors do; 0: it knows nothing of them. Expect clear values only where the test set holds unknown "
        "environments."
    ) + table(head, rows, numeric=(0, 2, 3, 4, 5, 6), caption="Rank correlation of novelty with |F_model − F_ref|")
    return Section("correlation", "Novelty against force error", body)


def feature_map(data: ReportData) -> Section:
    """Where explored and selected atoms lie among the training atoms."""
    if not data.feature_maps:
        return Section("features", "Feature map", missing("Not yet: no features have been computed."))
    body = figures.feature_map_figure(_last_maps(data))
    for i in _earlier(sorted({m.iteration for m in data.feature_maps})):
        body += folded(f"Iteration {i}", figures.feature_map_figure([m for m in data.feature_maps if m.iteration == i]))
    return Section("features", "Feature map", body)


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


def settings(data: ReportData) -> Section:
    """Level of theory and configuration."""
    body = paragraph(f"Level of theory: {data.level_of_theory or 'not recorded'}.")
    if data.settings:
        body += definitions(data.settings, "Settings")
    if data.config_text:
        body += folded("The campaign file as it was run", code(data.config_text))
    return Section("settings", "Level of theory and settings", body)


def environment(data: ReportData) -> Section:
    """Versions and machine."""
    body = definitions(data.environment, "Environment") if data.environment else missing("Not recorded.")
    return Section("environment", "Environment", body)


def usage(data: ReportData) -> Section:
    """How to use the potential."""
    p = data.potential
    if p is None:
        return Section("usage", "Use the potential", missing("Not yet: there is no trained potential."))
    facts = {"folder": p.folder, "model id": p.model_id, "elements": " ".join(p.elements)}
    if p.cutoff_A is not None:
        facts["cutoff"] = f"{p.cutoff_A:g} Å"
    facts.update({f"file for {k}": v for k, v in p.files.items()})
    body = definitions({k: v for k, v in facts.items() if v}, "The potential")
    body += "<h3>ASE</h3>" + code(p.ase_code or _ase_code(p))
    if p.lammps_code:
        body += "<h3>LAMMPS</h3>" + code(p.lammps_code)
    return Section("usage", "Use the potential", body)


def _ase_code(p: PotentialFiles) -> str:
    return "\n".join(
        (
            "from ase.io import read",
            "",
            "from clusterflow.train.learners import load_potential",
            "",
            f"potential = load_potential({p.folder!r})",
            'atoms = read("structure.cif")',
            "atoms.calc = potential.calculator()",
            'print(atoms.get_potential_energy(), "eV")',
        )
    )


def citations(data: ReportData) -> Section:
    """What to cite."""
    rows = "".join(
        f"<li>{text(c.text)}{' ' + link(c.url, c.url) if c.url else ''}</li>" for c in data.citations or CITATIONS
    )
    return Section("citations", "Please cite", f"<ol>{rows}</ol>")


def all_sections(data: ReportData) -> list[Section]:
    """Every section in reading order."""
    makers = (learning, parity, errors, novelty, correlation, calibration, feature_map, structures, walkers, fragments,
              failures, timings, workers, settings, environment, usage, citations)  # fmt: skip
    made = [make(data) for make in makers]
    return [made[0], controls([data.arms]), *made[1:]] if data.arms else made
