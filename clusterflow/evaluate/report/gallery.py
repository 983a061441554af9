"""Structures in 3D: a viewer (viewer.js) over data inside the page. The fragments also as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence

from clusterflow.evaluate.report.collect import thinned
from clusterflow.evaluate.report.data import ReportData, StructureView
from clusterflow.evaluate.report.markup import Section, duration, fixed, missing, paragraph, table, text

MAX_FRAGMENTS = 80
"""Fragments in the 3D viewer; the table lists more."""

# Hidden until viewer.js finds that it can draw.
_VIEWER = """<div class="viewer" id="NAME" data-source="NAME-data" hidden><div class="bar">
<label>WHAT <select class="which">OPTIONS</select></label>
<button type="button" class="before" aria-label="previous WHAT">‹</button>
<button type="button" class="after" aria-label="next WHAT">›</button>
<label>colour by <select class="colour">COLOURS</select></label>
<button type="button" class="nearer" aria-label="zoom in">+</button>
<button type="button" class="farther" aria-label="zoom out">−</button>
<button type="button" class="home">reset</button></div>
<canvas class="stage" tabindex="0" role="img"
aria-label="WHAT in 3D; turn it with the mouse, a finger or the arrow keys"></canvas>
<p class="legend colours"></p><p class="note pointed" aria-live="polite"></p></div>
<noscript><p>The 3D view needs JavaScript; the rest of the page does not.</p></noscript>"""


def _viewer(name: str, what: str, views: Sequence[StructureView], colours: Sequence[str]) -> str:
    """A 3D viewer (viewer.js) of these structures; ``colours`` are "region", "element" or names of scalars."""
    options = "".join(f'<option value="{i}">{text(_caption(v), 120)}</option>' for i, v in enumerate(views))
    ways = "".join(
        f'<option value="{text(c if c in ("region", "element") else f"v:{c}")}">{text(c)}</option>' for c in colours
    )
    box = _VIEWER.replace("NAME", name).replace("WHAT", what).replace("COLOURS", ways).replace("OPTIONS", options)
    payload = json.dumps([_payload(v) for v in views], separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return f'{box}<script type="application/json" id="{name}-data">{_script_safe(payload)}</script>'


def _scalars(views: Sequence[StructureView]) -> list[str]:
    """Names of all scalars, in the order in which they appear."""
    return list(dict.fromkeys(name for v in views for name in v.scalars))


def structures(data: ReportData) -> Section:
    """Test frames coloured by force error, explored frames by novelty; points of the feature map lead here."""
    if not data.structures:
        return Section("in3d", "Errors and novelty in 3D", missing("Not yet: no model has been tested."))
    told = paragraph(
        "Test frames with the largest force errors of the last model, and the last explored frames with the most atoms "
        "that were selected (ringed). Of a large frame the atoms around the worst or most novel one are shown. "
        "A click on a point of the feature map leads to its atom here, if it is drawn.",
        "note",
    )
    colours = [*_scalars(data.structures), "element", "region"]
    return Section("in3d", "Errors and novelty in 3D", told + _viewer("structures", "frame", data.structures, colours))


def fragments(data: ReportData) -> Section:
    """3D gallery, and the same fragments as a table."""
    if not data.fragments:
        return Section("fragments", "Fragments", missing("Not yet: no fragments have been cut."))
    kept = [data.fragments[i] for i in thinned(len(data.fragments), MAX_FRAGMENTS)]
    cut = (
        ""
        if len(kept) == len(data.fragments)
        else paragraph(f"{len(kept)} of {len(data.fragments)} are shown.", "note")
    )
    viewer = _viewer("gallery", "fragment", kept, ["region", "element", *_scalars(kept)])
    rows = [
        (
            f.iteration,
            f.name,
            f.status,
            f.system,
            f.kind,
            f.formula,
            f"{len(f.symbols)} ({f.regions.count('core')})" if f.regions else len(f.symbols),
            f"{f.charge:+d}".replace("-", "−") if f.charge else "0",
            f.spin,
            fixed(f.novelty),
            f.certificate or None,
            duration(f.label_seconds) if f.label_seconds is not None else None,
        )
        for f in data.fragments
    ]
    head = ("iteration", "fragment", "status", "system", "core block", "formula", "atoms (core)", "charge [e]",
            "unpaired electrons", "novelty", "core force errors", "label time")  # fmt: skip
    return Section(
        "fragments",
        "Fragments",
        viewer + cut + table(head, rows, numeric=(0, 6, 7, 8, 9, 11), caption="Fragments"),
    )


def _caption(f: StructureView) -> str:
    when = "" if f.iteration is None else f"iteration {f.iteration}: "
    about = ", ".join(t for t in (f.formula, f.kind, f.system, f.status) if t)
    return f"{when}{f.name} ({about})" if about else when + f.name


def _payload(f: StructureView) -> dict[str, object]:
    """What the viewer needs, as short as it can be."""
    codes = {"core": 0, "mantle": 1, "termination": 2}
    return {
        "s": list(f.symbols),
        "p": [round(v, 2) for xyz in f.positions for v in xyz],
        "r": [codes.get(r, 1) for r in f.regions],
        "b": [i for pair in f.bonds for i in pair],
        "c": [v for xyz in f.cell for v in xyz],
        "v": {name: list(values) for name, values in f.scalars.items()},
        "m": list(f.marked),
    }


def _script_safe(payload: str) -> str:
    """JSON inside a script element must not be able to end it."""
    return payload.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
