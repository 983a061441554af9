"""`clusterflow match`: forces of fragments against those of their parent, by region."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase import Atoms
from rich.console import Console
from rich.table import Table

from clusterflow.cli.checks import refuse_unsound
from clusterflow.cli.levels import ForceLevel, potential_level, reference_level
from clusterflow.cli.options import mantle_rule
from clusterflow.cli.output_files import check_extxyz_output
from clusterflow.core.frames import formula, read_frames, write_frames
from clusterflow.errors import InputError
from clusterflow.extract.force_matching import (
    Match,
    atom_errors,
    blueprint,
    default_regions,
    match_extrapolated,
    match_forces,
)
from clusterflow.extract.functional_groups import check_site
from clusterflow.physics.bonds import check_distances
from clusterflow.physics.building_blocks import Blocks, find_blocks


def match(
    parent: Path,
    output: Path | None,
    *,
    atom: int | None,
    block: str,
    mantles: Sequence[str],
    levels: Sequence[str],
    model: Path | None,
    n_frames: int,
    extrapolate: bool,
    max_atoms: int,
    store: Path | None,
    unchecked: bool,
    as_json: bool,
    force: bool,
    console: Console,
) -> None:
    """Matches every mantle at every level; prints the table and writes errors per atom if asked to."""
    if output is not None:
        check_extxyz_output(output, force=force, held="errors per atom")
    frames = _frames(parent, n_frames)
    check_distances(frames[0])
    say = Console(stderr=True) if as_json else console
    refuse_unsound(frames[0], parent, unchecked=unchecked, console=say)
    blocks = find_blocks(frames[0])
    site = _site(frames[0], blocks, atom, block)
    sources = [reference_level(name, store) for name in levels]
    if model is not None:
        sources.append(potential_level(model))
    for source in sources:
        source.check_elements(frames[0].get_chemical_symbols())
    if not extrapolate and len(frames[0]) > max_atoms:
        raise InputError(
            f"The parent has {len(frames[0])} atoms, more than --max-atoms {max_atoms}: too many to compute.",
            where=str(parent),
            todo="With --extrapolate and three or more growing --mantle it is not computed; or raise --max-atoms.",
        )
    blueprints = {mantle: blueprint(mantle_rule(mantle), site) for mantle in mantles}
    for source in sources:
        say.print(f"{source.name}: {source.identity}", markup=False, highlight=False, soft_wrap=True)
    with say.status("cutting") as status:
        matches = (match_extrapolated if extrapolate else match_forces)(
            frames,
            blueprints,
            {s.name: s.forces for s in sources},
            regions=default_regions(blocks, frames[0]),
            progress=status.update,
        )
    if output is not None:
        _write_atoms(output, frames[0], matches)
    if as_json:
        json.dump(matches_json(matches, sources, len(frames), extrapolated=extrapolate), sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    console.print(match_table(matches, extrapolated=extrapolate))
    if output is not None:
        console.print(f"parent with errors per atom → {output}", markup=False, highlight=False)


def match_table(matches: Sequence[Match], *, extrapolated: bool = False) -> Table:
    """Table SI.3: regions by level and blueprint, RMSE per component ± standard error in meV/Å."""
    names = list(dict.fromkeys(r for m in matches for r in m.regions))
    table = Table(
        box=None, pad_edge=False, title="RMSE of force components, fragment − parent, meV/Å", title_justify="left"
    )
    for column in ("level", "mantle", "atoms", *names, *(["of the limit"] if extrapolated else [])):
        table.add_column(column, justify="left" if column in ("level", "mantle") else "right", no_wrap=True)
    for m in matches:
        cells = [m.level, m.blueprint, str(m.n_atoms)]
        for name in names:
            r = m.regions.get(name)
            cells.append("–" if r is None else _spell(r.rmse, r.error))
        if extrapolated:
            cells.append(f"±{1000 * m.regions['core'].uncertainty:.0f}")
        table.add_row(*cells)
    return table


def matches_json(
    matches: Sequence[Match], levels: Sequence[ForceLevel], n_frames: int, *, extrapolated: bool
) -> dict[str, Any]:
    """The same for scripts, in eV/Å."""
    return {
        "levels": {s.name: s.identity for s in levels},
        "frames": n_frames,
        "parent_forces": "extrapolated" if extrapolated else "computed",
        "matches": [
            {
                "level": m.level,
                "mantle": m.blueprint,
                "atoms": m.n_atoms,
                "fragment": m.fragment_formula,
                "regions": {k: _finite(asdict(r)) for k, r in m.regions.items()},
            }
            for m in matches
        ],
    }


def _finite(row: Mapping[str, float]) -> dict[str, float | None]:
    return {k: None if math.isnan(v) else v for k, v in row.items()}


def _spell(value: float, error: float) -> str:
    return f"{1000 * value:.0f}" + (f" ± {1000 * error:.0f}" if not math.isnan(error) else "")


def _frames(parent: Path, n_frames: int) -> list[Atoms]:
    frames = read_frames(parent)[: n_frames or None]
    first = frames[0]
    for number, frame in enumerate(frames):
        if len(frame) != len(first) or (frame.numbers != first.numbers).any():
            raise InputError(
                f"Frame {number} is {formula(frame)}, the first frame {formula(first)}: not one parent.",
                where=str(parent),
                todo="Give frames of one structure, with the atoms in one order.",
            )
    return frames


def _site(atoms: Atoms, blocks: Blocks, atom: int | None, block: str) -> int:
    if atom is not None:
        check_site(atoms, atom)
        return atom
    chosen = [b for b, kind in enumerate(blocks.kinds) if kind == block]
    if not chosen:
        raise InputError(
            f"The parent has no block of kind '{block}'; it has {', '.join(sorted(set(blocks.kinds)))}.",
            todo="Ask for one of these with --block, or name an atom with --atom.",
        )
    return int(blocks.members(chosen[0])[0])


def _write_atoms(output: Path, frame: Atoms, matches: Sequence[Match]) -> None:
    """The first frame with one array per level and mantle: RMSE of each atom in eV/Å, −1 where it is not in it."""
    import numpy as np

    out = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    for m in matches:
        values = np.full(len(out), -1.0)
        for index, error in atom_errors(m.deviations).items():
            values[index] = error
        out.set_array(f"rmse_{m.level}_{m.blueprint}".replace(" ", ""), values)
    write_frames(output, [out])
