"""Whether the potential of a property file can compute its structures: one force call for each, before a run begins.

It happens in a process of its own with a time limit, `python -m clusterflow.campaign.property_trial FOLDER`: a
calculator may be a DFT program that takes hours, or end its process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from ase import Atoms

from clusterflow.campaign.property_graph import PropertyInputs
from clusterflow.campaign.property_plan import property_jobs
from clusterflow.config.potential import Model, Potential, read_potential
from clusterflow.config.properties import PropertyRun
from clusterflow.config.section import to_json
from clusterflow.core.frames import content_hash, read_frames, write_frames
from clusterflow.errors import ClusterflowError, InputError
from clusterflow.label.process import run_in_session

LARGE: Final = 1000
"""Atoms from which on a structure is not tried."""
START, EACH = 60.0, 30.0
"""Seconds for the process to begin, and for each structure."""
Outcome = Literal["works", "fails", "not tried"]


@dataclass(frozen=True, slots=True)
class Trial:
    """Structures that are equal, by their names, and what one force call for them gave: ``told`` in words."""

    structures: tuple[str, ...]
    formula: str
    n_atoms: int
    outcome: Outcome
    told: str


def stress_needed(config: PropertyRun, inputs: PropertyInputs, only: Sequence[str] = ()) -> dict[str, str]:
    """Structures of the chosen properties → a property that relaxes the cell, so needs stress; "" if none does."""
    needed: dict[str, str] = {}
    for job in property_jobs(config, inputs, only):
        relaxes = any(s.task.payload.get("freedom") in ("shape", "cell") for s in job.steps)
        before = needed.get(job.structure.name, "")
        needed[job.structure.name] = before or (job.settings.name if relaxes else "")
    return needed


def try_potential(
    potential: Potential, structures: Mapping[str, Atoms], stress: Mapping[str, str], *, large: int = LARGE,
    start: float = START, each: float = EACH,
) -> list[Trial]:  # fmt: skip
    """One force call for each distinct structure, smallest first; see `stress_needed` for ``stress``.

    Those with more than ``large`` atoms, and those that the time (``start`` s + ``each`` s per structure) is too short
    for, are not tried.
    """
    equal: dict[str, list[str]] = {}
    for name, atoms in structures.items():
        equal.setdefault(content_hash(atoms), []).append(name)
    groups = sorted(equal.values(), key=lambda names: len(structures[names[0]]))
    small = [names for names in groups if len(structures[names[0]]) <= large]
    found: list[tuple[Outcome, str]] = []
    if small:
        wanted = [next((stress[n] for n in names if stress.get(n)), "") for names in small]
        limit = start + each * len(small)
        found = _in_a_process(potential, [structures[names[0]] for names in small], wanted, limit)
    found += [("not tried", f"more than {large} atoms")] * (len(groups) - len(small))
    return [
        Trial(tuple(names), structures[names[0]].get_chemical_formula(), len(structures[names[0]]), *told)
        for names, told in zip(groups, found, strict=True)
    ]


def require_all_work(trials: Sequence[Trial], potential: str) -> None:
    """Raises InputError, which names the structures, if the potential cannot compute some."""
    failed = [t for t in trials if t.outcome == "fails"]
    if failed:
        told = "".join(f"\n  {', '.join(t.structures)} ({t.formula}): {t.told}" for t in failed)
        raise InputError(
            f"'{potential}' cannot compute {sum(len(t.structures) for t in failed)} of "
            f"{sum(len(t.structures) for t in trials)} structures:{told}",
            where=f"structure '{failed[0].structures[0]}'",
            todo="Take another `potential:`, one that knows these elements and boundaries, or leave these structures "
            "out (`structures:` of a property lists which it is computed for).",
        )


def _in_a_process(
    potential: Potential, structures: Sequence[Atoms], stress: Sequence[str], limit: float
) -> list[tuple[Outcome, str]]:
    with tempfile.TemporaryDirectory(prefix="clusterflow-trial-") as scratch:
        folder = Path(scratch)
        for n, atoms in enumerate(structures):
            write_frames(folder / f"{n}.extxyz", [atoms])
        request = {"potential": to_json(potential), "stress": list(stress)}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        ended = run_in_session(
            [sys.executable, "-m", "clusterflow.campaign.property_trial", scratch],
            folder=Path.cwd(), log=folder / "log", environment={**os.environ, "OMP_NUM_THREADS": "1"}, time_limit=limit,
        )  # fmt: skip
        lines = (folder / "found").read_text(encoding="utf-8").splitlines() if (folder / "found").is_file() else []
        found: list[tuple[Outcome, str]] = [tuple(json.loads(line)) for line in lines]
        log = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if len(found) < len(structures) and not ended.timed_out:
        code = ended.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        found.append(("fails", f"its process ended with {how}" + (f": {log[-1]}" if log else "")))
    if len(found) < len(structures) and ended.timed_out:
        found.append(("not tried", f"one force call did not end in the {limit:.0f} s that it had"))
    left = len(structures) - len(found)
    why = "the one before it took too long" if ended.timed_out else "the one before it ended the process"
    found += [("not tried", why)] * left
    return found


def _try_in(folder: Path) -> None:
    """The process: a line of JSON in the file ``found`` for each structure."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    section = read_potential(request["potential"])
    with (folder / "found").open("w", encoding="utf-8") as out:
        potential = None
        for n, stress in enumerate(request["stress"]):
            if _needs_gpu_elsewhere(section):
                told: tuple[Outcome, str] = ("not tried", "this computer shows no GPU, which `device: cuda` asks for")
            else:
                if potential is None:
                    built = section.build(section.model_folder()) if isinstance(section, Model) else section.build()
                    potential = built
                told = _tried(potential, read_frames(folder / f"{n}.extxyz")[0], stress)
            out.write(json.dumps(told) + "\n")
            out.flush()


def _needs_gpu_elsewhere(section: Potential) -> bool:
    if not isinstance(section, Model) or section.device != "cuda":
        return False
    import torch

    return not torch.cuda.is_available()


def _tried(potential: Any, atoms: Atoms, stress: str) -> tuple[Outcome, str]:
    began = time.monotonic()
    try:
        found = potential.predict([atoms])[0]
    except ClusterflowError as error:
        cause = error.__cause__
        return "fails", error.what.splitlines()[0] if cause is None else f"{type(cause).__name__}: {cause}"
    except Exception as error:  # potentials of others raise whatever they meet
        return "fails", f"{type(error).__name__}: {error}"
    if not (np.isfinite(found.energy) and np.isfinite(found.forces).all()):
        return "fails", "its energy or forces are not finite numbers"
    if stress and found.stress is None:
        return "fails", f"it gives no stress, which {stress} needs to relax the cell"
    if stress and not np.isfinite(found.stress).all():
        return "fails", "its stress is not finite"
    largest = float(np.sqrt((found.forces**2).sum(axis=1).max()))
    return "works", f"largest force {largest:.3f} eV/Å, {time.monotonic() - began:.1f} s"


if __name__ == "__main__":
    _try_in(Path(sys.argv[1]))
