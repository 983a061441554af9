"""The table of fragments says which iteration asked for each, whatever the fragments themselves say."""

from __future__ import annotations

from typing import Any

import pytest
from ase.build import molecule

from clusterflow.campaign.planner import plan_once
from clusterflow.campaign.report_structures import asking_iterations
from clusterflow.core import keys
from clusterflow.evaluate.report.structure_views import structure_view
from clusterflow.state.snapshot import Outcome, Snapshot
from clusterflow.testing.toy_campaign import TOY_INPUTS, toy_config, toy_result


@pytest.mark.parametrize("loop", [{}, {"loop": {"kind": "streaming"}}])
def test_every_fragment_of_a_campaign_has_its_iteration(loop: dict[str, Any]) -> None:
    config, snapshot = toy_config(**loop), Snapshot()
    for _ in range(300):
        current = plan_once(config, TOY_INPUTS, snapshot)
        new = {n: v for n, v in current.decisions.items() if snapshot.decisions.get(n) != v}
        snapshot.decisions.update(new)
        if current.finished:
            break
        for task in () if new else current.tasks:
            snapshot.outcomes[task.key] = Outcome("done", task.kind, toy_result(task).summary)
    assert current.finished
    found = asking_iterations(snapshot)
    labels = {k for k, o in snapshot.outcomes.items() if o.kind == "label"}
    assert set(found) == labels
    assert set(found.values()) >= {0, 1}
    assert set(found.values()) <= {0, 1, 2}
    assert sum(i == 0 for i in found.values()) == 12


def test_what_the_atoms_say_goes_first() -> None:
    atoms = molecule("H2O")
    assert structure_view(atoms).iteration is None
    assert structure_view(atoms, iteration=1).iteration == 1
    atoms.info[keys.ITERATION] = 0
    assert structure_view(atoms, iteration=1).iteration == 0
