"""From labelled ASE frames to NequIP's graphs, and the dataset statistics a new model starts from.

A graph here is NequIP's `AtomicDataDict` with edge vectors instead of positions, cell and shifts. Energies depend on
the edge vectors alone, so finite and periodic frames of any cell are one kind of data, and forces and stress follow
from dE/d(edge vector). Nothing is written to disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from clusterflow.core import keys
from clusterflow.core.data import FloatArray, IntArray
from clusterflow.core.frames import content_hash, digest
from clusterflow.errors import InputError, LevelOfTheoryError, StructureError

Graph = dict[str, Any]
FORCE_WEIGHT = "force_weight"
"""Entry of a labelled graph: (n,) what the force label of each atom is worth."""
"""NequIP's AtomicDataDict: str → torch.Tensor."""

_SHIFT_RIDGE = 1e-4
"""Weight of the pull of the energy shifts to their mean: it decides only what the compositions leave open."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a new model starts from.

    ``avg_num_neighbors``: mean number of atoms within the cutoff. ``shifts`` eV and ``scales`` eV/Å by element: energy
    of an atom, and RMS of its force components. ``force_rms`` eV/Å over all atoms.
    """

    avg_num_neighbors: float
    shifts: Mapping[str, float]
    scales: Mapping[str, float]
    force_rms: float

    def to_json(self) -> dict[str, Any]:
        """JSON data from which `from_json` makes an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**data)


def check_elements(elements: Sequence[str]) -> tuple[str, ...]:
    """The elements as a tuple.

    Raises
    ------
    InputError
        None, one named twice, or a name that is no chemical symbol.
    """
    unknown = [e for e in elements if e not in atomic_numbers or e == "X"]
    twice = sorted({e for e in elements if list(elements).count(e) > 1})
    if not elements or unknown or twice:
        what = f"not elements: {', '.join(unknown)}" if unknown else f"named twice: {', '.join(twice)}"
        raise InputError(
            f"A potential needs a list of elements, each once ({what if elements else 'the list is empty'}).",
            todo="Give the elements of all systems of the campaign, such as H, C, O, Zn.",
        )
    return tuple(elements)


def type_indices(atoms: Atoms, elements: Sequence[str]) -> IntArray:
    """(n,) position of each atom's element in ``elements``.

    Raises
    ------
    InputError
        Names the elements that the potential does not know.
    """
    table: IntArray = np.full(max(atomic_numbers.values()) + 1, -1, dtype=np.int64)
    table[[atomic_numbers[e] for e in elements]] = np.arange(len(elements))
    types: IntArray = table[atoms.numbers]
    if (types < 0).any():
        unknown = sorted({s for s, t in zip(atoms.get_chemical_symbols(), types, strict=True) if t < 0})
        raise InputError(
            f"The potential does not know {', '.join(unknown)}; it knows {', '.join(elements)}.",
            where=f"frame of {len(atoms)} atoms, {atoms.get_chemical_formula()}",
            todo="Add the elements to the campaign before its first training, or use another potential.",
        )
    return types


def neighbours(atoms: Atoms, cutoff: float) -> tuple[IntArray, FloatArray]:
    """All ordered pairs closer than ``cutoff`` Å, periodic images included: indices (2, m) of centre and neighbour, and
    vectors (m, 3) in Å from centre to neighbour. Any cell, any mixture of periodic and open directions.

    Raises
    ------
    StructureError
        Positions that are not finite, or a periodic direction without a cell vector.
    """
    from matscipy.neighbours import neighbour_list

    positions = atoms.positions
    if not np.isfinite(positions).all():
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        raise StructureError(
            f"{len(bad)} of {len(atoms)} atoms have positions that are not finite; first: {bad[:5].tolist()}.",
            todo="The dynamics that made this frame blew up: drop the frame.",
        )
    if atoms.pbc.any():
        if not np.all(np.any(atoms.cell.array[atoms.pbc] != 0.0, axis=1)):
            raise StructureError(
                f"The frame is periodic along {atoms.pbc.tolist()} but has no cell vector there.",
                todo="Set the cell, or pbc=False for a molecule.",
            )
        cell = atoms.cell.complete().array
    else:
        cell = np.eye(3)
    i, j, vectors = neighbour_list("ijD", positions=positions, cell=cell, pbc=atoms.pbc, cutoff=float(cutoff))
    return np.stack((i, j)).astype(np.int64), vectors


def graph(atoms: Atoms, elements: Sequence[str], cutoff: float) -> Graph:
    """One frame as NequIP input, on the CPU: atom types (n,), edge index (2, m), edge vectors (m, 3) in Å, float64."""
    import torch
    from nequip.data import AtomicDataDict as Key

    pairs, vectors = neighbours(atoms, cutoff)
    return {
        Key.ATOM_TYPE_KEY: torch.from_numpy(type_indices(atoms, elements)),
        Key.EDGE_INDEX_KEY: torch.from_numpy(pairs),
        Key.EDGE_VECTORS_KEY: torch.from_numpy(vectors),
    }


def labelled_graph(
    atoms: Atoms, elements: Sequence[str], cutoff: float, *, force_weights: FloatArray | None = None
) -> Graph:
    """As `graph`, with the labels: total energy (1, 1) in eV, forces (n, 3) in eV/Å, NaN where masked, and the weight
    (n,) of each atom's force: one, or as given."""
    import torch
    from nequip.data import AtomicDataDict as Key

    energy, forces = labels(atoms)
    data = graph(atoms, elements, cutoff)
    data[Key.TOTAL_ENERGY_KEY] = torch.tensor([[energy]], dtype=torch.float64)
    data[Key.FORCE_KEY] = torch.from_numpy(forces)
    data[FORCE_WEIGHT] = torch.from_numpy(np.ones(len(atoms)) if force_weights is None else force_weights)
    return data


