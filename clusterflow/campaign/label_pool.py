"""The labels of a streaming campaign: asked for, open, waiting for the next training, in a split, failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterflow.campaign.held_out import TestSet
from clusterflow.campaign.split import split_validation
from clusterflow.state.snapshot import Outcome


class LabelPool:
    """Where every label stands. Its state depends on which labels have ended, not on the order in which they did.

    Parameters
    ----------
    fraction
        Share of validation among the labels that are trained on.
    seed
        Of the random split.
    """

    def __init__(self, *, fraction: float, seed: int) -> None:
        self._fraction, self._seed = fraction, seed
        self.asked: dict[str, dict[str, Any]] = {}
        """Label key → what was asked, in the order of asking."""
        self.open: set[str] = set()
        self.failed: set[str] = set()
        self.train: list[str] = []
        self.validation: list[str] = []
        self.test: list[str] = []
        self.held_out = TestSet(())
        self._fresh: set[str] = set()
        self._order: dict[str, int] = {}
        self._placed: dict[str, str] = {}

    def register(self, told: Mapping[str, Any], **about: Any) -> bool:
        """Takes note of a fragment to label; False if its label is known already (the same fragment, cut twice)."""
        key = str(told["label_key"])
        if key in self.asked:
            return False
        self.asked[key] = {**told, **about}
        self._order[key] = len(self._order)
        self.open.add(key)
        return True

    def settle(self, key: str, outcome: Outcome) -> None:
        """An open label has ended."""
        self.open.discard(key)
        if outcome.status == "failed":
            self.failed.add(key)
        elif self.asked[key]["set"] != "test" and key not in self._placed:
            self._fresh.add(key)

    @property
    def fresh(self) -> int:
        """How many labels are done and in no split yet."""
        return len(self._fresh)

    def entering(self) -> list[str]:
        """Those of them that a training that begins now would see, in the order of asking.

        A fragment that confirms a smaller one waits until that one has ended, since both belong on the same side.
        """
        waiting = [k for k in self._fresh if self.asked[k].get("confirms") not in self.open]
        return sorted(waiting, key=self._order.__getitem__)

    def begin(self) -> dict[str, list[str]]:
        """The first split, with the test set, from everything that has been asked for so far."""
        test = [k for k, told in self.asked.items() if told["set"] == "test" and k not in self.failed]
        return {**self.divide(self.entering()), "test": test}

    def divide(self, keys: Sequence[str]) -> dict[str, list[str]]:
        """Training and validation labels among ``keys``; a larger fragment goes where the one goes that it confirms."""
        partner = {k: s for k in keys if (s := self.asked[k].get("confirms")) in self._placed or s in self._fresh}
        train, validation = split_validation(
            [k for k in keys if k not in partner],
            fraction=self._fraction,
            seed=self._seed,
            already=(len(self.train), len(self.validation)),
        )
        held_out = set(validation)
        for larger, smaller in partner.items():
            aside = smaller in held_out or self._placed.get(str(smaller)) == "validation"
            (validation if aside else train).append(larger)
        return {"train": train, "validation": validation, "test": []}

    def enter(self, split: Mapping[str, Any]) -> None:
        """A split was decided: its labels are trained on from now on."""
        self.train += split["train"]
        self.validation += split["validation"]
        self.test += split["test"]
        for name in ("train", "validation", "test"):
            for key in split[name]:
                self._placed[key] = name
                self._fresh.discard(key)
