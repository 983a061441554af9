"""The table of costs, and what a user can put there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clusterflow.errors import InputError
from clusterflow.physics.cut_table import CUTS, DEFAULT_MAX_COST, NEVER, check_kind, extend, match


def cost(name: str) -> float:
    return next(cut.rule.cost for cut in CUTS if cut.rule.name == name)


def test_costs_rank_as_chemistry_does() -> None:
    """σ bonds between sp2 carbons cheap, C=O neighbours (amide, ester) and metal–O dear; nothing inside by default."""
    organic = [cut for cut in CUTS if cut.organic]
    assert min(cut.rule.cost for cut in organic) > DEFAULT_MAX_COST >= cost("carboxylate C-C")
    cheap = cost("biaryl C-C")
    assert cheap <= min(cut.rule.cost for cut in organic)
    for dear in ("amide C-N", "ester C-O", "metal-O", "ether C-O"):
        assert cost(dear) > 1.5 * cheap
    assert all(cut.order == 1 for cut in CUTS)
    assert not any("H" in kind.split() for cut in CUTS for kind in cut.between)


def test_names_are_unique_and_words_known() -> None:
    names = [cut.rule.name for cut in CUTS]
    assert len(set(names)) == len(names)
    for cut in CUTS:
        for kind in cut.between:
            check_kind(kind)


def test_own_rows_come_first_and_changes_keep_the_place() -> None:
    table = extend(
        [
            {"name": "sulfonamide", "between": ["S", "N"], "cost": "never", "ends": ["cap", "protonate"]},
            {"name": "aryl C-N", "cost": 1.0},
        ]
    )
    assert len(table) == len(CUTS) + 1
    assert (table[0].rule.cost, table[0].rule.first, table[0].rule.second) == (NEVER, "cap", "protonate")
    changed = [a.rule.name for a, b in zip(table[1:], CUTS, strict=True) if a != b]
    assert changed == ["aryl C-N"]
    assert extend([]) == CUTS


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"cost": 1}, "no name"),
        ({"name": "biaryl", "cost": 1}, "Did you mean 'biaryl C-C'"),
        ({"name": "x", "between": ["C", "N"]}, "no cost"),
        ({"name": "x", "between": ["C", "N"], "cost": "cheap"}, "cannot cost 'cheap'"),
        ({"name": "x", "between": ["C", "N"], "cost": -1}, "cannot cost"),
        ({"name": "x", "between": ["C sp4", "N"], "cost": 1}, "'sp4' is no element or tag"),
        ({"name": "x", "between": ["C rng", "N"], "cost": 1}, "Did you mean 'ring'"),
        ({"name": "x", "between": ["C"], "cost": 1}, "list of two"),
        ({"name": "x", "between": ["C", "N"], "cost": 1, "ends": ["cap", "cup"]}, "Did you mean 'cap'"),
        ({"name": "x", "between": ["C", "N"], "cost": 1, "order": 4}, "no order 4"),
        ({"name": "x", "betwen": ["C", "N"], "cost": 1}, "Did you mean 'between'"),
    ],
)
def test_bad_rows_are_told(row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        extend([row])
    assert message in str(error.value)


def test_the_first_row_that_fits_counts_and_orders_matter() -> None:
    numbers = np.array([6, 6, 7])
    ring = np.array([True, True, False])

    def tag(word: str) -> np.ndarray:
        return {"ring": ring, "sp2": np.ones(3, dtype=bool)}.get(word, np.zeros(3, dtype=bool))

    names = [cut.rule.name for cut in CUTS]
    rows = match(CUTS, numbers, tag, np.array([0, 0, 2, 0]), np.array([1, 2, 0, 1]), np.array([1, 1, 1, 2]))
    assert [names[k] if k >= 0 else "" for k in rows] == ["biaryl C-C", "aryl C-N", "other single bond", ""]
