"""Walks and selections of a synchronous campaign: one round per iteration, with a temperature that may rise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clusterflow.campaign.convergence import IterationRecord
from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.nothing_found import nothing
from clusterflow.campaign.ramp import judge, temperature_after
from clusterflow.campaign.split import shares
from clusterflow.campaign.steps import StepDesk, Steps
from clusterflow.campaign.tasks import Payloads, PlanStopped
from clusterflow.config.extract import Certified
from clusterflow.config.systems import NPT
from clusterflow.explore.schedule import steps_for
from clusterflow.explore.walkers import draw_conditions
from clusterflow.state.snapshot import Outcome


@dataclass(frozen=True, slots=True)
class Walked:
    """The walks of an iteration that gave frames, and which of these count: control arms choose from them, too."""

    iteration: int
    walks: Sequence[str]
    pool: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a selection asks for: its task, and the fragments as its summary describes them."""

    source: str
    fragments: Sequence[Mapping[str, Any]]


class Rounds:
    """One after the other. ``walked``: what each has walked; ``acquired``: keys of the selections."""

    def __init__(self, desk: StepDesk, payloads: Payloads, pool: LabelPool) -> None:
        self._desk, self._payloads, self._config, self._pool = desk, payloads, payloads.config, pool
        self._limit = self._config.label_limits[0]
        self._ramp: list[dict[str, Any]] = []
        """What each iteration of a temperature ramp has told."""
        self.walked: list[Walked] = []
        self.acquired: list[str] = []

    @property
    def ramp_ended(self) -> str:
        """Why the temperature rises no further, or ""."""
        return str(self._ramp[-1]["reason"]) if self._ramp and self._ramp[-1]["then"] in ("end", "stop") else ""

    def explore(self, iteration: int, model: str) -> Steps[list[str]]:
        """The walks of this iteration that gave frames; none if the ramp ends here, with the potential that there
        is."""
        desk = self._desk
        desk.stage = "explore"
        walkers = [desk.ask("explore", "md", p) for p in self._payloads_of_walks(iteration, model)]
        yield from desk.wait(walkers)
        ended = {k: o for k in walkers if (o := desk.outcome(k)) is not None}
        self._judge_ramp(iteration, [ended[k] for k in walkers])
        sane = [k for k in walkers if ended[k].status == "done" and ended[k].summary["n_frames"]]
        if sane or (self._ramp and iteration > 1):
            return sane
        reasons = sorted({o.reason or str(o.summary.get("stop_reason", "")) for o in ended.values()})
        raise PlanStopped(
            f"all {len(walkers)} walkers of iteration {iteration} failed before their first frame: "
            + "; ".join(reasons)[:500]
        )

    def select(self, iteration: int, walks: Sequence[str], record: IterationRecord, *, bought: int) -> Steps[Found]:
        """Scores these walks with the potential of ``record``, which learns how novel they were; selects and cuts.
        ``bought``: labels so far."""
        desk = self._desk
        desk.stage = "select"
        left = None if self._limit is None else self._limit - bought
        budget = self._config.fragments_selected
        limits: dict[str, Any] = {
            "fragments": budget if left is None else max(0, min(budget, left)),
            "pool": self._config.explore.pool,
        }
        if isinstance(self._config.extract, Certified) and left is not None:
            limits["labels_left"] = left
        if failed := self._payloads.failed(desk.snapshot.outcomes, self._pool.asked):
            limits["failed"] = list(failed)  # as it is now: one that succeeds later does not repeat this choice
        told = desk.decided(f"budget/{iteration}", limits)
        self.walked.append(Walked(iteration, walks, str(told["pool"])))
        payload = self._payloads.acquire(
            iteration,
            record.model,
            record.mixture,
            walks,
            known=list(self._pool.asked),
            budget=int(told["fragments"]),
            pool=told["pool"],
            held_out=self._pool.held_out.labels,
            certified=self._learnt_from(told),
            failed=told.get("failed", ()),
        )
        key = desk.ask("acquire", "local", payload)
        summary = yield from desk.result(key, f"Selecting fragments in iteration {iteration}")
        self.acquired.append(key)
        record.acquired, record.excess_novelty = key, summary["novelty"]["excess"]
        fragments = list(summary["fragments"])
        desk.decide(f"selected/{iteration}", {"fragments": [f["label_key"] for f in fragments]})
        return Found(key, fragments)

    def _learnt_from(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Labels that a selection learns from: its models of cost and error, or what has filled the bins of CBAD."""
        pool = self._pool
        if self._config.select.kind == "cbad":
            return {"labelled": [*pool.train, *pool.validation], "acquired": list(self.acquired)}
        if isinstance(self._config.extract, Certified):
            labelled = [*pool.train, *pool.validation, *pool.test]
            return {"labelled": labelled, "labels_left": told.get("labels_left")}
        return {}

    def nothing_found(self, iteration: int) -> str:
        """Why the last selection was empty."""
        found = self._desk.outcome(self.acquired[-1])
        summary = found.summary if found is not None else {}
        return f"iteration {iteration} found {nothing(summary, then='run again')}"

    def _payloads_of_walks(self, iteration: int, model: str) -> list[dict[str, Any]]:
        """One payload per walker: its system, temperature, pressure, length and seed."""
        explore, schedule = self._config.explore, self._config.explore.steps
        steps = steps_for(iteration - 1, first=schedule.first, growth=schedule.growth, maximum=schedule.maximum)
        # Once decided for an iteration, number and length stay: a campaign made longer keeps its past walks.
        wanted: dict[str, Any] = {"walkers": explore.walkers, "steps": steps}
        if explore.temperature is not None:
            wanted["temperature_K"] = temperature_after(explore.temperature, self._ramp)
            wanted["displacement"] = explore.temperature.displacement
        told = self._desk.decided(f"walks/{iteration}", wanted)
        counts = shares([s.weight for s in self._config.systems], int(told["walkers"]))
        payloads: list[dict[str, Any]] = []
        for system, known, count in zip(self._config.systems, self._payloads.inputs.systems, counts, strict=True):
            ensemble = system.resolved_ensemble(periodic=known.periodic)
            conditions = draw_conditions(
                count,
                temperature_K=told.get("temperature_K", ensemble.temperature),
                pressure_GPa=ensemble.pressure if isinstance(ensemble, NPT) else None,
                campaign_seed=self._config.seed,
                iteration=iteration,
                system=system.name,
            )
            start = told.get("displacement")
            payloads += [self._payloads.walk(model, known, drawn, int(told["steps"]), start) for drawn in conditions]
        return payloads

    def _judge_ramp(self, iteration: int, ended: Sequence[Outcome]) -> None:
        """What the walks of an iteration mean for the temperature of the next one, if that rises."""
        ramp, walks = self._config.explore.temperature, self._desk.taken[f"walks/{iteration}"]
        if ramp is not None and "temperature_K" in walks:
            record = judge(ramp, self._ramp, float(walks["temperature_K"]), ended)
            self._ramp.append(record)
            self._desk.decide(f"ramp/{iteration}", record)
