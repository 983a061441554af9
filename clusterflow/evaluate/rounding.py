"""A value with its uncertainty as people write it: the uncertainty to two digits, the value to the same place."""

from __future__ import annotations

import math
from typing import Final

_PLAIN: Final = (-4, 7)
"""Powers of ten between which numbers are written out."""
_DIGITS: Final = 15
"""Of double precision: no more are shown."""


def rounded(value: float, uncertainty: float | None = None) -> str:
    """``134.46 ± 0.13``, ``1230 ± 120``, ``(1.50 ± 0.12)e-09``; five digits where no uncertainty is known."""
    if uncertainty is None or not math.isfinite(value):
        whole = value == round(value) if math.isfinite(value) else False
        return f"{value:.0f}" if whole and abs(value) < 10.0 ** _PLAIN[1] else f"{value:.5g}"
    if not math.isfinite(uncertainty) or uncertainty < 0.0:
        return f"{value:.5g} ± unknown"
    if uncertainty == 0.0:
        return f"{rounded(value)} ± 0"
    power = math.floor(math.log10(max(abs(value), uncertainty)))
    if not _PLAIN[0] <= power < _PLAIN[1]:
        return f"({_aligned(value / 10.0**power, uncertainty / 10.0**power)})e{power:+03d}"
    return _aligned(value, uncertainty)


def _aligned(value: float, uncertainty: float) -> str:
    two = float(f"{uncertainty:.1e}")  # 0.0996 is 0.10
    places = 1 - math.floor(math.log10(two))
    size = math.floor(math.log10(abs(value))) if value else 0
    if places > _DIGITS - 1 - size:  # the value has no digits there
        return f"{value:.{_DIGITS - 1 - size}f} ± {two:.1e}"
    shown = round(value, places) + 0.0  # never −0
    return f"{shown:.{max(places, 0)}f} ± {two:.{max(places, 0)}f}"
