"""The ladder is bounded and starts with the plain calculation."""

from clusterflow.label.ladder import LADDER, rungs


def test_bounds():
    assert rungs(1) == LADDER[:1]
    assert rungs(99) == LADDER
    assert rungs(0) == LADDER[:1]


def test_first_rung_is_plain_and_others_are_named():
    first, *others = LADDER
    assert (first.name, first.mixing, first.step_factor, first.path_smearing_eV) == ("", None, 1, 0.0)
    assert len({r.name for r in others}) == len(others)
    assert all(r.name for r in others)


def test_each_rung_allows_more_steps():
    factors = [r.step_factor for r in LADDER]
    assert factors == sorted(set(factors))
