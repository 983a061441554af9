"""NequIP's energy model near one configuration, rearranged so that its second derivatives are cheap.

Three rearrangements, none of which changes the energy, its gradient or its Hessian at that configuration:

* The weights that the radial networks give each edge are replaced by their Taylor expansion to second order in the edge
  length. A Hessian asks for no more, and the networks need not be differentiated once per row.
* e3nn's tensor products over edges are written out for l ≤ 1: products, dot and cross products of component planes
  (components, edges, features) instead of one small matrix product per edge. The inner loops are long, and nothing is
  sliced: the gradient of a slice is an array of zeros as large as the whole.
* Gathering and scattering along edges are index_select and index_add, which are each other's derivatives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from nequip.data import AtomicDataDict as Key
from torch import Tensor

from clusterflow.train.dataset import Graph
from clusterflow.train.nequip_forward import energy_model, model_input

Energy = Callable[[Graph], Graph]
"""NequIP input → the same dictionary with the total energy in it."""


class NotRearrangedError(Exception):
    """The model has a part that this file does not know."""


class SecondOrderModel:
    """What does not depend on the configuration: the parts of a model in their order, and the paths of its products.

    Raises
    ------
    NotRearrangedError
        Not built like `nequip.model.NequIPGNNModel` with l_max ≤ 1.
    """

    def __init__(self, model: Any) -> None:
        from nequip.nn import ConvNetLayer
        from nequip.nn.embedding import BesselEdgeLengthEncoding, EdgeLengthNormalizer
        from nequip.nn.misc import ApplyFactor

        self._radial: list[Any] = []
        self._parts: list[tuple[Any, EdgeTensorProduct | None]] = []
        self._length: Any = None
        for module in energy_model(model).children():
            if isinstance(module, (BesselEdgeLengthEncoding, ApplyFactor)):
                self._radial.append(module)
            elif isinstance(module, ConvNetLayer):
                self._parts.append((module, EdgeTensorProduct(module.conv.tp_scatter.tp)))
            else:
                self._parts.append((module, None))
                if isinstance(module, EdgeLengthNormalizer):
                    self._length = module
        if self._length is None or not self._radial:
            raise NotRearrangedError("no embedding of edge lengths")

    def at(self, data: Graph, copies: int = 1) -> Energy:
        """The energy of ``copies`` copies of ``data`` in one batch, right up to its second derivatives at the edge
        vectors of ``data``, and only there."""
        lengths = self._length({k: v.detach() for k, v in model_input(data).items()})[Key.NORM_LENGTH_KEY].detach()
        parts: list[Any] = []
        for module, product in self._parts:
            parts.append(module if product is None else self._expanded(module, product, lengths, copies))
            if module is self._length:
                parts.append(_LengthChange(lengths.repeat(copies, 1)))

        def run(inputs: Graph) -> Graph:
            for part in parts:
                inputs = part(inputs)
            return inputs

        return run

    def _expanded(self, layer: Any, product: EdgeTensorProduct, lengths: Tensor, copies: int) -> Any:
        def weights(x: Tensor) -> Tensor:
            d: Graph = {Key.NORM_LENGTH_KEY: x}
            for module in self._radial:
                d = module(d)
            w: Tensor = layer.conv.edge_mlp(d[Key.EDGE_EMBEDDING_KEY])
            return w

        # One direction for all edges: no edge's weights depend on another's length.
        one = torch.ones_like(lengths)

        def slope(x: Tensor) -> Tensor:
            derivative: Tensor = torch.func.jvp(weights, (x,), (one,))[1]
            return derivative

        with torch.enable_grad():  # without it PyTorch has no second forward derivative of SiLU
            orders = [w.detach() for w in (weights(lengths), *torch.func.jvp(slope, (lengths,), (one,)))]
        block = _with_modules(layer.conv, edge_mlp=torch.nn.Identity(), tp_scatter=product.at(orders, copies))
        return _with_modules(layer, conv=block)


class _LengthChange:
    """Puts the change of the normalised edge length (zero in value) where the convolutions look for the embedding."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths

    def __call__(self, data: Graph) -> Graph:
        data[Key.EDGE_EMBEDDING_KEY] = data[Key.NORM_LENGTH_KEY] - self.lengths
        return data


