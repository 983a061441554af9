"""`clusterflow build`: defective structures from a perfect one, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from rich.console import Console
from rich.table import Table

from clusterflow.cli.checks import refuse_unsound
from clusterflow.cli.output_files import check_output, structure_format, write_structure
from clusterflow.core.frames import formula, read_frames
from clusterflow.errors import ExtractionError, InputError, StructureError


@dataclass(frozen=True, slots=True)
class Exchange:
    """One metal by another: a ``fraction`` or a ``count`` of its atoms, or of the nodes that hold it."""

    element: str
    by: str
    fraction: float | None
    count: int | None
    whole_nodes: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to do to a structure, in the order of the fields; zero, None and empty are nothing."""

    repeat: tuple[int, int, int] | None = None
    topology: str | None = None
    axis: str | None = None
    """c where nothing is said."""
    pair: int | None = None
    missing_linkers: int = 0
    missing_nodes: int = 0
    remove_linkers: float = 0.0
    remove_nodes: float = 0.0
    final: bool = False
    substitute: str | None = None
    seed: int = 0

    @property
    def nothing(self) -> bool:
        return self == Wanted(axis=self.axis, final=self.final, seed=self.seed)

    def check(self) -> None:
        """Refuses options that would do nothing.

        Raises
        ------
        InputError
            Names the option and what it belongs to.
        """
        if self.axis is not None and self.topology in (None, "reo"):
            raise InputError(
                f"--axis {self.axis} does nothing "
                + ("without --topology." if self.topology is None else "with --topology reo, which has no weak axis."),
                todo="Add --topology bcu or scu, or leave --axis out.",
            )
        if self.final and not (self.remove_linkers or self.remove_nodes):
            raise InputError(
                "--final does nothing without a share of linkers or nodes.",
                todo="Add --remove-linkers or --remove-nodes, or leave --final out.",
            )


def parse_exchange(text: str) -> Exchange:
    """`Zr:Hf:0.2` (a share), `Zr:Hf:1` (a number), `Zr:Hf:0.5:nodes` or `Zr:Hf:2:nodes` (whole nodes).

    Raises
    ------
    InputError
        The text does not read so.
    """
    parts = text.split(":")
    fraction: float | None = None
    count: int | None = None
    try:
        if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] != "nodes"):
            raise ValueError
        if parts[2].isdigit():
            count = int(parts[2])
        else:
            fraction = float(parts[2])
    except ValueError:
        raise InputError(
            f"--substitute '{text}' is not understood.",
            todo="Write Zr:Hf:0.2 for a fifth of all Zr atoms, Zr:Hf:1 for one, Zr:Hf:0.5:nodes for half of the nodes.",
        ) from None
    for symbol in parts[:2]:
        if not atomic_numbers.get(symbol, 0):
            raise InputError(
                f"--substitute '{text}': '{symbol}' is no element.", todo="Give two metals, such as Zr:Hf:1."
            )
    return Exchange(parts[0], parts[1], fraction, count, len(parts) == 4)


def build_structure(
    structure: Path, output: Path, wanted: Wanted, *, list_pairs: bool, unchecked: bool, force: bool, console: Console
) -> None:
    """Applies the changes to the first frame of a file, writes it, and prints what it was and is."""
    from clusterflow.physics.bonds import check_distances

    if list_pairs and wanted != Wanted(seed=wanted.seed):
        raise InputError(
            "--pairs only lists the pairs of the file as it is; the changes asked for would not be made.",
            todo="Give --pairs alone, or leave it out.",
        )
    wanted.check()
    if wanted.nothing and not list_pairs:
        raise InputError("Nothing to do was named.", todo="Give at least one change; see `clusterflow build --help`.")
    if not list_pairs:
        check_output(output, force=force)
    frames = read_frames(structure)
    if len(frames) > 1:
        console.print(f"note: the first of {len(frames)} frames is used", markup=False, highlight=False)
    first = frames[0]
    atoms = Atoms(numbers=first.numbers, positions=first.positions, cell=first.cell, pbc=first.pbc)
    try:
        check_distances(atoms)
        if list_pairs:
            _print_pairs(atoms, console)
            return
        structure_format(output, periodic=bool(atoms.pbc.all()))
        refuse_unsound(atoms, structure, unchecked=unchecked, console=console)
        began = time.perf_counter()
        built, done = apply_changes(atoms, wanted)
        seconds = time.perf_counter() - began
        check_distances(built)
    except StructureError as error:
        raise StructureError(error.what, where=error.where or str(structure), todo=error.todo) from error
    write_structure(output, built)
    _print_summary(atoms, built, done, console, repeated=wanted.repeat is not None)
    console.print(f"built in {seconds:.2f} s → {output}", markup=False, highlight=False, soft_wrap=True)


