from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from clusterflow.core.data import FloatArray, Fragment
from clusterflow.errors import InputError
from clusterflow.extract.functional_groups import GroupedPiece, grouped, growth
from clusterflow.extract.group_cut import cut_groups, reference_piece
from clusterflow.extract.locality import (
    Locality,
    Trial,
    assess_groups,
    assess_locality,
    converged,
    decay_rate,
    difference_row,
    effective_group_matrix,
    fragment_radius,
    group_matrix,
    groups_within,
    implied_threshold,
    submatrix_norms,
)

DATA = Path(__file__).parents[1] / "data"
MOLECULES = Path(__file__).parents[2] / "configs" / "structures" / "molecules"


def springs(stiffness: FloatArray) -> object:
    """Forces of zero-length springs: E = ½ Σ_{a<b} k_ab |x_a − x_b|², so that h_AB = −k_AB 1 for A ≠ B."""

    def forces(atoms: Atoms, _charge: int, _spin: int) -> FloatArray:
        laplacian = np.diag(stiffness.sum(axis=1)) - stiffness
        return -laplacian @ atoms.positions

    return forces


def gaussian_pairs(atoms: Atoms, _charge: int, _spin: int) -> FloatArray:
    """Forces of E = Σ_{a<b} z_a z_b exp(−r²/2): soft, long enough to reach over several bonds."""
    x, z = atoms.positions, atoms.numbers.astype(float)
    d = x[:, None] - x[None, :]
    w = z[:, None] * z[None, :] * np.exp(-0.5 * (d**2).sum(axis=-1))
    return np.asarray((w[:, :, None] * d).sum(axis=1))


@pytest.fixture(scope="module")
def hexadecane() -> GroupedPiece:
    return grouped(read(MOLECULES / "hexadecane.extxyz"))


def test_rows_norms_and_group_sums_of_springs() -> None:
    rng = np.random.default_rng(1)
    atoms = molecule("C2H6")
    n = len(atoms)
    k = rng.uniform(0.5, 2.0, (n, n))
    k = np.triu(k, 1) + np.triu(k, 1).T
    row = difference_row(springs(k), step=0.01)(atoms, 3, 0, 0)
    expected = np.zeros((3, n, 3))
    for b in range(n):
        expected[:, b, :] = np.eye(3) * (k[3].sum() if b == 3 else -k[3, b])
    assert np.allclose(row, expected, atol=1e-9)
    assert np.allclose(submatrix_norms(row)[[0, 5]], np.sqrt(3) * k[3, [0, 5]])
    assert np.allclose(group_matrix(row, [0, 5]), -(k[3, 0] + k[3, 5]) * np.eye(3))
    assert np.allclose(group_matrix(row, range(n)), 0.0, atol=1e-9)  # translation moves no force


def test_a_force_that_vanishes_by_symmetry_does_not_hide_the_interaction() -> None:
    """CO2 (the paper's Fig. 2): no force on carbon however long the bonds, but a group norm that tells them apart."""
    norms = []
    for stretch in (-0.1, 0.0, 0.1):
        d = 1.176 + stretch
        atoms = Atoms("COO", [[0, 0, 0], [0, 0, d], [0, 0, -d]])
        assert np.allclose(gaussian_pairs(atoms, 0, 0)[0], 0.0, atol=1e-12)
        norms.append(np.linalg.norm(group_matrix(difference_row(gaussian_pairs)(atoms, 0, 0, 0), [1, 2])))
    assert min(norms) > 1.0
    assert len({round(x, 3) for x in norms}) == 3


def test_effective_norm_is_how_the_force_changes_when_what_was_cut_off_moves(hexadecane: GroupedPiece) -> None:
    """Oracle for eqs. 4 and 6: moving all removed atoms by u changes f_A by −Gᵀu; in the fragment, moving the caps."""
    kept = growth(hexadecane, 0)[3]
    result = assess_locality(hexadecane, 0, gaussian_pairs, trials=[kept])
    trial = result.trials[0]
    fragment = trial.fragment
    h, matrix, own = 1e-3, np.zeros((3, 3)), np.zeros((3, 3))
    for axis in range(3):
        for sign in (1, -1):
            whole, part = hexadecane.atoms.copy(), fragment.atoms.copy()
            whole.positions[trial.removed, axis] += sign * h
            part.positions[fragment.parent < 0, axis] += sign * h
            here = int(np.flatnonzero(fragment.parent == 0)[0])
            matrix[:, axis] -= sign * gaussian_pairs(whole, 0, 0)[0] / (2 * h)
            own[:, axis] -= sign * gaussian_pairs(part, 0, 0)[here] / (2 * h)
    assert trial.group_norm == pytest.approx(float(np.linalg.norm(matrix)), rel=1e-4)
    assert trial.effective_norm == pytest.approx(float(np.linalg.norm(matrix - own)), rel=1e-4)
    assert trial.effective_norm != pytest.approx(trial.group_norm, rel=1e-3)
    difference = gaussian_pairs(hexadecane.atoms, 0, 0)[0] - gaussian_pairs(fragment.atoms, 0, 0)[here]
    assert np.allclose(trial.force_error, difference)


