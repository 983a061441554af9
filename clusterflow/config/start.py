"""`start:` — where the first training set and the frozen test set come from."""

from __future__ import annotations

from typing import Annotated, Literal

from ase import Atoms
from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from clusterflow.config.quantities import LengthOrZero, as_range
from clusterflow.config.section import Section, ordered
from clusterflow.config.systems import FilePath
from clusterflow.core import keys
from clusterflow.core.frames import read_frames
from clusterflow.errors import InputError, LevelOfTheoryError

_LARGEST = 0.5  # Å
LengthRange = Annotated[tuple[LengthOrZero, LengthOrZero], BeforeValidator(as_range), AfterValidator(ordered)]


class Perturbed(Section):
    """Fragments of randomly displaced and strained structures (Dobbelaere 2025, SI 4, Initialisation)."""

    kind: Literal["perturbed"] = "perturbed"
    fragments: int = Field(20, ge=2)
    """Fragments to label for the first potential, over all systems."""
    test_fragments: int = Field(10, ge=1)
    """Fragments of the held-out test set: drawn first, never trained on, the same in every iteration."""
    displacement: LengthRange = (0.02, 0.10)
    """Standard deviation of the Gaussian displacement per Cartesian component, drawn from this range for each frame."""
    strain: float = Field(0.02, ge=0, le=0.2)
    """Standard deviation of each strain component."""

    @field_validator("displacement")
    @classmethod
    def _keeps_bonds(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[1] > _LARGEST:
            raise ValueError(
                f"atoms displaced by {value[1]:g} Å per component are no structure any more; at most {_LARGEST:g} Å"
            )
        return value


class Dataset(Section):
    """A labelled extxyz file to start from instead."""

    kind: Literal["dataset"] = "dataset"
    file: FilePath
    """extxyz with energy and forces; relative to this YAML file."""
    test_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of its frames that is frozen as the test set."""
    assume_level: bool = False
    """The file does not state its `level_of_theory`, and you vouch that it is the one of `label:`."""

    def frames(self, level: str) -> list[Atoms]:
        """Labelled frames of the file, refused unless they are of the campaign's level.

        Raises
        ------
        InputError
            Unreadable, or frames without energy and forces.
        LevelOfTheoryError
            Another level, or none stated and not vouched for.
        """
        frames = read_frames(self.file)
        bare = [i for i, a in enumerate(frames) if a.calc is None or not {"energy", "forces"} <= set(a.calc.results)]
        if bare:
            raise InputError(
                f"{len(bare)} of {len(frames)} frames of the seed dataset have no energy or no forces "
                f"(first: frame {bare[0]}).",
                where=str(self.file),
                todo="Write them as extxyz with `energy` in the comment line and a `forces:R:3` column.",
            )
        others = sorted({str(a.info[keys.LEVEL]) for a in frames if keys.LEVEL in a.info} - {level})
        if others:
            raise LevelOfTheoryError(
                f"The seed dataset was computed at '{others[0]}', the campaign's level is '{level}'.",
                where=str(self.file),
                todo="Label it again at this level (`clusterflow label`), or change `label:`; levels are never mixed.",
            )
        unstated = sum(keys.LEVEL not in a.info for a in frames)
        if unstated and not self.assume_level:
            raise LevelOfTheoryError(
                f"{unstated} frames of the seed dataset do not state their level of theory ('{keys.LEVEL}').",
                where=str(self.file),
                todo=f"If it is '{level}', say so with `assume_level: true` in `start:`.",
            )
        return frames


Start = Annotated[Perturbed | Dataset, Field(discriminator="kind")]
