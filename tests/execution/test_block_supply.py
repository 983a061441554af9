"""Which block a task goes to, when blocks are asked for and given back; with a scheduler of lists."""

import threading
import time
from types import SimpleNamespace

import pytest

from clusterflow.core.data import Task
from clusterflow.errors import ExecutionError
from clusterflow.execution import block_supply
from clusterflow.execution.block_supply import BlockSupply
from clusterflow.execution.machines import SlurmMachine
from clusterflow.execution.scheduler_calls import QueuedJob
from clusterflow.execution.supply import Job
from clusterflow.state.queue_waits import queue_waits


class FakePool:
    """A block without processes."""

    number = 0

    def __init__(self, shape, folder, *, machine, lane, scheduler, job_name, **_):
        self.shape, self.folder, self.lane, self.scheduler = shape, folder, lane, scheduler
        self.span = lane.walltime - machine.end_margin
        self.job_name, self.job_id, self.up, self.gone, self.stopped = job_name, "", [], "", False

    def start(self):
        FakePool.number += 1
        if self.scheduler.refuses:
            raise ExecutionError(self.scheduler.refuses, where="sbatch")
        self.job_id = str(FakePool.number)
        self.scheduler.queue.append(QueuedJob(self.job_id, self.job_name, "waiting"))

    def supervisors(self):
        return self.up

    def nodes_up(self):
        return len(self.up)

    def come_up(self, age=0.0):
        self.up = [{"began": time.time() - age, "node": "n"}]

    def dead(self):
        return self.gone

    def give_up(self, why):
        self.gone = why

    def lost(self, why):
        return ExecutionError(why, where=str(self.folder))

    def stop(self):
        self.stopped = True
        self.scheduler.cancel([self.job_id])


class FakeScheduler:
    def __init__(self):
        self.queue, self.cancelled, self.refuses, self.silent = [], [], "", False

    def jobs(self):
        if self.silent:
            raise ExecutionError("squeue did not answer")
        return list(self.queue)

    def cancel(self, ids):
        self.cancelled += ids
        self.queue = [j for j in self.queue if j.id not in ids]


def machine(label=None, **changes):
    lane = {"walltime": "11 min", "cores_per_node": 2, "blocks": {"max": 3}, **(label or {})}
    data = {
        "kind": "slurm",
        "idle": "5 min",
        "poll": "1 s",
        "submit": {"failures": 2, "first_wait": "100 s"},
        **changes,
    }
    return SlurmMachine.model_validate({**data, "lanes": {"label": lane, "md": "label", "train": "label"}})


@pytest.fixture
def made(monkeypatch, tmp_path):
    monkeypatch.setattr(block_supply, "BlockPool", FakePool)

    def make(**changes):
        scheduler = FakeScheduler()
        supply = BlockSupply(
            machine(**changes),
            scheduler,
            threading.RLock(),
            address="127.0.0.1",
            new_folder=lambda name: tmp_path / name,
            run_id="t:1",
            job_name="cf-0-1",
            mark="m",
        )
        return supply, scheduler

    return make


def task(n, limit=60.0, kind="label"):
    return Job(Task(kind, f"k{n}", "label", {}, limit), "{}")


def pools(supply):
    return [b.pool for b in supply._blocks]


def test_blocks_come_one_by_one_and_no_more_than_needed(made):
    supply, _ = made()
    supply.look([])
    assert pools(supply) == []
    waiting = [task(n) for n in range(5)]
    for expected in (1, 2, 3, 3):  # two workers each; never more than three blocks
        supply.look(waiting)
        assert len(pools(supply)) == expected
    assert supply.claim(waiting[0]) == "wait"  # none is up
    pools(supply)[0].come_up()
    supply.look(waiting)
    assert supply.claim(waiting[0]) is supply.claim(waiting[1]) is pools(supply)[0]
    assert supply.claim(waiting[2]) == "wait"
    supply.release(waiting[0], 1.0)
    assert supply.claim(waiting[2]) is pools(supply)[0]


