"""Names of the entries that clusterflow keeps in ``Atoms.info`` and ``Atoms.arrays`` (and so in its extxyz files)."""

from typing import Final

# Atoms.arrays
REGION: Final = "region"
"""(n,) str: "core", "mantle" or "termination"."""
PARENT: Final = "parent"
"""(n,) int: index of the atom in the parent frame, −1 for termination atoms."""
NOVELTY: Final = "novelty"
"""(n,) float: negative log-likelihood in nats (or the unit that the Uncertainty states)."""

# Atoms.info
CHARGE: Final = "charge"
"""int: total charge in e."""
SPIN: Final = "spin"
"""int: number of unpaired electrons, 2S."""
RULE: Final = "rule"
"""str: the extraction rule and its settings."""
SITES: Final = "sites"
"""str: JSON list of [frame_id, index] that the fragment was cut for."""
SYSTEM: Final = "system"
"""str: name of the system in the campaign."""
FRAME: Final = "frame_id"
"""str: content hash of the parent frame."""
KIND: Final = "block"
"""str: kind of the core building block, e.g. "node" or "linker", with its formula."""
FRAGMENT: Final = "fragment_id"
"""str: content hash of the fragment's own geometry."""
LEVEL: Final = "level_of_theory"
"""str: the level at which energy and forces were computed."""
LABEL: Final = "label_key"
"""str: key of the label in the label store."""
SPLIT: Final = "split"
"""str: "train", "validation" or "test"."""
ITERATION: Final = "iteration"
"""int: the iteration of the campaign that asked for it (0 = start)."""

REGIONS: Final = ("core", "mantle", "termination")
