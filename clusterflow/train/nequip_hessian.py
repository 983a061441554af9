"""The Hessian of a NequIP model by automatic differentiation: products with vectors, and rows.

The energy depends on edge vectors r_e = x_j − x_i (+ lattice), so r = B x and H = Bᵀ (d²E/dr dr) B with the signed
incidence matrix B of the edges; periodic images, an atom's own among them, are edges like others. For displacements u
the product is

    H u = Bᵀ d/dr ⟨dE/dr, B u⟩,

one more backward pass through the graph of the gradient, which is built once and kept (reverse over reverse, as
Gönner, Reuter & Margraf, J. Chem. Theory Comput. 21, 4742 (2025), doi:10.1021/acs.jctc.4c01790). Several vectors go
through at once as a batch of copies of the structure: all of them ("vectorised"), as many as pay and fit ("chunked") or
one by one ("row by row").
"""

from __future__ import annotations

import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.core.memory import free_memory_bytes
from clusterflow.errors import ScienceError
from clusterflow.train.dataset import Graph, collate
from clusterflow.train.nequip_forward import energy_model, forces_from_gradient, model_input
from clusterflow.train.nequip_loop import to_device

if TYPE_CHECKING:
    import torch

    from clusterflow.train.nequip_second_order import Energy, SecondOrderModel

log = logging.getLogger(__name__)

BATCH_EDGES = {"cpu": 5_000, "cuda": 1_000_000}
"""Edges in a batch of copies beyond which more copies gain nothing: on a CPU the arrays outgrow the caches."""
_PEAK = 2.0
"""Peak memory of a batch, in units of what its graph keeps for the backward pass (measured: benchmarks/hessian.py)."""
_FREE_SHARE = 0.5
"""Share of the free memory that one batch may take."""
_GROW = 1.5
"""Rows share one part of the cell as long as it is at most so many times larger than what one of them needs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How ``vectors`` products are computed: ``chunk`` at once; ``bytes_each`` is what one is expected to take."""

    vectors: int
    chunk: int
    bytes_each: int
    bytes_free: int

    @property
    def name(self) -> str:
        """vectorised, chunked or row by row."""
        return "row by row" if self.chunk == 1 else "vectorised" if self.chunk >= self.vectors else "chunked"


