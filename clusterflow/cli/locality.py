"""`clusterflow locality`: how far the force on an atom reaches, and the fragment that holds all of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from rich.console import Console
from rich.status import Status
from rich.table import Table

from clusterflow.cli.levels import ForceLevel, potential_level, reference_level
from clusterflow.core.frames import formula, fragment_to_atoms, read_frames, write_frames
from clusterflow.errors import InputError
from clusterflow.extract.functional_groups import GroupedPiece, check_site, completed
from clusterflow.extract.group_cut import in_frame, reference_piece
from clusterflow.extract.locality import (
    GAMMA,
    TOLERANCE,
    Locality,
    Trial,
    assess_groups,
    assess_locality,
    converged,
    fragment_radius,
    groups_within,
)
from clusterflow.extract.soundness import check_structure


def locality(
    structure: Path,
    output: Path,
    *,
    sites: Sequence[int],
    level: str,
    model: Path | None,
    gamma: float,
    radius: float,
    cut_cost: float,
    max_atoms: int,
    store: Path | None,
    as_json: bool,
    force: bool,
    console: Console,
) -> None:
    """Assesses each site; writes tables, pictures and fragments into the folder ``output``."""
    if not sites:
        raise InputError("No site is given.", todo="Name one or more atoms, counted from 0: --site 12 --site 40.")
    if not gamma > 0.0:
        raise InputError(f"A threshold of {gamma} eV/Å² lets nothing pass.", todo=f"Give --gamma {GAMMA}, for example.")
    if output.exists() and not force:
        raise InputError(
            f"'{output}' exists already.", where=str(output.absolute()), todo="Name another folder, or add --force."
        )
    frames = read_frames(structure)
    atoms = frames[0]
    for site in sites:
        check_site(atoms, site)
    source = potential_level(model) if model is not None else reference_level(level, store)
    source.check_elements(atoms.get_chemical_symbols())
    check_structure(atoms)
    pieces = [_piece(atoms, site, radius, cut_cost, max_atoms) for site in sites]
    say = console if not as_json else Console(stderr=True)
    if len(frames) > 1:
        say.print(f"note: the first of {len(frames)} frames is used", markup=False, highlight=False)
    say.print(f"level of theory: {source.identity}", markup=False, highlight=False, soft_wrap=True)
    found = []
    for site, (piece, place) in zip(sites, pieces, strict=True):
        with say.status(f"site {site}") as status:
            tell = partial(_tell, status, site)
            result = assess_locality(piece, place, source.forces, row=source.row, progress=tell)
        found.append(result)
        if not as_json:
            console.print(_trial_table(atoms, site, result, gamma))
    with say.status("common radius"):
        common, chosen = _at_common_radius(found, source, gamma, whole=not atoms.pbc.any())
    summary = _write(output, structure, atoms, sites, found, common, chosen, source, gamma)
    for line in _warnings(summary, radius, periodic=bool(atoms.pbc.any())):
        say.print(line, style="bold red", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        json.dump(summary, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    console.print(_site_table(summary))
    told = "no common radius; pictures" if common is None else f"common radius {common:.3f} Å; fragments, pictures"
    console.print(f"{told} and data → {output}", markup=False, highlight=False)


def _warnings(summary: dict[str, Any], radius: float, *, periodic: bool) -> list[str]:
    """What must not be overlooked: sites without a fragment, fragments above Γ or with a force that is wrong, pieces
    that end within the common radius."""
    lines = []
    common = summary["common_radius"]
    if periodic and common is not None and common > radius:
        lines.append(
            f"The common radius, {common:.2f} Å, is larger than the pieces: raise --radius (now {radius:g} Å)."
        )
    for row in summary["sites"]:
        name, norm = row["site"], row["common_effective_norm"]
        if norm is None:
            lines.append(
                f"{name}: NOT converged within this piece of {row['reference_atoms']} atoms: raise --radius (now "
                f"{radius:g} Å). No fragment is written for it."
            )
            continue
        if norm > summary["gamma_eV_per_A2"]:
            lines.append(
                f"{name}: its fragment at the common radius is NOT converged (‖G'‖ {norm:.3f} eV/Å²), and marked so."
            )
        error = float(np.linalg.norm(row["common_force_error"]))
        if error > TOLERANCE:
            lines.append(
                f"{name}: the force in its fragment is wrong by {error:.2f} eV/Å, more than the {TOLERANCE:g} that Γ "
                "stands for: lower --gamma."
            )
    return lines


def _tell(status: Status, site: int, text: str) -> None:
    status.update(f"site {site}: {text}")


def _piece(atoms: Atoms, site: int, radius: float, cut_cost: float, max_atoms: int) -> tuple[GroupedPiece, int]:
    piece, place = reference_piece(atoms, site, radius, max_cost=cut_cost)
    if len(piece.atoms) > max_atoms:
        raise InputError(
            f"The reference piece around atom {site} has {len(piece.atoms)} atoms, more than {max_atoms}.",
            where=f"{formula(atoms)}, {len(atoms)} atoms, radius {radius:g} Å",
            todo="Take a smaller --radius, or raise --max-atoms; its Hessian row costs six gradients of that size.",
        )
    if len(piece.groups) < 2:
        raise InputError(
            f"{formula(piece.atoms)} is a single group, which no fragment cuts: there is nothing to compare.",
            where=f"atom {site} of {formula(atoms)}",
            todo="Give a larger structure, --radius or --cut-cost (3, 4, … cut more kinds of bonds).",
        )
    return piece, place


def _label(atoms: Atoms, site: int) -> str:
    return f"{atoms.symbols[site]}{site}"


def _trial_table(atoms: Atoms, site: int, result: Locality, gamma: float) -> Table:
    best = converged(result, gamma)
    table = Table(
        box=None,
        pad_edge=False,
        title=f"{_label(atoms, site)}: fragments of {formula(result.piece.atoms)} ({len(result.piece.atoms)} atoms)",
        title_justify="left",
    )
    for column in ("g", "fragment", "atoms", "charge", "|Δf| eV/Å", "‖G‖ eV/Å²", "‖G'‖ eV/Å²", ""):
        table.add_column(column, justify="left" if column in ("fragment", "") else "right", no_wrap=True)
    for number, trial in enumerate(result.trials, 1):
        table.add_row(
            str(number),
            trial.fragment.kind,
            str(len(trial.fragment.atoms)),
            f"{trial.fragment.charge:+d}",
            f"{trial.error:.4f}",
            f"{trial.group_norm:.3f}",
            f"{trial.effective_norm:.3f}",
            "converged" if trial is best else "",
        )
    return table


def _site_table(summary: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, title="converged fragments", title_justify="left")
    for column in ("site", "fragment", "atoms", "r_frag Å", "at the common radius", "atoms"):
        table.add_column(column, justify="right" if column in ("atoms", "r_frag Å") else "left", no_wrap=True)
    for row in summary["sites"]:
        table.add_row(
            row["site"],
            row["fragment"],
            str(row["atoms"]),
            "–" if row["r_frag"] is None else f"{row['r_frag']:.3f}",
            row["common_fragment"] or "–",
            "–" if row["common_fragment"] is None else str(row["common_atoms"]),
        )
    return table


def _at_common_radius(
    found: Sequence[Locality], level: ForceLevel, gamma: float, *, whole: bool
) -> tuple[float | None, list[tuple[float, Trial] | None]]:
    """The common radius (Å) of the sites that are converged, and for each of them r_frag and its fragment there: all
    groups within that radius, and those of its own converged fragment.

    ``whole``: the references are the structure itself, which is right by definition where no fragment of it is. A piece
    that was cut out of a frame need not be.
    """
    kept: list[tuple[float, frozenset[int]] | None] = []
    for result in found:
        best = converged(result, gamma)
        if best is not None:
            kept.append((fragment_radius(result, best.groups), best.groups))
        elif whole:
            kept.append((fragment_radius(result), frozenset(range(len(result.piece.groups)))))
        else:
            kept.append(None)
    common = max((k[0] for k in kept if k is not None), default=None)
    out: list[tuple[float, Trial] | None] = []
    for result, own in zip(found, kept, strict=True):
        if own is None or common is None:
            out.append(None)
            continue
        groups = completed(result.piece, groups_within(result.piece, result.site, common) | own[1])
        out.append((own[0], assess_groups(result, groups, level.forces, row=level.row)))
    return common, out


def _write(
    output: Path,
    structure: Path,
    atoms: Atoms,
    sites: Sequence[int],
    found: Sequence[Locality],
    common: float | None,
    chosen: Sequence[tuple[float, Trial] | None],
    level: ForceLevel,
    gamma: float,
) -> dict[str, Any]:
    """Everything the folder holds; returns what `locality.json` says."""
    from clusterflow.extract.locality_figures import annotated, site_figure

    output.mkdir(parents=True, exist_ok=True)
    rows, fragments = [], []
    for site, result, own in zip(sites, found, chosen, strict=True):
        name = _label(atoms, site)
        trial = converged(result, gamma)
        title = f"{name} of {structure.name}, {level.identity}"
        site_figure(result, output / f"{name}.png", gamma=gamma, best=trial, title=title)
        write_frames(output / f"{name}.extxyz", [annotated(result, trial)])
        within = None
        if own is not None:
            r_frag, within = own
            good = within.effective_norm <= gamma
            fragment = in_frame(result.piece, within.fragment, atoms)
            fragments.append(fragment_to_atoms(fragment, site=name, r_frag=r_frag, converged=good))
        reached = result.piece.atoms if trial is None else trial.fragment.atoms
        note = "" if trial is not None else " (the whole structure)" if own is not None else " (NOT converged)"
        rows.append(
            {
                "site": name,
                "reference": formula(result.piece.atoms),
                "reference_atoms": len(result.piece.atoms),
                "converged": own is not None,
                "fragment": formula(reached) + note,
                "atoms": len(reached),
                "r_frag": None if own is None else own[0],
                "common_fragment": None if within is None else formula(within.fragment.atoms),
                "common_atoms": None if within is None else len(within.fragment.atoms),
                "common_effective_norm": None if within is None else within.effective_norm,
                "common_force_error": None if within is None else [float(x) for x in within.force_error],
                "norms": [round(float(x), 6) for x in result.norms],
                "distances": [round(float(x), 6) for x in result.distances],
                "trials": [_trial_json(t) for t in result.trials],
            }
        )
    summary = {
        "level_of_theory": level.identity,
        "gamma_eV_per_A2": gamma,
        "common_radius": common,
        "sites": rows,
    }
    if fragments:
        write_frames(output / "fragments.extxyz", fragments)
    else:
        (output / "fragments.extxyz").unlink(missing_ok=True)  # of an earlier run
    (output / "locality.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "fragment": trial.fragment.kind,
        "atoms": len(trial.fragment.atoms),
        "charge": trial.fragment.charge,
        "group_norm": trial.group_norm,
        "effective_norm": trial.effective_norm,
        "force_error": [float(x) for x in np.asarray(trial.force_error)],
    }
