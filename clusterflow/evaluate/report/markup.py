"""HTML pieces. Every text that comes from data goes through `text` here, so nothing in it can become markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

MAX_ROWS = 200
"""Rows of a table that are shown; the journal has all of them."""
_MAX_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page; ``body`` is HTML."""

    anchor: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Raw:
    """A table cell that is HTML already."""

    html: str


def text(value: object, limit: int = _MAX_CHARACTERS) -> str:
    """Escaped text; long values are cut."""
    plain = "" if value is None else str(value)
    return escape(plain if len(plain) <= limit else plain[: limit - 1] + "…", quote=True)


def link(label: str, url: str) -> str:
    """A plain link, or just the text unless the address is http(s)."""
    if not url.startswith(("https://", "http://")):
        return text(label)
    return f'<a href="{escape(url, quote=True)}" rel="noreferrer">{text(label)}</a>'


def paragraph(value: str, style: str = "") -> str:
    """A paragraph of escaped text."""
    return f'<p class="{style}">{text(value)}</p>' if style else f"<p>{text(value)}</p>"


def missing(value: str) -> str:
    """Says why a section is empty."""
    return paragraph(value, "empty")


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: Sequence[int] = (), caption: str = ""
) -> str:
    """A table that scrolls sideways in itself; columns listed in ``numeric`` are right-aligned. None = a dash."""
    right = set(numeric)

    def cell(tag: str, k: int, value: object) -> str:
        inner = value.html if isinstance(value, Raw) else text("–" if value is None or value == "" else value)
        style = ' class="n"' if k in right else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{style}{scope}>{inner}</{tag}>"

    top = "".join(cell("th", k, h) for k, h in enumerate(head))
    body = "".join("<tr>" + "".join(cell("td", k, v) for k, v in enumerate(row)) + "</tr>" for row in rows[:MAX_ROWS])
    more = len(rows) - MAX_ROWS
    note = paragraph(f"{more} more rows are in the journal.", "note") if more > 0 else ""
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption or "table")}"><table>{title}'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>{note}"
    )


def definitions(pairs: Mapping[str, str], caption: str) -> str:
    """Name and value in two columns."""
    rows = "".join(f'<tr><th scope="row">{text(k)}</th><td>{text(v)}</td></tr>' for k, v in pairs.items())
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table class="pairs">'
        f"<tbody>{rows}</tbody></table></div>"
    )


def folded(summary: str, body: str) -> str:
    """Content behind a line that opens it."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"


def code(value: str) -> str:
    """A block of code or text as it is."""
    return f'<pre tabindex="0"><code>{text(value, 100_000)}</code></pre>'


def duration(seconds: float | None) -> str:
    """A duration as people say it."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def core_time(seconds: float | None) -> str:
    """Core-seconds or core-hours."""
    if seconds is None:
        return "–"
    if seconds >= 7200:
        return f"{seconds / 3600:.3g} core-h"
    return f"{seconds:.0f} core-s" if seconds >= 100 else f"{seconds:.3g} core-s"


def fixed(value: float | None, decimals: int = 1) -> str | None:
    """A number with fixed decimals and a true minus sign; None stays None."""
    return None if value is None else f"{value:.{decimals}f}".replace("-", "−")
