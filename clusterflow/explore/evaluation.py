"""The potential as the dynamics see it: one configuration at a time, remembered, and NaN noticed at once."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Prediction
from clusterflow.core.protocols import Potential
from clusterflow.errors import StructureError
from clusterflow.explore.stop import BlowUp, largest_force, not_finite


class Evaluator:
    """Energy and forces at given positions (Å) and cell (Å).

    The last two configurations are remembered: a barostat move and a frame ask again for what the integrator has just
    computed, or is about to. ``evaluations`` counts the real calls.

    Raises
    ------
    BlowUp
        From `__call__`: NaN, or a force above ``force_ceiling`` (eV/Å), where the next step would be meaningless.
    """

    def __init__(self, potential: Potential, start: Atoms, force_ceiling: float) -> None:
        self._potential = potential
        self._atoms = Atoms(numbers=start.numbers, positions=start.positions, cell=start.cell, pbc=start.pbc)
        self._ceiling = force_ceiling
        self._memory: OrderedDict[bytes, Prediction] = OrderedDict()
        self.evaluations = 0

    def __call__(self, positions: FloatArray, cell: FloatArray) -> Prediction:
        key = positions.tobytes() + cell.tobytes()
        known = self._memory.get(key)
        if known is not None:
            self._memory.move_to_end(key)
            return known
        if not np.isfinite(positions).all():
            raise BlowUp("positions are NaN or infinite")
        self._atoms.positions[:] = positions
        self._atoms.cell[:] = cell
        prediction = self._potential.predict([self._atoms])[0]
        self.evaluations += 1
        reason = not_finite(prediction)
        if reason is None:
            force, atom = largest_force(prediction.forces)
            if force > self._ceiling:
                reason = f"the force on {self._atoms.symbols[atom]}{atom} is {force:.3g} eV/Å"
        if reason is not None:
            raise BlowUp(reason)
        self._memory[key] = prediction
        if len(self._memory) > 2:
            self._memory.popitem(last=False)
        return prediction


def check_elements(start: Atoms, potential: Potential) -> None:
    """Raises `StructureError` where the structure has elements that the potential does not know."""
    unknown = sorted(set(start.symbols) - set(potential.elements))
    if unknown:
        raise StructureError(
            f"The potential '{potential.model_id[:12]}' does not know {', '.join(unknown)}.",
            where=f"start structure {start.get_chemical_formula()}",
            todo=f"It knows {', '.join(sorted(potential.elements))}; first add training data with the missing ones.",
        )
