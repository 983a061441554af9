"""extxyz in and out, content hashes, and the two-way bridge between `Fragment` and annotated `Atoms`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.data import Certificate, Fragment, Label, Site
from clusterflow.errors import InputError

_CERTIFICATE_FIELDS = ("tolerance", "confidence", "confirmations", "method", "passed")
_DECIMALS = 8  # what extxyz keeps of a position: the hash must survive a round trip through the file


def canonical_json(value: Any) -> str:
    """JSON with one spelling per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(*parts: str | bytes) -> str:
    """SHA-256 (hex) of the parts, each preceded by its length so that they cannot run into each other."""
    h = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        h.update(len(data).to_bytes(8, "little"))
        h.update(data)
    return h.hexdigest()


def content_hash(atoms: Atoms) -> str:
    """Hash of elements, positions (to 1e-8 Å), cell and boundary conditions, in the given order and orientation.

    Equal before and after a round trip through extxyz. Velocities, labels and annotations do not count.
    """
    grid = 10.0**_DECIMALS
    cell = np.rint(np.asarray(atoms.cell.array) * grid).astype("<i8") if atoms.pbc.any() else np.zeros((3, 3), "<i8")
    return digest(
        np.asarray(atoms.numbers, dtype="<i8").tobytes(),
        np.rint(atoms.get_positions() * grid).astype("<i8").tobytes(),
        cell.tobytes(),
        np.asarray(atoms.pbc, dtype=np.uint8).tobytes(),
    )


def unordered_hash(atoms: Atoms) -> str:
    """As `content_hash` of a structure without cell, whatever the order of its atoms: equal for one set of atoms of one
    frame, however it was cut."""
    rows = np.column_stack((atoms.numbers, np.rint(atoms.get_positions() * 10.0**_DECIMALS))).astype("<i8")
    return digest(rows[np.lexsort(rows.T[::-1])].tobytes())


def read_frames(path: str | Path) -> list[Atoms]:
    """All frames of a structure file (any format that ASE knows).

    Raises
    ------
    InputError
        The file is missing, unreadable or empty.
    """
    from ase.io import read  # slow to import: 0.7 s in every worker

    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.*"))[:8] if path.parent.is_dir() else []
        raise InputError(
            f"There is no structure file '{path}'.",
            where=str(path.absolute()),
            todo=f"Check the path; that folder holds: {', '.join(near) or 'nothing, or does not exist'}.",
        )
    try:
        frames = read(path, index=":")
    except Exception as error:  # ASE's readers raise whatever they meet
        raise InputError(
            f"The structure file '{path}' cannot be read: {type(error).__name__}: {error or 'its reader says no more'}",
            where=str(path.absolute()),
            todo="Open it with `ase gui` to see whether it is complete; extxyz and CIF are good choices.",
        ) from error
    if not frames or any(len(a) == 0 for a in frames):
        raise InputError(
            f"The structure file '{path}' holds no atoms.", where=str(path.absolute()), todo="Give a file with atoms."
        )
    return list(frames)


def write_frames(path: str | Path, frames: Iterable[Atoms]) -> None:
    """Writes extxyz with annotations and, where a frame has a single-point calculator, energy and forces."""
    from ase.io import write

    frames = list(frames)
    if frames:
        write(Path(path), frames, format="extxyz")
    else:
        Path(path).write_text("")


def read_optional_frames(path: str | Path) -> list[Atoms]:
    """As `read_frames`, but an empty file is an empty list (what `write_frames` makes of no frames)."""
    return read_frames(path) if Path(path).stat().st_size else []


def fragment_to_atoms(fragment: Fragment, **info: Any) -> Atoms:
    """Annotated copy: region and parent arrays; charge, spin, rule, sites, kind and the given info."""
    atoms: Atoms = fragment.atoms.copy()
    # What a file keeps of a position: a fragment must not change its identity when it is written and read back.
    atoms.positions = np.round(atoms.positions, _DECIMALS)
    region = np.where(fragment.parent < 0, "termination", np.where(fragment.core, "core", "mantle"))
    atoms.set_array(keys.REGION, region.astype("U11"))
    atoms.set_array(keys.PARENT, np.asarray(fragment.parent, dtype=np.int64))
    atoms.info.update(
        {
            keys.CHARGE: int(fragment.charge),
            keys.SPIN: int(fragment.spin),
            keys.RULE: fragment.rule,
            keys.SITES: json.dumps([[s.frame_id, s.index] for s in fragment.sites]),
            **({keys.KIND: fragment.kind} if fragment.kind else {}),  # extxyz cannot hold an empty text
            keys.FRAGMENT: content_hash(atoms),
            **_certificate_info(fragment.certificate),
            **({keys.SPINS: json.dumps(list(fragment.spins_to_try))} if len(fragment.spins_to_try) > 1 else {}),
            **info,
        }
    )
    if fragment.certificate is not None:
        for name, values in (
            (keys.FORCE_BOUND, fragment.certificate.bound),
            (keys.FORCE_ESTIMATE, fragment.certificate.estimate),
        ):
            atoms.set_array(name, np.where(np.isfinite(values), values, np.nan))
        atoms.set_array(keys.REQUIRED, np.asarray(fragment.certificate.required, dtype=bool))
        atoms.set_array(keys.INDICATORS, np.asarray(fragment.certificate.indicators, dtype=np.float64))
        atoms.set_array(keys.ENVIRONMENT, np.array(fragment.certificate.environments, dtype=str))
    return atoms