def test_far_caps_can_be_left_out(hexadecane: GroupedPiece) -> None:
    calls = []

    def counted(atoms: Atoms, charge: int, spin: int) -> FloatArray:
        calls.append(len(atoms))
        return gaussian_pairs(atoms, charge, spin)

    kept = growth(hexadecane, 0)[6]
    exact = assess_locality(hexadecane, 0, counted, trials=[kept]).trials[0]
    spent = len(calls)
    short = assess_locality(hexadecane, 0, counted, trials=[kept], termination_range=5.0).trials[0]
    assert len(calls) - spent == spent - 6
    assert short.effective_norm == short.group_norm
    assert short.effective_norm == pytest.approx(exact.effective_norm, abs=1e-4)


def test_a_short_ranged_force_needs_a_small_fragment(hexadecane: GroupedPiece) -> None:
    """exp(−r²/2) is below 1e-5 of its size 5 Å away: fragments longer than that are exact."""
    result = assess_locality(hexadecane, 0, gaussian_pairs)
    sizes = [len(t.fragment.atoms) for t in result.trials]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == 15
    assert max(t.error for t in result.trials[:8]) < 1e-4
    assert max(t.effective_norm for t in result.trials[:8]) < 1e-3
    assert result.trials[-1].effective_norm > 0.35
    best = converged(result, 0.35)
    assert best is not None
    assert best.error < 0.15
    assert 2.0 < fragment_radius(result, best.groups) < 8.0


def listed(norms: list[float]) -> Locality:
    """Trials with these effective norms, from the largest fragment on; all else empty."""
    nothing = Fragment(Atoms(), np.zeros(0, bool), np.zeros(0, int), (), "", 0, 0)
    trials = tuple(Trial(nothing, frozenset(), np.zeros(0, int), x, x, np.zeros(3)) for x in norms)
    return Locality(grouped(molecule("H2O")), 0, np.zeros((3, 3, 3)), np.zeros(3), trials)


@pytest.mark.parametrize(
    ("site", "norms", "g"),
    [
        ("Zn1", [0.27, 0.26, 0.23, 0.59], 3),
        ("O1", [0.27, 0.22, 0.33], 3),
        ("O2", [0.02, 0.09, 0.25, 0.22, 0.23, 0.15, 3.37], 6),
        ("C1", [0.02, 0.10, 0.11, 0.36, 0.35, 0.30, 21.83], 3),
        ("C2", [0.01, 0.02, 0.17, 0.36, 0.57, 0.37, 20.2], 3),
    ],
)
def test_the_rule_chooses_the_fragments_of_the_paper(site: str, norms: list[float], g: int) -> None:
    """Effective norms of Tables III and S2, converged fragment of Table IV: a later dip below Γ does not count."""
    result = listed(norms)
    assert converged(result, 0.35) is result.trials[g - 1]


def test_nothing_converged() -> None:
    assert converged(listed([0.4, 0.1]), 0.35) is None
    with pytest.raises(InputError, match="lets nothing pass"):
        converged(listed([0.4]), 0.0)


def test_implied_threshold_interpolates_at_the_first_crossing() -> None:
    assert implied_threshold([0.1, 0.3, 0.5], [0.05, 0.10, 0.20], 0.15) == pytest.approx(0.4)
    assert implied_threshold([1.0], [0.3], 0.15) == pytest.approx(0.5)
    assert implied_threshold([0.1, 0.3], [0.01, 0.02], 0.15) == float("inf")
    with pytest.raises(InputError, match=r"norms \(1\) as errors \(2\)"):
        implied_threshold([0.1], [0.1, 0.2], 0.15)


