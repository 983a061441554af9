import json

import numpy as np
import pytest

from clusterflow.score.calibration import calibrate
from clusterflow.score.correlation import ALL
from clusterflow.score.reliability import alarms, assess, texts


def world(n_groups, rng, *, scale=1.0, coupled=True, element="O"):
    group = np.repeat(np.arange(n_groups), 12)
    novelty = rng.gamma(2.0, 4.0, len(group)) - 20.0
    typical = 0.02 * np.sqrt(novelty + 21.0) if coupled else np.full(len(group), 0.06)
    error = scale * typical * rng.chisquare(3, len(group)) / 3.0
    return novelty, error, np.full(len(group), element, dtype="U2"), group


def judged(new, *, seed=0):
    rng = np.random.default_rng(seed)
    made = calibrate(*world(40, rng))
    return made, assess(made, *new(rng))


def test_what_holds_raises_no_alarm():
    raised = 0
    for seed in range(6):
        made, found = judged(lambda rng: world(20, rng), seed=seed)
        assert 0.8 < found[ALL].coverage < 0.99
        assert found["O"].correlation.spearman > 0.1
        raised += bool(alarms(found, confidence=made.confidence, ranks=True))
    assert raised == 0


def test_errors_three_times_larger_at_equal_novelty_are_noticed():
    for seed in range(3):
        made, found = judged(lambda rng: world(10, rng, scale=3.0), seed=seed)
        raised = alarms(found, confidence=made.confidence, ranks=True)
        assert {a.kind for a in raised} == {"coverage"}
        assert "exceed their bounds too often" in texts(raised)[0]


def test_novelty_that_no_longer_ranks_errors_is_noticed_with_enough_labels():
    noticed = 0
    for seed in range(3):
        made, found = judged(lambda rng: world(80, rng, coupled=False), seed=seed)
        assert alarms(found, confidence=made.confidence, ranks=False) == []
        noticed += any(a.kind == "rank" for a in alarms(found, confidence=made.confidence, ranks=True))
    assert noticed >= 2


def test_few_labels_raise_no_alarm():
    for n in (2, 7):
        made, found = judged(lambda rng, n=n: world(n, rng, scale=30.0))
        assert alarms(found, confidence=made.confidence, ranks=True) == []
    assert found[ALL].coverage_high < 0.5


def test_diagram_counts_every_atom_and_lies_near_the_diagonal():
    _, found = judged(lambda rng: world(100, rng))
    rows = found[ALL].diagram
    assert sum(n for *_, n in rows) == found[ALL].n_atoms == 1200
    expected, true = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    assert (np.diff(expected) >= 0).all()
    np.testing.assert_allclose(true, expected, rtol=0.3)


def test_unseen_elements_are_counted_not_averaged():
    made, _ = judged(lambda rng: world(5, rng))
    x, y, names, groups = world(5, np.random.default_rng(9))
    x[:5], names[:5] = np.inf, "Zr"
    found = assess(made, x, y, names, groups)
    assert found["Zr"].n_unbounded == found["Zr"].n_atoms == 5
    assert found["Zr"].coverage is None
    assert found["Zr"].mean_expected is None
    assert np.isfinite(found[ALL].mean_expected)
    json.dumps({e: r.to_json() for e, r in found.items()}, allow_nan=False)


def test_an_alarm_of_all_atoms_speaks_for_their_elements():
    made, found = judged(lambda rng: world(10, rng, scale=3.0))
    raised = alarms(found, confidence=made.confidence, ranks=True)
    assert [a.element for a in raised] == [ALL, "O"]
    assert len(texts(raised)) == 1
    assert raised[0].to_json()["text"] == texts(raised)[0]
    assert raised[0].value == pytest.approx(found[ALL].coverage)
