"""`systems:` — the materials that the potential must describe, and where they are sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from ase import Atoms
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from clusterflow.config.mistakes import PlacedError
from clusterflow.config.quantities import Pressure, Temperature, as_range
from clusterflow.config.section import Section, ordered
from clusterflow.core.frames import content_hash, digest, read_frames
from clusterflow.errors import StructureError

Range = (BeforeValidator(as_range), AfterValidator(ordered))
TemperatureRange = Annotated[tuple[Temperature, Temperature], *Range]
PressureRange = Annotated[tuple[Pressure, Pressure], *Range]


def relative_to_file(value: Any, info: ValidationInfo) -> Any:
    """A relative path is relative to the file it stands in; ~ is the user's home."""
    folder = (info.context or {}).get("folder")
    return Path(folder) / Path(value).expanduser() if isinstance(value, (str, Path)) and folder is not None else value


FilePath = Annotated[Path, BeforeValidator(relative_to_file)]


def machine_file(value: Any, info: ValidationInfo) -> Any:
    """The path of a machine file, taken from the folder of this one. Of a name nothing is changed, so that what loads
    machines can say which names there are."""
    is_file = isinstance(value, str) and ("/" in value or value.endswith((".yaml", ".yml")))
    return str(relative_to_file(value, info)) if is_file else value


MachineName = Annotated[str, BeforeValidator(machine_file)]


class MissingLinker(Section):
    """Removes linkers and caps the open carboxylates as formates (Dobbelaere 2025, 4.2)."""

    kind: Literal["missing_linker"] = "missing_linker"
    count: int = Field(1, ge=1)
    """How many linkers to remove."""
    seed: int = Field(0, ge=0)
    """Chooses which ones."""

    def build(self, atoms: Atoms) -> Atoms:
        from clusterflow.structures.defects import missing_linker

        return missing_linker(atoms, count=self.count, rng=np.random.default_rng(self.seed))


class MissingLinkerPair(Section):
    """Removes two linkers: one of the symmetry-distinct pairs of the cell (seven in UiO-66; Dobbelaere 2025, 4.4)."""

    kind: Literal["missing_linker_pair"] = "missing_linker_pair"
    pair: int = Field(1, ge=1)
    """Number of the pair; `clusterflow build STRUCTURE --pairs` lists them."""

    def build(self, atoms: Atoms) -> Atoms:
        from clusterflow.structures.defects import missing_linker_pair

        return missing_linker_pair(atoms, self.pair)


class MissingNode(Section):
    """Removes nodes with all their linkers; what these leave open becomes formate (Dobbelaere 2025, 4.2)."""

    kind: Literal["missing_node"] = "missing_node"
    count: int = Field(1, ge=1)
    """How many nodes to remove."""
    seed: int = Field(0, ge=0)
    """Chooses which ones."""

    def build(self, atoms: Atoms) -> Atoms:
        from clusterflow.structures.defects import missing_node

        return missing_node(atoms, count=self.count, rng=np.random.default_rng(self.seed))


class TopologyStep(Section):
    """Turns a framework with the net fcu into bcu, reo or scu by missing linkers and nodes (Dobbelaere 2025, 4.4)."""

    kind: Literal["topology"] = "topology"
    net: Literal["bcu", "reo", "scu"]
    """The net that is left."""
    axis: Literal["a", "b", "c"] = "c"
    """The planes perpendicular to this cell vector lose their linkers (bcu, scu)."""

    def build(self, atoms: Atoms) -> Atoms:
        from clusterflow.structures.patterns import topology

        return topology(atoms, self.net, axis="abc".index(self.axis))


class Substitution(Section):
    """Replaces atoms of one metal by another; give either `fraction` or `count` (Dobbelaere 2025, 4.2 and 4.3)."""

    kind: Literal["substitution"] = "substitution"
    element: str
    """Metal to replace, e.g. Zr."""
    by: str
    """Metal to put there, e.g. Hf."""
    fraction: float | None = Field(None, ge=0, le=1)
    """Share of its atoms (or nodes)."""
    count: int | None = Field(None, ge=0)
    """Number of its atoms (or nodes)."""
    whole_nodes: bool = False
    """Replaces all atoms of `element` in random nodes, instead of random atoms."""
    seed: int = Field(0, ge=0)
    """Chooses which ones."""

    @model_validator(mode="after")
    def _one_amount(self) -> Substitution:
        if (self.fraction is None) == (self.count is None):
            raise PlacedError("give either fraction or count", "count" if self.count is not None else "kind")
        return self

    def build(self, atoms: Atoms) -> Atoms:
        from clusterflow.structures.substitution import substitute

        return substitute(
            atoms,
            self.element,
            self.by,
            fraction=self.fraction,
            count=self.count,
            whole_nodes=self.whole_nodes,
            rng=np.random.default_rng(self.seed),
        )


class Exchange(Section):
    """The metal that random defects exchange atom by atom."""

    element: str
    """Metal to replace, e.g. Zr."""
    by: str
    """Metal to put there, e.g. Hf."""
    fraction: float = Field(ge=0, le=1)
    """Share of its atoms."""


