import numpy as np
from ase.build import bulk

from clusterflow.core.frames import content_hash
from clusterflow.selection.atoms import AtomSelector


def silicon():
    return bulk("Si", cubic=True) * (2, 2, 2)


def test_the_most_novel_atoms_come_first_and_no_two_share_a_sphere():
    frames = [silicon(), silicon()]
    frames[1].positions[0, 0] += 0.1
    scores = [np.zeros(64), np.zeros(64)]
    scores[0][[5, 9]] = [3.0, 1.0]
    scores[1][7] = 2.0
    near = int(np.argsort(frames[0].get_distances(5, range(64), mic=True))[1])  # bonded to atom 5
    scores[0][near] = 2.9
    sites = AtomSelector().select(frames, scores, budget=3, rng=np.random.default_rng(0))
    ids = [content_hash(f) for f in frames]
    assert [(ids.index(s.frame_id), s.index) for s in sites[:2]] == [(0, 5), (1, 7)]
    assert near not in [s.index for s in sites if s.frame_id == ids[0]]


def test_unknown_counts_as_most_novel_and_limits_hold():
    atoms = silicon()
    scores = np.zeros(64)
    scores[40] = np.nan
    rng = np.random.default_rng(0)
    assert [s.index for s in AtomSelector().select([atoms], [scores], budget=1, rng=rng)] == [40]
    assert len(AtomSelector(per_frame=2).select([atoms], [scores], budget=9, rng=rng)) == 2
    sites = [s.index for s in AtomSelector(apart=4.0).select([atoms], [scores], budget=64, rng=rng)]
    distances = atoms.get_all_distances(mic=True)[np.ix_(sites, sites)]
    assert distances[~np.eye(len(sites), dtype=bool)].min() >= 4.0
