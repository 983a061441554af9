"""The property file: which potential, which structures, which properties."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from ase import Atoms
from pydantic import Field, field_validator, model_validator

from clusterflow.config.failures import Failures
from clusterflow.config.mistakes import PlacedError
from clusterflow.config.potential import Calculator, Precision, PropertyPotential, potential_section
from clusterflow.config.quantities import (
    Duration,
    Length,
    SpecificHeat,
    Temperature,
    Wavenumber,
)
from clusterflow.config.relaxation import NAME, Relaxation
from clusterflow.config.sampling import PressureVolume, ThermalExpansion, VibrationalSpectrum
from clusterflow.config.section import Section
from clusterflow.config.systems import Build, FilePath, MachineName, System, TemperatureRange
from clusterflow.config.torsion import Metadynamics, Start, TorsionAtoms


class Structure(Section):
    """One structure, and what is done to it first: as `systems:` of a campaign."""

    name: str = Field(pattern=NAME)
    """Letters, digits, _ and -."""
    structure: FilePath
    """Structure file in any format ASE reads; relative to this YAML file. Its first frame is used."""
    build: tuple[Build, ...] = ()
    """Changes made to the structure, in order, as in a campaign file (docs/how-to/build-defects.md)."""

    def system(self) -> System:
        """The same as a campaign's system."""
        return System(name=self.name, structure=self.structure, build=self.build)

    def atoms(self) -> Atoms:
        """The built structure; raises as `System.atoms`."""
        return self.system().atoms()


class EnergyVolume(Relaxation):
    """E(V) at 0 K and the bulk modulus, for crystals (docs/concepts/properties.md)."""

    kind: Literal["energy_volume"] = "energy_volume"
    name: str = Field("energy_volume", pattern=NAME)
    """Of its files; two properties of one kind need different ones."""
    range: tuple[float, float] = (0.94, 1.06)
    """Smallest and largest volume, relative to that of the structure."""
    points: int = Field(13, ge=7, le=1000)
    """Volumes, equally spaced; each is relaxed by a task of its own."""
    agreement: float = Field(0.01, gt=0, lt=1)
    """The fits agree when their K spread by no more than this share of the mean."""
    min_points: int = Field(7, ge=7)
    """While the fits disagree their interval shrinks, to no fewer points than this."""

    @field_validator("range")
    @classmethod
    def _around_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.2 <= value[0] < value[1] <= 3.0:
            raise ValueError(f"range is [low, high] of relative volumes, such as [0.94, 1.06]; got {list(value)}")
        return value


class KnownHeatCapacity(Section):
    """A value to fit the scaling factor to."""

    structure: str
    """Name of a structure of this file."""
    temperature: Temperature
    """At which it was measured."""
    value: SpecificHeat
    """c_V, e.g. `0.75 J/g/K`."""


class HeatCapacity(Relaxation):
    """Harmonic C_V, zero-point energy, entropy and free energy from the Hessian (docs/concepts/properties.md)."""

    kind: Literal["heat_capacity"] = "heat_capacity"
    name: str = Field("heat_capacity", pattern=NAME)
    """Of its files; two properties of one kind need different ones."""
    relax: Literal["cell", "shape", "positions", "nothing"] | None = None
    """What relaxes with the positions first; default `cell` for crystals, `positions` for the rest."""
    temperature: Temperature = 300.0
    """Of the numbers in the table."""
    temperatures: TemperatureRange = (10.0, 1000.0)
    """Of the curve."""
    points: int = Field(100, ge=2, le=100_000)
    """Of the curve."""
    repeats: tuple[tuple[int, int, int], ...] = Field(((1, 1, 1),), min_length=1)
    """Supercells, growing; the largest gives the result, the one before it says how far it is converged."""
    lowest: Wavenumber = 1.0
    """Modes below, imaginary ones among them, are excluded and counted."""
    rows: int = Field(16, ge=1)
    """Atoms whose rows of the Hessian one task computes."""
    displacement: Length = 0.0025
    """Step of the central differences, where the potential has no second derivatives of its own."""
    precisions: tuple[Precision, ...] = Field(("float64",), min_length=1)
    """Of the Hessian, for a trained model: the first gives the result, others are compared with it."""
    scaling: float = Field(1.0, gt=0.2, lt=5)
    """Factor of all frequencies."""
    references: tuple[KnownHeatCapacity, ...] = ()
    """The factor is fitted to these instead, one for all structures."""

    @field_validator("repeats")
    @classmethod
    def _growing(cls, value: tuple[tuple[int, int, int], ...]) -> tuple[tuple[int, int, int], ...]:
        sizes = [a * b * c for a, b, c in value]
        if min(min(r) for r in value) < 1 or sizes != sorted(set(sizes)):
            raise ValueError(
                f"repeats is a series of growing cells such as [[1, 1, 1], [2, 2, 2]]; got {[list(r) for r in value]}"
            )
        return value

    @model_validator(mode="after")
    def _consistent(self) -> HeatCapacity:
        if len(set(self.precisions)) != len(self.precisions):
            raise PlacedError(f"precisions names one twice: {', '.join(self.precisions)}", "precisions")
        if self.references and self.scaling != 1.0:
            raise PlacedError("give either scaling or references to fit it to", "scaling")
        return self