class RandomDefectsStep(Section):
    """Random missing linkers, missing nodes and substitutions; what is cut off is dropped (Dobbelaere 2025, 4.3)."""

    kind: Literal["random_defects"] = "random_defects"
    linkers: float = Field(0.0, ge=0, le=1)
    """Share of the linkers; 0.2 in the paper."""
    nodes: float = Field(0.0, ge=0, le=1)
    """Share of the nodes; 0.1 in the paper."""
    metal: Exchange | None = None
    """Substitution of single metal atoms; Zr by Hf, 0.2, in the paper."""
    fractions: Literal["drawn", "final"] = "drawn"
    """`drawn`: shares that are removed at random, so that missing nodes take further linkers along; `final`: shares
    that are missing in the end (c_hf, c_brick and c_linker in the paper)."""
    seed: int = Field(0, ge=0)
    """Chooses which ones."""

    def build(self, atoms: Atoms) -> Atoms:
        from clusterflow.structures.supercell import random_defects

        return random_defects(
            atoms,
            linkers=self.linkers,
            nodes=self.nodes,
            metal=(self.metal.element, self.metal.by, self.metal.fraction) if self.metal else None,
            fractions=self.fractions,
            rng=np.random.default_rng(self.seed),
        ).atoms


class Supercell(Section):
    """Repeats the cell."""

    kind: Literal["supercell"] = "supercell"
    repeat: tuple[int, int, int] = (1, 1, 1)
    """How often along each cell vector."""

    @model_validator(mode="after")
    def _positive(self) -> Supercell:
        if min(self.repeat) < 1:
            raise PlacedError(
                f"repeat counts cells along each vector and starts at 1; got {list(self.repeat)}", "repeat"
            )
        return self

    def build(self, atoms: Atoms) -> Atoms:
        repeated: Atoms = atoms.repeat(self.repeat)
        return repeated


Build = Annotated[
    MissingLinker | MissingLinkerPair | MissingNode | TopologyStep | Substitution | RandomDefectsStep | Supercell,
    Field(discriminator="kind"),
]


class NPT(Section):
    """Constant pressure and temperature, for periodic systems; one value or a range, drawn per walker."""

    kind: Literal["npt"] = "npt"
    temperature: TemperatureRange = (600.0, 600.0)
    """600 K in Dobbelaere 2025, 3: hot enough to be diverse."""
    pressure: PressureRange = (-1.5, 1.5)
    """±1.5 GPa in Dobbelaere 2025, 3."""


class NVT(Section):
    """Constant volume (or no cell at all: molecules)."""

    kind: Literal["nvt"] = "nvt"
    temperature: TemperatureRange = (600.0, 600.0)


Ensemble = Annotated[NPT | NVT, Field(discriminator="kind")]


class System(Section):
    """One material: its structure, what is done to it first, and its ensemble."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,40}$")
    """Letters, digits, _ and -."""
    structure: FilePath
    """Structure file in any format ASE reads; relative to this YAML file. Its first frame is used."""
    build: tuple[Build, ...] = ()
    """Changes made to the structure, in order: `missing_linker`, `missing_linker_pair`, `missing_node`, `topology`,
    `substitution`, `random_defects`, `supercell` (docs/how-to/build-defects.md)."""
    ensemble: Ensemble | None = None
    """Default: npt for periodic structures, nvt otherwise, with the ranges of the paper."""
    weight: float = Field(1.0, gt=0)
    """Share of the walkers and of the starting fragments, relative to the other systems."""
    source: str | None = None
    """Where the structure comes from (a DOI, a database code): goes into exported datasets and the model card."""
    licence: str | None = None
    """Under which the structure, and labels made from it, may be passed on; goes there too."""

    def atoms(self, path: Path | None = None) -> Atoms:
        """The built structure, from the file or from the campaign's own copy at ``path``.

        Raises
        ------
        InputError, StructureError
            File missing or unreadable; overlapping atoms; a builder that does not apply.
        """
        from clusterflow.physics.bonds import check_distances
        from clusterflow.physics.structure_checks import check_occupancy

        atoms = read_frames(path or self.structure)[0]
        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        try:
            check_occupancy(atoms)
            check_distances(bare)
            for step in self.build:
                bare = step.build(bare)
            check_distances(bare)
        except StructureError as error:
            raise StructureError(
                error.what, where=f"system '{self.name}', {path or self.structure}", todo=error.todo
            ) from error
        if isinstance(self.ensemble, NPT) and not bare.pbc.all():
            raise StructureError(
                f"System '{self.name}' has ensemble npt but is not periodic in three directions.",
                where=str(self.structure),
                todo="Use `ensemble: {kind: nvt}` for molecules, or a structure file with a cell and pbc.",
            )
        return bare

    def resolved_ensemble(self, *, periodic: bool) -> NPT | NVT:
        """The stated ensemble, or the default for this kind of structure."""
        return self.ensemble or (NPT() if periodic else NVT())

    def identity(self, atoms: Atoms) -> str:
        """Hash of name and built structure: what tasks refer to instead of a path."""
        return digest(self.name, content_hash(atoms))[:16]
