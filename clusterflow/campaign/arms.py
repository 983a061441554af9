"""Control arms: the same campaign with another choice of what to label, beside it and without touching it.

An arm goes through the iterations of the campaign. In each it chooses from the frames that the campaign has walked,
and trains its own potential on the starting labels and its own; settings, seeds and test set are the campaign's. It
trains when the campaign has trained, so that it does not delay it, and the campaign looks at nothing that it does. An
arm that cannot go on has ended; the campaign has not.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.labelling import label, split
from clusterflow.campaign.rounds import Walked
from clusterflow.campaign.steps import Course, StepDesk, Steps
from clusterflow.campaign.tasks import DAMPING, Payloads, PlanStopped

_PREFIX = "arm/"


def is_of_arm(decision: str) -> bool:
    """Whether a decision is one of a control arm: ``arm/ITERATION/NAME/WHAT``."""
    return decision.startswith(_PREFIX)


class Arms:
    """All control arms of a campaign, from its first potential on. ``walked``: what its iterations have walked."""

    def __init__(self, desk: StepDesk, payloads: Payloads, pool: LabelPool, walked: Sequence[Walked]) -> None:
        self._desk, self._payloads, self._pool, self._walked = desk, payloads, pool, walked
        self._courses: list[Course] | None = None

    def go_on(self) -> bool:
        """As far as they can; whether one of them waits for a task."""
        controls = self._payloads.config.controls
        if controls is None or "model/0" not in self._desk.taken:
            return False
        begins, desk = self._courses is None, self._desk
        if self._courses is None:
            arms = [_Arm(name, desk, self._payloads, self._pool, self._walked) for name in controls.arms]
            self._courses = [Course(arm.go()) for arm in arms]
        for course in self._courses:
            course.go_on(desk)
        if begins:  # what had failed has succeeded since
            kept = (n for n in desk.snapshot.decisions if is_of_arm(n) and n.endswith("/ended"))
            desk.out.retired += [n for n in kept if n not in desk.taken]
        return any(course.waits_for for course in self._courses if not course.over)


class _Arm:
    def __init__(
        self, name: str, desk: StepDesk, payloads: Payloads, campaign: LabelPool, walked: Sequence[Walked]
    ) -> None:
        self._name, self._desk, self._payloads, self._walked = name, desk, payloads, walked
        self._test = campaign.test
        self._pool = LabelPool(fraction=payloads.config.train.validation_fraction, seed=payloads.seed("split"))
        self._pool.held_out = campaign.held_out
        for key, told in campaign.asked.items():
            if told["source_kind"] == "start":
                self._pool.register({**told, "label_key": key})
        self._pool.enter({**desk.taken["split/0"], "test": []})
        self._start = len(self._pool.asked)
        self._iteration = 0

    def go(self) -> Steps[None]:
        """All iterations that the campaign comes to."""
        try:
            yield from self._go()
        except PlanStopped as end:
            self._desk.decide(self._called("ended"), {"reason": str(end)})

    def _go(self) -> Steps[None]:
        model = str(self._desk.taken["model/0"]["key"])
        for count in itertools.count():
            while len(self._walked) <= count:
                if "stop" in self._desk.taken:
                    return
                yield ()
            self._iteration = self._walked[count].iteration
            yield from self._choose(model, self._walked[count])
            for suffix in ("", "/final"):  # a second one where the campaign ended, with a training more thorough
                if (yield from self._trained(suffix)):
                    model = yield from self._fit(model, suffix)
                    yield from self._evaluate(model, suffix)

    def _trained(self, suffix: str) -> Steps[bool]:
        """Waits for the campaign's potential of this iteration; False if there is none, and will be none."""
        name, taken = f"model/{self._iteration}{suffix}", self._desk.taken
        while name not in taken:
            if {f"continue/{self._iteration}", f"model/{self._iteration}/final", "stop"} & taken.keys():
                return False  # the next training has these labels, too
            yield ()
        return True

    def _called(self, what: str) -> str:
        return f"{_PREFIX}{self._iteration}/{self._name}/{what}"

    def _choose(self, model: str, walked: Walked) -> Steps[None]:
        """Fragments to label, their labels and their split."""
        config, pool = self._payloads.config, self._pool
        assert config.controls is not None
        budget, limit = config.controls.each(config.select.fragments), config.label_limits[1]
        if limit is not None:
            budget = max(0, min(budget, limit - (len(pool.asked) - self._start)))
        wanted: dict[str, Any] = {"fragments": budget}
        failed = [k for k in pool.asked if (o := self._desk.outcome(k)) is not None and o.status == "failed"]
        if self._name == "farthest_point" and failed:  # to the others it is one more that is not taken again
            wanted["failed"] = failed
        limits = self._desk.decided(self._called("budget"), wanted)
        budget = int(limits["fragments"])
        if not budget:
            raise PlanStopped("its share of the label budget is spent")
        payload = self._payloads.control(
            self._name,
            self._iteration,
            model,
            walked.walks,
            trained=list(pool.asked),
            held_out=pool.held_out.labels,
            budget=budget,
            pool=walked.pool,
            failed=limits.get("failed", ()),
        )
        source = self._desk.ask("control", "local", payload)
        told: Mapping[str, Any] = yield from self._desk.result(source, f"Choosing in iteration {self._iteration}")
        if not told["fragments"]:
            raise PlanStopped(f"iteration {self._iteration} found nothing that is not labelled already")
        good = yield from label(
            self._desk, self._payloads, pool, "control", source, told["fragments"], iteration=self._iteration
        )
        if not good:
            raise PlanStopped(f"none of the labels of iteration {self._iteration} succeeded")
        split(self._desk, pool, self._called("split"), source)

    def _fit(self, start: str, suffix: str) -> Steps[str]:
        """As thoroughly as the campaign, from the arm's last potential, once more and gentler if it diverged."""
        final, reason = bool(self._desk.taken[f"model/{self._iteration}{suffix}"]["final"]), ""
        for attempt in range(len(DAMPING)):
            payload = self._payloads.train(
                self._iteration,
                self._pool.train,
                self._pool.validation,
                start=start,
                final=final,
                attempt=attempt,
                extra=bool(suffix),
            )
            key = self._desk.ask("train", "train", payload)
            yield from self._desk.wait([key])
            found = self._desk.outcome(key)
            assert found is not None
            if found.status == "done":
                return key
            reason = found.reason
        raise PlanStopped(f"training of iteration {self._iteration} failed twice, the second time gentler: {reason}")

    def _evaluate(self, model: str, suffix: str) -> Steps[None]:
        desk, payloads, pool = self._desk, self._payloads, self._pool
        mixture = desk.ask("novelty", "local", payloads.novelty(self._iteration, model, pool.train))
        yield from desk.result(mixture, f"Fitting the feature density of iteration {self._iteration}")
        key = desk.ask("evaluate", "local", payloads.evaluation(model, mixture, self._test))
        yield from desk.result(key, f"Evaluating the model of iteration {self._iteration}")
        told = {"iteration": self._iteration, "model": model, "mixture": mixture, "evaluation": key}
        desk.decide(self._called("evaluated") + suffix, {**told, "n_training": len(pool.train) + len(pool.validation)})
