"""A temperature ramp: what each iteration's walks say about going on (Sharma 2024, Fig. 4, and when to stop)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from clusterflow.config.ramp import Ramp
from clusterflow.state.snapshot import Outcome, Snapshot


def temperature_after(ramp: Ramp, records: Sequence[Mapping[str, Any]]) -> float:
    """Temperature (K) of the next iteration, after those of ``records`` (as of `judge`)."""
    if not records:
        return ramp.first
    last = float(records[-1]["temperature_K"])
    return min(ramp.last, last + ramp.step) if records[-1]["then"] == "rise" else last


def judge(
    ramp: Ramp, before: Sequence[Mapping[str, Any]], temperature_K: float, ended: Sequence[Outcome]
) -> dict[str, Any]:
    """Record of an iteration whose walks have ended: how many blew up, and what follows.

    ``then`` is "rise", "repeat" (too many blew up: once more, with the potential that has learnt from them), "end" (the
    last temperature is done) or "stop" (too many blew up once too often, or no walk came to a frame). ``reason`` says
    so in words, with the commonest reason of a blow-up.
    """
    whys = [o.reason or str(o.summary.get("stop_reason", "")) for o in ended]
    unstable = [_kind(why) for o, why in zip(ended, whys, strict=True) if o.status != "done" or why]
    dumb = not any(o.status == "done" and o.summary["n_frames"] for o in ended)
    tried = 1
    for record in reversed(before):
        if record["temperature_K"] != temperature_K:
            break
        tried += 1
    told = f"{len(unstable)} of {len(ended)} walkers blew up at {temperature_K:g} K"
    if unstable:
        told += f" (most often: {Counter(unstable).most_common(1)[0][0]})"
    if dumb:
        then, told = "stop", f"no walker came to a frame at {temperature_K:g} K: {told}"
    elif len(unstable) > ramp.max_unstable * len(ended):
        told += f", more than {ramp.max_unstable:.0%}"
        if tried <= ramp.repeats:
            then, told = "repeat", f"{told}: the temperature is repeated"
        else:
            then, told = "stop", f"{told}, {tried} times: the ramp ends before {ramp.last:g} K"
    elif temperature_K >= ramp.last:
        then, told = "end", f"the ramp has reached {ramp.last:g} K; {told}"
    else:
        then = "rise"
    return {
        "temperature_K": temperature_K,
        "walkers": len(ended),
        "unstable": len(unstable),
        "then": then,
        "reason": told,
    }


def ramp_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """What each iteration of a temperature ramp told, with the number of structures it gave to label ("accepted")."""
    rows = [
        {
            "iteration": (number := int(name.split("/")[1])),
            **value,
            "accepted": len(snapshot.decisions.get(f"selected/{number}", {}).get("fragments", ())),
        }
        for name, value in snapshot.decisions.items()
        if name.startswith("ramp/")
    ]
    return sorted(rows, key=lambda row: row["iteration"])


def _kind(why: str) -> str:
    """The reason without its numbers, so that equal ones are counted together: "the bond C3–O7 has broken, 2.31 Å"
    becomes "the bond C–O has broken"."""
    what = why.split(": ", maxsplit=1)[-1]
    for mark in (" (limit", ", ", " are ", " is ", " changed by"):
        what = what.split(mark, maxsplit=1)[0]
    return "".join(c for c in what if not c.isdigit()).strip() or "no reason given"
