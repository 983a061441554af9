"""The evaluator remembers, and refuses nonsense at once."""

import numpy as np
import pytest
from ase.build import bulk

from clusterflow.explore.evaluation import Evaluator
from clusterflow.explore.stop import BlowUp
from clusterflow.testing.analytic_potentials import LennardJones
from clusterflow.testing.explorer_contract import NaNAfter


def test_the_last_two_configurations_are_remembered():
    atoms = bulk("Ar", "fcc", a=5.3).repeat(2)
    evaluate = Evaluator(LennardJones(cutoff=6.0), atoms, 100.0)
    cell = np.array(atoms.cell.array)
    a, b, c = (atoms.positions + shift * np.eye(8, 3) for shift in (0.0, 0.1, 0.2))
    first = evaluate(a, cell)
    evaluate(b, cell)
    assert evaluate(a, cell) is first
    assert evaluate.evaluations == 2
    evaluate(c, cell)  # b was used longer ago than a
    assert evaluate(a, cell) is first
    evaluate(b, cell)
    assert evaluate.evaluations == 4
    evaluate(b, cell * 1.001)
    assert evaluate.evaluations == 5
    moved = atoms.copy()
    moved.positions = b
    assert evaluate(b, cell).energy == LennardJones(cutoff=6.0).one(moved).energy


def test_nonsense_stops_at_once():
    atoms = bulk("Ar", "fcc", a=5.3).repeat(2)
    cell = np.array(atoms.cell.array)
    with pytest.raises(BlowUp, match="energy nan"):
        Evaluator(NaNAfter(LennardJones(), 0), atoms, 100.0)(atoms.positions, cell)
    with pytest.raises(BlowUp, match="positions are NaN"):
        Evaluator(LennardJones(), atoms, 100.0)(atoms.positions * np.nan, cell)
    near = atoms.positions.copy()
    near[0] = near[1] + 0.5
    with pytest.raises(BlowUp, match="the force on Ar"):
        Evaluator(LennardJones(), atoms, 100.0)(near, cell)