def test_the_wait_in_the_queue_is_noted_once(made, monkeypatch, tmp_path):
    supply, _ = made()
    (tmp_path / "label").mkdir()
    supply.look([task(1)])
    later = time.monotonic() + 3600.0
    monkeypatch.setattr(block_supply.time, "monotonic", lambda: later)
    pools(supply)[0].come_up()
    for _ in range(2):
        supply.look([task(1)])
    (row,) = queue_waits(tmp_path)
    assert (row.lane, row.blocks) == ("label", 1)
    assert row.median == row.longest == pytest.approx(3600.0, abs=60.0)


def test_a_minimum_is_kept(made):
    supply, _ = made(label={"blocks": {"min": 2, "max": 3}})
    for _ in range(4):
        supply.look([])
    assert len(pools(supply)) == 2


def test_tasks_that_cannot_end_in_time_are_not_started(made):
    supply, _ = made(label={"blocks": {"max": 1}})  # span: 10 min
    supply.look([task(0)])
    (pool,) = pools(supply)
    pool.come_up(age=470.0)
    first = task(1, limit=100.0)
    supply.look([first])
    assert supply.claim(first) is pool  # 130 s are left
    assert supply.claim(task(2, limit=140.0)) == "wait"
    assert supply.claim(task(3, limit=86_400.0)) == "wait"  # nothing is known of its kind: a quarter of 600 s
    supply.release(first, 40.0)
    assert supply.claim(task(4, limit=86_400.0)) is pool  # 2 · 40 + 30 s, by what was measured
    assert supply.claim(task(5, limit=86_400.0, kind="train")) == "wait"


def test_what_was_cut_off_is_taken_to_need_longer(made):
    supply, _ = made(label={"blocks": {"max": 1}})
    job = task(0, limit=86_400.0)
    supply.look([job])
    (pool,) = pools(supply)
    pool.come_up(age=100.0)
    supply.look([job])
    assert supply.needed(job, 600.0) == 150.0
    assert supply.claim(job) is pool
    job.progress = SimpleNamespace(running_for=lambda now: 200.0, was_taken_up=lambda: True)
    supply._blocks[0].ends = time.time() - 1.0
    supply.release(job, None)
    assert supply.needed(job, 600.0) == 430.0


def test_a_task_longer_than_any_block_gets_a_fresh_one(made):
    supply, scheduler = made(label={"blocks": {"max": 1}})
    long = task(0, limit=86_400.0)
    supply.look([long])
    (pool,) = pools(supply)
    pool.come_up(age=100.0)
    supply.look([long])
    assert supply.claim(long) is pool  # nobody has used it
    supply.release(long, 3000.0)
    again = task(1, limit=86_400.0)
    assert supply.claim(again) == "wait"
    supply.look([again])  # no use to anybody: given back at once, and a new one asked for
    assert scheduler.cancelled == [pool.job_id]
    (other,) = pools(supply)
    assert other is not pool


def test_idle_blocks_are_given_back(made, monkeypatch):
    supply, scheduler = made()
    supply.look([task(0)])
    (pool,) = pools(supply)
    pool.come_up()
    supply.look([])
    clock = time.monotonic()
    monkeypatch.setattr(block_supply.time, "monotonic", lambda: clock + 299.0)
    supply.look([])
    assert pools(supply) == [pool]
    monkeypatch.setattr(block_supply.time, "monotonic", lambda: clock + 302.0)
    scheduler.queue = [QueuedJob(pool.job_id, "cf-0-1", "running")]
    supply.look([])
    assert pools(supply) == []
    assert pool.stopped


def test_jobs_that_vanish_or_can_never_run(made, monkeypatch):
    supply, scheduler = made()
    clock = [time.monotonic()]
    monkeypatch.setattr(block_supply.time, "monotonic", lambda: clock[0])

    def look():
        clock[0] += 1.5
        return [why for _, why in supply.look([task(0)])]

    look()
    (job,) = scheduler.queue
    scheduler.silent = True
    assert [look() for _ in range(5)] == [[]] * 5  # nothing follows from silence
    scheduler.silent = False
    scheduler.queue = []
    assert look() == []
    assert look() == [f"its job {job.id} is no longer in the queue"]
    supply.bury(pools(supply)[0], "gone")
    clock[0] += 100.0
    look()
    (again,) = scheduler.queue
    scheduler.queue = [QueuedJob(again.id, "cf-0-1", "waiting", "PartitionTimeLimit", hopeless=True)]
    assert look() == [f"its job {again.id} waits for ever (PartitionTimeLimit)"]


