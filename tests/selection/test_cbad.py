"""A frame is accepted when a value falls into an empty bin, once, and the state survives being written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from clusterflow.core.frames import read_frames
from clusterflow.errors import InputError, StateError
from clusterflow.selection.cbad import Bins, Cover, Descriptors, Resolutions

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"


def shaken(atoms: Atoms, size: float, seed: int) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.positions += np.random.default_rng(seed).normal(scale=size, size=copy.positions.shape)
    return copy


@pytest.fixture(scope="module")
def mof5() -> Atoms:
    return read_frames(MOF5)[0]


def test_bins_are_values_by_their_resolution() -> None:
    water = molecule("H2O")
    found = Descriptors({"water": water}, Resolutions(bond=0.01, angle=1.0), types="element")
    named = found.to_json(found.bins(water, "water"))
    assert named == {"angle H-O-H": [103], "bond H-O": [96]}  # 103.999°, 0.969 Å; a molecule has no cell


def test_a_cell_counts_where_it_is_periodic(mof5: Atoms) -> None:
    found = Descriptors({"mof5": mof5}, Resolutions(cell_length=0.5, cell_angle=2.0))
    lengths = {f"cell length {x} of mof5": [36] for x in "abc"}  # 18.45 Å
    angles = {f"cell angle {x} of mof5": [30] for x in ("alpha", "beta", "gamma")}  # 60°, on an edge but for rounding
    for noise in (-1e-9, 0.0, 1e-9):
        noisy = mof5.copy()
        noisy.set_cell([*mof5.cell.lengths(), *(mof5.cell.angles() + noise)])
        assert found.to_json(found.of_cell(noisy, "mof5")) == lengths | angles
    slab = mof5.copy()
    slab.pbc = (True, True, False)
    names = Descriptors({"slab": slab}).names
    assert [n for n in names if n.startswith("cell")] == [
        "cell angle gamma of slab", "cell length a of slab", "cell length b of slab",
    ]  # fmt: skip


def test_an_accepted_frame_is_never_accepted_again(mof5: Atoms) -> None:
    found = Descriptors({"mof5": mof5})
    frames = [found.bins(shaken(mof5, 0.05, k), "mof5") for k in range(6)]
    bins = Bins(found)
    first = Cover(bins, frames, range(6))
    accepted = []
    while (best := first.best()) is not None:
        number, new = best
        assert len(new) > 0
        first.accept(number, frames[number])
        accepted.append(number)
        assert len(bins.empty(frames[number])) == 0
    assert accepted
    assert Cover(bins, frames, range(6)).best() is None


def test_the_frame_that_fills_most_comes_first_and_one_of_each_walk(mof5: Atoms) -> None:
    found = Descriptors({"mof5": mof5})
    sizes, walks = (0.01, 0.15, 0.02, 0.05), (0, 0, 1, 1)
    frames = [found.bins(shaken(mof5, s, k), "mof5") for k, s in enumerate(sizes)]
    search, gains, order = Cover(Bins(found), frames, walks), [], []
    while (best := search.best()) is not None:
        order.append(best[0])
        gains.append(len(best[1]))
        search.accept(best[0], frames[best[0]])
    assert order == [1, 3]
    assert gains == sorted(gains, reverse=True)


def test_the_lazy_order_is_the_greedy_one(mof5: Atoms) -> None:
    found = Descriptors({"mof5": mof5})
    frames = [found.bins(shaken(mof5, 0.02 + 0.004 * (k % 7), k), "mof5") for k in range(20)]
    search, filled, left = Cover(Bins(found), frames, range(20)), set[int](), set(range(20))
    while (best := search.best()) is not None:
        gains = {k: len(set(frames[k].tolist()) - filled) for k in left}
        want = min(left, key=lambda k: (-gains[k], k))
        assert (best[0], len(best[1])) == (want, gains[want])
        search.accept(want, frames[want])
        filled |= set(frames[want].tolist())
        left.remove(want)
    assert all(set(frames[k].tolist()) <= filled for k in left)


def test_a_refused_frame_leaves_its_walk_open(mof5: Atoms) -> None:
    found = Descriptors({"mof5": mof5})
    frames = [found.bins(shaken(mof5, s, 1), "mof5") for s in (0.1, 0.05)]
    search = Cover(Bins(found), frames, (0, 0))
    best, then = search.best(), search.best()
    assert best is not None
    assert then is not None
    assert {best[0], then[0]} == {0, 1}


def test_a_finer_resolution_tells_more_frames_apart(mof5: Atoms) -> None:
    accepted = []
    for scale in (0.04, 1.0, 30.0):
        found = Descriptors({"mof5": mof5}, Resolutions(0.1 * scale, 1 * scale, 0.05 * scale, 5 * scale, 6 * scale))
        frames = [found.bins(shaken(mof5, 0.04, k), "mof5") for k in range(30)]
        search, count = Cover(Bins(found), frames, range(30)), 0
        while (best := search.best()) is not None:
            search.accept(best[0], frames[best[0]])
            count += 1
        accepted.append(count)
    assert accepted[0] == 30  # so fine that every frame is new
    assert accepted[2] <= 2  # so coarse that all are the same but for values near an edge
    assert accepted[0] > accepted[1] > accepted[2]


def test_order_of_atoms_does_not_matter(mof5: Atoms) -> None:
    order = np.random.default_rng(3).permutation(len(mof5))
    frame = shaken(mof5, 0.05, 1)
    one, other = Descriptors({"m": mof5}), Descriptors({"m": mof5[order]})
    assert one.names == other.names
    assert one.to_json(one.bins(frame, "m")) == other.to_json(other.bins(frame[order], "m"))


def test_the_state_survives_being_written(mof5: Atoms) -> None:
    found = Descriptors({"mof5": mof5})
    bins = Bins(found, found.bins(shaken(mof5, 0.05, 1), "mof5"))
    text = json.dumps(bins.to_json())
    again = Bins.from_json(Descriptors({"mof5": mof5, "water": molecule("H2O")}), json.loads(text))
    assert again.identity == bins.identity
    assert json.dumps(again.to_json()) == text
    bins.fill(found.bins(shaken(mof5, 0.2, 2), "mof5"))
    assert again.identity != bins.identity


def test_materials_share_what_is_of_one_type(mof5: Atoms) -> None:
    double = mof5.repeat((1, 1, 2))
    found = Descriptors({"one": mof5, "two": double})
    bins = Bins(found, found.bins(mof5, "one"))
    empty = found.to_json(bins.empty(found.bins(double, "two")))
    assert set(empty) == {f"cell {x} of two" for x in ("length a", "length b", "length c", "angle alpha",
                                                       "angle beta", "angle gamma")}  # fmt: skip


def test_coverage_is_the_share_of_filled_bins(mof5: Atoms) -> None:
    found = Descriptors({"mof5": mof5})
    cold, hot = found.bins(shaken(mof5, 0.02, 1), "mof5"), found.bins(shaken(mof5, 0.1, 2), "mof5")
    bins = Bins(found, cold)
    assert bins.covered(cold) == 1.0
    assert bins.covered(hot) == pytest.approx(np.isin(hot, cold).mean())
    assert Bins(found).covered(hot) == 0.0
    assert np.isnan(bins.covered(hot[:0]))


def test_bad_input_is_named(mof5: Atoms) -> None:
    found = Descriptors({"mof5": mof5})
    with pytest.raises(InputError, match="no reference structure for 'zif8'"):
        found.bins(mof5, "zif8")
    with pytest.raises(InputError, match="not one of the reference"):
        found.bins(molecule("H2O"), "mof5")
    for wrong in ({"bond": 0.0}, {"bond": -1.0}, {"angle": 181.0}, {"dihedral": float("nan")}):
        with pytest.raises(InputError, match="makes no histogram"):
            Resolutions(**wrong)
    other = Bins(Descriptors({"mof5": mof5}, Resolutions(bond=0.1))).to_json()
    with pytest.raises(StateError, match="filled with resolutions"):
        Bins.from_json(found, other)
    with pytest.raises(StateError, match="no CBAD bins"):
        Bins.from_json(found, {"filled": {}})
    with pytest.raises(InputError, match="1 frames of 2 walks"):
        Cover(Bins(found), [np.zeros(0, dtype=np.int64)], [0, 1])
