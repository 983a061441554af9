"""Energy, forces and virial of a batch from NequIP's energy model, through dE/d(edge vector).

The same numbers as NequIP's own force and stress module gives (a test compares them), without cells: finite and
periodic frames share a batch, and no derivative with respect to a strain is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clusterflow.train.dataset import Graph

if TYPE_CHECKING:
    import torch


def energy_model(model: Any) -> Any:
    """The part of NequIP's `GraphModel` that stops at the energy (the inside of its `ForceStressOutput`)."""
    return model.model.func


def energies_only(model: Any, data: Graph) -> torch.Tensor:
    """Total energies (frames,) in eV, no gradient."""
    import torch
    from nequip.data import AtomicDataDict as Key

    with torch.no_grad():
        out = energy_model(model)(model_input(data))
    energy: torch.Tensor = out[Key.TOTAL_ENERGY_KEY].reshape(-1)
    return energy


def model_input(data: Graph) -> Graph:
    """The entries that the model may see, in a dictionary of its own (NequIP's modules write into theirs)."""
    from nequip.data import AtomicDataDict as Key

    wanted = (Key.ATOM_TYPE_KEY, Key.EDGE_INDEX_KEY, Key.EDGE_VECTORS_KEY, Key.BATCH_KEY, Key.NUM_NODES_KEY)
    return {k: data[k] for k in wanted if k in data}


def energy_and_gradient(model: Any, data: Graph, *, for_training: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Total energies (frames,) in eV and dE/d(edge vector) (edges, 3) in eV/Å; ``for_training`` keeps the graph, so
    that a loss on the forces can be differentiated once more."""
    import torch
    from nequip.data import AtomicDataDict as Key

    inputs = model_input(data)
    vectors = inputs[Key.EDGE_VECTORS_KEY].detach().requires_grad_(True)
    inputs[Key.EDGE_VECTORS_KEY] = vectors
    with torch.enable_grad():
        energy = energy_model(model)(inputs)[Key.TOTAL_ENERGY_KEY]
        if vectors.shape[0] == 0:
            return energy.reshape(-1), torch.zeros_like(vectors)
        (gradient,) = torch.autograd.grad([energy.sum()], [vectors], create_graph=for_training)
    return energy.reshape(-1), gradient


def forces_from_gradient(data: Graph, gradient: torch.Tensor) -> torch.Tensor:
    """Forces (n, 3) in eV/Å: an edge vector is position of neighbour − position of centre."""
    import torch
    from nequip.data import AtomicDataDict as Key

    centre, neighbour = data[Key.EDGE_INDEX_KEY]
    forces = torch.zeros((len(data[Key.ATOM_TYPE_KEY]), 3), dtype=gradient.dtype, device=gradient.device)
    forces = forces.index_add(0, centre, gradient)
    return forces.index_add(0, neighbour, gradient, alpha=-1.0)


def virial_from_gradient(data: Graph, gradient: torch.Tensor) -> torch.Tensor:
    """dE/d(strain) (3, 3) in eV of a single frame, symmetric; divided by the volume it is the stress."""
    from nequip.data import AtomicDataDict as Key

    virial: torch.Tensor = gradient.T @ data[Key.EDGE_VECTORS_KEY].to(gradient.dtype)
    return 0.5 * (virial + virial.T)
