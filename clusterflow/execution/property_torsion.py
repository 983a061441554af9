"""What the tasks of a torsional free energy do: a segment of metadynamics, and the reduction of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ase import Atoms

from clusterflow.core.protocols import Potential
from clusterflow.errors import ScienceError
from clusterflow.evaluate.property_result import PropertyResult
from clusterflow.evaluate.torsion_free_energy import torsion_free_energy
from clusterflow.execution.workplace import Workplace
from clusterflow.explore.metadynamics import MetadynamicsSettings, load_state, metadynamics
from clusterflow.physics.reweighting import joined_samples, load_samples
from clusterflow.physics.torsions import Wall

SAMPLES, STATE = "samples.npz", "state.npz"


def run_metadynamics(
    payload: Mapping[str, Any], start: Atoms, potential: Potential, place: Workplace
) -> dict[str, Any]:
    """One segment, from the relaxed structure or from where the segment before ended."""
    told = dict(payload["dynamics"])
    walls = tuple(Wall.from_json(w) for w in told.pop("walls"))
    torsions = tuple(tuple(t) for t in told.pop("torsions"))
    before = payload["before"]
    samples, state = metadynamics(
        start,
        potential,
        MetadynamicsSettings(torsions, walls=walls, **told),
        steps=payload["steps"],
        seed=payload["seed"],
        workdir=place.scratch,
        state=None if before is None else load_state(place.result("metadynamics", before) / STATE),
    )
    samples.save(place.out / SAMPLES)
    state.save(place.out / STATE)
    return {"structure": payload["structure"], "steps": state.steps, "samples": len(samples)}


def reduce_torsion_free_energy(payload: Mapping[str, Any], place: Workplace) -> PropertyResult:
    """Profiles, barriers and their errors from the segments of all replicas, as far as they came."""
    lost = payload.get("failed", ())
    if not payload["replicas"]:
        raise ScienceError(
            f"None of {len(lost)} replicas has a whole segment of metadynamics: {lost[0][3]}",
            todo="Mend the cause and run again with --retry-failed.",
        )
    missing = tuple(_missing(*told) for told in lost)
    replicas, biases = [], []
    for keys in payload["replicas"]:
        folders = [place.result("metadynamics", key) for key in keys]
        replicas.append(joined_samples([load_samples(f / SAMPLES) for f in folders]))
        biases.append(load_state(folders[-1] / STATE).bias)
    try:
        result = torsion_free_energy(
            replicas,
            temperature_K=payload["temperature_K"],
            bias_factor=payload["bias_factor"],
            biases=biases,
            bins=payload["bins"],
            discard=payload["discard"],
        )
    except ScienceError as error:
        if not missing:
            raise
        raise ScienceError(f"{error.what} {' '.join(missing)}", where=error.where, todo=error.todo) from error
    return replace(result, notes=(*missing, *result.notes))


def _missing(number: int, kept: int, wanted: int, reason: str, used: bool) -> str:
    """What a replica that failed lacks, for the reader of the result."""
    counts = "what it has counts" if used else "it is left out, as others have more" if kept else "it is left out"
    came = f"Replica {number} has {kept} of its {wanted} segments, and {counts}"
    return f"{came}; the next one failed: {reason.rstrip('.')}."
