"""``report.html`` of a property run: one self-contained page with tables, notes and figures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from clusterflow.evaluate.property_figures import HEADLINES, Images
from clusterflow.evaluate.property_result import PropertyResult, Quantity
from clusterflow.evaluate.report.markup import definitions, paragraph, table, text
from clusterflow.evaluate.rounding import rounded

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


@dataclass(frozen=True, slots=True)
class Entry:
    """One property of one structure: its result, or None and why."""

    property: str
    kind: str
    structure: str
    status: str
    reason: str = ""
    result: PropertyResult | None = None


def words(name: str) -> str:
    """The name of a property as people write it."""
    for word in ("energy_volume", "pressure_volume"):
        name = name.replace(word, word.replace("_", "–"))
    return name.replace("_", " ")


def shown(q: Quantity) -> str:
    """Value ± uncertainty with unit."""
    return f"{rounded(q.value, q.uncertainty)} {q.unit}".strip()


def comparison_table(kind: str, entries: Sequence[Entry]) -> tuple[list[str], list[list[str | None]]]:
    """Head and rows of the table over structures, for the properties of one kind."""
    names = HEADLINES[kind]
    rows: list[list[str | None]] = []
    for e in entries:
        if e.result is None:
            rows.append([e.structure, *(None for _ in names), f"{e.status} {e.reason}".strip()])
        else:
            rows.append([e.structure, *(_cell(e.result, n) for n in names), " ".join(e.result.notes)])
    return ["structure", *names, "notes"], rows


def _cell(result: PropertyResult, name: str) -> str | None:
    """A quantity, or the bound that is known of it."""
    if name in result.quantities:
        return shown(result.quantities[name])
    bound = result.quantities.get(f"{name}, at least")
    return None if bound is None else f"> {shown(replace(bound, uncertainty=None))}"


def property_page(name: str, about: Mapping[str, str], entries: Sequence[Entry], figures: Mapping[str, Images]) -> str:
    """The page; ``figures`` by the name of their file. Equal data give equal text."""
    style = files("clusterflow.evaluate.report").joinpath("style.css").read_text(encoding="utf-8")
    parts = []
    for title in dict.fromkeys(e.property for e in entries):
        ours = [e for e in entries if e.property == title]
        head, rows = comparison_table(ours[0].kind, ours)
        body = table(head, rows) + _image(f"{title}-comparison", figures)
        for e in ours:
            if e.result is None:
                continue
            body += f"<h3>{text(e.structure)}</h3>" + _image(f"{title}-{e.structure}", figures)
            body += "".join(paragraph(n) for n in e.result.notes) + _quantities(e.result)
        parts.append(f'<section id="{text(title)}"><h2>{text(words(title))}</h2>{body}</section>')
    page = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(name)}: clusterflow properties</title><style>{style} .figure{{max-width:100%;background:#fff}} "
        "main{max-width:72rem;margin:auto;padding:0 1.25rem 3rem} header{max-width:72rem;margin:auto}"
        f"</style></head>\n<body><header><h1>{text(name)}</h1>{definitions(about, 'property run')}</header>"
        f"<main>{page}</main></body></html>\n"
    )


def _quantities(result: PropertyResult) -> str:
    rows: list[list[Any]] = [[n, shown(q), q.meaning] for n, q in result.quantities.items()]
    return table(["quantity", "value", "meaning"], rows)


def _image(name: str, figures: Mapping[str, Images]) -> str:
    if name not in figures:
        return ""
    data = base64.b64encode(figures[name]["svg"]).decode("ascii")
    return f'<img class="figure" alt="{text(name)}" src="data:image/svg+xml;base64,{data}">'
