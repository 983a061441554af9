"""Sections on the potential: how good it is, and whether novelty knows where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from clusterflow.evaluate.learning_curve import learning_exponent
from clusterflow.evaluate.metrics import ForceErrors
from clusterflow.evaluate.report import figures
from clusterflow.evaluate.report.data import FeatureMap, ReportData
from clusterflow.evaluate.report.markup import Section, fixed, folded, missing, paragraph, table

_EARLIER = 4

_FEWEST_FOR_TREND = 4
"""Models: a power law through fewer points says nothing."""


def learning(data: ReportData) -> Section:
    """Test error against labels and cost."""
    if not any(p.force_mae_p is not None for p in data.learning):
        return Section("learning", "Learning curve", missing("Not yet: no trained model has been tested."))
    tested = data.tested()
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
    tested = data.tested()
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
