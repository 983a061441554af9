"""What a property run leaves for its user: results.json, tables, curves, figures, a page; all made from the truth."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clusterflow import __version__
from clusterflow.campaign.property_graph import PropertyInputs
from clusterflow.campaign.property_plan import Verdict, verdicts
from clusterflow.campaign.property_potential import facts_rows
from clusterflow.campaign.property_session import gather_property_inputs
from clusterflow.campaign.session import read_config
from clusterflow.config.load import stored
from clusterflow.config.properties import PropertyRun
from clusterflow.evaluate.property_figures import Images, comparison, figure
from clusterflow.evaluate.property_page import Entry, property_page, words
from clusterflow.evaluate.property_result import PropertyResult, result_from_json
from clusterflow.state.disk import make_folder, replace_bytes
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import verify_folder
from clusterflow.state.snapshot import Snapshot


def write_property_outputs(
    config: PropertyRun, inputs: PropertyInputs, folder: CampaignFolder, snapshot: Snapshot
) -> list[Entry]:
    """Writes everything anew, whatever is done so far; returns what the tables show.

    Raises
    ------
    StateError
        A published result is damaged, or the disk is full.
    """
    entries = [_entry(v, folder) for v in verdicts(config, inputs, snapshot)]
    done = {(e.property, e.structure): e.result for e in entries if e.result is not None}
    root = folder.root
    replace_bytes(root / "results.json", _results(config, inputs, entries))
    for sub in ("curves", "figures"):
        make_folder(root / sub)
    for (name, structure), result in done.items():
        for curve, columns in result.curves.items():
            replace_bytes(root / "curves" / f"{name}-{structure}-{curve}.csv", _csv(columns.columns))
    figures: dict[str, Images] = {}
    for name in dict.fromkeys(e.property for e in entries):
        ours = {structure: r for (p, structure), r in done.items() if p == name}
        if not ours:
            continue
        replace_bytes(root / f"comparison-{name}.csv", _comparison(ours))
        figures[f"{name}-comparison"] = comparison(ours, f"{config.name}: {words(name)}")
        for structure, result in ours.items():
            figures[f"{name}-{structure}"] = figure(result, f"{structure}: {words(name)}")
    for name, images in figures.items():
        for ending, data in images.items():
            replace_bytes(root / "figures" / f"{name}.{ending}", data)
    told = facts_rows(inputs.facts, inputs.identity)
    about = {**told, "made by": f"clusterflow {__version__}", "run folder": str(root)}
    replace_bytes(folder.report, property_page(config.name, about, entries, figures).encode())
    return entries


def rewrite_property_outputs(folder: CampaignFolder, snapshot: Snapshot) -> None:
    """The same from the run folder alone: with the configuration and the inputs that it was last run with."""
    config: PropertyRun = stored(PropertyRun, read_config(folder), folder.config)
    write_property_outputs(config, gather_property_inputs(config, folder), folder, snapshot)


def _entry(verdict: Verdict, folder: CampaignFolder) -> Entry:
    result: PropertyResult | None = None
    if verdict.status == "done":
        path = folder.result("property", verdict.key)
        verify_folder(path)
        result = result_from_json(json.loads((path / "property.json").read_text(encoding="utf-8")))
    return Entry(verdict.property, verdict.kind, verdict.structure, verdict.status, verdict.reason, result)


def _results(config: PropertyRun, inputs: PropertyInputs, entries: Sequence[Entry]) -> bytes:
    data: dict[str, Any] = {
        "name": config.name,
        "potential": inputs.identity,
        "about_potential": dict(inputs.facts),
        "clusterflow": __version__,
        "results": [
            {
                "property": e.property,
                "structure": e.structure,
                "status": e.status,
                **({"reason": e.reason} if e.reason else {}),
                **({"result": e.result.to_json()} if e.result is not None else {}),
            }
            for e in entries
        ],
    }
    return json.dumps(data, indent=1, ensure_ascii=False).encode()


def _csv(columns: Mapping[str, Sequence[float | None]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if v is None else repr(v) for v in row] for row in zip(*columns.values(), strict=True)])
    return out.getvalue().encode()


def _comparison(results: Mapping[str, PropertyResult]) -> bytes:
    """One row per structure; each quantity with its uncertainty beside it."""
    names = list(dict.fromkeys(n for r in results.values() for n in r.quantities))
    units = {n: next(r.quantities[n].unit for r in results.values() if n in r.quantities) for n in names}
    head = ["structure"]
    for n in names:
        unit = f" [{units[n]}]" if units[n] else ""
        head += [f"{n}{unit}", f"uncertainty of {n}{unit}"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for structure, result in results.items():
        row = [structure]
        for n in names:
            q = result.quantities.get(n)
            row += ["", ""] if q is None else [repr(q.value), "" if q.uncertainty is None else repr(q.uncertainty)]
        writer.writerow(row)
    return out.getvalue().encode()


def output_files(folder: CampaignFolder) -> tuple[tuple[str, Path], ...]:
    """What to tell the user of: a word and a path."""
    return (
        ("results", folder.root / "results.json"),
        ("curves", folder.root / "curves"),
        ("figures", folder.root / "figures"),
        ("report", folder.report),
    )
