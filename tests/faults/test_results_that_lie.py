"""Results that are not what they say: refused, recorded as failures with the reason, and the campaign goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.lj import LennardJones

from clusterflow.errors import ClusterflowError, LabelError
from clusterflow.label.gpaw_job import read_outcome
from clusterflow.label.process import Finished
from clusterflow.state.journal import read_events
from clusterflow.state.labels import LabelStore
from clusterflow.testing.toy_science import drive_toy, toy_config

START = {"kind": "perturbed", "fragments": 6, "test_fragments": 2}


class Liar(LennardJones):  # type: ignore[misc]
    """Tells the truth but for one structure, the third that it is asked for."""

    lie = ""
    asked = 0
    about: Any = None

    def calculate(self, atoms: Any = None, properties: Any = None, system_changes: Any = ()) -> None:
        super().calculate(atoms, properties, system_changes)
        kind = type(self)
        kind.asked += 1
        if kind.asked == 3:
            kind.about = atoms.positions.copy()
        if kind.about is None or not np.array_equal(atoms.positions, kind.about):
            return
        forces = self.results["forces"]
        if self.lie == "energy is NaN":
            self.results["energy"] = float("nan")
        elif self.lie == "forces are NaN":
            forces[1, 2] = np.nan
        elif self.lie == "forces are infinite":
            forces[0] = np.inf
        elif self.lie == "an atom is missing":
            self.results["forces"] = forces[:2]
        elif self.lie == "nothing":
            self.results.clear()
        elif self.lie == "another order":
            self.atoms = self.atoms[[2, 0, 1]]
            self.results["forces"] = forces[[2, 0, 1]]
        elif self.lie == "a torn molecule":
            forces *= 1e4
        elif self.lie == "a program that dies":
            raise RuntimeError("segmentation fault in the kernel")


REASONS = {
    "energy is NaN": "The energy is nan",
    "forces are NaN": "The forces on atoms 1 are not finite",
    "forces are infinite": "not finite",
    "an atom is missing": "The forces have shape (2, 3), but 3 atoms need (3, 3): the result is truncated.",
    "nothing": "failed for H2O",
    "another order": "3 of 3 differ, the first is atom 0 (O here, H there)",
    "a torn molecule": "above the limit of 50 eV/Å",
    "a program that dies": "segmentation fault in the kernel",
}


@pytest.mark.parametrize("lie", REASONS)
def test_a_lying_program_costs_one_label(fast: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    monkeypatch.setattr(Liar, "lie", lie)
    monkeypatch.setattr(Liar, "asked", 0)
    monkeypatch.setattr(Liar, "about", None)
    monkeypatch.setattr("ase.calculators.lj.LennardJones", Liar)
    config = toy_config(fast / "toy", start=START)
    assert drive_toy(config).finished
    events = read_events(config.run_folder / "journal.jsonl")
    (failed,) = [e.data for e in events if e.kind == "failed"]
    assert REASONS[lie] in failed["reason"]
    assert failed["final"]
    assert failed["error"] == "LabelError"
    store = LabelStore(config.run_folder / "labels")
    assert store.get(failed["key"]) is None
    failure = store.get_failure(failed["key"])
    assert failure is not None
    assert REASONS[lie] in failure["what"]
    used = {k for e in events if e.kind == "decision" and e.data["name"].startswith("split/")
            for name in ("train", "validation", "test") for k in e.data["value"][name]}  # fmt: skip
    assert failed["key"] not in used
    assert store.count() == len(used)
    asked = Liar.asked
    assert drive_toy(config).finished
    assert Liar.asked == asked  # it is not tried again


RESULT = {
    "job": "k1", "energy": -1.0, "forces": [[0.0, 0.0, 0.0]], "stress": None, "scf_steps": 9, "steps": [],
    "converged": True, "magmom": 0.0, "peak_memory_MB": 1.0,
}  # fmt: skip
JOB = {"key": "k1", "atoms": {"numbers": [2]}}


@pytest.mark.parametrize("length", [*range(len(json.dumps(RESULT)))])
def test_exit_0_with_a_result_cut_at_any_byte_is_a_failed_label(tmp_path: Path, length: int) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RESULT)[:length])
    with pytest.raises(LabelError, match="truncated or damaged"):
        read_outcome(Finished(0, timed_out=False), tmp_path, JOB, ranks=1, time_limit=9.0)


@pytest.mark.parametrize(
    "written",
    [
        {**RESULT, "job": "k0"},
        {k: v for k, v in RESULT.items() if k != "forces"},
        {},
        [],
        "converged",
        None,
    ],
    ids=["another job", "no forces", "empty", "a list", "a word", "null"],
)
def test_exit_0_with_another_result_is_a_failed_label(tmp_path: Path, written: Any) -> None:
    (tmp_path / "result.json").write_text(json.dumps(written))
    with pytest.raises(LabelError):
        read_outcome(Finished(0, timed_out=False), tmp_path, JOB, ranks=1, time_limit=9.0)


def test_exit_0_with_no_result_at_all_is_a_failed_label(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("Traceback …\nValueError: no convergence\n")
    with pytest.raises(LabelError, match="ended with status 0 and no result: ValueError: no convergence"):
        read_outcome(Finished(0, timed_out=False), tmp_path, JOB, ranks=1, time_limit=9.0)


def test_a_label_under_the_key_of_other_atoms_is_refused(fast: Path) -> None:
    """The same atoms in another order are another structure: a label of theirs cannot be stored for these."""
    config = toy_config(fast / "toy")
    drive_toy(config)
    store = LabelStore(config.run_folder / "labels")
    key = next(iter(store.keys()))
    found = store.get(key)
    assert found is not None
    atoms, label = found
    store.quarantine(key)
    with pytest.raises(ClusterflowError, match="not its own"):
        store.put(key, atoms[[2, 0, 1]], label)
    assert store.get(key) is None
