"""Pools on the blocks of a cluster: jobs are submitted when tasks wait, given back when idle, replaced when lost.

A task goes to a block only if it can end there: within its time limit, or within twice the time that the longest of its
kind has taken (before any was measured: within a quarter of a block). One that may need more than a whole block is sent
to a fresh one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clusterflow.errors import ClusterflowError, ExecutionError
from clusterflow.execution.block_pool import BlockPool
from clusterflow.execution.breaker import Breaker, HourlyLimit
from clusterflow.execution.machines import LANES, BatchMachine
from clusterflow.execution.parsl_pool import ParslPool, PoolShape
from clusterflow.execution.scheduler_calls import QueuedJob
from clusterflow.execution.schedulers import Scheduler
from clusterflow.execution.supply import Job, Later
from clusterflow.state.queue_waits import note_wait

START_LIMIT = 300.0
"""Seconds within which the workers of a running job must appear (a cold Python on a slow disk takes a minute)."""
FRESH = 0.9
"""A block with this share of its time left is fresh: any task may begin there."""
UNKNOWN = 0.25
"""Share of a block that a task is taken to need while nothing is known of its kind."""
SPARE = 30.0
"""Seconds on top of twice the longest time seen."""
_MISSED = 2  # looks at the queue that a job must miss before it counts as gone
_USUAL = ("", "None", "Priority", "Resources", "BeginTime")  # reasons to wait that nobody needs to hear

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Block:
    """One block: waits in the queue, has its workers up (``ends``: Unix time when no task may run any more), is gone.
    ``touched``: a task was sent to it; ``worked``: a worker took one up."""

    pool: BlockPool
    lane: str
    submitted: float
    slots: int = 0
    ends: float = math.inf
    used: float = 0.0
    running_since: float | None = None
    missed: int = 0
    reason: str = ""
    touched: bool = False
    worked: bool = False
    held: list[Job] = field(default_factory=list)

    def time_left(self, now: float) -> float:
        """Seconds (of Unix time ``now``) in which tasks may run; all of them while it waits."""
        return min(self.pool.span, self.ends - now)


class BlockSupply:
    """Blocks for all lanes of a cluster."""

    def __init__(
        self,
        machine: BatchMachine,
        scheduler: Scheduler,
        lock: threading.RLock,
        *,
        address: str,
        new_folder: Callable[[str], Path],
        run_id: str,
        job_name: str,
        mark: str,
    ) -> None:
        self._machine, self._scheduler, self._lock = machine, scheduler, lock
        self._address, self._new_folder = address, new_folder
        self._run_id, self._job_name, self._mark = run_id, job_name, mark
        self._lane_of = {name: machine.block_lane(name) for name in LANES}
        self._blocks: list[Block] = []
        self._breakers = {name: Breaker(machine.submit) for name in machine.block_lanes()}
        self._hourly = HourlyLimit(machine.submit.per_hour)
        self._longest: dict[str, float] = {}
        self._polled = -math.inf
        self._over: set[str] = set()

    # -- tasks (with the lock held) -----------------------------------------------------------------------------

    def claim(self, job: Job) -> ParslPool | Later:
        lane = self._lane_of[job.task.lane]
        breaker = self._breakers[lane]
        if breaker.open:
            raise ExecutionError(
                f"The blocks of lane '{lane}' could not be started {breaker.failures} times in a row. Last: "
                f"{breaker.reason}",
                where=breaker.where,
                todo=f"Correct lanes.{lane} of the machine file.",
            )
        now = time.time()
        fitting = [b for b in self._blocks if b.lane == lane and len(b.held) < b.slots and self._fits(job, b, now)]
        if not fitting:
            return "wait"
        block = min(fitting, key=lambda b: b.ends)  # the oldest first, so that the youngest can take the longest
        block.held.append(job)
        block.touched = True
        return block.pool

    def _fits(self, job: Job, block: Block, now: float) -> bool:
        left, span = block.time_left(now), block.pool.span
        return left >= self.needed(job, span) or (not block.touched and left >= span / 2)

    def needed(self, job: Job, span: float) -> float:
        """Seconds that a block of this span must have left for a task."""
        longest = self._longest.get(job.task.kind)
        guess = UNKNOWN * span if longest is None else 2.0 * longest + SPARE
        return min(job.task.time_limit, guess, FRESH * span)

    def release(self, job: Job, seconds: float | None) -> None:
        for block in self._blocks:
            if job in block.held:
                block.held.remove(job)
                block.used = time.monotonic()
                block.worked = block.worked or bool(job.progress and job.progress.was_taken_up())
                if seconds is not None:
                    block.worked = True
                    self._breakers[block.lane].worked()
                elif job.progress and block.time_left(time.time()) <= 0:  # cut off: it needs longer than this
                    seconds = job.progress.running_for(time.monotonic())
        if seconds is not None:
            self._longest[job.task.kind] = max(seconds, self._longest.get(job.task.kind, 0.0))

    # -- blocks (in the watchdog's thread) ----------------------------------------------------------------------

    def look(self, waiting: Sequence[Job]) -> list[tuple[ParslPool, str]]:
        now = time.monotonic()
        if self._blocks and now - self._polled >= self._machine.poll:
            self._polled = now
            self._poll(now)
        for block in self._blocks:
            self._greet(block)
        for lane in self._machine.block_lanes():
            wanting = [j for j in waiting if self._lane_of[j.task.lane] == lane]
            self._return_idle(lane, wanting, now)
            self._submit(lane, wanting, now)
        return [(b.pool, why) for b in self._blocks if (why := b.pool.dead())]

    def _poll(self, now: float) -> None:
        """Compares the queue with what should be there."""
        try:
            jobs = {j.id: j for j in self._scheduler.jobs()}
        except ClusterflowError as error:
            log.warning("the queue cannot be seen: %s", error)  # nothing follows: blocks that live answer themselves
            return
        known = {b.pool.job_id for b in self._blocks}
        strays = [j.id for j in jobs.values() if j.name == self._job_name and j.id not in known | self._over]
        self._cancel(strays, "which a failed submission left behind")
        for block in self._blocks:
            self._compare(block, jobs.get(block.pool.job_id), now)

    def _compare(self, block: Block, job: QueuedJob | None, now: float) -> None:
        if job is None:
            block.missed += 1
            if block.missed >= _MISSED:
                block.pool.give_up(f"its job {block.pool.job_id} is no longer in the queue")
            return
        block.missed = 0
        if job.phase == "waiting" and job.reason != block.reason and job.reason not in _USUAL:
            log.warning("job %s of lane %s waits: %s", job.id, block.lane, job.reason)
        block.reason = job.reason
        if job.phase == "ended":
            block.pool.give_up(f"its job {job.id} has ended ({job.reason})")
        if job.began is not None:
            block.ends = min(block.ends, job.began + block.pool.span)
        if job.hopeless:
            block.pool.give_up(f"its job {job.id} waits for ever ({job.reason})")
        if job.phase == "running" and block.running_since is None:
            block.running_since = now
        if block.slots == 0 and block.running_since is not None and now - block.running_since > START_LIMIT:
            block.pool.give_up(f"its job {job.id} runs, but no worker appeared within {START_LIMIT:.0f} s")

    def _greet(self, block: Block) -> None:
        """Counts the nodes whose workers are up."""
        lane = block.pool.lane
        if block.slots == lane.nodes * lane.workers or not (nodes := block.pool.nodes_up()):
            return
        began = [float(s["began"]) for s in block.pool.supervisors() if "began" in s]
        with self._lock:
            if block.slots == 0:
                block.used = time.monotonic()
                waited = block.used - block.submitted
                log.info("job %s of lane %s is up after %.0f s", block.pool.job_id, block.lane, waited)
                note_wait(block.pool.folder, block.lane, block.pool.job_id, waited)
            block.slots = min(nodes, lane.nodes) * lane.workers
            block.ends = min(block.ends, min(began, default=time.time()) + block.pool.span)

    def _return_idle(self, lane: str, waiting: Sequence[Job], now: float) -> None:
        """Gives back blocks that nobody needs: idle for long, or with too little time left for any task that waits."""
        kept = self._machine.lane(lane).blocks.min
        back: list[Block] = []
        with self._lock:
            for block in [b for b in self._blocks if b.lane == lane and b.slots and not b.held]:
                useful = any(self._fits(j, block, time.time()) for j in waiting)
                spent = block.time_left(time.time()) <= 0 or bool(waiting and not useful)
                many = sum(b.lane == lane for b in self._blocks) > kept
                if spent or (not useful and many and now - block.used > self._machine.idle):
                    self._blocks.remove(block)
                    back.append(block)
        for block in back:
            self._end(block)
            if not block.touched and block.time_left(time.time()) < block.pool.span / 2:
                self._failed(lane, "Its workers came up when half of its time was over.", str(block.pool.folder))

    def _submit(self, lane: str, waiting: Sequence[Job], now: float) -> None:
        """At most one block at a time, if there is work for it."""
        settings, breaker = self._machine.lane(lane), self._breakers[lane]
        there = [b for b in self._blocks if b.lane == lane]
        open_slots = sum(
            (b.slots or settings.nodes * settings.workers) - len(b.held)
            for b in there
            if not waiting or any(self._fits(j, b, time.time()) for j in waiting)
        )
        wanted = len(there) < settings.blocks.min or len(waiting) > open_slots
        if not wanted or len(there) >= settings.blocks.max or not breaker.allows(now) or not self._hourly.allows(now):
            return
        self._hourly.count(now)
        pool = self._new_pool(lane)
        try:
            pool.start()
        except ClusterflowError as error:
            pool.stop()
            self._failed(lane, error.what, error.where)
            return
        with self._lock:
            self._blocks.append(Block(pool, lane, submitted=now, used=now))
        log.info("job %s of lane %s was submitted", pool.job_id, lane)

    def _new_pool(self, lane: str) -> BlockPool:
        settings, folder = self._machine.lane(lane), self._new_folder(lane)
        return BlockPool(
            PoolShape(lane, settings.workers, settings.cores_per_worker),
            folder,
            machine=self._machine,
            lane=settings,
            scheduler=self._scheduler,
            address=self._address,
            job_name=self._job_name,
            run_id=self._run_id,
            mark=f"{self._mark}:{folder.name}",
        )

    def bury(self, pool: ParslPool, why: str) -> bool:
        with self._lock:
            block = next((b for b in self._blocks if b.pool is pool), None)
            if block is None:
                return False
            self._blocks.remove(block)
            at_its_end = block.time_left(time.time()) <= 0
        error = pool.lost(f"{why} (job {block.pool.job_id})")
        self._end(block)
        if not block.worked and not at_its_end:
            self._failed(block.lane, error.what, error.where)
        return at_its_end

    def _end(self, block: Block) -> None:
        self._over.add(block.pool.job_id)  # it may be seen in the queue for a while yet
        block.pool.stop()

    def _failed(self, lane: str, reason: str, where: str) -> None:
        breaker = self._breakers[lane]
        now = time.monotonic()
        with self._lock:
            breaker.failed(now, reason, where)
        log.warning(
            "a block of lane %s could not start (%d in a row, at most %d; next try in %.0f s): %s\n%s",
            *(lane, breaker.failures, self._machine.submit.failures, breaker.wait(now), reason, where),
        )

    def stop(self) -> None:
        with self._lock:
            blocks, self._blocks = self._blocks, []
        for block in blocks:
            self._end(block)
        try:
            self.cancel_leftovers("of this run", known=self._over)
        except ClusterflowError as error:
            log.warning("the queue cannot be searched for leftovers: %s", error)

    def cancel_leftovers(self, whose: str, *, known: Container[str] = ()) -> None:
        """Cancels every job in the queue that bears this campaign's name, but for the ``known`` ones.

        Raises
        ------
        ExecutionError
            The queue cannot be seen.
        """
        campaign = self._job_name.rpartition("-")[0] + "-"
        jobs = self._scheduler.jobs()
        self._cancel([j.id for j in jobs if j.name.startswith(campaign) and j.id not in known], whose)

    def _cancel(self, ids: Sequence[str], whose: str) -> None:
        if not ids:
            return
        log.warning("cancelling jobs %s, %s", ", ".join(ids), whose)
        try:
            self._scheduler.cancel(ids)
        except ClusterflowError as error:
            log.warning("they cannot be cancelled: %s", error)
