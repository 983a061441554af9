import json

import numpy as np
import pytest

from clusterflow.errors import InputError
from clusterflow.evaluate.learning_curve import error_ratio, learning_curve, learning_exponent
from clusterflow.evaluate.metrics import Metrics, energy_errors, force_errors


def metrics(size):
    return Metrics(1, forces=force_errors(np.full((2, 3), size)), energy=energy_errors([size]))


def test_points_are_ordered_and_carry_the_errors():
    curve = learning_curve([(1, 20, 900.0, metrics(0.05)), (0, 10, 400.0, metrics(0.1))])
    assert [p.iteration for p in curve] == [0, 1]
    assert [p.n_labels for p in curve] == [10, 20]
    assert curve[0].force_mae_p == pytest.approx(100.0)
    assert curve[1].energy_average == pytest.approx(50.0)
    json.dumps([p.to_json() for p in curve], allow_nan=False)
    assert error_ratio(curve) == pytest.approx(0.5)


def test_exponent_of_a_power_law():
    curve = learning_curve([(i, n, float(n), metrics(n**-0.7)) for i, n in enumerate((5, 10, 40, 100))])
    assert learning_exponent(curve) == pytest.approx(-0.7)


def test_too_little_to_say():
    assert learning_curve([]) == ()
    one = learning_curve([(0, 5, 1.0, metrics(0.1))])
    assert error_ratio(one) is None
    assert learning_exponent(one) is None
    unlabelled = learning_curve([(0, 5, 1.0, Metrics(1)), (1, 6, 2.0, Metrics(1))])
    assert unlabelled[0].force_mae_p is None
    assert error_ratio(unlabelled) is None
    same_n = learning_curve([(0, 5, 1.0, metrics(0.1)), (1, 5, 1.0, metrics(0.2))])
    assert learning_exponent(same_n) is None
    assert error_ratio(same_n) == pytest.approx(2.0)


def test_an_iteration_that_appears_twice():
    with pytest.raises(InputError, match="Iteration 1 appears twice"):
        learning_curve([(1, 5, 1.0, metrics(0.1)), (1, 6, 2.0, metrics(0.1))])
