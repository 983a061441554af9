"""A YAML file as the user wrote it: what kind of file it is, and on which of its lines something stands."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from clusterflow.errors import ClusterflowError, ConfigError

Sort = Literal["campaign", "property", "machine"]
"""What a YAML file describes."""
MACHINE_KINDS: Final = ("local", "slurm", "pbs", "kubernetes")
_MACHINE_KEYS: Final = {"kind", "cores", "lanes"}
_STRUCTURES: Final = {".cif", ".extxyz", ".pdb", ".poscar", ".vasp", ".xyz"}
_NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "systems": ("system",),
    "structures": ("structure", "system"),  # of a property file; built by the code that builds systems
    "properties": ("property",),
}
"""Key of a list whose entries have names → how messages call an entry: system 'crystal'."""


def sort_of(data: Mapping[str, Any]) -> tuple[Sort, str] | None:
    """What a document describes, and the key that says so; None where that cannot be told."""
    for key, sort in (("properties", "property"), ("systems", "campaign"), ("lanes", "machine")):
        if key in data:
            return sort, key  # type: ignore[return-value]
    if data.get("kind") in MACHINE_KINDS or (data and set(data) <= _MACHINE_KEYS):
        return "machine", "kind" if "kind" in data else str(next(iter(data)))
    return None


def require_sort(path: Path, data: Mapping[str, Any], wanted: Sort) -> None:
    """Raises ConfigError, which says what takes this file, if it is clearly one of another sort."""
    found = sort_of(data)
    if found is None or found[0] == wanted:
        return
    sort, key = found
    takes = {
        "campaign": f"`clusterflow run {path}` runs it, `clusterflow check {path}` only checks it.",
        "property": f"`clusterflow property {path}` runs it, with --dry-run only checks it.",
        "machine": (
            f"Write `machine: {path.name}` into a campaign or property file to run it there. `clusterflow doctor "
            f"--machine {path}` tests the machine, `clusterflow plan FILE --machine {path}` shows what would run."
        ),
    }
    raise ConfigError(
        f"'{path}' is a {sort} file, and a {wanted} file is needed here: it has the key `{key}`.",
        where=f"{path}, line {locate(data, [key])[1]}",
        todo=takes[sort],
    )


def read_yaml(path: Path, *, todo: str = "Write one with `clusterflow new STRUCTURE`.") -> Any:
    """What a YAML file holds, with the lines of its keys.

    Raises
    ------
    ConfigError
        It is missing, no YAML, or no mapping of keys to values.
    """
    if path.is_dir():
        lives = (path / "journal.jsonl").is_file()
        raise ConfigError(
            f"'{path}' is a folder; a YAML file is needed here.",
            where=str(path.absolute()),
            todo=f"Give the file that was run; `clusterflow status {path}` shows what lives there." if lives else todo,
        )
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, near, n=1)
        raise ConfigError(
            f"There is no configuration file '{path}'.",
            where=str(path.absolute()),
            todo=f"Did you mean '{path.parent / close[0]}'?" if close else todo,
        )
    if path.suffix.lower() in _STRUCTURES:
        raise ConfigError(
            f"'{path}' is a structure file; a YAML file is needed here.",
            where=str(path.absolute()),
            todo=f"`clusterflow new {path}` writes a campaign file for it; `structure:` in one names it.",
        )
    yaml = YAML(typ="rt")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"'{path}' is not UTF-8 text.", where=f"{path}, byte {error.start}", todo="Save it as UTF-8."
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        before, text = line_text(path, line - 1), line_text(path, line)
        first = str(error.problem or error).splitlines()[0]
        raise ConfigError(
            f"'{path}' is not valid YAML: {first}."
            + (f"\n    {line - 1} | {before}" if before else "")
            + (f"\n    {line} | {text}" if text else ""),
            where=f"{path}, line {line}",
            todo="Check indentation (spaces, no tabs), the colon and space after each key, and closed quotes.",
        ) from None
    except YAMLError as error:
        raise ConfigError(f"'{path}' is not valid YAML: {error}", where=str(path)) from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"'{path}' holds {'nothing' if data is None else 'no mapping of keys to values'}.",
            where=str(path),
            todo=todo,
        )
    return data


def line_text(path: Path, number: int) -> str:
    """A line of a file, counted from 1; "" if there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[number - 1].rstrip() if 0 < number <= len(lines) else ""


def locate(data: Any, loc: Sequence[str | int]) -> tuple[list[str | int], int, Any]:
    """Path in the document (without pydantic's union tags), line (1-based) and value at a pydantic location."""
    here: Any = data
    line = 1
    trail: list[str | int] = []
    for part in loc:
        marks: Any = getattr(here, "lc", None)  # ruamel's line and column
        if isinstance(here, dict) and part in here:
            with contextlib.suppress(KeyError):  # merged from an anchor (`<<:`): no line of its own here
                line = marks.key(part)[0] + 1
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            line = marks.item(part)[0] + 1
        else:
            continue  # a union tag, or a key that is missing
        here = here[part]
        trail.append(part)
    return trail, line, here


def beside(path: Path, sort: Sort) -> list[str]:
    """Names of the YAML files of this sort in the folder of a path."""
    found = []
    for file in sorted(path.parent.glob("*.y*ml")):
        with contextlib.suppress(ConfigError, OSError):
            if (sort_of(read_yaml(file)) or (sort,))[0] == sort:
                found.append(file.name)
    return found


@contextlib.contextmanager
def lines_told(path: Path | None) -> Iterator[None]:
    """Errors inside that are about something that a YAML file names (a file, a system, a structure) say its line; None:
    there is no such file."""
    try:
        yield
    except ClusterflowError as error:
        at = naming_line(path, error.where) if path is not None and error.exit_code == 2 else ""
        if at:
            error.where = f"{at}: {error.where}"
        raise


def naming_line(path: Path, where: str) -> str:
    """`FILE, line N, key` of what ``where`` of an error names: the path of a file, or an entry of a list by its name;
    "" if the YAML file at ``path`` names neither, or cannot be read."""
    if not where or f"{path}, line" in where:
        return ""
    try:
        data = read_yaml(path)
    except (ConfigError, OSError):
        return ""
    entries = [
        (key, n)
        for key, called in _NAMED.items()
        for n, entry in enumerate(data.get(key) or ())
        if isinstance(entry, dict)
        and any(f"{word} '{entry.get('name', entry.get('kind'))}'" in where for word in called)
    ]
    files = [trail for trail, value in _texts(data) if _names(path, value, where)]
    # a file within the entry that is named, the entry, any file
    within = [trail for trail in files if any(trail[:2] == entry for entry in entries)]
    trails = [*within, *entries, *files]
    if not trails:
        return ""
    trail, line, _ = locate(data, trails[0])
    return f"{path}, line {line}, {'.'.join(str(t) for t in trail)}"


def _texts(data: Any, trail: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path in the document, text) of all its texts."""
    if isinstance(data, str):
        yield trail, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _texts(value, (*trail, key))
    elif isinstance(data, Sequence):
        for n, value in enumerate(data):
            yield from _texts(value, (*trail, n))


def _names(document: Path, text: str, where: str) -> bool:
    """Whether ``where`` has the path that a text of the document names, as that is taken from the document's folder."""
    if not text or "\n" in text:
        return False
    try:
        file = str(document.absolute().parent / Path(text).expanduser())
    except RuntimeError:  # a home that is not known
        return False
    return file != str(document.absolute().parent) and re.search(rf"{re.escape(file)}(?![\w.-])", where) is not None