class TorsionFreeEnergy(Relaxation, Metadynamics):
    """Free energy along torsions by well-tempered metadynamics at constant volume (docs/concepts/torsions.md)."""

    kind: Literal["torsion_free_energy"] = "torsion_free_energy"
    name: str = Field("torsion_free_energy", pattern=NAME)
    """Of its files; two properties of one kind need different ones."""
    torsions: tuple[TorsionAtoms, ...] = Field(min_length=1, max_length=2)
    """One or two, biased together; four atoms each, in a row, counted from 0."""
    relax: Start = "positions"
    """What relaxes first."""


Property = Annotated[
    EnergyVolume | HeatCapacity | PressureVolume | ThermalExpansion | VibrationalSpectrum | TorsionFreeEnergy,
    Field(discriminator="kind"),
]


class PropertyRun(Section):
    """One property run: what is computed of which structures, with which potential."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$")
    """Letters, digits, _ and -; also the name of the default run folder."""
    folder: FilePath | None = None
    """Run folder; a relative one is below the folder of this file. Default: `runs/<name>` below the current folder."""
    seed: int = Field(0, ge=0)
    """Every random choice follows from it."""
    potential: PropertyPotential
    """A path is short for `{kind: model, folder: PATH}`."""
    structures: tuple[Structure, ...] = Field(min_length=1)
    """What is looked at; a property is computed of all of them, or of those that its own `structures:` names."""
    properties: tuple[Property, ...] = Field(min_length=1)
    """What is computed; the key `kind` says which property."""
    failures: Failures = Failures()
    """When the run pauses because too much fails."""
    time_limit: Duration = 7 * 86_400.0
    """Of a single task."""
    machine: MachineName = "local"
    """Name of a machine (`local`) or path of a machine file (hpc/*.yaml), relative to this file."""

    @field_validator("potential", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return potential_section(value)

    @model_validator(mode="after")
    def _names(self) -> PropertyRun:
        for what, names in (
            ("structures", [s.name for s in self.structures]),
            ("properties", [p.name for p in self.properties]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                place = len(names) - 1 - names[::-1].index(twice[0])
                raise PlacedError(
                    f"two {what} have the same name: {', '.join(twice)}; give them a `name:`", what, place
                )
        known = {s.name for s in self.structures}
        for place, p in enumerate(self.properties):
            named = [*p.structures, *(r.structure for r in getattr(p, "references", ()))]
            for name in named:
                if name not in known:
                    there = ", ".join(sorted(known))
                    raise PlacedError(f"{p.name} names the structure '{name}'; there are {there}", "properties", place)
            if not isinstance(p, HeatCapacity):
                continue
            for r in p.references:
                if p.structures and r.structure not in p.structures:
                    what = f"{p.name} has a reference for '{r.structure}', which it does not compute"
                    raise PlacedError(what, "properties", place, "references")
            if isinstance(self.potential, Calculator) and p.precisions != ("float64",):
                what = "precisions is for trained models; an ASE calculator has its own"
                raise PlacedError(what, "properties", place, "precisions")
        return self

    @property
    def run_folder(self) -> Path:
        """Where everything of this run lives."""
        return self.folder or Path("runs") / self.name

    def chosen(self, names: tuple[str, ...]) -> tuple[Property, ...]:
        """The properties of these names or kinds; all for none.

        Raises
        ------
        ValueError
            A name that no property has.
        """
        for name in names:
            if not any(name in (p.name, p.kind) for p in self.properties):
                raise ValueError(name)
        return tuple(p for p in self.properties if not names or p.name in names or p.kind in names)
