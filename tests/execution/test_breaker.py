"""Submissions stop growing, wait longer and longer, and end."""

from clusterflow.execution.breaker import Breaker, HourlyLimit
from clusterflow.execution.machines.batch import Submission


def test_waits_double_up_to_the_longest():
    breaker = Breaker(Submission(first_wait="10 s", longest_wait="60 s", failures=6))
    assert breaker.allows(0.0)
    waits = []
    for n in range(5):
        breaker.failed(100.0 * n, "no such account", "job.sh")
        waits.append(breaker.wait(100.0 * n))
        assert not breaker.allows(100.0 * n + waits[-1] - 0.1)
        assert breaker.allows(100.0 * n + waits[-1])
    assert waits == [10.0, 20.0, 40.0, 60.0, 60.0]
    breaker.failed(1000.0, "still none", "job.sh")
    assert breaker.open
    assert not breaker.allows(1e9)
    assert breaker.reason == "still none"


def test_a_block_that_works_forgives():
    breaker = Breaker(Submission(failures=2))
    breaker.failed(0.0, "x", "")
    breaker.worked()
    assert breaker.allows(0.0)
    breaker.failed(1.0, "x", "")
    assert not breaker.open


def test_no_more_than_so_many_in_any_hour():
    limit = HourlyLimit(3)
    for t in (0.0, 10.0, 20.0):
        assert limit.allows(t)
        limit.count(t)
    assert not limit.allows(3599.0)
    assert limit.allows(3600.0)
    limit.count(3600.0)
    assert not limit.allows(3605.0)
    assert limit.allows(3610.0)
