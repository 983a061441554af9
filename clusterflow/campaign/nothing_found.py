"""Why a selection found nothing to label, in words that a user can act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from clusterflow.selection.duplicates import DUPLICATE


def nothing(summary: Mapping[str, Any], *, then: str) -> str:
    """The reason, to stand after "found"; ``then``: what to do once a setting has been changed."""
    if summary.get("below_threshold"):
        return "no atom on which the committee disagrees by more than its threshold"
    told = summary.get("coverage", {})
    parts = [p for p in (told, *told.values()) if isinstance(p, Mapping) and "cheapest" in p]
    if parts:
        nearest = min(parts, key=lambda p: float(p["cheapest"]) / float(p["limit"]))
        return (
            f"no fragment that `select.core_seconds` pays for: the cheapest label is predicted to take "
            f"{float(nearest['cheapest']):.3g} core-seconds, and {float(nearest['limit']):.3g} may be spent on it; "
            f"raise `select.core_seconds` and {then}"
        )
    reasons = Counter(str(line).partition(": ")[2] for line in summary.get("refused", ()))
    if reasons and (often := reasons.most_common(1)[0])[0] != DUPLICATE:
        return (
            f"no fragment that can be labelled: of the first {sum(reasons.values())} sites that were refused, "
            f"{often[1]} were because {often[0].rstrip('.')}"
        )
    return "no fragment that is not labelled already"
