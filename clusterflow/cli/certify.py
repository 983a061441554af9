"""`clusterflow certify`: the cheapest fragments whose core forces are the parent's, with the proof."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from rich.console import Console
from rich.table import Table

from clusterflow.cli.checks import refuse_unsound
from clusterflow.cli.levels import reference_level
from clusterflow.cli.output_files import check_extxyz_output, check_output
from clusterflow.core import keys
from clusterflow.core.data import Fragment, Site
from clusterflow.core.frames import content_hash, formula, fragment_to_atoms, read_frames, write_frames
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.calibration import Calibration
from clusterflow.extract.certificate import SearchSettings
from clusterflow.extract.certified_rule import CertifiedRule
from clusterflow.extract.confirm import Confirmed, confirm
from clusterflow.label.cost import fit_cost


def certify(
    structure: Path,
    output: Path,
    *,
    model: Path | None,
    calibration: Path | None,
    confirmations: int,
    level: str,
    store: Path | None,
    sites: Sequence[int],
    random: int,
    core: str,
    tolerance: float,
    confidence: float | None,
    max_atoms: int,
    seed: int,
    unchecked: bool,
    as_json: bool,
    force: bool,
    console: Console,
) -> None:
    """Calibrates if asked to, then certifies the sites; writes fragments, and the calibration beside them."""
    kept = output.with_suffix(".calibration.json")
    _check_options(output, kept, calibration, confirmations, confidence, force=force)
    frames = read_frames(structure)
    refuse_unsound(frames[0], structure, unchecked=unchecked, console=console)
    potential = _potential(model, frames[0])
    known = _read_calibration(calibration, tolerance, potential) if calibration is not None else None
    rule = CertifiedRule(
        cost=fit_cost([], []).seconds,
        tolerance=tolerance,
        core=core,
        settings=SearchSettings(max_atoms=max_atoms),
        potential=potential,
        model=known.model if known else None,
    )
    rng = np.random.default_rng(seed)
    say = Console(stderr=True) if as_json else console
    if confirmations:
        known = _calibrate(rule, frames, confirmations, level, store, confidence or 0.95, rng, say)
        kept.write_text(json.dumps(known.to_json(), indent=1), encoding="utf-8")
        say.print(f"calibration → {kept}", markup=False, highlight=False)
    rows, found = [], []
    for number, frame, index in _sites(frames, sites, random, rng, structure):
        row: dict[str, Any] = {"frame": number, "atom": index, "element": frame.symbols[index]}
        try:
            fragment = rule.extract(frame, [Site(content_hash(frame), index)])
        except ExtractionError as error:
            rows.append({**row, "refused": error.what})
            last = error
            continue
        rows.append({**row, **_row(fragment, rule)})
        found.append(fragment_to_atoms(fragment, **{keys.FRAME: content_hash(frame)}))
    if not found:
        raise last
    write_frames(output, found)
    if as_json:
        about = known.to_json() if known else {}
        about.pop("error_model", None)
        told = {"method": rule.method, "tolerance": tolerance, "factor": _finite(rule.error_model.factor), **about}
        json.dump({**told, "fragments": rows}, sys.stdout, indent=1)
        sys.stdout.write("\n")
        return
    console.print(_table(rows, rule, known.level_of_theory if known else ""))
    if not np.isfinite(rule.error_model.factor):
        console.print(
            f"No bound yet: {rule.error_model.n} confirmed fragments are too few. Give --confirm 25 and a --level "
            "(with frames that differ, and a larger --max-atoms if many cannot be confirmed), or the --calibration of "
            "a campaign.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"{len(found)} fragment{'s' * (len(found) != 1)} → {output}", markup=False, highlight=False)


def _check_options(
    output: Path, kept: Path, calibration: Path | None, confirmations: int, confidence: float | None, *, force: bool
) -> None:
    """Everything that can be refused before any work."""
    check_extxyz_output(output, force=force, held="core, bounds and certificates")
    if confirmations:
        check_output(kept, force=force)
    if calibration is not None and (confirmations or confidence is not None):
        raise InputError(
            "--calibration already has its confirmations and its confidence.",
            where=str(calibration),
            todo="Leave out --confirm and --confidence, or leave out --calibration.",
        )
    if confidence is not None and not 0.5 < confidence < 1.0:
        raise InputError(f"--confidence {confidence:g} makes no sense.", todo="Give a number below 1, such as 0.95.")


def _potential(folder: Path | None, atoms: Atoms) -> Any:
    if folder is None:
        return None
    from clusterflow.train.learners import load_potential

    potential = load_potential(folder)
    missing = sorted(set(atoms.get_chemical_symbols()) - set(potential.elements))
    if missing:
        raise InputError(
            f"The potential does not know {', '.join(missing)}.",
            where=str(folder.absolute()),
            todo=f"It was trained on {', '.join(potential.elements)}.",
        )
    return potential


def _read_calibration(path: Path, tolerance: float, potential: Any) -> Calibration:
    """The calibration in a file, if it holds for this tolerance and potential."""
    try:
        found = Calibration.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"There is no calibration '{path}'.", where=str(path.absolute())) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"'{path}' is not a calibration: {type(error).__name__}: {error}",
            where=str(path.absolute()),
            todo="Give calibration.json of a campaign, or what `clusterflow certify --confirm` wrote.",
        ) from error
    mine = potential.model_id if potential is not None else ""
    if found.potential != mine:
        names = [f"the potential {name[:12]}" if name else "no potential" for name in (found.potential, mine)]
        raise InputError(
            f"The calibration was made with {names[0]}, and is used with {names[1]}.",
            where=str(path.absolute()),
            todo="Give its own potential with --model, or calibrate again with --confirm.",
        )
    if not np.isclose(found.tolerance, tolerance):
        raise InputError(
            f"The calibration holds for a tolerance of {1000 * found.tolerance:g} meV/Å, not {1000 * tolerance:g}.",
            where=str(path.absolute()),
            todo=f"Give --tolerance {1000 * found.tolerance:g}, or calibrate again with --confirm.",
        )
    return found


def _calibrate(
    rule: CertifiedRule,
    frames: Sequence[Atoms],
    count: int,
    level: str,
    store: Path | None,
    confidence: float,
    rng: np.random.Generator,
    say: Console,
) -> Calibration:
    """Half of the sites are chosen with the prior, the others with what the first half taught."""
    reference = reference_level(level, store)
    reference.check_elements({s for a in frames for s in a.get_chemical_symbols()})
    found = Confirmed()
    with say.status("confirming") as status:
        for k in range(count):
            frame = frames[int(rng.integers(len(frames)))]
            confirm(frame, int(rng.integers(len(frame))), rule, reference.forces, found)
            status.update(f"confirming: {k + 1} of {count}")
            if k + 1 in ((count + 1) // 2, count):
                rule.model = found.calibrate(rule, confidence=confidence)
    model = rule.error_model
    bound = f"bound = {model.factor:.2f} × estimate" if np.isfinite(model.factor) else "no bound yet"
    say.print(f"{model.n} of {count} confirmed at {reference.identity}: {bound}", markup=False, soft_wrap=True)
    for line in found.skipped[:5]:
        say.print(f"  not confirmed: {line}", markup=False, highlight=False, soft_wrap=True)
    if len(found.skipped) > 5:
        say.print(f"  … and {len(found.skipped) - 5} more", markup=False, highlight=False)
    potential = rule.potential.model_id if rule.potential is not None else ""
    return Calibration(model, reference.identity, rule.tolerance, potential)


def _sites(
    frames: Sequence[Atoms], sites: Sequence[int], random: int, rng: np.random.Generator, structure: Path
) -> list[tuple[int, Atoms, int]]:
    """(number of the frame, frame, atom): the given atoms of every frame, or random ones."""
    if not sites:
        atoms = [(n, k) for n, frame in enumerate(frames) for k in range(len(frame))]
        drawn = rng.choice(len(atoms), min(random, len(atoms)), replace=False).tolist()
        return [(atoms[d][0], frames[atoms[d][0]], atoms[d][1]) for d in drawn]
    smallest = min(len(a) for a in frames)
    bad = [s for s in sites if not 0 <= s < smallest]
    if bad:
        raise InputError(
            f"There is no atom {bad[0]}: the structure has {smallest} atoms, counted from 0.",
            where=str(structure),
            todo=f"Give numbers from 0 to {smallest - 1}.",
        )
    return [(n, frame, s) for n, frame in enumerate(frames) for s in sites]


def _row(fragment: Fragment, rule: CertifiedRule) -> dict[str, Any]:
    certificate = fragment.certificate
    assert certificate is not None
    worst, expected = (float(e[certificate.required].max()) for e in (certificate.bound, certificate.estimate))
    return {
        "core": fragment.kind,
        "fragment": formula(fragment.atoms),
        "atoms": len(fragment.atoms),
        "charge": fragment.charge,
        "relative_cost": rule.cost(fragment.atoms),
        "core_atoms": int(fragment.core.sum()),
        "estimate": _finite(expected),
        "bound": _finite(worst),
        "confidence": certificate.confidence,
        "passed": certificate.passed,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _table(rows: Sequence[dict[str, Any]], rule: CertifiedRule, level: str) -> Table:
    model = rule.error_model
    calibrated = bool(np.isfinite(model.factor))
    title = f"tolerance {1000 * rule.tolerance:.0f} meV/Å"
    title += f" with {model.confidence:.0%} confidence, {model.n} confirmations at {level}" if calibrated else ""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    columns = ("frame", "atom", "core", "fragment", "atoms", "charge", "core atoms", "expected", "bound", "certified")
    for column in columns:
        table.add_column(column, justify="left" if column in ("core", "fragment", "certified") else "right")
    for r in rows:
        atom = f"{r['element']}{r['atom']}"
        if "refused" in r:
            table.add_row(str(r["frame"]), atom, "refused", r["refused"])
            continue
        errors = ["–" if r[k] is None else f"{1000 * r[k]:.0f}" for k in ("estimate", "bound")]
        verdict = "yes" if r["passed"] else "no" if calibrated else "not yet"
        cells = (r["frame"], atom, r["core"], r["fragment"], r["atoms"], r["charge"], r["core_atoms"], *errors, verdict)
        table.add_row(*map(str, cells))
    return table
