"""A machine by its name or from its file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final, TypeAlias

from clusterflow.config.document import beside
from clusterflow.config.load import load_kind
from clusterflow.config.section import Section
from clusterflow.errors import ConfigError
from clusterflow.execution.machines.kubernetes import KubernetesMachine
from clusterflow.execution.machines.local import LocalMachine
from clusterflow.execution.machines.pbs import PBSMachine
from clusterflow.execution.machines.slurm import SlurmMachine

Machine: TypeAlias = LocalMachine | SlurmMachine | PBSMachine | KubernetesMachine
"""Any machine; the key ``kind`` of its file says which."""

KINDS: Final[dict[str, type[Section]]] = {
    "local": LocalMachine,
    "slurm": SlurmMachine,
    "pbs": PBSMachine,
    "kubernetes": KubernetesMachine,
}


def default_machine() -> LocalMachine:
    """The machine "local": this computer, all of it."""
    return LocalMachine()


def load_machine(name: str | Path) -> Machine:
    """The machine of that name ("local"), or of a machine file.

    Raises
    ------
    ConfigError
        No such name or file, or the file is not valid: with line, what is allowed, and "did you mean".
    """
    text = str(name)
    if text == "local":
        return default_machine()
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        close = difflib.get_close_matches(text, ["local"], n=1)
        raise ConfigError(
            f"There is no machine called '{text}'.",
            where="machine",
            todo=(f"Did you mean '{close[0]}'? " if close else "")
            + "Write `local` for this computer, or the path of a machine file (*.yaml).",
        )
    if not path.is_file():
        close = difflib.get_close_matches(path.name, beside(path, "machine"), n=1)
        raise ConfigError(
            f"There is no machine file '{path}'.",
            where=str(path.absolute()),
            todo=(f"Did you mean '{path.parent / close[0]}'? " if close else "")
            + "A relative path in a campaign file is taken from the folder of that file; `local` is this computer.",
        )
    try:
        machine = load_kind(path, KINDS, default="local")
    except ConfigError as error:
        raise ConfigError(
            error.what,
            where=error.where,
            todo=f"{error.todo or 'Correct it.'} Every machine file in hpc/ has comments; `local` is this computer.",
        ) from None
    assert isinstance(machine, (LocalMachine, SlurmMachine, PBSMachine, KubernetesMachine))
    return machine