def mean_force_weight(graphs: Sequence[Graph]) -> float:
    """Mean weight of the force components that have a label; one where there are none, or none counts."""
    from nequip.data import AtomicDataDict as Key

    known = [(~g[Key.FORCE_KEY].isnan()).sum(dim=1).double() for g in graphs]
    total = float(sum(float(k.sum()) for k in known))
    weighted = float(sum(float((k * g[FORCE_WEIGHT]).sum()) for k, g in zip(known, graphs, strict=True)))
    return weighted / total if weighted > 0 else 1.0


def collate(graphs: Sequence[Graph]) -> Graph:
    """Several frames as one batch."""
    import torch
    from nequip.data import AtomicDataDict as Key

    counts = torch.tensor([len(g[Key.ATOM_TYPE_KEY]) for g in graphs])
    first = torch.cumsum(counts, 0) - counts
    batch = {
        k: torch.cat([g[k] for g in graphs])
        for k in (Key.ATOM_TYPE_KEY, Key.EDGE_VECTORS_KEY, Key.TOTAL_ENERGY_KEY, Key.FORCE_KEY, FORCE_WEIGHT)
        if k in graphs[0]
    }
    batch[Key.EDGE_INDEX_KEY] = torch.cat(
        [g[Key.EDGE_INDEX_KEY] + start for g, start in zip(graphs, first, strict=True)], dim=1
    )
    batch[Key.BATCH_KEY] = torch.repeat_interleave(torch.arange(len(graphs)), counts)
    batch[Key.NUM_NODES_KEY] = counts
    return batch


def labels(atoms: Atoms) -> tuple[float, FloatArray]:
    """Energy in eV and forces (n, 3) in eV/Å of a labelled frame; NaN forces are masked ones.

    Raises
    ------
    InputError
        The frame has no energy or forces, or they are not finite.
    """
    results = atoms.calc.results if atoms.calc is not None else {}
    where = f"frame of {len(atoms)} atoms, {atoms.get_chemical_formula()} {atoms.info.get(keys.LABEL, '')}".strip()
    missing = [name for name in ("energy", "forces") if results.get(name) is None]
    if missing:
        raise InputError(
            f"A frame to train on has no {' and no '.join(missing)}.",
            where=where,
            todo="Label it first; extxyz keeps energy and forces when a single-point calculator is attached.",
        )
    energy, forces = float(results["energy"]), np.array(results["forces"], dtype=np.float64)
    if not np.isfinite(energy):
        raise InputError(f"A frame to train on has the energy {energy} eV.", where=where, todo="Drop this label.")
    if forces.shape != (len(atoms), 3) or np.isinf(forces).any():
        raise InputError(
            f"A frame to train on has forces of shape {forces.shape}, {int(np.isinf(forces).sum())} of them infinite.",
            where=where,
            todo="Forces are one finite vector per atom (NaN: not to be learned). Drop this label.",
        )
    return energy, forces


