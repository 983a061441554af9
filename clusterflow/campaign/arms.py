"""Control arms: the same campaign with another choice of what to label, beside it and without touching it.

An arm goes through the iterations of the campaign. In each it chooses from the frames that the campaign has walked,
and trains its own potential on the starting labels and its own; settings, seeds and test set are the campaign's. It
trains when the campaign has trained, so that it does not delay it, and the campaign looks at nothing that it does. An
arm that cannot go on has ended; the campaign has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from clusterflow.campaign.held_out import TestSet
from clusterflow.campaign.split import split_validation
from clusterflow.campaign.tasks import DAMPING, GRACE, Payloads, Plan
from clusterflow.config.campaign import Campaign
from clusterflow.config.controls import Controls
from clusterflow.state.snapshot import Outcome, Snapshot

_PREFIX = "arm/"


class Followed(Protocol):
    """What an arm needs of the campaign's plan."""

    config: Campaign
    snapshot: Snapshot
    payloads: Payloads
    out: Plan
    held_out: TestSet
    test: list[str]
    labels: dict[str, Mapping[str, Any]]
    pools: list[tuple[int, list[str], str]]

    def ask(self, kind: str, lane: str, payload: Mapping[str, Any], *, key: str = "", limit: float = 0.0) -> str: ...


class _NotYet(Exception):  # noqa: N818 - not an error: a result that is not there yet
    pass


class _Ended(Exception):  # noqa: N818 - not an error: the arm cannot go on; the message says why
    pass


def is_of_arm(decision: str) -> bool:
    """Whether a decision is one of a control arm: ``arm/ITERATION/NAME/WHAT``."""
    return decision.startswith(_PREFIX)


def follow_arms(campaign: Followed) -> None:
    """Adds what the control arms want to the plan of the campaign, which is not finished before they are."""
    out, controls = campaign.out, campaign.config.controls
    if controls is None or out.failed or "model/0" not in out.decisions:
        return
    waiting = False
    for name in controls.arms:
        arm = _Arm(name, campaign, controls)
        try:
            arm.walk()
        except _NotYet:
            waiting = True
        except _Ended as end:
            out.decisions[f"{_PREFIX}{arm.iteration}/{name}/ended"] = {"reason": str(end)}
    kept = (n for n in campaign.snapshot.decisions if is_of_arm(n) and n.endswith("/ended"))
    out.retired += [n for n in kept if n not in out.decisions]  # what had failed has succeeded since
    if waiting:
        out.waits_for = ()
        if out.finished:
            out.finished, out.stage = "", "controls"


