"""What may not be trained on, and what may."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.core.data import Prediction
from clusterflow.errors import LabelError
from clusterflow.label.checks import check_electrons, check_label, check_structure

WATER = molecule("H2O")
FORCES = np.array([[0.0, 0.0, 1.0], [0.0, 0.5, -0.5], [0.0, -0.5, -0.5]])


def test_a_sound_label_passes():
    check_label(WATER, Prediction(-14.0, FORCES))


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (Prediction(float("nan"), FORCES), "energy is nan"),
        (Prediction(float("-inf"), FORCES), "energy is -inf"),
        (Prediction(-1e9, FORCES), "per atom"),
        (Prediction(-14.0, FORCES[:2]), r"shape \(2, 3\)"),
        (Prediction(-14.0, np.where(FORCES == 1.0, np.nan, FORCES)), "atoms 0 are not finite"),
        (Prediction(-14.0, np.where(FORCES == 1.0, np.inf, FORCES)), "not finite"),
        (Prediction(-14.0, FORCES * 100), r"atom 0 \(O\) is 100.0 eV/Å"),
        (Prediction(-14.0, FORCES + 2.0), "sum to"),
        (Prediction(-14.0, FORCES, np.eye(2)), "stress has shape"),
        (Prediction(-14.0, FORCES, np.full((3, 3), np.nan)), "stress is not finite"),
        (Prediction(-14.0, FORCES, np.triu(np.ones((3, 3)))), "not symmetric"),
    ],
)
def test_what_is_refused(prediction, words):
    with pytest.raises(LabelError, match=words):
        check_label(WATER, prediction, where="somewhere")


def test_unconverged_is_refused():
    with pytest.raises(LabelError, match="did not converge"):
        check_label(WATER, Prediction(-14.0, FORCES), converged=False)


def test_net_force_counts_for_fragments_only():
    cell = bulk("Cu", cubic=True)
    check_label(cell, Prediction(-1.0, np.full((4, 3), 5.0)))


def test_limit_is_the_users():
    check_label(WATER, Prediction(-14.0, FORCES * 100), max_force=200.0)


def test_structure():
    check_structure(WATER)
    with pytest.raises(LabelError, match="no atoms"):
        check_structure(Atoms())
    nan = WATER.copy()
    nan.positions[2] = np.nan
    with pytest.raises(LabelError, match="atoms 2 are not finite"):
        check_structure(nan)
    near = Atoms("HO", positions=[[0, 0, 0.05], [0, 0, 9.95]], cell=[10, 10, 10], pbc=True)
    with pytest.raises(LabelError, match=r"0.100 Å apart"):
        check_structure(near)


@pytest.mark.parametrize(
    ("charge", "spin", "ok"), [(0, 0, True), (1, 1, True), (0, 2, True), (0, 1, False), (1, 0, False)]
)
def test_electron_count(charge, spin, ok):
    if ok:
        check_electrons(WATER, charge, spin)
    else:
        with pytest.raises(LabelError, match="unpaired"):
            check_electrons(WATER, charge, spin)


def test_electron_count_limits():
    for charge, spin in ((0, -2), (9, 3)):
        with pytest.raises(LabelError):
            check_electrons(WATER, charge, spin)