def check_levels(frames: Sequence[Atoms]) -> str:
    """The level of theory that all the frames share ("" where none states one).

    Raises
    ------
    LevelOfTheoryError
        Two levels, or some frames with and some without.
    """
    counts: dict[str, int] = {}
    for atoms in frames:
        level = str(atoms.info.get(keys.LEVEL, ""))
        counts[level] = counts.get(level, 0) + 1
    if len(counts) > 1:
        found = "; ".join(f"{n} frames at '{level or 'no stated level'}'" for level, n in sorted(counts.items()))
        raise LevelOfTheoryError(
            f"The training data mix levels of theory: {found}.",
            todo="Train on one level only; label the rest again at that level.",
        )
    return next(iter(counts), "")


def check_sets(training: Sequence[Atoms], validation: Sequence[Atoms]) -> str:
    """The level of theory of all frames; raises as `check_levels`, and InputError where one of the sets is empty."""
    for name, frames in (("training", training), ("validation", validation)):
        if not frames:
            raise InputError(
                f"There are no {name} frames.",
                todo="Label more structures: at least one frame to train on and one to validate with.",
            )
    return check_levels([*training, *validation])


def fingerprint(atoms: Atoms, *, force_weights: FloatArray | None = None) -> str:
    """Hash of a labelled frame: all of it that a training depends on, with the weights (n,) of its forces if they are
    not all 1."""
    energy, forces = labels(atoms)
    stress = atoms.calc.results.get("stress")
    weights = b"" if force_weights is None else force_weights.tobytes()
    told = b"" if stress is None else np.asarray(stress, dtype=np.float64).tobytes()
    return digest(content_hash(atoms), repr(energy), forces.tobytes(), weights, told)


def statistics(frames: Sequence[Atoms], elements: Sequence[str], cutoff: float) -> Statistics:
    """Statistics of labelled frames; masked (NaN) forces do not count.

    Elements without data get the mean shift and the overall scale.
    """
    elements = check_elements(elements)
    found = [labels(atoms) for atoms in frames]
    types = [type_indices(atoms, elements) for atoms in frames]
    counts = np.array([np.bincount(t, minlength=len(elements)) for t in types], dtype=np.float64)
    energies = np.array([e for e, _ in found])
    pairs = sum(neighbours(atoms, cutoff)[0].shape[1] for atoms in frames)
    all_types = np.concatenate(types)
    forces = np.concatenate([f for _, f in found])
    known = np.isfinite(forces)
    if not known.any():
        raise InputError(
            f"None of the {len(frames)} training frames has a force to learn.",
            todo="Check the core mask (core_only) and the labels.",
        )
    rms = float(np.sqrt(np.mean(forces[known] ** 2)))
    scales = {}
    for k, element in enumerate(elements):
        own = forces[all_types == k]
        own = own[np.isfinite(own)]
        value = float(np.sqrt(np.mean(own**2))) if own.size else rms
        # Atoms held by symmetry have no force: they still need a scale on which the network can act.
        scales[element] = max(value, 0.01 * rms) if rms > 0 else 1.0
    shifts = fit_shifts(counts, energies, prior=None)
    return Statistics(
        avg_num_neighbors=max(pairs / len(all_types), 1.0),
        shifts={e: float(s) for e, s in zip(elements, shifts, strict=True)},
        scales=scales,
        force_rms=rms if rms > 0 else 1.0,
    )


def fit_shifts(counts: FloatArray, energies: FloatArray, *, prior: float | None) -> FloatArray:
    """Energies of single atoms, eV, that best sum to the frames' energies per atom in the least-squares sense.

    ``counts`` (frames, elements); ``energies`` (frames,) eV. A small ridge pulls towards ``prior`` (None: the mean
    energy per atom), which settles what too few compositions leave undetermined and nothing else.
    """
    n_atoms = counts.sum(axis=1)
    fractions, per_atom = counts / n_atoms[:, None], energies / n_atoms
    centre = float(np.mean(per_atom)) if prior is None else prior
    design = fractions.T @ fractions / len(counts) + _SHIFT_RIDGE * np.eye(counts.shape[1])
    target = fractions.T @ (per_atom - centre * fractions.sum(axis=1)) / len(counts)
    return np.asarray(centre + np.linalg.solve(design, target), dtype=np.float64)
