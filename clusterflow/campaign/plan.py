"""What to do next: a pure function of the configuration, the inputs and the state.

The plan goes through the campaign from its beginning. Each step asks for its task; the task's key is the hash of
what it needs (configuration, keys of earlier results, a derived seed), so a task that is done is recognised wherever it
was done, and the first step that still waits for something ends the plan. Nothing here reads a clock, a file or an
environment variable: the same state always gives the same plan, and a campaign can be replayed from its journal. A
`Cycle` that is asked again while the state grows goes on where it stopped (see `steps`).

The cycle is that of Dobbelaere 2025 (arXiv:2504.03881), section 2.2 and SI 4: explore, score, select, extract, label,
train, again.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from clusterflow.campaign.arms import Arms, is_of_arm
from clusterflow.campaign.convergence import stop_reason
from clusterflow.campaign.held_out import DECISION, TestSet
from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.labelling import label, split
from clusterflow.campaign.potentials import Potentials
from clusterflow.campaign.rounds import Rounds
from clusterflow.campaign.steps import Course, StepDesk, Steps
from clusterflow.campaign.tasks import Inputs, Payloads, Plan, PlanStopped
from clusterflow.config.campaign import Campaign
from clusterflow.state.snapshot import Snapshot


def plan(config: Campaign, inputs: Inputs, snapshot: Snapshot) -> Plan:
    """The tasks that are wanted now and the decisions that follow from what is done."""
    return Cycle(config, Payloads(config, inputs)).plan(snapshot)


class Cycle:
    """The plan of one synchronous campaign, from one snapshot of its state to the next."""

    def __init__(self, config: Campaign, payloads: Payloads) -> None:
        self._config, self._payloads = config, payloads
        self._desk = StepDesk()
        self._pool = LabelPool(fraction=config.train.validation_fraction, seed=payloads.seed("split"))
        self._potentials = Potentials(self._desk, payloads, self._pool)
        self._rounds = Rounds(self._desk, payloads, self._pool)
        self._arms = Arms(self._desk, payloads, self._pool, self._rounds.walked)
        self._stop = config.stop.model_copy(update={"labels": config.label_limits[0]})
        self._campaign = Course(self._go())
        self._free = 0
        """Frames of a seed dataset, which cost nothing."""
        self._reason = ""
        """Why the campaign has ended."""
        self._failed = ""

    def plan(self, snapshot: Snapshot, ended: Sequence[str] = ()) -> Plan:
        """What to do next. The snapshot is that of the last call, grown by the outcomes of ``ended`` and by the
        decisions of the last plan."""
        desk = self._desk
        out = desk.begin(snapshot, ended)
        desk.take_ended()
        try:
            self._campaign.go_on(desk)
        except PlanStopped as stop:
            self._failed = str(stop)
        waiting = not self._failed and self._arms.go_on()
        out.retired += _stale(out.decisions, desk.taken, snapshot.decisions)
        out.stage, out.iteration = desk.stage, desk.iteration
        out.records, out.labels, out.failed = self._potentials.records, self._pool.asked, self._failed
        if self._campaign.over and not self._failed:
            if not desk.open and not waiting:
                out.stage, out.finished = "finished", self._reason
            elif waiting:
                out.stage = "controls"
        elif not waiting:
            out.waits_for = tuple(self._campaign.waits_for)
        return out

    @property
    def _bought(self) -> int:
        """Labels that this campaign has asked for."""
        return len(self._pool.asked) - self._free

    def _go(self) -> Steps[None]:
        """The whole campaign."""
        desk, rounds, potentials = self._desk, self._rounds, self._potentials
        rises, limit, iteration = self._config.explore.temperature is not None, self._config.stop.iterations, 0
        yield from self._begin()
        model = yield from potentials.fit(0, None, final=limit == 0)
        while True:
            record = yield from potentials.evaluate(iteration, model, bought=self._bought)
            if reason := self._why_stop(iteration):
                break
            desk.decide(f"continue/{iteration}", {})
            desk.iteration = iteration = iteration + 1
            walks = yield from rounds.explore(iteration, model)
            found = (yield from rounds.select(iteration, walks, record, bought=self._bought)) if walks else None
            if found is None or not found.fragments:
                if rises:
                    continue  # nothing new at this temperature; the next one may have
                reason = rounds.nothing_found(iteration)
                break
            desk.stage, fragments = "label", found.fragments
            good = yield from label(
                desk, self._payloads, self._pool, "acquire", found.source, fragments, iteration=iteration
            )
            if not split(desk, self._pool, f"split/{iteration}", found.source):
                if rises:
                    continue  # hotter, with the potential that there is
                raise PlanStopped(f"none of the {len(fragments)} labels of iteration {iteration} succeeded")
            potentials.evaluate_new(iteration, model, record.mixture, good)
            model = yield from potentials.fit(iteration, model, final=iteration == limit)
        if not potentials.final:
            model = yield from potentials.fit(iteration, model, final=True, extra=True)
            yield from potentials.evaluate(iteration, model, bought=self._bought, extra=True)
        self._reason = reason
        desk.decide("stop", {"reason": reason, "iteration": iteration, "model": model})
        desk.stage = "export"
        package = desk.ask("export", "train", self._payloads.export(model, self._pool.test))
        yield from desk.result(package, "Packaging the final model")  # final once its package predicts what it does

    def _begin(self) -> Steps[None]:
        """Starting fragments, the test set, and the first split."""
        desk, pool = self._desk, self._pool
        source = desk.ask("start", "local", self._payloads.start())
        told = yield from desk.result(source, "Making the starting fragments")
        pool.held_out = TestSet(told["fragments"])
        desk.decide(DECISION, pool.held_out.to_json())  # in the journal before the first label is sent
        desk.stage = "label"
        yield from label(desk, self._payloads, pool, "start", source, told["fragments"], iteration=0)
        self._free = len(pool.asked) if self._config.start.kind == "dataset" else 0
        split(desk, pool, "split/0", source, first=True)
        sizes = [len(keys) for keys in (pool.train, pool.validation, pool.test)]
        if not all(sizes):
            raise PlanStopped(
                f"of the starting labels only {sum(sizes)} succeeded ({sizes[0]} for training, {sizes[1]} for "
                f"validation, {sizes[2]} for the test set); each set needs one"
            )

    def _why_stop(self, iteration: int) -> str:
        """Why the campaign ends with the potential of this iteration, or "". What was once decided stays: costs grow
        later, and a longer campaign must not undo its past."""
        if self._desk.kept(f"continue/{iteration}") is not None:
            return ""
        spent = self._desk.snapshot.core_hours if self._stop.core_hours is not None else 0.0
        records, unit = self._potentials.records, self._config.score.unit
        return self._rounds.ramp_ended or stop_reason(self._stop, records, core_hours=spent, unit=unit)


def _stale(now: Collection[str], taken: Collection[str], before: Mapping[str, Any]) -> list[str]:
    """Decisions that followed from one that has changed ``now`` (another configuration) and have not been taken again;
    none follows from a control arm's but its own."""
    changed = [n for n in now if n in before]
    if not changed:
        return []
    first = min((iteration_of(n) for n in changed if not is_of_arm(n)), default=sys.maxsize + 1)
    of_arms = min(iteration_of(n) for n in changed)
    return [n for n in before if n not in taken and iteration_of(n) >= (of_arms if is_of_arm(n) else first)]


def iteration_of(decision: str) -> int:
    """Which iteration a decision belongs to; the one to stop comes after all others."""
    part = decision.split("/")[1] if "/" in decision else ""
    return int(part) if part.isdigit() else sys.maxsize
