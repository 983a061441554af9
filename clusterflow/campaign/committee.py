"""The members of a committee beside the first: what each is trained on, and with which seed.

The first member is the potential of the campaign, trained as if it were alone. The others differ from it by their
seed and by their share of the labels, which follow from the campaign's seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clusterflow.core.seeds import derive_seed


def share_of(
    training: Sequence[str], validation: Sequence[str], *, how: str, seed: int, member: int
) -> tuple[list[str], list[str]]:
    """Training and validation labels of a member.

    "split": of the training labels, as many as there are validation labels (at most half) are held out for this member.
    "bootstrap": as many training labels as there are, drawn with replacement (a label that is drawn twice counts
    twice); validation stays. Either way no member is trained on the validation labels of the first: on these
    disagreement is calibrated.
    """
    if how == "bootstrap":
        rng = np.random.default_rng(derive_seed(seed, "bootstrap", member, len(training)))
        ordered = sorted(training)
        return [ordered[i] for i in sorted(rng.integers(len(ordered), size=len(ordered)).tolist())], list(validation)
    everything = sorted(training)
    # One number per label, whatever the others: a member that goes on from its last model keeps most of its split.
    lot = {k: derive_seed(seed, "split", member, k) for k in everything}
    held_out = set(sorted(everything, key=lambda k: lot[k])[: min(len(validation), len(everything) // 2)])
    if not held_out:
        return everything, list(validation)
    return [k for k in everything if k not in held_out], [k for k in everything if k in held_out]
