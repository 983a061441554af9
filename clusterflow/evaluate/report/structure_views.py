"""Structures to be drawn: fragments, test frames with their errors, explored frames with their novelty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.data import FloatArray, IntArray
from clusterflow.core.frames import certificate_from_atoms
from clusterflow.evaluate.report.collect import rounded
from clusterflow.evaluate.report.data import StructureView

MAX_DRAWN = 600
"""Atoms of a structure that are drawn; of a larger one those around an atom."""
FORCE_ERROR = "force error [meV/Å]"
_BOUND = "bound of the force error [meV/Å]"


def structure_view(
    atoms: Atoms,
    *,
    name: str = "",
    status: str = "",
    iteration: int | None = None,
    label_seconds: float | None = None,
    scalars: Mapping[str, FloatArray] | None = None,
    marked: Sequence[int] = (),
    bonds: Sequence[tuple[int, int]] | None = None,
    unit: str = "nats",
) -> StructureView:
    """A structure to be drawn, from annotated atoms (`core.frames.fragment_to_atoms`); missing annotations stay empty.

    ``iteration`` that asked for it, if the atoms do not say so.

    ``scalars``: name with unit → (n,) values to colour by, NaN = unknown. ``bonds`` None = pairs closer than 1.2 × the
    sum of their covalent radii, none across the faces of a cell. ``unit`` of the novelty.
    """
    info = atoms.info
    region = atoms.arrays.get(keys.REGION)
    iteration = info.get(keys.ITERATION, iteration)
    values = {**_noted(atoms, unit), **(scalars or {})}
    novelty = values.get(novelty_name(unit))
    return StructureView(
        name=name or str(info.get(keys.FRAGMENT, ""))[:12] or str(atoms.get_chemical_formula()),
        symbols=tuple(str(s) for s in atoms.get_chemical_symbols()),
        positions=tuple(_xyz(p) for p in atoms.get_positions()),
        regions=() if region is None else tuple(str(r) for r in region),
        bonds=tuple(bonds) if bonds is not None else _bonds(atoms),
        system=str(info.get(keys.SYSTEM, "")),
        iteration=None if iteration is None else int(iteration),
        kind=str(info.get(keys.KIND, "")),
        formula=str(atoms.get_chemical_formula(mode="hill")),
        charge=int(info.get(keys.CHARGE, 0)),
        spin=int(info.get(keys.SPIN, 0)),
        status=status,
        label_seconds=label_seconds,
        novelty=float(np.nanmax(novelty)) if novelty is not None and np.isfinite(novelty).any() else None,
        certificate=_claim(atoms),
        cell=tuple(_xyz(v) for v in np.asarray(atoms.cell)) if atoms.pbc.all() else (),
        scalars={k: tuple(float(f"{x:.4g}") if np.isfinite(x) else None for x in v) for k, v in values.items()},
        marked=tuple(int(k) for k in marked),
    )


def around(atoms: Atoms, index: int, limit: int = MAX_DRAWN) -> tuple[Atoms, IntArray]:
    """The ``limit`` atoms nearest to one, unwrapped around it and without a cell, and which they are; a structure that
    has no more stays as it is."""
    if len(atoms) <= limit:
        return atoms, np.arange(len(atoms))
    vectors = atoms.get_distances(index, range(len(atoms)), mic=True, vector=True)
    near = np.sort(np.argsort((vectors**2).sum(axis=1), kind="stable")[:limit])
    part: Atoms = atoms[near]
    part.positions = atoms.positions[index] + vectors[near]
    part.pbc, part.cell = False, None
    return part, near


def novelty_name(unit: str) -> str:
    """What the novelty of an atom is called."""
    return f"novelty [{unit}]"


def _noted(atoms: Atoms, unit: str) -> dict[str, FloatArray]:
    """What fragments carry per atom: novelty, and the bound of their certificate."""
    found: dict[str, FloatArray] = {}
    if keys.NOVELTY in atoms.arrays:
        real = atoms.arrays.get(keys.PARENT, np.zeros(len(atoms))) >= 0
        found[novelty_name(unit)] = np.where(real, atoms.arrays[keys.NOVELTY], np.nan)
    certificate = certificate_from_atoms(atoms)
    if certificate is not None and np.isfinite(certificate.bound).any():
        found[_BOUND] = 1000.0 * np.where(np.isfinite(certificate.bound), certificate.bound, np.nan)
    return found


def _claim(atoms: Atoms) -> str:
    """What the certificate of a fragment says, in words."""
    certificate = certificate_from_atoms(atoms)
    if certificate is None:
        return ""
    if certificate.confidence == 0.0:
        return f"about {1000.0 * float(certificate.estimate[certificate.required].max()):.0f} meV/Å, not confirmed yet"
    worst = 1000.0 * float(certificate.bound[certificate.required].max())
    claim = f"≤ {worst:.0f} meV/Å ({certificate.confidence:.0%})"
    return claim if certificate.passed else f"{claim}: not certified"


def _xyz(position: FloatArray) -> tuple[float, float, float]:
    x, y, z = rounded(position, 3)
    return x, y, z


def _bonds(atoms: Atoms) -> tuple[tuple[int, int], ...]:
    from ase.data import covalent_radii
    from scipy.spatial import cKDTree

    radii = covalent_radii[atoms.numbers]
    pairs = cKDTree(atoms.positions).query_pairs(2.4 * float(radii.max()), output_type="ndarray")
    if not len(pairs):
        return ()
    i, j = pairs.T
    distance = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    near = pairs[distance < 1.2 * (radii[i] + radii[j])]
    return tuple((int(a), int(b)) for a, b in near[np.lexsort((near[:, 1], near[:, 0]))])