def apply_changes(atoms: Atoms, wanted: Wanted) -> tuple[Atoms, list[str]]:
    """The changed structure, and one line for each step."""
    from clusterflow.structures.defects import missing_linker, missing_linker_pair, missing_node
    from clusterflow.structures.patterns import TOPOLOGIES, topology
    from clusterflow.structures.substitution import substitute
    from clusterflow.structures.supercell import random_defects

    rng = np.random.default_rng(wanted.seed)
    exchange = parse_exchange(wanted.substitute) if wanted.substitute else None
    done = []
    if wanted.repeat is not None:
        if min(wanted.repeat) < 1:
            raise InputError(f"--repeat {wanted.repeat} is no supercell.", todo="Give three numbers from 1.")
        atoms = atoms.repeat(wanted.repeat)
        done.append(f"repeated {' × '.join(map(str, wanted.repeat))}: {len(atoms)} atoms")
    if wanted.topology is not None:
        name = next((t for t in TOPOLOGIES if t == wanted.topology), None)
        axis = wanted.axis or "c"
        if name is None or axis not in ("a", "b", "c"):
            raise InputError(
                f"--topology {wanted.topology} --axis {axis} is not known.",
                todo=f"Topologies: {', '.join(TOPOLOGIES)}; axes: a, b, c.",
            )
        atoms = topology(atoms, name, axis="abc".index(axis))
        done.append(f"topology {name}" + (f", weak along {axis}" if name != "reo" else ""))
    if wanted.pair is not None:
        atoms = missing_linker_pair(atoms, wanted.pair)
        done.append(f"pair {wanted.pair} of missing linkers")
    if wanted.missing_linkers:
        atoms = missing_linker(atoms, count=wanted.missing_linkers, rng=rng)
        done.append(f"{wanted.missing_linkers} linker(s) removed")
    if wanted.missing_nodes:
        atoms = missing_node(atoms, count=wanted.missing_nodes, rng=rng)
        done.append(f"{wanted.missing_nodes} node(s) removed with their linkers")
    if wanted.remove_linkers or wanted.remove_nodes:
        together = exchange is not None and exchange.fraction is not None and not exchange.whole_nodes
        metal = None
        if together and exchange is not None and exchange.fraction is not None:
            metal, exchange = (exchange.element, exchange.by, exchange.fraction), None
        fractions: Literal["drawn", "final"] = "final" if wanted.final else "drawn"
        made = random_defects(
            atoms, linkers=wanted.remove_linkers, nodes=wanted.remove_nodes, metal=metal, fractions=fractions, rng=rng
        )
        atoms = made.atoms
        done += [
            f"{made.linkers_drawn} linkers and {made.nodes_drawn} nodes removed at random, "
            f"{made.linkers_with_nodes} more linkers with their nodes",
            f"cut off and dropped: {made.nodes_discarded} nodes, {made.linkers_discarded} linkers",
            f"fractions: metal {made.c_metal:.3f}, missing nodes {made.c_node:.3f}, "
            f"missing linkers {made.c_linker:.3f}",
        ]
    if exchange is not None:
        before = int((atoms.symbols == exchange.by).sum())
        atoms = substitute(
            atoms,
            exchange.element,
            exchange.by,
            fraction=exchange.fraction,
            count=exchange.count,
            whole_nodes=exchange.whole_nodes,
            rng=rng,
        )
        done.append(f"{int((atoms.symbols == exchange.by).sum()) - before} {exchange.element} became {exchange.by}")
    return atoms, done


def _print_summary(atoms: Atoms, built: Atoms, done: Sequence[str], console: Console, *, repeated: bool) -> None:
    from clusterflow.extract.electrons import count_electrons
    from clusterflow.physics.bonds import bond_graph
    from clusterflow.physics.structure_checks import check_chemistry
    from clusterflow.structures.summary import summarise

    for line in done:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("", "formula", "atoms", "nodes", "linkers", "linkers per node", "bonds per metal"):
        table.add_column(column, justify="right" if column in ("atoms", "nodes", "linkers") else "left")
    for name, which in (("before --repeat" if repeated else "before", atoms), ("after", built)):
        try:
            s = summarise(which)
        except StructureError as error:  # a substitution needs no blocks
            console.print(f"note: no nodes and linkers are counted: {error.what}", markup=False, soft_wrap=True)
            table.add_row(name, formula(which), str(len(which)), "·", "·", "·", "·")
            continue
        held = s.node_coordination
        nodes = ", ".join(f"{n} (×{count})" for n, count in held.items())
        if len(held) > 1:
            nodes += f"; mean {sum(n * count for n, count in held.items()) / s.nodes:.2f}"
        metals = ", ".join(f"{symbol} {n} (×{count})" for (symbol, n), count in s.metal_coordination.items())
        table.add_row(name, s.formula, str(s.atoms), str(s.nodes), str(s.linkers), nodes, metals)
        if name == "after" and s.loose and which.pbc.any():
            console.print(f"note: {len(s.loose)} loose piece(s): {', '.join(s.loose[:4])}", markup=False)
    console.print(table)
    graph = bond_graph(built)
    try:
        check_chemistry(built, graph)  # with --unchecked an incomplete structure comes as far as this
        charge, unpaired = count_electrons(built, graph)
        said = f"check: no dangling bonds, charge {charge}, {unpaired} unpaired electrons"
        if charge:
            said += "; not neutral: do the metals have the same oxidation state?"
    except StructureError as error:
        said = f"check: {error.what}"
    except ExtractionError as error:
        said = f"check: charge and spin cannot be counted: {error.what}"
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def _print_pairs(atoms: Atoms, console: Console) -> None:
    from clusterflow.structures.defects import linker_pairs

    table = Table(box=None, pad_edge=False)
    for column in ("pair", "equivalent", "distance in Å", "linkers per node"):
        table.add_column(column, justify="left" if column == "linkers per node" else "right")
    for number, pair in enumerate(linker_pairs(atoms), start=1):
        table.add_row(
            str(number), str(len(pair.pairs)), f"{pair.distance:.2f}", " ".join(str(c) for c in pair.coordination)
        )
    console.print(table)
