"""What the tasks of a property run do: relaxations, rows of Hessians, dynamics, and their reduction to a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from clusterflow.core.frames import write_frames
from clusterflow.evaluate import energy_volume, heat_capacity
from clusterflow.evaluate.property_result import PropertyResult
from clusterflow.evaluate.relaxation import relax as relaxation
from clusterflow.execution.property_dynamics import (
    dynamics,
    reduce_pressure_volume,
    reduce_thermal_expansion,
    reduce_vibrational_spectrum,
    vibrations,
)
from clusterflow.execution.property_inputs import modes_of, potential_of, relaxed_structure
from clusterflow.execution.property_torsion import reduce_torsion_free_energy, run_metadynamics
from clusterflow.execution.workplace import Workplace


def relax(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """A structure at rest, at a volume or at the potential's own."""
    atoms = place.system(payload["structure"])
    if payload["ratio"] != 1.0 or payload["freedom"] == "shape":
        atoms = energy_volume.scaled(atoms, payload["ratio"])
    if "rattle" in payload:
        atoms.rattle(payload["rattle"], rng=np.random.default_rng(payload["seed"]))
    settings = {k: payload[k] for k in ("fmax", "max_steps", "optimiser") if k in payload}
    found = relaxation(
        atoms,
        potential_of(payload["potential"], place),
        freedom=payload["freedom"],
        log=place.scratch / "relaxation.log",
        **settings,
    )
    point = energy_volume.volume_point(payload["ratio"], found) if atoms.pbc.all() else None
    write_frames(place.out / "relaxed.extxyz", [found.atoms])
    # extxyz rounds to eight digits; second derivatives are wanted at the minimum itself
    np.savez(place.out / "relaxed.npz", positions=found.atoms.positions, cell=found.atoms.cell.array)
    told = point.to_json() if point is not None else {"energy": found.energy, "max_force": found.max_force}
    (place.out / "point.json").write_text(json.dumps(told), encoding="utf-8")
    return {**told, "structure": payload["structure"], "steps": found.steps}


def metadynamics(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """A piece of a metadynamics run."""
    start, potential = relaxed_structure(payload["relaxed"], place), potential_of(payload["potential"], place)
    return run_metadynamics(payload, start, potential, place)


def hessian(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Rows of the Hessian of some atoms in a supercell of a relaxed structure."""
    atoms = relaxed_structure(payload["relaxed"], place)
    first, last = payload["atoms"]
    step = {"step": payload["displacement"]} if "displacement" in payload else {}
    rows = heat_capacity.hessian_rows(
        atoms, potential_of(payload["potential"], place), range(first, last), tuple(payload["repeat"]), **step
    )
    np.savez_compressed(place.out / "rows.npz", rows=rows)
    return {"structure": payload["structure"], "atoms": [first, last], "largest": float(np.abs(rows).max())}


def reduce_energy_volume(payload: Mapping[str, Any], place: Workplace) -> PropertyResult:
    """The curve and its fits."""
    points = []
    for _, key in payload["points"]:
        told = json.loads((place.result("relax", key) / "point.json").read_text(encoding="utf-8"))
        points.append(energy_volume.VolumePoint(**told))
    return energy_volume.energy_volume(
        points,
        n_atoms=len(place.system(payload["structure"])),
        failed={float(ratio): reason for ratio, reason in payload["failed"]},
        agreement=payload["agreement"],
        min_points=payload["min_points"],
    )


def reduce_heat_capacity(payload: Mapping[str, Any], place: Workplace) -> PropertyResult:
    """Modes and what follows from them."""
    atoms = relaxed_structure(payload["relaxed"], place)
    cells = [
        heat_capacity.Cell(tuple(c["repeat"]), c["precision"], modes_of(atoms, c["repeat"], c["rows"], place))
        for c in payload["cells"]
    ]
    references = []
    for known in payload["references"]:
        other = relaxed_structure(known["relaxed"], place)
        modes = modes_of(other, known["repeat"], known["rows"], place)
        references.append(heat_capacity.Reference(other, modes, known["temperature_K"], known["value"]))
    return heat_capacity.heat_capacity_result(
        atoms,
        cells,
        temperature=payload["temperature_K"],
        temperatures=payload["temperatures_K"],
        lowest=payload["lowest"],
        scaling=payload["scaling"],
        references=references,
    )


REDUCTIONS: Mapping[str, Callable[[Mapping[str, Any], Workplace], PropertyResult]] = {
    "energy_volume": reduce_energy_volume,
    "heat_capacity": reduce_heat_capacity,
    "torsion_free_energy": reduce_torsion_free_energy,
    "pressure_volume": reduce_pressure_volume,
    "thermal_expansion": reduce_thermal_expansion,
    "vibrational_spectrum": reduce_vibrational_spectrum,
}


def reduce(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """The result of one property of one structure, published as ``property.json``."""
    result = REDUCTIONS[payload["property"]](payload, place)
    provenance = {k: payload[k] for k in ("structure", "identity", "potential", "fmax")}
    result = replace(result, provenance=provenance)
    (place.out / "property.json").write_text(json.dumps(result.to_json(), ensure_ascii=False), encoding="utf-8")
    told = {name: q.value for name, q in result.quantities.items()}
    more = {"wanted": list(result.wanted)} if result.wanted else {}
    return {"property": payload["property"], "structure": payload["structure"], "quantities": told, **more}


PROPERTY_STAGES: Mapping[str, Callable[[Mapping[str, Any], Workplace], dict[str, Any]]] = {
    "relax": relax,
    "hessian": hessian,
    "metadynamics": metadynamics,
    "dynamics": dynamics,
    "vibrations": vibrations,
    "property": reduce,
}
"""Kinds of task of a property run → what each does."""
