"""Learning curves of a campaign and its control arms, from the journal alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clusterflow.campaign.arms import is_of_arm
from clusterflow.evaluate.arms import SELECTED, ArmCurve, ArmPoint
from clusterflow.state.snapshot import Snapshot


def arm_curves(snapshot: Snapshot) -> list[ArmCurve]:
    """One curve per arm, the campaign's own first; as far as they have been evaluated."""
    own = [v for n, v in snapshot.decisions.items() if n.startswith("evaluated/")]
    splits = {n: v for n, v in snapshot.decisions.items() if n.startswith("split/")}
    curves = [ArmCurve(SELECTED, _points(snapshot, own, splits))]
    names = dict.fromkeys(n.split("/")[2] for n in snapshot.decisions if is_of_arm(n))
    for name in names:
        mine = {n: v for n, v in snapshot.decisions.items() if is_of_arm(n) and n.split("/")[2] == name}
        rows = [v for n, v in mine.items() if n.split("/")[3] == "evaluated"]
        splits_of_arm = {
            "split/0": splits.get("split/0", {"train": [], "validation": []}),
            **{f"split/{n.split('/')[1]}": v for n, v in mine.items() if n.endswith("/split")},
        }
        ended = [str(v["reason"]) for n, v in mine.items() if n.endswith("/ended")]
        first = [v for v in own if int(v["iteration"]) == 0]
        curves.append(ArmCurve(name, _points(snapshot, [*first, *rows], splits_of_arm), *ended[-1:]))
    return curves


def _points(
    snapshot: Snapshot, evaluated: Iterable[Mapping[str, Any]], splits: Mapping[str, Mapping[str, Any]]
) -> tuple[ArmPoint, ...]:
    points = []
    for value in evaluated:
        found = snapshot.outcomes.get(str(value["evaluation"]))
        if found is None or found.status != "done" or "mae" not in found.summary:
            continue
        labels = [
            key
            for name, split in splits.items()
            if int(name.split("/")[1]) <= int(value["iteration"])
            for key in (*split["train"], *split["validation"])
        ]
        spent = [snapshot.outcomes[k] for k in labels if k in snapshot.outcomes]
        points.append(
            ArmPoint(
                iteration=int(value["iteration"]),
                n_labels=int(value["n_training"]),
                core_seconds=float(sum(o.wall_time * o.cores for o in spent)),
                mae=float(found.summary["mae"]),
                rmse=float(found.summary["rmse"]),
                mae_p95=float(found.summary["mae_p95"]),
            )
        )
    return tuple(points)
