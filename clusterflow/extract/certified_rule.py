"""The extraction rule that certifies: cores as asked for, surroundings as small as the certificate allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Fragment, Site
from clusterflow.core.frames import content_hash
from clusterflow.core.protocols import Potential
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.calibration import ErrorModel, calibrate
from clusterflow.extract.certificate import (
    TOLERANCE,
    Options,
    Search,
    SearchSettings,
    certify,
    confirming,
    find_options,
    judge,
    search,
)
from clusterflow.extract.cut import Frame
from clusterflow.extract.indicators import indicator_columns
from clusterflow.extract.rules import core_images, frame_of
from clusterflow.extract.sites import site_indices
from clusterflow.physics.building_blocks import Blocks, find_blocks

CORES = ("site", "block")


@dataclass
class CertifiedRule:
    """Cuts the cheapest fragment whose core forces are within ``tolerance`` (eV/Å) of the parent's; a `FragmentRule`.

    Parameters
    ----------
    tolerance, settings
        What is asked of the required atoms, and the limits of the search.
    core
        "site": the site's atom and those of its block that are bonded to it are required; "block": the whole block.
    refuse
        Refuse a fragment that a calibrated model does not pass. Where there is no bound yet, nothing passes and nothing
        is refused, or it could never be confirmed.
    model
        Error model; None: the prior, which estimates and bounds nothing.
    cost
        Core-seconds of a label; only the order matters here.
    potential
        The current potential, or None to judge by the graph alone.
    find
        Finds the building blocks of a frame.
    """

    cost: Callable[[Atoms], float]
    tolerance: float = TOLERANCE
    core: str = "site"
    refuse: bool = False
    settings: SearchSettings = field(default_factory=SearchSettings)
    model: ErrorModel | None = None
    potential: Potential | None = None
    find: Callable[[Atoms], Blocks] = find_blocks
    _frame: tuple[str, Frame, FloatArray | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.core not in CORES:
            raise InputError(f"'{self.core}' is no choice of core.", todo=f"Allowed: {', '.join(CORES)}.")
        if not self.tolerance > 0:
            raise InputError(f"A tolerance of {self.tolerance:g} eV/Å cannot be met.", todo="100 meV/Å is usual.")

    @property
    def name(self) -> str:
        """All settings in one canonical line."""
        s = self.settings
        return (
            f"certified(tolerance={self.tolerance!r};core={self.core};max_radius={s.max_radius!r};"
            f"max_atoms={s.max_atoms};confirm_atoms={s.confirm_atoms})"
        )

    @property
    def method(self) -> str:
        """What certificates of this rule are derived from."""
        columns = ", ".join(c.name for c in self.error_model.columns)
        return f"{columns}; calibrated on {self.error_model.n} fragments"

    def extract(self, atoms: Atoms, sites: Sequence[Site]) -> Fragment:
        """The fragment of the sites, with its certificate.

        Raises
        ------
        ExtractionError
            As `BuildingBlockRule.extract`; or nothing meets the tolerance and ``refuse`` is set.
        """
        _, found = self.search(atoms, sites)
        worst = float(found.chosen.bound[found.chosen.required].max())
        if self.refuse and not found.passed and np.isfinite(worst):
            raise ExtractionError(
                f"No fragment of at most {self.settings.max_atoms} atoms is certain to have core forces within "
                f"{1000 * self.tolerance:.0f} meV/Å of the parent's: the best of {found.judged} reaches "
                f"{1000 * worst:.0f} meV/Å.",
                where=f"atom(s) {[s.index for s in sites][:6]} of frame {sites[0].frame_id[:12]}",
                todo="Raise tolerance or max_atoms, or keep such fragments with `uncertified: mark`.",
            )
        return self._certify(found)

    def search(self, atoms: Atoms, sites: Sequence[Site]) -> tuple[Options, Search]:
        """All candidates, and what was chosen of them; raises `ExtractionError` where no candidate can be built."""
        options = self._options(atoms, sites)
        found = search(
            options,
            model=self.error_model,
            tolerance=self.tolerance,
            forces=self._forces if self.potential is not None else None,
            parent_forces=self._parent(atoms)[1],
        )
        return options, found

    def _options(self, atoms: Atoms, sites: Sequence[Site]) -> Options:
        frame, _ = self._parent(atoms)
        indices = site_indices(atoms, sites)
        core = core_images(frame, indices)
        if self.core == "block":
            required = np.concatenate([frame.blocks.members(block) for block, _ in core]).tolist()
        else:
            blocks, graph = frame.blocks, frame.blocks.graph
            held = {block for block, _ in core}
            near = [n for i in indices for n in graph.neighbours(i).tolist() if int(blocks.labels[n]) in held]
            required = sorted({*indices, *near})
        return find_options(frame, sites, core, required, cost=self.cost, settings=self.settings, rule=self.name)

    def confirming(self, atoms: Atoms, fragment: Fragment) -> Fragment | None:
        """A larger fragment around the same core, to confirm a label of this one with, and with a certificate of its
        own; None if there is none within the limits."""
        options = self._options(atoms, fragment.sites)
        same = [o for o in options.options if o.fragment.rule == fragment.rule]
        option = confirming(options, same[0]) if same else None
        if option is None:
            return None
        _, parent_forces = self._parent(atoms)
        forces = self._forces if self.potential is not None else None
        trial = judge(options, option, model=self.error_model, forces=forces, parent_forces=parent_forces)
        passed = bool((trial.bound[trial.required] <= self.tolerance).all())
        return self._certify(Search(trial, passed, 1))

    @property
    def error_model(self) -> ErrorModel:
        """The given model, or the prior."""
        if self.model is None:
            self.model = calibrate(
                indicator_columns(potential=self.potential is not None), (), tolerance=self.tolerance
            )
        return self.model

    def _certify(self, found: Search) -> Fragment:
        return certify(found, model=self.error_model, tolerance=self.tolerance, method=self.method)

    def _forces(self, atoms: Atoms) -> FloatArray:
        assert self.potential is not None
        return self.potential.predict([atoms])[0].forces

    def _parent(self, atoms: Atoms) -> tuple[Frame, FloatArray | None]:
        """Blocks of the frame and what the potential says of it, kept while sites of the same frame follow."""
        identity = content_hash(atoms)
        if self._frame is None or self._frame[0] != identity:
            frame = frame_of(atoms, None, self.find)
            self._frame = (identity, frame, self._forces(atoms) if self.potential is not None else None)
        return self._frame[1:]
