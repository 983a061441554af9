"""`potential:` — what a property is computed with: a trained model, or any ASE calculator."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, JsonValue, TypeAdapter, field_validator, model_validator

from clusterflow.config.mistakes import PlacedError
from clusterflow.config.section import Section
from clusterflow.config.systems import FilePath
from clusterflow.errors import InputError

Precision = Literal["float64", "float32"]
_FILES: Final = {
    *(".yaml", ".yml", ".json", ".extxyz", ".xyz", ".cif"),
    *(".ckpt", ".pt", ".pt2", ".pth", ".safetensors", ".zip", ".model"),
}
"""Endings of files that are taken for potentials by mistake, or are those of other programs."""


class Model(Section):
    """A potential that was trained here."""

    kind: Literal["model"] = "model"
    folder: FilePath
    """Model folder (it holds `model.json`), or the run folder of a campaign; relative to this YAML file."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""

    @field_validator("folder")
    @classmethod
    def _no_file(cls, value: Path) -> Path:
        # os.path: a name that is too long for a file is none, without an error
        is_folder, is_file = os.path.isdir(value), os.path.isfile(value)  # noqa: PTH112, PTH113
        if value.name == "model.json" or is_file or (value.suffix.lower() in _FILES and not is_folder):
            hint = f"; give '{value.parent}'" if value.name == "model.json" else ""
            raise ValueError(
                f"'{value.name}' is a file; a potential is a folder with model.json, such as `model` in the run folder "
                f"of a campaign or in an export{hint}; or an ASE calculator: "
                '{kind: ase, calculator: "ase.calculators.emt:EMT"}'
            )
        return value

    def model_folder(self) -> Path:
        """Where `model.json` is.

        Raises
        ------
        InputError
            There is none.
        """
        for folder in (self.folder, self.folder / "model"):
            if (folder / "model.json").is_file():
                return folder
        there = self.folder.is_dir()
        todo = "Give the folder `model` of a campaign that has finished, or what `clusterflow train` wrote."
        if (self.folder / "journal.jsonl").is_file():
            todo = "Its campaign has not finished: `clusterflow run` of its file resumes it, and writes the potential."
        elif not there and self.folder.parent.is_dir():
            near = [p.name for p in self.folder.parent.iterdir() if p.is_dir()]
            if close := difflib.get_close_matches(self.folder.name, near, n=1):
                todo = f"Did you mean '{self.folder.parent / close[0]}'? {todo}"
        raise InputError(
            f"There is no trained potential in '{self.folder}': "
            + ("neither model.json nor model/model.json." if there else "there is no such folder."),
            where=str(self.folder.absolute()),
            todo=todo,
        )

    def build(self, folder: Path, *, precision: Precision = "float64", threads: int = 1) -> Any:
        """The potential in ``folder``: NequIP's in ``precision`` on ``device``, a linear one in double precision on the
        CPU."""
        from clusterflow.train.learners import load_potential
        from clusterflow.train.model_folder import FIRST_KIND, kind_of
        from clusterflow.train.nequip_potential import NequIPPotential

        if kind_of(folder) != FIRST_KIND:
            return load_potential(folder, threads=threads)
        return NequIPPotential.load(folder, device=self.device, dtype=precision, threads=threads)


class Calculator(Section):
    """Any ASE calculator by its import path."""

    kind: Literal["ase"] = "ase"
    calculator: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`package.module:Class`, e.g. `ase.calculators.emt:EMT` or `tblite.ase:TBLite`."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the class."""
    version: str = ""
    """Anything that tells versions of the calculator or of its files apart: with another one all is computed anew."""

    @model_validator(mode="after")
    def _no_dunder(self) -> Calculator:
        if "__" in self.calculator:
            raise PlacedError(
                "calculator is an import path `package.module:Class` without double underscores", "calculator"
            )
        return self

    def build(self) -> Any:
        """The calculator as a potential; what it needs is imported when it is first used."""
        from clusterflow.evaluate.calculator_potential import CalculatorPotential
        from clusterflow.label.ase_reference import ASEReference

        named = ASEReference(calculator=self.calculator, arguments=self.arguments, version=self.version)
        return CalculatorPotential(named.new_calculator, named.level_of_theory)


Potential: TypeAlias = Model | Calculator
PropertyPotential = Annotated[Potential, Field(discriminator="kind")]


def read_potential(data: Any) -> Potential:
    """The section that `to_json` of it gave."""
    read: Potential = TypeAdapter(PropertyPotential).validate_python(data)
    return read


def potential_section(value: Any) -> Any:
    """A path alone means a trained model; a mapping without ``kind`` that names a calculator, one of ASE."""
    if isinstance(value, (str, os.PathLike)):
        return {"kind": "model", "folder": value}
    if isinstance(value, Mapping) and "kind" not in value:
        return {"kind": "ase" if "calculator" in value else "model", **value}
    return value