def test_fragment_radius_takes_the_strongest_atom_of_the_most_distant_group(hexadecane: GroupedPiece) -> None:
    row = np.zeros((3, len(hexadecane.atoms), 3))
    last = hexadecane.groups[5]
    strongest = int(last[np.argmax(hexadecane.distances(0)[last])])
    row[0, strongest, 0] = 0.2
    row[0, hexadecane.groups[1], 0] = 5.0
    result = Locality(hexadecane, 0, row, np.zeros(3), ())
    assert fragment_radius(result, range(6)) == pytest.approx(hexadecane.distances(0)[strongest])
    own = int(hexadecane.groups[0][2])
    row[0, [0, own], 0] = 90.0, 3.0
    alone = Locality(hexadecane, 0, row, np.zeros(3), ())
    assert fragment_radius(alone, [0]) == pytest.approx(hexadecane.distances(0)[own])  # not the site itself


def test_a_common_radius_completes_groups(hexadecane: GroupedPiece) -> None:
    assert groups_within(hexadecane, 0, 0.5) == {0}
    kept = groups_within(hexadecane, 0, 4.0)
    assert all(hexadecane.distances(0)[hexadecane.groups[g]].min() <= 4.0 for g in kept)
    cut_groups(hexadecane, kept, 0)


def test_one_more_fragment_is_assessed_like_the_others(hexadecane: GroupedPiece) -> None:
    steps = growth(hexadecane, 0)
    result = assess_locality(hexadecane, 0, gaussian_pairs, trials=[steps[4], steps[2]])
    assert assess_groups(result, steps[4], gaussian_pairs) is result.trials[0]
    alone = assess_locality(hexadecane, 0, gaussian_pairs, trials=[steps[3]]).trials[0]
    more = assess_groups(result, steps[3], gaussian_pairs)
    assert more.effective_norm == pytest.approx(alone.effective_norm)
    assert np.allclose(more.force_error, alone.force_error)
    whole = assess_groups(result, steps[-1], gaussian_pairs)
    assert (len(whole.fragment.atoms), whole.effective_norm, whole.error) == (50, 0.0, 0.0)


def test_fragment_radius_of_a_zif_reaches_to_its_far_ligands() -> None:
    """Through imidazolates the metals tie all to the site: r_frag must not be the bond next to it."""
    piece, place = reference_piece(read(DATA / "ZIF-8_primitive.extxyz"), 102, 4.0)
    row = np.zeros((3, len(piece.atoms), 3))
    row[0, :, 0] = np.exp(-piece.distances(place))
    result = Locality(piece, place, row, np.zeros(3), ())
    farthest = max(result.distances[g].min() for g in piece.groups)
    assert fragment_radius(result) >= farthest - 0.3 > 4.0


def test_forces_on_pieces_of_a_zif_and_of_a_rod_are_finite() -> None:
    """GFN1-xTB on reference and smallest fragment with their charges: the SCF converges."""
    from clusterflow.label.xtb import XTBReference

    reference = XTBReference()
    for name, site in (("ZIF-8_primitive", 32), ("MIL-53-Al", 56)):
        piece, place = reference_piece(read(DATA / f"{name}.extxyz"), site, 3.0)
        fragment, _ = cut_groups(piece, growth(piece, place)[0], place)
        for atoms, charge, spin in (
            (piece.atoms, piece.charge, piece.spin),
            (fragment.atoms, fragment.charge, fragment.spin),
        ):
            forces = reference.label(atoms, charge=charge, spin=spin).prediction.forces
            assert np.isfinite(forces).all()
            assert 0.01 < np.abs(forces).max() < 30.0


def test_conjugation_carries_forces_farther_than_single_bonds() -> None:
    """The order of the paper's Fig. 5 at GFN1-xTB: octaene decays more slowly than hexadecane."""
    from clusterflow.label.xtb import XTBReference

    reference = XTBReference()

    def forces(atoms: Atoms, charge: int, spin: int) -> FloatArray:
        return reference.label(atoms, charge=charge, spin=spin).prediction.forces

    rates = {}
    for name in ("hexadecane", "hexadecaoctaene"):
        result = assess_locality(grouped(read(MOLECULES / f"{name}.extxyz")), 0, forces, trials=[])
        assert np.abs(result.row.sum(axis=1)).max() < 0.02  # acoustic sum rule: the noise of the differences
        rates[name] = decay_rate(result, element="C")
    assert rates["hexadecaoctaene"] < 0.6 * rates["hexadecane"]
    with pytest.raises(InputError, match="0 atoms of Zn"):
        decay_rate(result, element="Zn")