def _with_modules(module: Any, **changes: Any) -> Any:
    """A shallow copy with other submodules; all weights are shared."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **changes}
    return twin


class EdgeTensorProduct(torch.nn.Module):
    """e3nn's "uvu" tensor product over edges and its sum over neighbours, for features of l ≤ 1.

    Called as NequIP's `TensorProductScatter`, with the change of the normalised edge length (edges, 1) for the weights.
    """

    def __init__(self, product: Any) -> None:
        super().__init__()
        self.blocks_in = [(block.mul, block.ir.dim) for block in product.irreps_in1]
        self.sizes_in = [mul * d for mul, d in self.blocks_in]
        self.sizes_sh = [block.mul * block.ir.dim for block in product.irreps_in2]
        self.n_out = len(product.irreps_out)
        self.paths = [(ins.i_in1, ins.i_in2, ins.i_out, *_path(product, ins)) for ins in product.instructions]
        if sorted(path[2] for path in self.paths) != list(range(self.n_out)):
            raise NotRearrangedError("several paths, or none, to one block")
        self.weights: list[list[Tensor]] = []

    def at(self, orders: list[Tensor], copies: int) -> EdgeTensorProduct:
        """A twin for one configuration: weights (edges, all) and their first and second derivative with the length."""
        split = [torch.split(w, [self.blocks_in[path[0]][0] for path in self.paths], dim=1) for w in orders]
        twin = copy.copy(self)
        twin.weights = [[(w[k] * path[4]).repeat(copies, 1) for w in split] for k, path in enumerate(self.paths)]
        return twin

    def forward(self, x: Tensor, edge_attr: Tensor, edge_weight: Tensor, edge_dst: Tensor, edge_src: Tensor) -> Tensor:
        """(atoms, features out): sums over the neighbours ``edge_src`` of ``edge_dst``."""
        n, m = x.shape[0], edge_src.shape[0]
        source = {d: _plane_indices(edge_src, n, d) for d in (1, 3)}
        target = {d: _plane_indices(edge_dst, n, d) for d in (1, 3)}
        planes = [
            p.view(n, mul, d).permute(2, 0, 1).reshape(d * n, mul).index_select(0, source[d]).view(d, m, mul)
            for p, (mul, d) in zip(torch.split(x, self.sizes_in, dim=1), self.blocks_in, strict=True)
        ]
        harmonics = [y.t().contiguous().unsqueeze(2) for y in torch.split(edge_attr, self.sizes_sh, dim=1)]
        out: list[Tensor] = [x] * self.n_out
        for (i, j, k, kind, _), orders in zip(self.paths, self.weights, strict=True):
            w = _Taylor.apply(edge_weight, *orders)  # type: ignore[no-untyped-call]
            if kind == "scale":  # with the harmonic of l = 0, which is 1
                z = planes[i] * w
            elif kind == "spread":
                z = (planes[i] * w) * harmonics[j]
            elif kind == "dot":
                z = ((planes[i] * harmonics[j]).sum(0) * w).unsqueeze(0)
            else:
                z = _cross(planes[i], harmonics[j]) * w
            d, _, mul = z.shape
            total = z.new_zeros((d * n, mul)).index_add(0, target[d], z.reshape(d * m, mul))
            out[k] = total.view(d, n, mul).permute(1, 2, 0).reshape(n, mul * d)
        return torch.cat(out, dim=1)


def _plane_indices(atoms: Tensor, n: int, components: int) -> Tensor:
    return torch.cat([atoms + k * n for k in range(components)])


def _cross(a: Tensor, b: Tensor) -> Tensor:
    a0, a1, a2 = a.unbind(0)
    b0, b1, b2 = b.unbind(0)
    return torch.stack((a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0))


_KINDS = {(0, 0, 0): "scale", (1, 0, 1): "scale", (0, 1, 1): "spread", (1, 1, 0): "dot", (1, 1, 1): "cross"}


def _path(product: Any, ins: Any) -> tuple[str, float]:
    """How a path is computed, and its factor."""
    from e3nn.o3 import wigner_3j

    blocks = (product.irreps_in1[ins.i_in1], product.irreps_in2[ins.i_in2], product.irreps_out[ins.i_out])
    degrees = (blocks[0].ir.l, blocks[1].ir.l, blocks[2].ir.l)
    if ins.connection_mode != "uvu" or not ins.has_weight or blocks[1].mul != 1 or degrees not in _KINDS:
        raise NotRearrangedError(f"a path {ins.connection_mode} of the degrees {degrees}")
    kind = _KINDS[degrees]
    coupling = wigner_3j(*degrees, dtype=torch.float64)[(0, 1, 2) if kind == "cross" else (0, 0, 0)]
    return kind, float(ins.path_weight) * float(coupling)


class _Taylor(torch.autograd.Function):
    """w0 + w1 d + w2 d²/2 at d = 0 with its two derivatives written out, so that nothing is multiplied by zero."""

    @staticmethod
    def forward(ctx: Any, change: Tensor, w0: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        ctx.save_for_backward(change, w1, w2)
        return w0.view_as(w0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _TaylorSlope.apply(gradient, *ctx.saved_tensors), None, None, None  # type: ignore[no-untyped-call]


class _TaylorSlope(torch.autograd.Function):
    """gradient · (w1 + w2 d) at d = 0, (edges, 1)."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, _change: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        ctx.save_for_backward(w1, (gradient * w2).sum(-1, keepdim=True))
        return (gradient * w1).sum(-1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, vector: Tensor) -> tuple[Tensor | None, ...]:
        w1, curvature = ctx.saved_tensors
        return vector * w1, vector * curvature, None, None
