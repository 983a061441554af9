"""Forces at a reference level through the label store: what is there is not computed again.

With `clusterflow.physics.hessian.central_difference_rows` this is a Hessian at a reference level that goes on where it
was stopped, displaced atom by displaced atom.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Reference
from clusterflow.errors import LabelError, LabelTimeoutError
from clusterflow.state.labels import LabelStore, label_key

log = logging.getLogger(__name__)


def stored_forces(
    reference: Reference, store: LabelStore, *, charge: int = 0, spin: int = 0, workdir: Path
) -> Callable[[Atoms], FloatArray]:
    """A function from a structure to its forces (n, 3) in eV/Å, which looks in ``store`` first and puts there what it
    had to compute.

    ``charge`` in e and ``spin`` (unpaired electrons) hold for all structures. Each calculation has a folder of its own
    in ``workdir``, which is removed once its label is stored.

    The function raises
    -------------------
    LabelError
        The calculation failed, now or earlier (then the record in the store says why); time-outs are not recorded.
    StateError
        The store is damaged or cannot be written.
    """

    def forces(atoms: Atoms) -> FloatArray:
        key = label_key(atoms, level_of_theory=reference.level_of_theory, charge=charge, spin=spin)
        found = store.get(key)
        if found is not None:
            log.debug("label %s is in the store", key[:16])
            return found[1].prediction.forces
        failure = store.get_failure(key)
        if failure is not None:
            raise LabelError(failure["what"], where=failure.get("where", ""), todo=failure.get("todo", ""))
        place = Path(workdir) / key[:16]
        shutil.rmtree(place, ignore_errors=True)  # what a killed calculation left there
        place.mkdir(parents=True)
        try:
            label = reference.label(atoms, charge=charge, spin=spin, workdir=place)
        except LabelTimeoutError:
            raise
        except LabelError as error:
            store.put_failure(key, {"what": error.what, "where": error.where or str(place), "todo": error.todo})
            raise
        store.put(key, atoms, label)
        shutil.rmtree(place, ignore_errors=True)
        log.info("label %s: %.1f s", key[:16], label.wall_time)
        return label.prediction.forces

    return forces
