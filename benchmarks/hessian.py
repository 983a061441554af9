"""Hessians: speed and memory of automatic differentiation against central differences, their accuracy, and large cells.

    python benchmarks/hessian.py speed [--full]       29, 44, 60, 106 and 264 atoms; both take turns, one thread
    python benchmarks/hessian.py accuracy [--model FOLDER] [--figure docs/concepts/figures/hessian_steps.svg]
    python benchmarks/hessian.py sparse [--large]     time and colours of the coloured Hessian, 424 to 2,120 atoms
    python benchmarks/hessian.py rows                 the rows of four atoms in cells of 848 to 22,896 atoms

The structures are cut or repeated from configs/structures/MOF-5_primitive.extxyz. Without ``--model`` weights are
random: they decide no times. ``speed`` makes all 6n force calls of the central differences up to 106 atoms; beyond
that 120 of them, times 6n/120, unless ``--full`` is given. ``--json FILE`` keeps the table; ``--device cuda`` runs it
on a GPU. Set OMP_NUM_THREADS=1 and leave the machine idle; CPU times are printed beside wall times for machines that
are not.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.frames import read_frames
from clusterflow.core.memory import forget_peak_memory, peak_memory_MB
from clusterflow.physics.hessian import central_difference_rows, displaced_structures
from clusterflow.physics.sparse_hessian import probe_error, sparse_hessian, strict_reach
from clusterflow.train import nequip_model
from clusterflow.train.dataset import Statistics
from clusterflow.train.nequip_config import NequIPModelSettings
from clusterflow.train.nequip_model import ModelConfig
from clusterflow.train.nequip_potential import NequIPPotential

MOF5 = Path(__file__).parent.parent / "configs" / "structures" / "MOF-5_primitive.extxyz"
BASE = {"layers": 4, "features": 16, "r_max": 4.5, "l_max": 1, "parity": True}
SMALL = {"layers": 2, "features": 8, "r_max": 4.0, "l_max": 1, "parity": True}
SAMPLE = 120


def random_potential(settings: dict[str, Any], *, device: str, dtype: str = "float64") -> NequIPPotential:
    """A potential with weights drawn from seed 0."""
    elements = ("H", "C", "O", "Zn")
    config = ModelConfig(
        NequIPModelSettings(**settings),
        elements,
        Statistics(15.0, dict.fromkeys(elements, -1.0), dict.fromkeys(elements, 1.0), 1.0),
    )
    model = nequip_model.build_model(config, seed=0, dtype=dtype).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    where = nequip_model.choose_device(device)
    return NequIPPotential(model.to(where), config, "random", device=where, threads=1)


def structure(n: int) -> Atoms:
    """MOF-5 itself for 106 atoms, else the n atoms nearest to the first one of a larger cell, as a finite piece."""
    cell = read_frames(MOF5)[0]
    if n == len(cell):
        return cell
    cell = cell.repeat(3)
    middle = len(cell) // 27 * 13
    vectors = cell.get_distances(middle, range(len(cell)), mic=True, vector=True)
    nearest = np.argsort(np.linalg.norm(vectors, axis=1), kind="stable")[:n]
    return Atoms(cell.numbers[nearest], vectors[nearest])


def clocked(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and CPU seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def speed(sizes: Sequence[int], rounds: int, *, full: bool, device: str) -> list[dict[str, Any]]:
    """Automatic differentiation against central differences, in turns."""
    potential = random_potential(BASE, device=device)
    table = []
    for n in sizes:
        atoms = structure(n)
        potential.predict([atoms])
        potential.hessian_rows(atoms, [0])
        calls = 6 * n if full or n <= 106 else SAMPLE
        moved = [m for *_, m in islice(displaced_structures(atoms, step=1e-4), calls)]
        runs = []
        for _ in range(rounds):
            forget_peak_memory()
            before = peak_memory_MB()
            wall, cpu, _ = clocked(lambda atoms=atoms: potential.hessian_rows(atoms))
            held = peak_memory_MB() - before
            cd_wall, cd_cpu, _ = clocked(lambda moved=moved: [potential.predict([m]) for m in moved])
            scale = 6 * n / calls
            runs.append((wall, cd_wall * scale, cpu, cd_cpu * scale, held))
        wall, cd_wall, cpu, cd_cpu, held = np.median(runs, axis=0)
        ratios = [r[1] / r[0] for r in runs]
        row = {
            "atoms": n,
            "ad_s": wall,
            "cd_s": cd_wall,
            "ratio": float(np.median(ratios)),
            "ratio_range": [min(ratios), max(ratios)],
            "ad_cpu_s": cpu,
            "cd_cpu_s": cd_cpu,
            "ratio_cpu": cd_cpu / cpu,
            "force_calls_timed": calls,
            "ad_extra_memory_MB": held,
        }
        table.append(row)
        print(
            f"{n:5d} atoms: AD {wall:7.2f} s, central differences {cd_wall:7.2f} s ({calls} of {6 * n} calls), ratio "
            f"{row['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); CPU {cpu:.2f} and {cd_cpu:.2f} s, ratio "
            f"{row['ratio_cpu']:.2f}; AD takes {held:.0f} MB",
            flush=True,
        )
    return table


def accuracy(model: Path | None, figure: Path | None, device: str) -> list[dict[str, Any]]:
    """Errors of central differences by step, and of automatic differentiation, against AD in float64."""
    if model is None:
        potentials = {d: random_potential(BASE, device=device, dtype=d) for d in ("float64", "float32")}
    else:
        potentials = {d: NequIPPotential.load(model, device=device, dtype=d) for d in ("float64", "float32")}
    atoms = structure(29)
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.03, atoms.positions.shape)
    chosen = [0, 3, 7, 12, 20, 28]
    exact = potentials["float64"].hessian_rows(atoms, chosen)
    table: list[dict[str, Any]] = []

    def keep(method: str, dtype: str, step: float | None, rows: Any) -> None:
        error = np.abs(rows - exact)
        table.append({"method": method, "dtype": dtype, "step_A": step, "max": error.max(), "mean": error.mean()})
        print(
            f"{method:4s} {dtype} step {step or '-'}: max {error.max():.2e}, mean {error.mean():.2e} eV/Å²", flush=True
        )

    print(f"largest element {np.abs(exact).max():.1f} eV/Å²")
    keep("AD", "float32", None, potentials["float32"].hessian_rows(atoms, chosen))
    for dtype, potential in potentials.items():
        for step in np.logspace(-1, -7, 13):
            rows = central_difference_rows(
                lambda a, p=potential: p.predict([a])[0].forces, atoms, chosen, step=float(step)
            )
            keep("CD", dtype, float(step), rows)
    if figure is not None:
        draw(table, float(np.abs(exact).max()), figure)
    return table


def draw(table: list[dict[str, Any]], largest: float, path: Path) -> None:
    """Maximal error against the step."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "hessian", "svg.fonttype": "none"})
    fig, axes = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
    for dtype, colour in (("float64", "#1b6ca8"), ("float32", "#c2571a")):
        rows = [r for r in table if r["method"] == "CD" and r["dtype"] == dtype]
        axes.loglog([r["step_A"] for r in rows], [r["max"] for r in rows], "o-", ms=3.5, color=colour)
        axes.annotate(
            f"central differences, {dtype}",
            (rows[-1]["step_A"], rows[-1]["max"]),
            textcoords="offset points",
            xytext=(4, 6) if dtype == "float32" else (4, 8),
            color=colour,
            fontsize=8,
        )
    single = next(r for r in table if r["method"] == "AD")
    axes.axhline(single["max"], color="#c2571a", ls="--", lw=1)
    axes.annotate(
        "automatic differentiation, float32",
        (1.2e-7, single["max"]),
        textcoords="offset points",
        xytext=(0, -11),
        color="#c2571a",
        fontsize=8,
    )
    axes.set(xlabel="step, Å", ylabel="largest error of an element, eV/Å²", xlim=(7e-8, 1.4e-1), ylim=(1e-9, 1e2))
    axes.set_title(f"against automatic differentiation in float64; largest element {largest:.2g} eV/Å²", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def sparse(
    radius: float, cells: Sequence[tuple[int, int, int]], model: Path | None, device: str
) -> list[dict[str, Any]]:
    """Coloured Hessians of growing cells, with their error by probes."""
    if model is None:
        potential = random_potential(SMALL, device=device)
    else:
        potential = NequIPPotential.load(model, device=device, dtype="float64")
    layers = round(potential.reach / potential.cutoff)
    print(f"radius {radius} Å, strict reach {strict_reach(layers, potential.cutoff)} Å")
    table = []
    for cell in cells:
        atoms = read_frames(MOF5)[0].repeat(cell)
        atoms.positions += np.random.default_rng(0).normal(0.0, 0.03, atoms.positions.shape)

        def products(vectors: Any, atoms: Atoms = atoms) -> Any:
            return potential.hessian_vector(atoms, vectors)

        products(np.zeros((1, len(atoms), 3)))
        forget_peak_memory()
        before = peak_memory_MB()
        wall, cpu, found = clocked(lambda products=products, atoms=atoms: sparse_hessian(products, atoms, radius))
        held = peak_memory_MB() - before
        error = probe_error(products, found.matrix, len(atoms), probes=8, rng=np.random.default_rng(1))
        row = {
            "atoms": len(atoms),
            "wall_s": wall,
            "cpu_s": cpu,
            "colours": found.colours,
            "matrix_MB": found.matrix.data.nbytes / 1e6,
            "extra_memory_MB": held,
            "relative_error": error.relative,
            "error_eV_A2": error.value,
            "standard_error": error.standard_error,
        }
        table.append(row)
        print(
            f"{len(atoms):6d} atoms: {wall:7.1f} s ({cpu:.1f} s CPU), {found.colours} colours, matrix "
            f"{row['matrix_MB']:.1f} MB, {held:.0f} MB more at the peak, error {error.value:.3g} ± "
            f"{error.standard_error:.2g} eV/Å² ({100 * error.relative:.2g} %)",
            flush=True,
        )
    sizes = np.log([r["atoms"] for r in table])
    for clock in ("wall_s", "cpu_s"):
        slope, offset = np.polyfit(sizes, np.log([r[clock] for r in table]), 1)
        hours = np.exp(offset + slope * np.log(2e4)) / 3600
        print(f"{clock}: exponent {slope:.2f}; 20,000 atoms would take {hours:.2f} h")
    return table


def few_rows(cells: Sequence[tuple[int, int, int]], device: str) -> list[dict[str, Any]]:
    """The rows of four neighbouring atoms, whatever the cell."""
    potential = random_potential(SMALL, device=device)
    table = []
    for cell in cells:
        atoms = read_frames(MOF5)[0].repeat(cell)
        potential.hessian_rows(atoms, [0])
        wall, cpu, rows = clocked(lambda atoms=atoms: potential.hessian_rows(atoms, [0, 1, 2, 3]))
        table.append({"atoms": len(atoms), "wall_s": wall, "cpu_s": cpu})
        reached = int((np.abs(rows).max(axis=(0, 1, 3)) > 0).sum())
        print(f"{len(atoms):6d} atoms: {wall:.2f} s ({cpu:.2f} s CPU), {reached} atoms coupled", flush=True)
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "accuracy", "sparse", "rows"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[29, 44, 60, 106, 264])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="all force calls at every size")
    parser.add_argument("--large", action="store_true", help="also 6,784 and 22,896 atoms: 4 GB, minutes")
    parser.add_argument("--model", type=Path, help="folder of a trained NequIP potential that knows H, C, O and Zn")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--radius", type=float, default=8.0, help="truncation, Å")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if given.what == "speed":
        table = speed(given.sizes, given.rounds, full=given.full, device=given.device)
    elif given.what == "accuracy":
        table = accuracy(given.model, given.figure, given.device)
    elif given.what == "sparse":
        cells = [(1, 2, 2), (2, 2, 2), (2, 2, 3), (2, 2, 5), *([(4, 4, 4), (6, 6, 6)] if given.large else [])]
        table = sparse(given.radius, cells, given.model, given.device)
    else:
        table = few_rows([(2, 2, 2), (3, 3, 3), (4, 4, 4), (6, 6, 6)], given.device)
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
