"""A grid of volumes without the minimum: the message names volumes, the minimum, and a range that works."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase.eos import birchmurnaghan, vinet

from clusterflow.errors import ScienceError
from clusterflow.evaluate.energy_volume import volume_ratios
from clusterflow.evaluate.volume_grid import require_bracketed


def refused(ratios: list[float], energies: list[float], failed: dict[float, str] | None = None) -> ScienceError:
    with pytest.raises(ScienceError) as caught:
        require_bracketed(ratios, [1000.0 * r for r in ratios], energies, failed or {})
    return caught.value


def suggested(error: ScienceError) -> tuple[float, float]:
    found = re.search(r"try `range: \[([0-9.]+), ([0-9.]+)\]`", error.what)
    assert found, error.what
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("curve", [birchmurnaghan, vinet])
@pytest.mark.parametrize("minimum", [0.78, 0.89, 0.955, 1.05, 1.07, 1.13, 1.3])
def test_the_suggested_range_brackets_the_minimum(curve: object, minimum: float) -> None:
    low, high, tries = 0.94, 1.06, 0
    before = ratios = volume_ratios(low, high, 13)
    while True:
        energies = curve(np.array(ratios), -5.0, 0.1, 4.5, minimum).tolist()  # type: ignore[operator]
        if 2 <= int(np.argmin(energies)) <= 10:
            break
        low, high = suggested(refused(list(ratios), energies))
        ratios, tries = volume_ratios(low, high, 13), tries + 1
    require_bracketed(ratios, [1000.0 * r for r in ratios], energies, {})
    assert tries <= (1 if 0.88 < minimum < 1.15 else 3)
    if 0.9 < minimum < 1.12:
        assert len(set(before) & set(ratios)) >= 3  # kept, and not computed again


def test_failed_volumes_beyond_the_lowest_are_named() -> None:
    ratios = list(volume_ratios(0.94, 1.0, 7))
    error = refused(ratios, [(r - 1.02) ** 2 for r in ratios], {1.01: "The structure came apart", 1.02: "It as well"})
    assert "Not relaxed: 1.01, 1.02 × the input's (The structure came apart)." in error.what
    assert "minimum near 1.02 × (1020 Å³): try `range:" in error.what
    below = refused(ratios, [(r - 1.02) ** 2 for r in ratios], {0.93: "x"})
    assert "Not relaxed" not in below.what


@pytest.mark.parametrize(("points", "lost_below", "minimum"), [(25, 1.017, 1.026), (13, 0.995, 0.998)])
def test_the_grid_is_not_moved_into_what_failed(points: int, lost_below: float, minimum: float) -> None:
    grid = volume_ratios(0.94, 1.06, points)
    ratios = [r for r in grid if r > lost_below]
    error = refused(ratios, [(r - minimum) ** 2 for r in ratios], {r: "x" for r in grid if r <= lost_below})
    low, high = suggested(error)
    assert low < minimum < high
    assert high - low < 0.06
    assert "mend these first" in error.what


def test_a_curve_that_falls_faster_and_faster_gives_no_place() -> None:
    ratios = list(volume_ratios(0.94, 1.06, 13))
    error = refused(ratios, [-((r - 0.9) ** 2) for r in ratios])
    assert "at larger volumes, how far cannot be told from these: try `range: [1, 1.12]`" in error.what
    ratios = list(volume_ratios(2.5, 2.9, 9))
    assert "hold this structure together at all?" in refused(ratios, [-r for r in ratios]).what


def test_too_few_volumes() -> None:
    ratios = list(volume_ratios(0.94, 0.99, 6))
    failed = dict.fromkeys(volume_ratios(1.0, 1.06, 7), "300 steps were too few.")
    error = refused(ratios, [(r - 0.965) ** 2 for r in ratios], failed)
    assert "at 7 volumes or more; there are 6: 0.94, 0.95, 0.96, 0.97, 0.98, 0.99 × the input's" in error.what
    assert "Not relaxed: 1, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06 × the input's (300 steps were too few)." in error.what
    assert "near 0.965 × (965 Å³): try `range: [0.940, 0.990]` with `points: 9`" in error.what
    assert "max_steps" in error.todo
    none = refused([], [], failed)
    assert "there are 0. Not relaxed: 1, 1.01" in none.what
    assert "cannot be told from so few; try `range: [0.98, 1.02]`" in none.what
    assert "there are 2: 0.94, 0.95 × the input's. Where" in refused(ratios[:2], [0.0, 1.0]).what