def test_a_job_that_the_scheduler_says_has_ended(made, monkeypatch):
    supply, scheduler = made()
    clock = time.monotonic()
    supply.look([task(0)])
    (job,) = scheduler.queue
    scheduler.queue = [QueuedJob(job.id, "cf-0-1", "ended", "Evicted, the node ran out of memory")]
    monkeypatch.setattr(block_supply.time, "monotonic", lambda: clock + 2)
    assert supply.look([task(0)])[0][1] == f"its job {job.id} has ended (Evicted, the node ran out of memory)"


@pytest.mark.parametrize("first", ["queue", "workers"])
def test_the_walltime_counts_from_when_the_scheduler_says(made, monkeypatch, first):
    """Kubernetes counts the pull of an image too, of which the workers know nothing."""
    supply, scheduler = made()
    clock = time.monotonic()
    supply.look([task(0)])
    (pool,) = pools(supply)
    scheduler.queue = [QueuedJob(pool.job_id, "cf-0-1", "running", began=time.time() - 450.0)]
    if first == "queue":
        monkeypatch.setattr(block_supply.time, "monotonic", lambda: clock + 2)
        supply.look([task(0)])
    pool.come_up(age=10.0)
    supply.look([task(0)])
    monkeypatch.setattr(block_supply.time, "monotonic", lambda: clock + 4)
    supply.look([task(0)])
    assert supply._blocks[0].time_left(time.time()) == pytest.approx(150.0, abs=20.0)  # of a span of 600 s


def test_a_job_whose_workers_never_appear(made, monkeypatch):
    supply, scheduler = made()
    clock = time.monotonic()
    supply.look([task(0)])
    (job,) = scheduler.queue
    scheduler.queue = [QueuedJob(job.id, "cf-0-1", "running")]
    monkeypatch.setattr(block_supply.time, "monotonic", lambda: clock + 2)
    assert supply.look([task(0)]) == []
    monkeypatch.setattr(block_supply.time, "monotonic", lambda: clock + 303)
    assert "no worker appeared within 300 s" in supply.look([task(0)])[0][1]


def test_the_breaker_opens_with_the_last_message(made, monkeypatch):
    supply, scheduler = made()
    scheduler.refuses = "sbatch failed with status 1: Invalid account"
    clock = time.monotonic()
    before = FakePool.number
    for seconds in (0, 50, 99, 101, 150, 500, 5000):
        monkeypatch.setattr(block_supply.time, "monotonic", lambda s=seconds: clock + s)
        supply.look([task(0)])
    assert FakePool.number - before == 2
    with pytest.raises(ExecutionError, match=r"could not be started 2 times in a row. Last: sbatch failed") as error:
        supply.claim(task(0))
    assert "lanes.label" in error.value.todo


def test_submissions_of_all_lanes_are_capped(made):
    supply, _ = made(submit={"per_hour": 2, "failures": 2})
    for _ in range(5):
        supply.look([task(n) for n in range(9)])
    assert len(pools(supply)) == 2


def test_strays_and_leftovers_are_cancelled_by_name(made):
    supply, scheduler = made()
    supply.look([task(0)])
    mine = scheduler.queue[0]
    others = [QueuedJob("900", "cf-0-1", "running"), QueuedJob("901", "cf-9-1", "running")]
    scheduler.queue = [mine, *others, QueuedJob("902", "cf-0-0", "running")]
    supply._poll(time.monotonic())
    assert scheduler.cancelled == ["900"]  # a submission that seemed to fail
    supply.stop()
    assert scheduler.cancelled == ["900", mine.id, "902"]  # each once
    assert [j.id for j in scheduler.queue] == ["901"]
