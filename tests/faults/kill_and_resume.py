"""Kills a real campaign with -9 in its stages, resumes it each time, and checks what was promised.

    python tests/faults/kill_and_resume.py configs/quickstart.yaml RUN_FOLDER [--stages …] [--whole FOLDER]

Promised: the campaign ends with exit 0, its journal verifies, no label was computed twice, no process of a killed
driver outlives it by more than 20 s, and (with --whole, a run of the same file that nobody disturbed) the decisions and
so the selected fragments are the same.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from clusterflow.errors import StateError
from clusterflow.state.journal import Event, decisions_digest, read_events

ORPHAN_SECONDS = 20.0


def events_of(folder: Path) -> list[Event]:
    """The journal so far."""
    try:
        return read_events(folder / "journal.jsonl")
    except StateError:
        return []


def in_flight(folder: Path, kind: str) -> set[str]:
    """Keys of that kind which were sent and have not ended."""
    sent: set[str] = set()
    for event in events_of(folder):
        if event.kind == "opened":
            sent.clear()
        if event.data.get("task") == kind:
            if event.kind == "sent":
                sent.add(event.data["key"])
            elif event.kind in ("done", "failed"):
                sent.discard(event.data["key"])
    return sent


def start(config: Path, folder: Path, engine: str) -> subprocess.Popen[bytes]:
    """A driver in a session of its own, its output in a file beside the run folder."""
    log = folder.with_name(folder.name + ".log").open("ab")
    command = [sys.executable, "-m", "clusterflow.cli.main", "run", str(config)]
    command += ["--folder", str(folder), "--engine", engine]
    return subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
    )


def family(folder: Path, driver: int) -> list[psutil.Process]:
    """Every living process that works for the campaign in this folder, whoever its parent is now.

    A worker pool detaches itself from the driver, so kinship does not tell; command line, working directory and
    environment do.
    """
    mark = str(folder.absolute())
    own = {driver, os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.cwd(), *process.environ().values()]
            if process.pid not in own and any(mark in word for word in words):
                found += [process, *process.children(recursive=True)]
        except psutil.Error:
            continue
    return list(dict.fromkeys(found))


def kill_during(kind: str, config: Path, folder: Path, engine: str, *, deadline: float, delay: float) -> int:
    """Runs until a task of that kind is under way, kills the driver with -9, waits for its family to die.

    Returns how many processes it had.
    """
    driver = start(config, folder, engine)
    end = time.monotonic() + deadline
    while not in_flight(folder, kind):
        if driver.poll() is not None:
            raise SystemExit(f"the campaign ended (exit {driver.returncode}) before a {kind} task was seen")
        if time.monotonic() > end:
            driver.kill()
            raise SystemExit(f"no {kind} task within {deadline:.0f} s")
        time.sleep(0.05)
    time.sleep(delay)
    relatives = family(folder, driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    end = time.monotonic() + ORPHAN_SECONDS
    while (alive := family(folder, driver.pid)) and time.monotonic() < end:
        time.sleep(0.1)
    if alive:
        raise SystemExit(
            f"orphans {ORPHAN_SECONDS:.0f} s after kill -9 during {kind}: {[p.cmdline()[:4] for p in alive]}"
        )
    if not relatives:
        raise SystemExit("no process of the campaign was seen, so nothing was tested")
    return len(relatives)


def verify(folder: Path, whole: Path | None) -> dict[str, object]:
    """The promises about journal, labels and decisions."""
    events = events_of(folder)
    computed = Counter(line.split()[0] for line in (folder / "computed.log").read_text().splitlines())
    done = Counter(e.data["key"] for e in events if e.kind == "done")
    found: dict[str, object] = {
        "events": len(events),
        "drivers": sum(e.kind == "opened" for e in events),
        "labels": sum(e.kind == "done" and e.data["task"] == "label" for e in events),
        "labels computed twice": sum(n > 1 for n in computed.values()),
        "tasks done twice": sum(n > 1 for n in done.values()),
        "finished": events[-1].data.get("reason") if events[-1].kind == "finished" else None,
        "decisions": decisions_digest(events)[:16],
    }
    if whole is not None:
        found["same decisions as the undisturbed run"] = decisions_digest(events_of(whole)) == decisions_digest(events)
    bad = found["labels computed twice"] or found["tasks done twice"] or not found["finished"]
    if bad or found.get("same decisions as the undisturbed run") is False:
        raise SystemExit(f"a promise is broken: {found}")
    return found


def kill_and_resume(
    config: Path,
    folder: Path,
    stages: list[str],
    *,
    whole: Path | None = None,
    engine: str = "parsl",
    deadline: float = 1800.0,
    delay: float = 1.0,
) -> dict[str, object]:
    """Kills in each stage in turn, then runs to the end and verifies."""
    for stage in stages:
        processes = kill_during(stage, config, folder, engine, deadline=deadline, delay=delay)
        print(f"killed during {stage}: {processes} processes, all gone within {ORPHAN_SECONDS:.0f} s", flush=True)
    code = start(config, folder, engine).wait(timeout=deadline)
    if code != 0:
        tail = folder.with_name(folder.name + ".log").read_text()[-2000:]
        raise SystemExit(f"the resumed campaign ended with exit {code}:\n{tail}")
    return verify(folder, whole)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", nargs="+", default=["label", "train", "explore"])
    parser.add_argument("--whole", type=Path, help="run folder of an undisturbed run of the same file")
    parser.add_argument("--engine", default="parsl", choices=["parsl", "serial"])
    parser.add_argument("--delay", type=float, default=1.0, help="seconds between the task's start and the kill")
    given = parser.parse_args()
    outcome = kill_and_resume(
        given.config, given.folder, given.stages, whole=given.whole, engine=given.engine, delay=given.delay
    )
    for name, value in outcome.items():
        print(f"{name}: {value}")
