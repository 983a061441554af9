"""Labels of the synchronous loop: all fragments of a source are asked for and waited for, then the good ones are
split. The campaign and each of its control arms have a pool of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.steps import StepDesk, Steps
from clusterflow.campaign.tasks import GRACE, Payloads


def label(
    desk: StepDesk,
    payloads: Payloads,
    pool: LabelPool,
    kind: str,
    source: str,
    fragments: Sequence[Mapping[str, Any]],
    *,
    iteration: int,
) -> Steps[list[str]]:
    """Asks for the labels of a task ``source`` of this kind that the pool does not know, and waits for them.

    Returns
    -------
    The new ones that succeeded, in the order of asking.
    """
    trainable = {f["label_key"] for f in pool.held_out.trainable(fragments)}
    asked: list[str] = []
    limit = payloads.config.label.time_limit + GRACE
    for index, fragment in enumerate(fragments):
        key = str(fragment["label_key"])
        if fragment["set"] != "test" and key not in trainable:
            continue  # nothing of the test set is ever trained on
        if pool.register(fragment, source_kind=kind, source=source, index=index, iteration=iteration):
            asked.append(key)
            desk.ask("label", "label", payloads.label(kind, source, index), key=key, limit=limit)
    yield from desk.wait(asked)
    for key in asked:
        found = desk.outcome(key)
        assert found is not None
        pool.settle(key, found)
    return [k for k in asked if desk.done(k)]


def split(desk: StepDesk, pool: LabelPool, name: str, source: str, *, first: bool = False) -> int:
    """Decides ``name``, and how many labels entered: all good ones that are in no split yet; the ``first`` one also
    has the test set. As it was decided before, if it was for the same source and its labels are still there: labels
    that failed then and have succeeded since join the next one, and what was trained stays as it was."""
    told = desk.kept(name)
    if told is None or told["source"] != source or not _there(desk, told):
        told = {"source": source, **(pool.begin() if first else pool.divide(pool.entering()))}
    pool.enter(told)
    desk.decide(name, told)
    return len(told["train"]) + len(told["validation"])


def _there(desk: StepDesk, told: Mapping[str, Any]) -> bool:
    keys = (k for part in ("train", "validation", "test") for k in told.get(part, ()))
    return all(desk.done(k) for k in keys)
