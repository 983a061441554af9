"""Which bonds may be cut, at what cost, and what becomes of the two atoms: a table that a user can extend.

A row names the two atoms of a bond by words: an element symbol or ``*`` (any non-metal but H), and tags that
`clusterflow.physics.building_blocks` gives to atoms. The first row that fits a bond counts; a bond that no row fits is
never cut, nor is any bond in a ring or to hydrogen. Costs only rank the bonds (relative harm to the electronic
structure); the cheap ones are those between groups that Herbold and Behler 2021 (doi:10.1063/5.0082952) remove whole:
rings, CH2, C2H2.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import numpy as np
from ase.data import atomic_numbers

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.errors import InputError

_T = TypeVar("_T", bound=str)
End = Literal["cap", "protonate", "neutralise", "keep", "bare"]
ENDS: Final[tuple[End, ...]] = ("cap", "protonate", "neutralise", "keep", "bare")
TAGS: Final = (
    "metal",  # centre of a node; a metal in the pocket of a macrocycle is not
    "tetrahedral",  # T atom of a zeolite
    "anchor",  # C of a carboxylate, S of a sulfonate, … that a metal holds
    "anion",  # donor atom that is negative without its metal: azolate N, phenolate O, oxide
    "neutral",  # donor atom with a lone pair: pyridine N, ether O
    "ring",
    "chain",  # not in a ring
    "sp",
    "sp2",
    "sp3",
    "acyl",  # C with a double bond to a terminal O or S
)
DEFAULT_MAX_COST: Final = 1.0
"""Cuts nothing inside a linker or molecule; see `CUTS` for what larger values cut."""
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class CutRule:
    """How a bond between two blocks may be cut.

    ``cost``: smaller = cheaper (relative harm to the electronic structure). What happens to the atom on either side
    when its partner is not in the fragment (``first`` is for ``cut_atoms[:, 0]``, the metal, anchor or T-atom side):

    - "cap": hydrogen (or the cap that the user chose) along the old bond;
    - "protonate": hydrogen if the charge of the fragment asks for it, else the lone pair stays bare (donor of a dative
      bond);
    - "neutralise": hydrogen where its own ligand is an anion, whatever the charge of the fragment. Every azolate of the
      bulk binds two metals alike; half of the outer ones with and half without a proton would be far from that;
    - "keep": never left bare: the block on the other side must come into the fragment (metal centre, Si of a zeolite);
    - "bare": nothing to do, a closed-shell lone pair (pyridine).
    """

    name: str
    cost: float
    first: End
    second: End


@dataclass(frozen=True, slots=True)
class Cut:
    """A row of the table: the rule for bonds of the given order between two kinds of atoms, such as "C sp2 ring"."""

    rule: CutRule
    between: tuple[str, str]
    order: int = 1

    @property
    def organic(self) -> bool:
        """Whether it is about bonds inside linkers and molecules, not about where frameworks are cut."""
        return not {"metal", "tetrahedral", "anchor"} & set(" ".join(self.between).split())


def _row(name: str, cost: float, between: tuple[str, str], ends: tuple[End, End] = ("cap", "cap")) -> Cut:
    return Cut(CutRule(name, cost, *ends), between)


CUTS: Final[tuple[Cut, ...]] = (
    # Frameworks are cut here in any case. Within a finite node these bonds are never cut.
    _row("carboxylate C-C", 1.0, ("C anchor", "*")),
    _row("sulfonate or phosphonate C", 1.0, ("* anchor", "*")),
    _row("T-O", 2.0, ("tetrahedral", "O"), ("keep", "cap")),
    _row("T-X", 3.0, ("tetrahedral", "*"), ("keep", "cap")),
    _row("metal-N azolate", 4.0, ("metal", "N anion"), ("keep", "neutralise")),
    _row("metal-N dative", 3.0, ("metal", "N neutral"), ("keep", "bare")),
    _row("metal-X dative", 4.0, ("metal", "* neutral"), ("keep", "bare")),
    _row("metal-O", 5.0, ("metal", "O"), ("keep", "protonate")),
    _row("metal-X", 5.0, ("metal", "*"), ("keep", "protonate")),
    # Organic parts, from max_cost 2 on; infinite ones as far as it takes to make them finite.
    _row("biaryl C-C", 2.0, ("C sp2 ring", "C sp2 ring")),
    _row("acyl C-C", 2.5, ("C acyl", "C")),
    _row("conjugated C-C", 2.0, ("C sp2", "C sp2")),
    _row("alkyl C-C", 2.0, ("C sp3", "C")),
    _row("alkynyl C-C", 2.5, ("C sp", "C")),
    _row("B-C", 2.0, ("B", "C")),
    _row("Si-C", 2.0, ("Si", "C")),
    _row("amide C-N", 6.0, ("C acyl", "N")),
    _row("aryl C-N", 3.0, ("C sp2 ring", "N")),
    _row("alkyl C-N", 3.0, ("C sp3", "N")),
    _row("ester C-O", 6.0, ("C acyl", "O")),
    _row("ether C-O", 4.0, ("C", "O")),
    _row("thioether C-S", 4.0, ("C", "S")),
    _row("N-N", 5.0, ("N", "N")),
    _row("Si-O", 3.0, ("Si", "O")),
    _row("other single bond", 8.0, ("*", "*")),
)
"""The default table."""


def extend(rows: Sequence[Mapping[str, object]], table: Sequence[Cut] = CUTS) -> tuple[Cut, ...]:
    """The table with the user's rows before its own; a row that gives no atoms changes the row of that name.

    Each row: ``name``; ``cost``, a number or "never"; ``between``, two kinds of atoms; ``ends``, what becomes of either
    atom (default "cap", "cap"); ``order`` of the bond, 1 by default.

    Raises
    ------
    InputError
        An unknown key, word, end or name, or a cost that is no number.
    """
    own: list[Cut] = []
    known = list(table)
    for row in rows:
        name = str(row.get("name", ""))
        where = f"cuts: {name or dict(row)}"
        for key in row:
            _one_of(str(key), ("name", "cost", "between", "ends", "order"), "key of a cut", where)
        if not name:
            raise InputError("A cut has no name.", where=where, todo="Give it a `name:`, which messages will show.")
        changes: dict[str, object] = {}
        if "cost" in row:
            changes["cost"] = _cost(row["cost"], where)
        if "ends" in row:
            first, second = _two(row["ends"], "ends", where)
            changes["first"] = _one_of(first, ENDS, "end of a cut", where)
            changes["second"] = _one_of(second, ENDS, "end of a cut", where)
        if "between" in row:
            if "cost" not in row:
                raise InputError(f"The new cut '{name}' has no cost.", where=where, todo="Give a number, or never.")
            between = _two(row["between"], "between", where)
            for kind in between:
                check_kind(kind, where)
            rule = replace(CutRule(name, 0.0, "cap", "cap"), **changes)  # type: ignore[arg-type]
            own.append(Cut(rule, between, _order(row.get("order", 1), where)))
        else:
            _one_of(name, [cut.rule.name for cut in known], "name in the table (a new cut needs `between:`)", where)
            known = [
                replace(cut, rule=replace(cut.rule, **changes)) if cut.rule.name == name else cut  # type: ignore[arg-type]
                for cut in known
            ]
    return (*own, *known)


def check_kind(kind: str, where: str = "") -> None:
    """Refuses a description of atoms with words that nobody knows.

    Raises
    ------
    InputError
        Names the word and what is allowed.
    """
    words = kind.split()
    if not words:
        raise InputError("A kind of atom is empty.", where=where, todo='Say for example "C sp2", "N ring" or "*".')
    for word in words:
        if word not in TAGS and word != "*" and word not in atomic_numbers:
            _one_of(word, TAGS, "element or tag", where)


def match(
    cuts: Sequence[Cut],
    numbers: IntArray,
    tag: Callable[[str], BoolArray],
    i: IntArray,
    j: IntArray,
    order: IntArray | int,
) -> IntArray:
    """(k,) row for the bonds from atoms ``i`` (k,) to ``j`` (k,) of the given orders, −1 where none fits.

    The atom ``i`` is the first of a row: look from both ends and take the lower row. ``tag`` of a word of `TAGS` tells
    which atoms (n,) it fits.
    """
    row = np.full(len(i), -1, dtype=np.int64)
    fits: dict[str, BoolArray] = {}
    for number, cut in reversed(list(enumerate(cuts))):
        for kind in cut.between:
            if kind not in fits:
                fits[kind] = _fits(kind, numbers, tag)
        row[fits[cut.between[0]][i] & fits[cut.between[1]][j] & (order == cut.order)] = number
    return row


def _fits(kind: str, numbers: IntArray, tag: Callable[[str], BoolArray]) -> BoolArray:
    fits = np.ones(len(numbers), dtype=bool)
    for word in kind.split():
        if word in TAGS:
            fits &= tag(word)
        elif word == "*":
            fits &= ~tag("metal") & (numbers != 1)
        else:
            fits &= numbers == atomic_numbers[word]
    return fits


def _cost(value: object, where: str) -> float:
    if value == "never":
        return NEVER
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise InputError(f"A cut cannot cost {value!r}.", where=where, todo="Give a number ≥ 0, or never.")


def _order(value: object, where: str) -> int:
    if value in (1, 2, 3):
        return int(str(value))
    raise InputError(f"A bond has no order {value!r}.", where=where, todo="Give 1, 2 or 3.")


def _two(value: object, key: str, where: str) -> tuple[str, str]:
    if isinstance(value, list | tuple) and len(value) == 2:
        return str(value[0]), str(value[1])
    raise InputError(f"`{key}` of a cut is {value!r}.", where=where, todo="Give a list of two: one for either atom.")


def _one_of(value: str, allowed: Sequence[_T], what: str, where: str) -> _T:
    for known in allowed:
        if value == known:
            return known
    near = difflib.get_close_matches(value, allowed, n=1)
    raise InputError(
        f"'{value}' is no {what}; known: {', '.join(allowed)}.",
        where=where,
        todo=f"Did you mean '{near[0]}'?" if near else "Take one of these.",
    )
