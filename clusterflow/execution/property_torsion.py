"""What the tasks of a torsional free energy do: a segment of metadynamics, and the reduction of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ase import Atoms

from clusterflow.core.protocols import Potential
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
    """Profiles, barriers and their errors from the segments of all replicas."""
    replicas, biases = [], []
    for keys in payload["replicas"]:
        folders = [place.result("metadynamics", key) for key in keys]
        replicas.append(joined_samples([load_samples(f / SAMPLES) for f in folders]))
        biases.append(load_state(folders[-1] / STATE).bias)
    return torsion_free_energy(
        replicas,
        temperature_K=payload["temperature_K"],
        bias_factor=payload["bias_factor"],
        biases=biases,
        bins=payload["bins"],
        discard=payload["discard"],
    )
