"""One self-contained HTML file: no address is loaded, every style, script and figure is inside."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from clusterflow.errors import StateError
from clusterflow.evaluate.report.data import ReportData
from clusterflow.evaluate.report.header import header
from clusterflow.evaluate.report.markup import text
from clusterflow.evaluate.report.sections import all_sections

# The browser itself refuses to load anything: what is inlined runs, nothing else does.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def render_html(data: ReportData) -> str:
    """The page as text. Equal data give equal text."""
    here = files("clusterflow.evaluate.report")
    style = here.joinpath("style.css").read_text(encoding="utf-8")
    scripts = [here.joinpath(name).read_text(encoding="utf-8") for name in ("viewer.js", "downloads.js")]
    sections = all_sections(data)
    contents = "".join(f'<li><a href="#{s.anchor}">{text(s.title)}</a></li>' for s in sections)
    body = "\n".join(f'<section id="{s.anchor}"><h2>{text(s.title)}</h2>{s.body}</section>' for s in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(data.campaign)}: clusterflow report</title><style>{style}</style></head>\n<body>"
        f"{header(data)}\n<div class='page'><nav aria-label='contents'><h2>Contents</h2><ol>{contents}</ol></nav>"
        f"<main>{body}</main></div>\n{''.join(f'<script>{s}</script>' for s in scripts)}</body></html>\n"
    )


def render_report(data: ReportData, path: str | Path) -> None:
    """Writes the report to ``path``; a reader never sees half a file.

    Raises
    ------
    StateError
        The file cannot be written.
    """
    path = Path(path)
    page = render_html(data)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StateError(
            f"The report ({len(page) / 1e6:.1f} MB) cannot be written: {error.strerror or error}.",
            where=str(path.absolute()),
            todo="Make room or give a folder that you may write to, then run `clusterflow report` again.",
        ) from error
