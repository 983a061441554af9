"""`extract:` — how a fragment is cut (Dobbelaere 2025, 2.4 and SI 5–6)."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from clusterflow.config.mistakes import shown
from clusterflow.config.quantities import UNITS, Force, Length, LengthOrZero, parse_quantity
from clusterflow.config.section import Section


def _mantle(value: Any) -> str | int | float:
    """``none``, ``neighbours``, ``linkers``, ``anchors``, ``2 shells`` → int, ``4 Å`` → float."""
    if isinstance(value, str):
        text = value.strip()
        if text in ("none", "neighbours", "linkers", "anchors"):
            return text
        number, _, unit = text.partition(" ")
        if unit in ("shell", "shells") and number.isdigit():
            return int(number)
        if any(text.endswith(u) for u in UNITS["length"]) and text[:1].isdigit():
            return parse_quantity(text, "length")
    elif isinstance(value, float) or (
        isinstance(value, int) and not isinstance(value, bool)
    ):  # from a frozen configuration
        return value
    raise ValueError(
        f"{shown(value)} is no mantle; allowed: none, neighbours (first-neighbour blocks), linkers (the same, linkers "
        "with the groups at both ends), anchors (only the groups that bind the block), '2 shells', or a radius such as "
        "'4 Å'"
    )


Mantle = Annotated[str | int | float, BeforeValidator(_mantle)]
Cap = Literal["H", "CH3", "OH2", "formate", "none"]


CutEnd = Literal["cap", "protonate", "neutralise", "keep", "bare"]
_KINDS: tuple[Literal["node", "linker", "molecule"], ...] = ("node", "linker", "molecule")


class CutRow(Section):
    """A kind of bond that may be cut, or a change of a row of the built-in table (which then has no `between`)."""

    name: str
    """What messages call it; the name of a built-in row to change that."""
    between: tuple[str, str] | None = None
    """The two atoms: element or `*`, then tags: ring, chain, sp, sp2, sp3, acyl, e.g. `[C sp2 ring, N]`."""
    cost: float | Literal["never"] | None = None
    """Small = cheap; bonds up to `max_cost` are cut."""
    ends: tuple[CutEnd, CutEnd] | None = None
    """What becomes of either atom: `cap` (default), `protonate`, `neutralise`, `keep` (never left bare), `bare`."""
    order: Literal[1, 2, 3] = 1
    """Single, double or triple bond."""

    def given(self) -> dict[str, Any]:
        """What was stated, for `clusterflow.physics.cut_table.extend`."""
        return {k: v for k, v in self.model_dump().items() if v is not None}


class BuildingBlocks(Section):
    """Core = whole building blocks or single sites; bonds between blocks are cut and closed by hydrogen."""

    kind: Literal["building_blocks"] = "building_blocks"
    mantle: dict[Literal["node", "linker", "molecule"], Mantle] = Field(default_factory=dict)
    """What surrounds the core, per kind of core block: `none`, `neighbours` (first-neighbour blocks: default, SI 6),
    `linkers` (the same, linkers with the acid groups at their far ends), `anchors` (only the groups that bind it),
    `2 shells`, or a radius such as `4 Å`."""
    core: Literal["block", "sites"] = "block"
    """Core: the `block` that holds the uncertain atoms, or these `sites` alone (the rest of the block is mantle)."""
    cap_lengths: dict[str, Length] = Field(default_factory=dict)
    """X–H lengths by kind of cap, e.g. `"C(carboxylate)": 1.11 Å`, in place of the built-in table."""
    open_shell: Literal["refuse", "flag"] = "refuse"
    """Metals with a partly filled shell: `refuse` the fragment, or `flag` it with the spins to try."""
    max_cost: float = Field(1.0, ge=0)
    """Bonds inside linkers and molecules that cost no more in the table of cuts are cut too: 1 none, 2 C–C between
    rings and of chains, 4 C–N and C–O (docs/concepts/building-blocks.md)."""
    cuts: tuple[CutRow, ...] = ()
    """Rows put before that table, or changes of its rows by name."""
    caps: dict[str, Cap] = Field(default_factory=dict)
    """What closes a cut bond, by name of the cut: `H` (default), `CH3`, `OH2` or `formate` on a metal, or `none`."""
    min_distance_factor: float = Field(0.55, gt=0, lt=1)
    """No two atoms of a fragment closer than this fraction of the sum of their covalent radii."""
    max_atoms: int | None = Field(None, ge=2)
    """Refuse larger fragments."""

    @field_validator("mantle", mode="before")
    @classmethod
    def _per_kind(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        told = value if isinstance(value, str) else "neighbours"
        raise ValueError(
            "a mantle is given per kind of core block (node, linker, molecule), "
            f"e.g. `mantle: {{node: {told}, linker: {told}}}`"
        )

    @field_validator("cuts")
    @classmethod
    def _known(cls, rows: tuple[CutRow, ...]) -> tuple[CutRow, ...]:
        from clusterflow.errors import InputError
        from clusterflow.physics.cut_table import extend

        try:
            extend([row.given() for row in rows])
        except InputError as error:
            raise ValueError(f"{error.what} {error.todo}".strip()) from None
        return rows

    @field_validator("caps")
    @classmethod
    def _of_known_cuts(cls, caps: dict[str, Cap], info: ValidationInfo) -> dict[str, Cap]:
        from clusterflow.physics.cut_table import extend

        if "cuts" not in info.data:  # refused, which is told
            return caps
        known = list(dict.fromkeys(cut.rule.name for cut in extend([row.given() for row in info.data["cuts"]])))
        for name in caps:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1) or [k for k in known if k.startswith(name)]
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"'{name}' is no name of a cut{hint}\n      cuts: {', '.join(known)}")
        return caps

    def added_elements(self) -> frozenset[str]:
        """Elements of what closes the cut bonds, which the potential must know."""
        added = {"H": "H", "CH3": "HC", "OH2": "HO", "formate": "HCO", "none": ""}
        return frozenset("H").union(*(added[c] for c in self.caps.values()))

    def build(self) -> Any:
        from clusterflow.extract.rules import BuildingBlockRule
        from clusterflow.extract.termination import Caps
        from clusterflow.physics.cut_table import extend

        default = {"node": "neighbours", "linker": "neighbours", "molecule": "none"}
        mantle: dict[str, str | int | float] = {kind: self.mantle.get(kind, default[kind]) for kind in _KINDS}
        return BuildingBlockRule(
            mantle=mantle,
            min_distance_factor=self.min_distance_factor,
            max_atoms=self.max_atoms,
            core=self.core,
            caps=Caps(self.caps, self.cap_lengths),
            open_shell=self.open_shell,
            cuts=extend([row.given() for row in self.cuts]),
            max_cost=self.max_cost,
        )


class Sphere(Section):
    """Core = the uncertain atoms, mantle = all atoms within a radius: for dense covalent solids (Si, diamond, SiO2)."""

    kind: Literal["sphere"] = "sphere"
    radius: Length = 5.0
    """How far the fragment reaches from the uncertain atoms."""
    core_radius: LengthOrZero = 0.0
    """Atoms within this distance of the uncertain ones are core too."""
    cap_lengths: dict[str, Length] = Field(default_factory=dict)
    """X–H lengths by kind of cap, in place of the built-in table."""
    min_distance_factor: float = Field(0.55, gt=0, lt=1)
    """No two atoms of a fragment closer than this fraction of the sum of their covalent radii."""
    max_atoms: int | None = Field(None, ge=2)
    """Refuse larger fragments."""

    def added_elements(self) -> frozenset[str]:
        """As of `BuildingBlocks`."""
        return frozenset("H")

    def build(self) -> Any:
        from clusterflow.extract.sphere import SphericalCut
        from clusterflow.extract.termination import Caps

        return SphericalCut(
            self.radius,
            core_radius=self.core_radius,
            min_distance_factor=self.min_distance_factor,
            max_atoms=self.max_atoms,
            caps=Caps(lengths=self.cap_lengths),
        )


class Confirm(Section):
    """How many certified fragments are checked by labels of a larger fragment around the same core."""

    first: int = Field(25, ge=0)
    """The first so many fragments are all confirmed: a bound of 95 % confidence needs 19."""
    share: float = Field(0.1, ge=0, le=1)
    """Of the fragments of every later iteration."""
    max_atoms: int | None = Field(None, ge=2)
    """Of a larger fragment; none: twice as many as of the fragments themselves. What no such fragment could confirm is
    not certified."""


class Certified(Section):
    """The cheapest fragment whose core forces are proven to be the parent's within a tolerance."""

    kind: Literal["certified"] = "certified"
    tolerance: Force = 0.1
    """Largest force error (vector norm, against the parent at the level of the labels) of a required atom."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """With which all required atoms of a fragment meet the tolerance at once."""
    core: Literal["site", "block"] = "site"
    """What is required: the uncertain atom and those bonded to it, or its whole building block."""
    uncertified: Literal["mark", "refuse"] = "mark"
    """Fragments that do not meet the tolerance are labelled and marked, or not labelled."""
    confirm: Confirm = Confirm()
    max_radius: Length = 10.0
    """Surroundings end this far from the required atoms."""
    max_atoms: int = Field(250, ge=2)
    """Of a fragment."""
    start: BuildingBlocks = BuildingBlocks()
    """How the starting fragments are cut, before there is a potential to certify with. Its `caps`, `cuts`, `max_cost`,
    `open_shell` and `min_distance_factor` hold for certified fragments too."""

    def added_elements(self) -> frozenset[str]:
        """As of `BuildingBlocks`."""
        return self.start.added_elements()

    def build(self) -> Any:
        """The rule of the starting fragments."""
        return self.start.build()

    def build_certified(self, *, cost: Any, model: Any, potential: Any, find: Any = None) -> Any:
        """The certifying rule, with a cost model, a calibrated error model and a potential; ``find`` finds the blocks
        of a frame (None: as the rule of the starting fragments does)."""
        from clusterflow.extract.certificate import SearchSettings
        from clusterflow.extract.certified_rule import CertifiedRule

        plain = self.start.build()
        return CertifiedRule(
            cost=cost,
            tolerance=self.tolerance,
            core=self.core,
            refuse=self.uncertified == "refuse",
            settings=SearchSettings(
                max_radius=self.max_radius,
                max_atoms=self.max_atoms,
                confirm_atoms=self.confirm.max_atoms,
                caps=plain.caps,
                min_distance_factor=plain.min_distance_factor,
                open_shell=plain.open_shell,
            ),
            model=model,
            potential=potential,
            find=find or plain.blocks_of,
        )


class Whole(Section):
    """No cutting: the frame itself is labelled (molecules, small periodic cells)."""

    kind: Literal["whole"] = "whole"
    open_shell: Literal["refuse", "flag"] = "refuse"
    """Metals with a partly filled shell: `refuse` the structure, or `flag` it with the spins to try."""

    def added_elements(self) -> frozenset[str]:
        """None: nothing is cut."""
        return frozenset()

    def build(self) -> Any:
        from clusterflow.extract.rules import WholeStructure

        return WholeStructure(open_shell=self.open_shell)


Extract = Annotated[BuildingBlocks | Certified | Sphere | Whole, Field(discriminator="kind")]
