"""`label:` — the level of theory (Dobbelaere 2025, SI 1)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from clusterflow.config.mistakes import PlacedError
from clusterflow.config.quantities import Duration, Energy, Force, Length, LengthOrZero
from clusterflow.config.section import Section

_LEVEL_FIELDS = ("mode", "xc", "h", "basis", "cutoff", "vacuum", "poisson_vacuum", "dispersion", "kpts")


class GPAW(Section):
    """DFT with GPAW, one subprocess per label.

    ``preset: paper`` is fd, h 0.175 Å, PBE, vacuum 4 Å, extra Poisson vacuum 8 Å, Γ, D3(BJ); ``quick`` is a small
    LCAO level for trying things out. Any field given beside a preset overrides it and makes another level.
    """

    kind: Literal["gpaw"] = "gpaw"
    preset: Literal["paper", "quick"] = "paper"
    mode: Literal["fd", "lcao", "pw"] | None = None
    xc: str | None = Field(None, pattern=r"^[A-Za-z0-9_+-]+$")
    """Exchange-correlation functional by libxc or GPAW name."""
    h: Length | None = None
    """Grid spacing (fd, lcao)."""
    basis: str | None = Field(None, pattern=r"^[A-Za-z0-9_.()+-]+$")
    """LCAO basis set."""
    cutoff: Energy | None = None
    """Plane-wave cutoff (pw)."""
    vacuum: Length | None = None
    """Around finite fragments, on every side."""
    poisson_vacuum: LengthOrZero | None = None
    """Extra vacuum for the electrostatic potential alone; 0 Å switches it off."""
    dispersion: Literal["d3bj", "none"] | None = None
    kpts: tuple[int, int, int] | None = None
    """Monkhorst–Pack grid for periodic cells (`extract: {kind: whole}`), e.g. `[2, 2, 2]`; default: Γ alone."""
    ranks: int = Field(1, ge=1)
    """MPI ranks per label."""
    time_limit: Duration = 86_400.0
    """A label that runs longer is stopped and recorded as failed."""
    max_scf_steps: int = Field(120, ge=1)
    """SCF steps of the first attempt; later rungs of the ladder allow more."""
    max_attempts: int = Field(4, ge=1, le=4)
    """Rungs of the ladder of SCF remedies."""
    max_force: Force = 50.0
    """A label with a larger force on any atom is implausible and recorded as failed."""

    def build(self) -> Any:
        from dataclasses import replace

        from clusterflow.label.gpaw import GPAWReference

        base = GPAWReference.paper() if self.preset == "paper" else GPAWReference.quick()
        given = {name: getattr(self, name) for name in _LEVEL_FIELDS if getattr(self, name) is not None}
        if "cutoff" in given:
            given["ecut_eV"] = given.pop("cutoff")
        if given.get("poisson_vacuum") == 0.0:
            given["poisson_vacuum"] = None
        if given.get("dispersion") == "none":
            given["dispersion"] = None
        return replace(
            base,
            ranks=self.ranks,
            time_limit=self.time_limit,
            max_scf_steps=self.max_scf_steps,
            max_attempts=self.max_attempts,
            max_force=self.max_force,
            **given,
        )


class XTB(Section):
    """GFN-xTB by tblite: seconds where DFT takes hours; good for trying out and for studies."""

    kind: Literal["xtb"] = "xtb"
    method: Literal["GFN1-xTB", "GFN2-xTB"] = "GFN1-xTB"
    ranks: Literal[1] = 1
    time_limit: Duration = 3600.0

    def build(self) -> Any:
        from clusterflow.label.xtb import XTBReference

        return XTBReference(method=self.method)


class ASECalculator(Section):
    """Any ASE calculator by its import path."""

    kind: Literal["ase"] = "ase"
    calculator: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`package.module:Class`, e.g. `ase.calculators.emt:EMT`."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the class."""
    charge_argument: str = Field("", pattern=r"^([A-Za-z]\w*)?$")
    """Which keyword takes the total charge; without one, charged fragments are failed labels."""
    spin_argument: str = Field("", pattern=r"^([A-Za-z]\w*)?$")
    """Which keyword takes the number of unpaired electrons."""
    version: str = ""
    """Anything that tells versions of the calculator or of its files apart: part of the level of theory."""
    ranks: Literal[1] = 1
    time_limit: Duration = 3600.0

    @model_validator(mode="after")
    def _no_dunder(self) -> ASECalculator:
        if "__" in self.calculator:
            raise PlacedError(
                "calculator is an import path `package.module:Class` without double underscores", "calculator"
            )
        return self

    def build(self) -> Any:
        from clusterflow.label.ase_reference import ASEReference

        return ASEReference(
            calculator=self.calculator,
            arguments=self.arguments,
            charge_argument=self.charge_argument,
            spin_argument=self.spin_argument,
            version=self.version,
        )


Label = Annotated[GPAW | XTB | ASECalculator, Field(discriminator="kind")]
