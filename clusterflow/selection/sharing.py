"""How many labels each system gets."""

from __future__ import annotations

from collections.abc import Mapping


def share_labels(needs: Mapping[str, float], total: int, *, floor: float = 0.0) -> dict[str, int]:
    """Divides ``total`` labels in proportion to what each system needs (or weighs), by largest remainder.

    ``floor``: each gets at least this part of an equal share, whatever it needs (rounded down). Where nothing is needed
    the shares are equal; ties fall to the name that comes first.
    """
    names = sorted(needs)
    if not names:
        return {}
    least = int(floor * total / len(names) + 1e-9)
    left = total - least * len(names)
    whole = sum(needs.values())
    exact = {n: left * (needs[n] / whole if whole > 0 else 1.0 / len(names)) for n in names}
    out = {n: least + int(exact[n] + 1e-9) for n in names}
    by_rest = sorted(names, key=lambda n: (-(exact[n] - int(exact[n] + 1e-9)), n))
    for name in by_rest[: total - sum(out.values())]:
        out[name] += 1
    return out
