"""Confirms certificates by labels: of a larger fragment, or of the parent itself where that can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.data import BoolArray, FloatArray, Fragment, IntArray, Site
from clusterflow.core.frames import certificate_from_atoms, content_hash, fragment_from_atoms
from clusterflow.errors import ExtractionError, LabelError
from clusterflow.extract.calibration import Confirmation, ErrorModel, calibrate
from clusterflow.extract.certificate import FURTHER, compare, confirmation
from clusterflow.extract.certified_rule import CertifiedRule
from clusterflow.extract.rules import BuildingBlockRule, frame_of

Forces = Callable[[Atoms, int, int], FloatArray]
"""(atoms, charge, number of unpaired electrons) → forces (n, 3) in eV/Å at the level of theory."""


def fragment_forces(fragment: Fragment, forces: Forces) -> FloatArray:
    """Forces (n, 3) in eV/Å on a fragment with its charge and spin."""
    return forces(fragment.atoms, fragment.charge, fragment.spin)


@dataclass
class Confirmed:
    """What labels have shown so far: ``known`` confirmations; how many larger labels failed (``unconfirmed``); and why
    the other sites told nothing (``skipped``)."""

    known: list[Confirmation] = field(default_factory=list)
    unconfirmed: int = 0
    skipped: list[str] = field(default_factory=list)

    def __add__(self, other: Confirmed) -> Confirmed:
        """Both, in order."""
        return Confirmed(self.known + other.known, self.unconfirmed + other.unconfirmed, self.skipped + other.skipped)

    def calibrate(self, rule: CertifiedRule, *, confidence: float) -> ErrorModel:
        """The error model of the rule's own indicators and tolerance."""
        return calibrate(
            rule.error_model.columns,
            self.known,
            tolerance=rule.tolerance,
            confidence=confidence,
            unconfirmed=self.unconfirmed,
        )


def confirm(atoms: Atoms, index: int, rule: CertifiedRule, forces: Forces, so_far: Confirmed) -> None:
    """Certifies a fragment for one atom of a frame, labels it and a larger one, and adds to ``so_far`` what was seen.

    A fragment that cannot be cut or labelled tells nothing; a larger one that cannot be labelled counts as an error of
    any size, since hard cases fail more often.
    """
    name = f"atom {index} of frame {content_hash(atoms)[:12]}"
    try:
        fragment = rule.extract(atoms, [Site(content_hash(atoms), index)])
        larger = rule.confirming(atoms, fragment)
        small_forces = fragment_forces(fragment, forces) if larger is not None else np.zeros(0)
    except (ExtractionError, LabelError) as error:
        so_far.skipped.append(f"{name}: {error.what}")
        return
    if larger is None:
        so_far.skipped.append(f"{name}: nothing within the limits reaches {FURTHER:g} Å beyond its fragment")
        return
    try:
        told = confirmation(name, fragment, small_forces, larger, fragment_forces(larger, forces))
    except LabelError as error:
        so_far.unconfirmed += 1
        so_far.skipped.append(f"{name}: the larger fragment failed: {error.what}")
        return
    if told is not None:
        so_far.known.append(told)


def confirmations(frames: Iterable[Atoms]) -> list[Confirmation]:
    """What annotated and labelled fragments say about the certificates of others (those that `keys.CONFIRMS` names), in
    the order of the frames."""
    frames = list(frames)
    by_id = {str(a.info.get(keys.FRAGMENT, "")): a for a in frames}
    found = []
    for large in frames:
        small = by_id.get(str(large.info.get(keys.CONFIRMS, "")))
        if small is None or certificate_from_atoms(small) is None:
            continue
        told = confirmation(
            str(small.info[keys.FRAGMENT]),
            fragment_from_atoms(small),
            _labelled_forces(small),
            fragment_from_atoms(large),
            _labelled_forces(large),
        )
        if told is not None:
            found.append(told)
    return found


def _labelled_forces(atoms: Atoms) -> FloatArray:
    return np.asarray(atoms.get_forces(apply_constraint=False), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Truth:
    """A certified fragment beside its parent: ``atoms`` (k,) of the fragment that have a parent, the true force
    ``errors`` (k,) eV/Å on them, and which of them are ``core`` and ``required`` (k,) bool."""

    fragment: Fragment
    atoms: IntArray
    errors: FloatArray
    core: BoolArray
    required: BoolArray

    @property
    def kept(self) -> bool:
        """Whether every core atom stays below its bound."""
        assert self.fragment.certificate is not None
        return bool((self.errors <= self.fragment.certificate.bound[self.atoms])[self.core].all())

    @property
    def worst(self) -> float:
        """Largest true error of the required atoms in eV/Å."""
        return float(self.errors[self.required].max())

    def to_json(self) -> dict[str, Any]:
        """The fragment, its verdict, and true errors, bounds and estimates (eV/Å) of its core atoms."""
        certificate = self.fragment.certificate
        assert certificate is not None
        core = self.atoms[self.core]
        return {
            "atoms": len(self.fragment.atoms),
            "rule": self.fragment.rule,
            "passed": certificate.passed,
            "kept": self.kept,
            "worst": self.worst,
            "errors": self.errors[self.core].tolist(),
            "bounds": [b if np.isfinite(b) else None for b in certificate.bound[core].tolist()],
            "estimates": certificate.estimate[core].tolist(),
            "required": self.required[self.core].tolist(),
        }


def against_parent(fragment: Fragment, parent: Atoms, parent_forces: FloatArray, forces: Forces) -> Truth:
    """Labels a certified fragment and compares it with forces (n, 3) eV/Å of its periodic or finite parent."""
    whole = Fragment(
        atoms=parent,
        core=np.ones(len(parent), dtype=bool),
        parent=np.arange(len(parent), dtype=np.int64),
        sites=fragment.sites,
        rule="whole",
        charge=0,
        spin=0,
    )
    atoms, errors = compare(fragment, fragment_forces(fragment, forces), whole, parent_forces)
    certificate = fragment.certificate
    required = fragment.core if certificate is None else certificate.required
    return Truth(fragment, atoms, errors, fragment.core[atoms], required[atoms])


def finite_parent(frame: Atoms, rng: np.random.Generator, *, radius: float = 8.0) -> Atoms:
    """A large finite piece of a frame, to be a parent of its own: around a random linker its nodes and their linkers,
    around a random molecule those within ``radius`` (Å).

    For levels whose periodic forces are not the limit of their finite ones, and for cells with a net dipole.

    Raises
    ------
    ExtractionError
        There is neither linker nor molecule, or the piece cannot be cut.
    """
    blocks = frame_of(frame, None).blocks
    centres = [b for b, kind in enumerate(blocks.kinds) if kind != "node"]
    if not centres:
        raise ExtractionError(f"{frame.get_chemical_formula()} has neither linkers nor molecules.")
    site = Site(content_hash(frame), int(blocks.members(int(rng.choice(centres)))[0]))
    piece: Atoms = BuildingBlockRule({"linker": 2, "molecule": radius}).extract(frame, [site], blocks=blocks).atoms
    return piece
