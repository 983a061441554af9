"""What may stand in a scheduler's field. Everything else is refused, so that no text of a file can become a command.

A newline in an account name once became a line of a job script, and ``clusters='c1;rm …'`` ran on the login node: so
words are allow-listed, never escaped, and programs are called with lists of arguments, never through a shell.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator

from clusterflow.config.quantities import Duration

_WORD = re.compile(r"[A-Za-z0-9_.:,@=+][A-Za-z0-9_.:,@=+-]*\Z")
_PATH = re.compile(r"[A-Za-z0-9_./:,@=+][A-Za-z0-9_./:,@=+-]*\Z")
_ARGUMENT = re.compile(r"[A-Za-z0-9_./:,@=+{}-]+\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_LONGEST = 200


def _allowed(value: str, pattern: re.Pattern[str], characters: str) -> str:
    if not value:
        raise ValueError("is empty; leave the key out instead")
    if len(value) > _LONGEST:
        raise ValueError(f"is {len(value)} characters long, more than {_LONGEST}")
    if pattern.match(value):
        return value
    if value.startswith("-"):
        raise ValueError(f"{value!r} begins with a dash, which a scheduler would take for an option")
    bad = sorted({c for c in value if not pattern.match(f"a{c}")})
    raise ValueError(f"{value!r} holds {', '.join(map(repr, bad))}, not allowed here (allowed: {characters})")


def _word(value: str) -> str:
    return _allowed(value, _WORD, "letters, digits and _ . : , @ = + -")


def _path(value: str) -> str:
    return _allowed(value, _PATH, "letters, digits and _ . / : , @ = + -")


def _argument(value: str) -> str:
    return _allowed(value, _ARGUMENT, "letters, digits and _ . / : , @ = + { } -")


def _name(value: str) -> str:
    return _allowed(value, _NAME, "letters, digits and _")


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if value and value[0].startswith("-"):
        raise ValueError(f"the first word of a command is a program, not {value[0]!r}")
    return value


def _shell(value: str) -> str:
    bad = sorted({c for c in value if ord(c) < 32 and c not in "\n\t"})
    if bad:
        raise ValueError(f"holds control characters: {', '.join(map(repr, bad))}")
    return value


def _slurm_time(seconds: float) -> float:
    if seconds < 60:
        raise ValueError("is shorter than a minute")
    return seconds


def hours_minutes_seconds(seconds: float) -> str:
    """``26:03:00``, as both schedulers read a time."""
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


Word: TypeAlias = Annotated[str, AfterValidator(_word)]
"""A field of a scheduler: partition, account, host."""
FileWord: TypeAlias = Annotated[str, AfterValidator(_path)]
"""A path, or a module such as gcc/13."""
Command: TypeAlias = Annotated[tuple[Annotated[str, AfterValidator(_argument)], ...], AfterValidator(_command)]
"""A program and its arguments, word by word; no shell reads them."""
VariableName: TypeAlias = Annotated[str, AfterValidator(_name)]
Shell: TypeAlias = Annotated[str, AfterValidator(_shell)]
"""Lines of shell: the one place where a file may hold commands."""
Walltime: TypeAlias = Annotated[Duration, AfterValidator(_slurm_time)]


def as_list(value: Any) -> Any:
    """One word, or a list of them."""
    return [value] if isinstance(value, str) else value