def _certificate_info(certificate: Certificate | None) -> dict[str, str]:
    if certificate is None:
        return {}
    told = {name: getattr(certificate, name) for name in _CERTIFICATE_FIELDS}
    return {keys.CERTIFICATE: json.dumps(told, ensure_ascii=False)}


def certificate_from_atoms(atoms: Atoms) -> Certificate | None:
    """The certificate that `fragment_to_atoms` wrote, if there is one."""
    told = atoms.info.get(keys.CERTIFICATE)
    if told is None or keys.FORCE_BOUND not in atoms.arrays:
        return None
    told = json.loads(told) if isinstance(told, str) else told  # ASE may have parsed it
    bound, estimate = (np.asarray(atoms.arrays[k], dtype=np.float64) for k in (keys.FORCE_BOUND, keys.FORCE_ESTIMATE))
    return Certificate(
        bound=np.where(np.isnan(bound), np.inf, bound),
        estimate=np.where(np.isnan(estimate), np.inf, estimate),
        required=np.asarray(atoms.arrays[keys.REQUIRED], dtype=bool),
        indicators=np.asarray(atoms.arrays[keys.INDICATORS], dtype=np.float64).reshape(len(atoms), -1),
        environments=tuple(str(e) for e in atoms.arrays[keys.ENVIRONMENT]),
        **{name: told[name] for name in _CERTIFICATE_FIELDS},
    )


def fragment_from_atoms(atoms: Atoms) -> Fragment:
    """The inverse of `fragment_to_atoms`."""
    region = np.asarray(atoms.arrays[keys.REGION]).astype(str)
    raw = atoms.info[keys.SITES]
    sites = json.loads(raw) if isinstance(raw, str) else np.asarray(raw, dtype=object).reshape(-1, 2).tolist()
    spins = atoms.info.get(keys.SPINS, ())  # ASE may have parsed the list
    spins = json.loads(spins) if isinstance(spins, str) else spins
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    return Fragment(
        atoms=bare,
        core=region == "core",
        parent=np.asarray(atoms.arrays[keys.PARENT], dtype=np.int64),
        sites=tuple(Site(str(f), int(i)) for f, i in sites),
        rule=str(atoms.info[keys.RULE]),
        charge=int(atoms.info[keys.CHARGE]),
        spin=int(atoms.info[keys.SPIN]),
        kind=str(atoms.info.get(keys.KIND, "")),
        spins_to_try=tuple(int(s) for s in spins),
        certificate=certificate_from_atoms(atoms),
    )


def with_label(atoms: Atoms, label: Label, **info: Any) -> Atoms:
    """Copy that carries the label's energy, forces (and stress) in a SinglePointCalculator, as trainers expect."""
    from ase.calculators.singlepoint import SinglePointCalculator

    out: Atoms = atoms.copy()
    p = label.prediction
    results: dict[str, Any] = {"energy": p.energy, "forces": p.forces}
    if p.stress is not None:
        s = p.stress
        results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
    out.calc = SinglePointCalculator(out, **results)
    out.info.update({keys.LEVEL: label.level_of_theory, **info})
    return out


def atoms_to_json(atoms: Atoms) -> dict[str, Any]:
    """Elements, positions, cell and pbc as JSON data, at full precision."""
    return {
        "numbers": [int(z) for z in atoms.numbers],
        "positions": atoms.get_positions().tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": [bool(p) for p in atoms.pbc],
    }


def atoms_from_json(data: Mapping[str, Any]) -> Atoms:
    """The inverse of `atoms_to_json`."""
    return Atoms(numbers=data["numbers"], positions=data["positions"], cell=data["cell"], pbc=data["pbc"])


def formula(atoms: Atoms | Sequence[str]) -> str:
    """Hill formula, e.g. "C8H6O4"."""
    symbols = atoms if isinstance(atoms, Atoms) else Atoms(list(atoms))
    return str(symbols.get_chemical_formula(mode="hill"))
