"""What all commands share: the console, and how an error of ours leaves the program."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from clusterflow.config.document import lines_told
from clusterflow.errors import ClusterflowError, InputError

if TYPE_CHECKING:
    from clusterflow.extract.rules import BuildingBlockRule

F = TypeVar("F", bound=Callable[..., Any])

STOPPED = 75
"""Exit code: stopped, and the next run resumes (EX_TEMPFAIL, which schedulers can be told to requeue)."""

console = Console(width=None if sys.stdout.isatty() else 140)  # in a file or a pipe there is no screen to fit
errors = Console(stderr=True)


def guarded(function: F) -> F:
    """Prints our errors as they are meant to be read and exits with their code; others keep their traceback.

    An error about something that the YAML file of the command (its parameter ``config``) names is told with the line.
    """

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            with lines_told(kwargs.get("config")):
                return function(*args, **kwargs)
        except ClusterflowError as error:
            errors.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            errors.print("stopped", markup=False)
            sys.exit(STOPPED)
        except BrokenPipeError:  # `clusterflow status | head`
            sys.stderr.close()
            sys.exit(0)

    return wrapper  # type: ignore[return-value]


def mantle_rule(mantle: str) -> BuildingBlockRule:
    """The rule that cuts building blocks with this mantle around cores of every kind, as ``--mantle`` names it.

    Raises
    ------
    InputError
        There is no such mantle.
    """
    from pydantic import ValidationError

    from clusterflow.config.extract import BuildingBlocks
    from clusterflow.config.mistakes import describe

    try:
        section = BuildingBlocks.model_validate({"mantle": dict.fromkeys(("node", "linker", "molecule"), mantle)})
    except ValidationError as error:
        raise InputError(f"--mantle: {describe(error.errors()[0], mantle)}.", todo="Give one of these.") from None
    rule: BuildingBlockRule = section.build()
    return rule


def program() -> str:
    """How this program can be called again: by name where the shell finds it, else by its path."""
    return "clusterflow" if shutil.which("clusterflow") else str(Path(sys.executable).parent / "clusterflow")
