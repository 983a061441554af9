"""The test set: frozen and hashed before the first label is sent; nothing that is trained on may come from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clusterflow.core.frames import digest

DECISION = "test_set/0"
"""Under which the journal has it."""


class TestSet:
    """The fragments of the test set as they were drawn, whether their labels succeed or not."""

    __test__ = False  # not a test, whatever pytest thinks of its name

    def __init__(self, fragments: Iterable[Mapping[str, Any]]) -> None:
        drawn = [f for f in fragments if f["set"] == "test"]
        self.labels: Sequence[str] = list(dict.fromkeys(str(f["label_key"]) for f in drawn))
        self._keys = set(self.labels)
        self._structures = {str(f["structure"]) for f in drawn if "structure" in f}

    @property
    def hash(self) -> str:
        """Of all its label keys, that is of structures, charges, spins and level of theory."""
        return digest(*sorted(self.labels))

    def holds(self, fragment: Mapping[str, Any]) -> bool:
        """Whether a fragment, as the summary of a task describes it, may not be trained on: it is one of the test set,
        a copy of one in any orientation, or a larger one that confirms one."""
        return (
            fragment["label_key"] in self._keys
            or fragment.get("structure") in self._structures
            or fragment.get("confirms") in self._keys
        )

    def trainable(self, fragments: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Those that may be trained on, in their order; what confirms one that may not, may not either."""
        out = [f for f in fragments if f["set"] != "test"]
        refused = {f["label_key"] for f in out if self.holds(f)}
        return [f for f in out if f["label_key"] not in refused and f.get("confirms") not in refused]

    def to_json(self) -> dict[str, Any]:
        """What the journal keeps."""
        return {"hash": self.hash, "labels": list(self.labels)}
