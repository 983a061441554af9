"""An ASE calculator that waits: what an engine gains by lanes can then be timed on a machine whose cores are busy."""

from __future__ import annotations

import time
from typing import Any

from ase.calculators.emt import EMT


class WaitingEMT(EMT):  # type: ignore[misc]
    """ASE's EMT; every new structure also sleeps for ``wait`` seconds, as if a larger potential computed elsewhere."""

    def __init__(self, wait: float = 0.05) -> None:
        super().__init__()
        self._wait = wait

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        """EMT's results, later."""
        time.sleep(self._wait)
        super().calculate(*args, **kwargs)