class _Arm:
    def __init__(self, name: str, campaign: Followed, controls: Controls) -> None:
        self.name, self._campaign, self._controls = name, campaign, controls
        self._decisions = campaign.out.decisions
        begin = self._decisions["split/0"]
        self._train, self._validation = list(begin["train"]), list(begin["validation"])
        self._asked = [k for k, told in campaign.labels.items() if told["source_kind"] == "start"]
        self._bought = 0
        self.iteration = 0

    def walk(self) -> None:
        """All iterations that the campaign has come to."""
        model = str(self._decisions["model/0"]["key"])
        for iteration, walks, pool in self._campaign.pools:
            self.iteration = iteration
            self._choose(model, walks, pool)
            names = [n for n in (f"model/{self.iteration}", f"model/{self.iteration}/final") if n in self._decisions]
            if not names and not {f"continue/{self.iteration}", "stop"} & set(self._decisions):
                raise _NotYet  # the campaign has not trained yet; else it will not, and the next training has these too
            for name in names:  # a second one where the campaign ended, with a training more thorough
                model = self._fit(model, name)
                self._evaluate(model, name.removeprefix(f"model/{self.iteration}"))

    def _result(self, key: str) -> Outcome:
        found = self._campaign.snapshot.outcomes.get(key)
        if found is None:
            raise _NotYet
        return found

    def _required(self, key: str, what: str) -> Mapping[str, Any]:
        found = self._result(key)
        if found.status == "failed":
            raise _Ended(f"{what} failed: {found.reason}")
        return found.summary

    def _name(self, what: str) -> str:
        return f"{_PREFIX}{self.iteration}/{self.name}/{what}"

    def _decided(self, what: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        kept = self._campaign.snapshot.decisions.get(self._name(what), value)
        self._decisions[self._name(what)] = kept
        return kept

    def _choose(self, model: str, walks: Sequence[str], pool: str) -> None:
        campaign = self._campaign
        budget = self._controls.each(campaign.config.select.fragments)
        limit = campaign.config.label_limits[1]
        if limit is not None:
            budget = max(0, min(budget, limit - self._bought))
        ended = campaign.snapshot.outcomes
        failed = [k for k in self._asked if (o := ended.get(k)) is not None and o.status == "failed"]
        by_features = self.name == "farthest_point" and failed  # to the others it is one more that is not taken again
        told = self._decided("budget", {"fragments": budget, **({"failed": failed} if by_features else {})})
        budget = int(told["fragments"])
        if not budget:
            raise _Ended("its share of the label budget is spent")
        payload = campaign.payloads.control(
            self.name,
            self.iteration,
            model,
            walks,
            trained=self._asked,
            held_out=campaign.held_out.labels,
            budget=budget,
            pool=pool,
            failed=told.get("failed", ()),
        )
        source = campaign.ask("control", "local", payload)
        told = self._required(source, f"Choosing in iteration {self.iteration}")
        fragments = list(told["fragments"])
        if not fragments:
            raise _Ended(f"iteration {self.iteration} found nothing that is not labelled already")
        self._label(source, fragments)

    def _label(self, source: str, fragments: Sequence[Mapping[str, Any]]) -> None:
        campaign = self._campaign
        trainable = {f["label_key"] for f in campaign.held_out.trainable(fragments)}
        good, waiting = [], False
        for index, fragment in enumerate(fragments):
            key = str(fragment["label_key"])
            if key not in trainable or key in self._asked:
                continue
            self._asked.append(key)
            self._bought += 1
            payload = campaign.payloads.label("control", source, index)
            campaign.ask("label", "label", payload, key=key, limit=campaign.config.label.time_limit + GRACE)
            found = campaign.snapshot.outcomes.get(key)
            waiting = waiting or found is None
            if found is not None and found.status == "done":
                good.append(key)
        if waiting:
            raise _NotYet
        if not good:
            raise _Ended(f"none of the labels of iteration {self.iteration} succeeded")
        train, validation = split_validation(
            good,
            fraction=campaign.config.train.validation_fraction,
            seed=campaign.payloads.seed("split"),
            already=(len(self._train), len(self._validation)),
        )
        split = {"source": source, "train": train, "validation": validation}
        kept = campaign.snapshot.decisions.get(self._name("split"))
        if kept is not None and kept["source"] == source and {*kept["train"], *kept["validation"]} <= set(good):
            split = dict(kept)  # a label that succeeded later does not undo what was trained
        self._decisions[self._name("split")] = split
        self._train += split["train"]
        self._validation += split["validation"]

    def _fit(self, start: str, name: str) -> str:
        """As thoroughly as the campaign, from the arm's last potential, once more and gentler if it diverged."""
        extra = name.endswith("/final")
        for attempt in range(len(DAMPING)):
            payload = self._campaign.payloads.train(
                self.iteration,
                self._train,
                self._validation,
                start=start,
                final=bool(self._decisions[name]["final"]),
                attempt=attempt,
                extra=extra,
            )
            key = self._campaign.ask("train", "train", payload)
            found = self._result(key)
            if found.status == "done":
                return key
        raise _Ended(f"training of iteration {self.iteration} failed twice, the second time gentler: {found.reason}")

    def _evaluate(self, model: str, suffix: str) -> None:
        campaign, payloads = self._campaign, self._campaign.payloads
        mixture = campaign.ask("novelty", "local", payloads.novelty(self.iteration, model, self._train))
        self._required(mixture, f"Fitting the feature density of iteration {self.iteration}")
        key = campaign.ask("evaluate", "local", payloads.evaluation(model, mixture, campaign.test))
        self._required(key, f"Evaluating the model of iteration {self.iteration}")
        self._decisions[self._name("evaluated") + suffix] = {
            "iteration": self.iteration,
            "model": model,
            "mixture": mixture,
            "evaluation": key,
            "n_training": len(self._train) + len(self._validation),
        }
