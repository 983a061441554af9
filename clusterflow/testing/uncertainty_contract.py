"""What every `Uncertainty` must do; call `check_uncertainty` from a test of each implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms

from clusterflow.core.frames import content_hash
from clusterflow.core.protocols import Uncertainty


def check_uncertainty(
    make: Callable[[], Uncertainty], training: Sequence[Atoms], *, unseen_element: str, tolerance: float = 1e-5
) -> None:
    """Asserts the contract of `Uncertainty`; ``make`` gives a new, unfitted one each time.

    ``training`` are frames of known environments (at least four, non-periodic or periodic); ``unseen_element`` does not
    occur in them. ``tolerance`` is the relative change of a score that rotation may cause.
    """
    before = [content_hash(a) for a in training]
    fitted = make().fit(training)
    assert fitted.unit, "a score has a unit"
    assert [content_hash(a) for a in training] == before, "fit must not change the frames"

    probe = training[0]
    scores = fitted.score(probe)
    assert scores.shape == (len(probe),), "one score per atom"
    assert np.isfinite(scores).all(), "training atoms have finite scores"
    np.testing.assert_array_equal(scores, fitted.score(probe), err_msg="scoring has no memory")
    np.testing.assert_array_equal(scores, make().fit(training).score(probe), err_msg="equal data, equal fit")

    scale = max(1.0, float(np.abs(scores).max()))
    np.testing.assert_allclose(fitted.score(_moved(probe)), scores, atol=tolerance * scale, rtol=tolerance)
    order = np.random.default_rng(0).permutation(len(probe))
    np.testing.assert_allclose(fitted.score(probe[order]), scores[order], atol=tolerance * scale, rtol=tolerance)

    known = np.concatenate([fitted.score(a) for a in training])
    distorted = probe.copy()
    distorted.positions += np.random.default_rng(1).normal(0.0, 0.6, (len(probe), 3))
    assert np.median(fitted.score(distorted)) > np.median(known), "larger must mean less known"

    strange = probe.copy()
    symbols = strange.get_chemical_symbols()
    symbols[0] = unseen_element
    strange.set_chemical_symbols(symbols)
    novelty = fitted.score(strange)
    assert not np.isnan(novelty).any()
    assert novelty[0] >= known.max(), "an element never seen is the least known of all"


def _moved(atoms: Atoms) -> Atoms:
    moved: Atoms = atoms.copy()
    moved.rotate(73.0, (1.0, 2.0, -0.5), rotate_cell=True)
    moved.positions += np.array([0.3, -1.1, 2.7])
    return moved