def test_bad_input_is_refused(hexadecane: GroupedPiece) -> None:
    with pytest.raises(InputError, match="no atom 50"):
        assess_locality(hexadecane, 50, gaussian_pairs)
    with pytest.raises(InputError, match=r"\(3, n, 3\)"):
        assess_locality(hexadecane, 0, gaussian_pairs, row=lambda atoms, *_: np.zeros((3, 3)))
    with pytest.raises(InputError, match="numbers that are not finite"):
        assess_locality(hexadecane, 0, gaussian_pairs, row=lambda atoms, *_: np.full((3, len(atoms), 3), np.nan))


def test_effective_matrix_subtracts_the_caps() -> None:
    row, own = np.arange(27.0).reshape(3, 3, 3), np.ones((3, 2, 3))
    assert np.allclose(effective_group_matrix(row, [1, 2], own, [1]), row[:, 1] + row[:, 2] - 1.0)


def test_pictures_and_annotated_piece(hexadecane: GroupedPiece, tmp_path: Path) -> None:
    from matplotlib.image import imread

    from clusterflow.extract.locality_figures import annotated, site_figure

    result = assess_locality(hexadecane, 0, gaussian_pairs, trials=[growth(hexadecane, 0)[k] for k in (2, 5)])
    best = converged(result, 0.35)
    site_figure(result, tmp_path / "site.png", gamma=0.35, best=best, title="C0")
    image = imread(tmp_path / "site.png")
    assert image.shape[1] > 2 * image.shape[0]
    assert image[..., :3].std() > 0.02
    site_figure(result, tmp_path / "none.png", gamma=0.35, best=None)
    atoms = annotated(result, best)
    assert np.array_equal(atoms.arrays["submatrix_norm"], result.norms)
    assert best is not None
    assert int(atoms.arrays["kept"].sum()) == len(atoms) - len(best.removed)


def test_a_piece_is_drawn_whole_along_its_principal_axes(hexadecane: GroupedPiece) -> None:
    from matplotlib.figure import Figure

    from clusterflow.extract.locality_figures import principal_view, structure_panel

    turned = hexadecane.atoms.copy()
    turned.rotate(70.0, (1.0, 2.0, 3.0))
    for atoms in (hexadecane.atoms, turned):
        view = principal_view(atoms.positions)
        extent = np.ptp(view, axis=0)
        assert extent[0] == max(extent)
        assert extent[0] > 3.0 * extent[1]
        pairs = np.linalg.norm(view[:, None] - view[None], axis=-1)
        assert np.allclose(pairs, atoms.get_all_distances())
        chirality = [float(np.linalg.det(x[[1, 17, 30]] - x[0])) for x in (view, atoms.positions)]
        assert chirality[0] == pytest.approx(chirality[1])
    result = assess_locality(hexadecane, 0, gaussian_pairs, trials=[])
    axes = Figure().subplots()
    structure_panel(axes, result, None)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    view = principal_view(hexadecane.atoms.positions)
    assert (left < view[:, 0]).all()
    assert (view[:, 0] < right).all()
    assert ((low < view[:, 1]) & (view[:, 1] < high)).all()
    assert axes.get_aspect() == 1.0


def test_labels_of_the_error_panel_do_not_overlap_and_its_lines_are_explained() -> None:
    from matplotlib.figure import Figure

    from clusterflow.extract.locality_figures import error_panel

    figure = Figure(figsize=(4, 4))
    axes = figure.subplots()
    error_panel(axes, {"fragments": ([6.1908, 6.4215], [3.287, 8.954])}, gamma=0.35)
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert len(boxes) >= 2
    assert all(a.x1 < b.x0 for a, b in pairwise(sorted(boxes, key=lambda box: box.x0)))
    assert axes.get_xticklabels(minor=True) == [] or not any(k.get_text() for k in axes.get_xticklabels(minor=True))
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    assert any("tolerance, 0.15 eV/Å" in word for word in told)
    assert any("Γ = 0.35" in word for word in told)
    assert axes.get_xlim()[0] <= 0.15 <= axes.get_xlim()[1]
    assert axes.get_ylim()[0] <= 0.35 <= axes.get_ylim()[1]
