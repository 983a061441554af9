"""The fragments: a 3D viewer (viewer.js) over data inside the page, and the same fragments as a table."""

from __future__ import annotations

import json

from clusterflow.evaluate.report.collect import thinned
from clusterflow.evaluate.report.data import FragmentView, ReportData
from clusterflow.evaluate.report.markup import Section, duration, fixed, missing, paragraph, table, text

MAX_FRAGMENTS = 80
"""Fragments in the 3D viewer; the table lists more."""

# Hidden until viewer.js finds that it can draw.
_VIEWER = """<div class="viewer" id="viewer" hidden><div class="bar">
<label>fragment <select id="which">OPTIONS</select></label>
<button type="button" id="before" aria-label="previous fragment">‹</button>
<button type="button" id="after" aria-label="next fragment">›</button>
<label>colour by <select id="colour"><option value="region">region</option>
<option value="element">element</option></select></label>
<button type="button" id="nearer" aria-label="zoom in">+</button>
<button type="button" id="farther" aria-label="zoom out">−</button>
<button type="button" id="home">reset</button></div>
<canvas id="stage" tabindex="0" role="img"
aria-label="fragment in 3D; turn it with the mouse, a finger or the arrow keys"></canvas>
<p class="legend" id="colours"></p><p class="note" id="pointed" aria-live="polite"></p></div>
<noscript><p>The 3D view needs JavaScript; the table below does not.</p></noscript>"""


def fragments(data: ReportData) -> Section:
    """3D gallery, and the same fragments as a table."""
    if not data.fragments:
        return Section("fragments", "Fragments", missing("Not yet: no fragments have been cut."))
    kept = [data.fragments[i] for i in thinned(len(data.fragments), MAX_FRAGMENTS)]
    options = "".join(f'<option value="{i}">{text(_caption(f), 120)}</option>' for i, f in enumerate(kept))
    cut = (
        ""
        if len(kept) == len(data.fragments)
        else paragraph(f"{len(kept)} of {len(data.fragments)} are shown.", "note")
    )
    viewer = _VIEWER.replace("OPTIONS", options)
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
    payload = json.dumps([_payload(f) for f in kept], separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    script = f'<script type="application/json" id="fragments-data">{_script_safe(payload)}</script>'
    return Section(
        "fragments",
        "Fragments",
        viewer + cut + table(head, rows, numeric=(0, 6, 7, 8, 9, 11), caption="Fragments") + script,
    )


def _caption(f: FragmentView) -> str:
    when = "" if f.iteration is None else f"iteration {f.iteration}: "
    about = ", ".join(t for t in (f.formula, f.kind, f.system, f.status) if t)
    return f"{when}{f.name} ({about})" if about else when + f.name


def _payload(f: FragmentView) -> dict[str, object]:
    """What the viewer needs, as short as it can be."""
    codes = {"core": 0, "mantle": 1, "termination": 2}
    return {
        "s": list(f.symbols),
        "p": [round(v, 2) for xyz in f.positions for v in xyz],
        "r": [codes.get(r, 1) for r in f.regions],
        "b": [i for pair in f.bonds for i in pair],
    }


def _script_safe(payload: str) -> str:
    """JSON inside a script element must not be able to end it."""
    return payload.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
