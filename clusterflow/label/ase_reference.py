"""Labels from any ASE calculator, named by its import path."""

from __future__ import annotations

import difflib
import importlib
import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import Label, Prediction
from clusterflow.core.frames import canonical_json
from clusterflow.errors import InputError, LabelError
from clusterflow.label.checks import check_label, check_same_atoms, check_structure

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class ASEReference:
    """Any ASE calculator as a `Reference`.

    ``calculator`` is ``package.module:Class`` (e.g. ``ase.calculators.emt:EMT``), ``arguments`` its keyword arguments
    (JSON data). ``charge_argument`` and ``spin_argument`` name the keywords that take the total charge and the number
    of unpaired electrons; without them, a charged or open-shell structure is refused. ``version`` is a word of the
    user's that becomes part of the level, for calculators whose results depend on a file that changes.

    Raises
    ------
    InputError
        The path is not of that form, or the arguments are not JSON data.
    """

    calculator: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    charge_argument: str = ""
    spin_argument: str = ""
    version: str = ""
    max_force: float = 50.0
    max_net_force: float = 1.5

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.calculator):
            raise InputError(
                f"'{self.calculator}' does not name a calculator.",
                todo="Write package.module:Class, for example ase.calculators.emt:EMT.",
            )
        try:
            json.dumps(dict(self.arguments), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"The arguments of '{self.calculator}' are not plain data: {error}",
                todo="Use numbers, strings, booleans, lists and mappings.",
            ) from error

    @property
    def level_of_theory(self) -> str:
        """Import path, arguments in canonical JSON, and the user's version word."""
        tail = f" version={self.version}" if self.version else ""
        return f"ASE {self.calculator} {canonical_json(dict(self.arguments))}{tail}"

    def check_elements(self, symbols: Iterable[str]) -> None:
        """Only that the calculator can be built: ASE has no way to ask which elements it knows.

        Raises
        ------
        InputError
            Not importable, or it refuses its arguments.
        """
        _ = tuple(symbols)
        self._build(0, 0)

    def label(self, atoms: Atoms, *, charge: int, spin: int, workdir: Path) -> Label:
        """Energy, forces and, for a 3-d periodic structure where the calculator has it, stress.

        Calculators that write files get ``workdir`` as their folder.

        Raises
        ------
        LabelError
            The calculator failed, does not know an element, or its result is implausible.
        InputError
            The calculator cannot be built, or charge or spin cannot be passed to it.
        """
        check_structure(atoms, where=str(workdir))
        calc = self._build(charge, spin)
        if hasattr(calc, "directory"):
            Path(workdir).mkdir(parents=True, exist_ok=True)
            calc.directory = str(workdir)
        copy = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        copy.calc = calc
        start = time.monotonic()
        try:
            energy, forces = float(copy.get_potential_energy()), np.asarray(copy.get_forces(), dtype=float)
            has_stress = copy.pbc.all() and "stress" in getattr(calc, "implemented_properties", ())
            stress = np.asarray(copy.get_stress(voigt=False)) if has_stress else None
        except Exception as error:  # calculators raise whatever they meet, and one failed label is not the end
            raise LabelError(
                f"{self.calculator} failed for {copy.get_chemical_formula()}: {type(error).__name__}: {error}",
                where=str(workdir),
                todo="Check that the calculator supports these elements and this kind of boundary.",
            ) from error
        prediction = Prediction(energy, forces, stress)
        check_same_atoms(atoms, getattr(calc, "atoms", None), where=str(workdir))
        check_label(atoms, prediction, max_force=self.max_force, max_net_force=self.max_net_force, where=str(workdir))
        return Label(
            prediction=prediction,
            level_of_theory=self.level_of_theory,
            charge=charge,
            spin=spin,
            scf_steps=0,
            wall_time=time.monotonic() - start,
        )

    def new_calculator(self) -> Any:
        """A calculator for neutral, closed-shell structures; raises InputError as `check_elements`."""
        return self._build(0, 0)

    def _build(self, charge: int, spin: int) -> Any:
        arguments = dict(self.arguments)
        for value, what, name in ((charge, "charge", self.charge_argument), (spin, "spin", self.spin_argument)):
            if name:
                arguments[name] = value
            elif value:
                raise LabelError(
                    f"{what} {value:+d} is asked of {self.calculator}, which has no keyword for it here.",
                    todo=f"Give {what}_argument, the calculator's keyword for it.",
                )
        module, _, name = self.calculator.partition(":")
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            near = difflib.get_close_matches(name, dir(sys.modules.get(module)), n=1)
            raise InputError(
                f"The calculator '{self.calculator}' cannot be imported: {error}",
                where=f"calculator: {self.calculator}",
                todo=f"Did you mean '{module}:{near[0]}'?"
                if near
                else "Check the spelling, and install its package into this environment.",
            ) from error
        try:
            return cls(**arguments)
        except Exception as error:  # constructors raise whatever they like
            raise InputError(
                f"{self.calculator} refuses its arguments {arguments}: {type(error).__name__}: {error}",
                todo="See the calculator's own documentation.",
            ) from error