def plan(vectors: int, *, edges: int, bytes_each: int, bytes_free: int, device: str) -> Plan:
    """As many vectors at once as pay on this kind of device and fit into half of the free memory; at least one."""
    pays = max(BATCH_EDGES["cuda" if device.startswith("cuda") else "cpu"] // max(edges, 1), 1)
    fits = max(int(_FREE_SHARE * bytes_free) // max(bytes_each, 1), 1)
    chunk = max(min(pays, fits, vectors), 1)
    return Plan(vectors, -(-vectors // -(-vectors // chunk)) if vectors else 1, bytes_each, bytes_free)


def hessian_products(
    model: Any, data: Graph, vectors: FloatArray, *, chunk: int | None = None, rearrange: bool = True
) -> FloatArray:
    """H u (k, n, 3) for displacements (k, n, 3), in eV/Å² times their unit, at the edge vectors of ``data``.

    ``chunk``: vectors at once; None chooses by the free memory, and logs the choice. ``rearrange``: use
    `clusterflow.train.nequip_second_order` where it knows the model (same numbers, several times faster).

    Raises
    ------
    ScienceError
        Even one vector needs more memory than there is.
    """
    import torch
    from nequip.data import AtomicDataDict as Key

    k, n = vectors.shape[0], len(data[Key.ATOM_TYPE_KEY])
    out = np.zeros((k, n, 3))
    edges = data[Key.EDGE_VECTORS_KEY].shape[0]
    if k == 0 or edges == 0:
        return out
    device = str(data[Key.EDGE_VECTORS_KEY].device)
    quick = second_order_model(model) if rearrange else None
    bytes_each = int(_PEAK * bytes_per_edge(model, quick) * edges)
    if chunk is None:
        free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else free_memory_bytes()
        chosen = plan(k, edges=edges, bytes_each=bytes_each, bytes_free=free, device=device)
        log.info(
            "Hessian, %d atoms, %d edges: %d products %s, %d at once, %.1f MB each of %.0f MB free, %s",
            *(n, edges, k, chosen.name, chosen.chunk, chosen.bytes_each / 1e6, free / 1e6),
            "rearranged model" if quick else "model as it is",
        )
        chunk = chosen.chunk
    kept: _Kept | None = None
    start = 0
    while start < k:
        size = min(chunk, k - start)
        try:
            if kept is None:
                kept = _Kept(model, data, size, quick)
            out[start : start + size] = kept.products(vectors[start : start + size])
            start += size
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if size == 1:
                raise ScienceError(
                    f"A product with the Hessian of {n} atoms ({edges} edges) does not fit into memory: it takes about "
                    f"{bytes_each / 1e9:.1f} GB.",
                    todo="Ask for the rows of fewer atoms, close to each other, or use a machine with more memory.",
                ) from error
            chunk, kept = max(size // 2, 1), None
            log.warning("Hessian, %d atoms: out of memory, going on with %d products at once", n, chunk)
    return out


def hessian_rows(
    model: Any, data: Graph, indices: IntArray, layers: int, *, chunk: int | None = None, rearrange: bool = True
) -> FloatArray:
    """Rows (k, 3, n, 3) of the Hessian in eV/Å², exact, each from the part of the cell that it depends on.

    ``layers``: interaction blocks of the model. Further arguments and errors as in `hessian_products`.
    """
    from nequip.data import AtomicDataDict as Key

    n = len(data[Key.ATOM_TYPE_KEY])
    out = np.zeros((len(indices), 3, n, 3))
    for places, part in _parts(data, indices, layers):
        atoms = np.flatnonzero(part)
        new = np.cumsum(part) - 1
        sub = subgraph(data, part)
        vectors = np.zeros((len(places), 3, len(atoms), 3))
        for axis in range(3):
            vectors[np.arange(len(places)), axis, new[indices[places]], axis] = 1.0
        found = hessian_products(model, sub, vectors.reshape(-1, len(atoms), 3), chunk=chunk, rearrange=rearrange)
        out[np.ix_(places, np.arange(3), atoms)] = found.reshape(len(places), 3, len(atoms), 3)
    return out


def within_hops(data: Graph, indices: IntArray, hops: int) -> BoolArray:
    """(n,) atoms that are at most ``hops`` edges away from one of ``indices``."""
    from nequip.data import AtomicDataDict as Key

    centre, neighbour = data[Key.EDGE_INDEX_KEY].cpu().numpy()
    inside: BoolArray = np.zeros(len(data[Key.ATOM_TYPE_KEY]), dtype=np.bool_)
    inside[indices] = True
    for _ in range(hops):
        before = int(inside.sum())
        inside[neighbour[inside[centre]]] = True
        if int(inside.sum()) == before:
            break
    return inside


def subgraph(data: Graph, part: BoolArray) -> Graph:
    """The atoms of ``part`` (n,) and the edges between them, renumbered.

    With the atoms within 2 · layers hops of some atoms, the rows of these atoms are exact: they depend on the energies
    of atoms at most ``layers`` hops away, and each of those sees ``layers`` hops further. Energies of atoms farther out
    are wrong in the part, but do not depend on the atoms of the rows, neither there nor in the whole.
    """
    import torch
    from nequip.data import AtomicDataDict as Key

    if part.all():
        return data
    pairs = data[Key.EDGE_INDEX_KEY]
    atoms = torch.from_numpy(part).to(pairs.device)
    edges = atoms[pairs[0]] & atoms[pairs[1]]
    new = torch.cumsum(atoms, 0) - 1
    return {
        Key.ATOM_TYPE_KEY: data[Key.ATOM_TYPE_KEY][atoms],
        Key.EDGE_INDEX_KEY: new[pairs[:, edges]],
        Key.EDGE_VECTORS_KEY: data[Key.EDGE_VECTORS_KEY][edges],
    }


def _parts(data: Graph, indices: IntArray, layers: int) -> list[tuple[IntArray, BoolArray]]:
    """Rows that are computed together, as places in ``indices``, with the atoms (n,) that they depend on."""
    groups: list[tuple[list[int], BoolArray, int]] = []
    for place, atom in enumerate(indices):
        own = within_hops(data, np.array([atom]), 2 * layers)
        alone = int(own.sum())
        if alone * _GROW >= len(own):  # the cell is hardly larger than what one row needs
            return [(np.arange(len(indices)), np.ones(len(own), dtype=np.bool_))]
        for number, (members, union, smallest) in enumerate(groups):
            joint = union | own
            least = min(smallest, alone)
            if joint.sum() <= _GROW * least:
                groups[number] = ([*members, place], joint, least)
                break
        else:
            groups.append(([place], own, alone))
    return [(np.array(members), union) for members, union, _ in groups]


class _Kept:
    """The graph of dE/dr of some copies of a structure, kept for products with vectors."""

    def __init__(self, model: Any, data: Graph, copies: int, quick: SecondOrderModel | None) -> None:
        from nequip.data import AtomicDataDict as Key

        device = str(data[Key.EDGE_VECTORS_KEY].device)
        self.copies, self.n_atoms = copies, len(data[Key.ATOM_TYPE_KEY])
        self.data = data if copies == 1 else to_device(collate([data] * copies), device)
        energy = quick.at(data, copies) if quick is not None else energy_model(model)
        self.vectors, self.gradient = gradient_graph(energy, self.data)

    def products(self, displacements: FloatArray) -> FloatArray:
        """(k, n, 3) for at most as many vectors as there are copies."""
        import torch
        from nequip.data import AtomicDataDict as Key

        k = len(displacements)
        u = torch.zeros((self.copies * self.n_atoms, 3), dtype=self.vectors.dtype, device=self.vectors.device)
        u[: k * self.n_atoms] = torch.from_numpy(displacements.reshape(-1, 3)).to(u)
        centre, neighbour = self.data[Key.EDGE_INDEX_KEY]
        (h,) = torch.autograd.grad([self.gradient], [self.vectors], [u[neighbour] - u[centre]], retain_graph=True)
        product = -forces_from_gradient(self.data, h)[: k * self.n_atoms]
        return product.reshape(k, self.n_atoms, 3).cpu().numpy().astype(np.float64)


def gradient_graph(energy: Energy, data: Graph) -> tuple[torch.Tensor, torch.Tensor]:
    """Edge vectors (edges, 3) and dE/dr (edges, 3) as a function of them, to be differentiated once more."""
    import torch
    from nequip.data import AtomicDataDict as Key

    inputs = model_input(data)
    vectors = inputs[Key.EDGE_VECTORS_KEY].detach().requires_grad_(True)
    inputs[Key.EDGE_VECTORS_KEY] = vectors
    with torch.enable_grad():
        total = energy(inputs)[Key.TOTAL_ENERGY_KEY].sum()
        (gradient,) = torch.autograd.grad([total], [vectors], create_graph=True)
    return vectors, gradient


_SECOND_ORDER: weakref.WeakKeyDictionary[Any, SecondOrderModel | None] = weakref.WeakKeyDictionary()
_BYTES_PER_EDGE: weakref.WeakKeyDictionary[Any, dict[bool, float]] = weakref.WeakKeyDictionary()


def bytes_per_edge(model: Any, quick: SecondOrderModel | None) -> float:
    """Bytes that the graph of dE/dr keeps per edge, as counted once for a few atoms; edges outnumber atoms, so what is
    kept per atom hardly counts. Remembered for each model."""
    import torch
    from nequip.data import AtomicDataDict as Key

    known = _BYTES_PER_EDGE.setdefault(model, {})
    if (quick is not None) not in known:
        seen: dict[int, int] = {}

        def count(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        data = _few_atoms(model)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            graph = gradient_graph(quick.at(data) if quick is not None else energy_model(model), data)
        del graph  # alive until here, so that no address is used twice
        known[quick is not None] = sum(seen.values()) / data[Key.EDGE_VECTORS_KEY].shape[0]
    return known[quick is not None]


def second_order_model(model: Any) -> SecondOrderModel | None:
    """The rearranged model, once it has given the same gradient and product as the model itself on a few atoms; None
    for a model with parts that it does not know. Remembered for each model."""
    if model not in _SECOND_ORDER:
        from clusterflow.train.nequip_second_order import NotRearrangedError, SecondOrderModel

        try:
            quick: SecondOrderModel | None = SecondOrderModel(model)
        except (NotRearrangedError, AttributeError) as error:
            log.info("second derivatives from the model as it is: %s", error)
            quick = None
        if quick is not None and not _agrees(model, quick):
            log.warning("the rearranged model does not give the derivatives of the model itself: not used")
            quick = None
        _SECOND_ORDER[model] = quick
    return _SECOND_ORDER[model]


def _agrees(model: Any, quick: SecondOrderModel) -> bool:
    """Both give the same gradient and second derivatives for a few atoms."""
    import torch
    from nequip.data import AtomicDataDict as Key

    data = _few_atoms(model)
    direction = torch.randn(data[Key.EDGE_VECTORS_KEY].shape, generator=torch.Generator().manual_seed(0))
    found = []
    for energy in (energy_model(model), quick.at(data)):
        r, gradient = gradient_graph(energy, data)
        (product,) = torch.autograd.grad([gradient], [r], [direction.to(gradient)])
        found.append((gradient.detach(), product))
    tolerance = 1e-9 if next(model.parameters()).dtype == torch.float64 else 1e-3
    return all(bool((a - b).abs().max() <= tolerance * a.abs().max()) for a, b in zip(*found, strict=True))


def _few_atoms(model: Any) -> Graph:
    """Random atoms, the model's elements in turn, most of them neighbours of each other."""
    import torch
    from nequip.data import AtomicDataDict as Key

    n, cutoff = max(12, len(model.type_names)), float(model.metadata["r_max"])
    positions = np.random.default_rng(0).uniform(-0.35, 0.35, (n, 3)) * cutoff
    i, j = np.nonzero(~np.eye(n, dtype=bool))
    vectors = positions[j] - positions[i]
    near = np.linalg.norm(vectors, axis=1) < cutoff
    data: Graph = {
        Key.ATOM_TYPE_KEY: torch.arange(n) % len(model.type_names),
        Key.EDGE_INDEX_KEY: torch.from_numpy(np.stack((i, j))[:, near]),
        Key.EDGE_VECTORS_KEY: torch.from_numpy(vectors[near]),
    }
    return to_device(data, str(next(model.parameters()).device))


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
