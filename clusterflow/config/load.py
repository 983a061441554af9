"""YAML to a validated `Campaign`, with messages that name file, line, value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from clusterflow.config.campaign import Campaign
from clusterflow.config.document import line_text, locate, read_yaml, require_sort
from clusterflow.config.mistakes import PlacedError, describe, shown
from clusterflow.config.properties import PropertyRun
from clusterflow.errors import ConfigError, StateError

M = TypeVar("M", bound=BaseModel)
_MAX_SHOWN = 6


def load_campaign(path: str | Path) -> Campaign:
    """Reads and validates a campaign file; relative paths in it are taken from the file's own folder.

    Raises
    ------
    ConfigError
        Missing file, bad YAML, unknown key, wrong unit, impossible value: with line and remedy. A property or machine
        file, with what takes it.
    """
    path = Path(path)
    require_sort(path, read_yaml(path), "campaign")
    return load_model(path, Campaign, context={"folder": path.absolute().parent})


def load_properties(path: str | Path) -> PropertyRun:
    """Reads and validates a property file, as `load_campaign` does a campaign file."""
    path = Path(path)
    require_sort(
        path, read_yaml(path, todo="docs/concepts/properties.md and configs/properties.yaml show one."), "property"
    )
    return load_model(path, PropertyRun, context={"folder": path.absolute().parent})


def describes_properties(path: str | Path) -> bool:
    """Whether a YAML file is a property file rather than a campaign's: it has the key `properties`."""
    return "properties" in read_yaml(Path(path))


def load_model(path: Path, model: type[M], *, context: dict[str, Any] | None = None) -> M:
    """Any section from a YAML file of its own, with the same messages."""
    data = read_yaml(path)
    try:
        return model.model_validate(_plain(data), context=context)
    except ValidationError as error:
        raise _explain(error, data, path, model) from None


def stored(kind: Any, data: Any, where: Path) -> Any:
    """A section (or a union of them) from the configuration that a run folder keeps, which is in ``where``.

    Raises
    ------
    StateError
        It is damaged, or another version of clusterflow wrote it.
    """
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        what = "unknown key" if first["type"] == "extra_forbidden" else describe(first, first["input"])
        raise StateError(
            f"The configuration that this run keeps cannot be used: {key + ': ' if key else ''}{what}.",
            where=str(where),
            todo="The next run of its file writes it anew; if a newer clusterflow made this folder, use that.",
        ) from None


def load_kind(path: Path, models: Mapping[str, type[M]], *, default: str) -> M:
    """A machine from its YAML file, of the model that its key ``kind`` names (``default`` without the key)."""
    data = read_yaml(path, todo="")
    require_sort(path, data, "machine")
    kind = str(data.get("kind", default))
    if kind not in models:
        close = difflib.get_close_matches(kind, list(models), n=1)
        _, line, _ = locate(data, ["kind"])
        raise ConfigError(
            f"'{path}' has 1 mistake:\n  line {line}, kind: '{kind}' is not possible"
            + (f"; did you mean '{close[0]}'?" if close else "")
            + f"\n      allowed: {', '.join(models)}\n    {line} | {line_text(path, line)}",
            where=f"{path}, line {line}",
        )
    return load_model(path, models[kind])


def _plain(value: Any) -> Any:
    """ruamel's annotated containers and scalars → built-in types."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _sections(model: type[BaseModel], trail: Sequence[str | int], data: Any) -> list[type[BaseModel]]:
    """What may stand at a place of the file, following nested sections and ``kind``-tagged unions."""
    candidates: list[type[BaseModel]] = [model]
    here = data
    for part in trail:
        here = here[part]
        if isinstance(part, int):
            candidates = _of_kind(candidates, here)
            continue
        found: list[type[BaseModel]] = []
        for c in candidates:
            if part in c.model_fields:
                found += _models_in(c.model_fields[part].annotation)
        candidates = _of_kind(found, here)
    return candidates


def _of_kind(models: list[type[BaseModel]], data: Any) -> list[type[BaseModel]]:
    """Those that the ``kind`` of the data names, or all."""
    kind = data.get("kind") if isinstance(data, dict) else None
    tagged = [m for m in models if kind is not None and "kind" in m.model_fields]
    return [m for m in tagged if m.model_fields["kind"].default == kind] or models


def _below(sections: Sequence[type[BaseModel]], key: str) -> str:
    """The key of these sections under which another key belongs that they do not know; empty if there is none."""
    for section in sections:
        for name, field in section.model_fields.items():
            if key != "kind" and any(key in m.model_fields for m in _models_in(field.annotation)):
                return name
    return ""


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in get_args(annotation) for m in _models_in(a)]


def _explain(error: ValidationError, data: Any, path: Path, model: type[BaseModel]) -> ConfigError:
    messages: dict[tuple[int, str], list[str]] = {}
    errors = error.errors()
    for e in errors:
        if e["type"] == "too_short" and any(o["loc"][: len(e["loc"])] == e["loc"] for o in errors if o is not e):
            continue  # only a consequence of a bad item
        tag = ["kind"] if e["type"] == "union_tag_invalid" else []
        cause = (e.get("ctx") or {}).get("error")
        at = cause.at if isinstance(cause, PlacedError) else ()
        trail, line, value = locate(data, [*e["loc"], *at, *tag])
        said = messages.setdefault((line, ".".join(str(p) for p in trail) or "the file"), [])
        message = _message(e, trail, value, data, model)
        if e["type"] == "literal_error" and said:  # one of the other things that the value could have been
            message = f"or {_expected(e)}"
        if message not in said:
            said.append(message)
    found = [(line, name, "; ".join(said)) for (line, name), said in sorted(messages.items(), key=lambda m: m[0][0])]
    blocks = [
        f"  line {line}, {name}: {message}\n    {line} | {line_text(path, line)}"
        for line, name, message in found[:_MAX_SHOWN]
    ]
    if len(found) > _MAX_SHOWN:
        blocks.append(f"  … and {len(found) - _MAX_SHOWN} more")
    return ConfigError(
        f"'{path}' has {len(found)} {'mistake' if len(found) == 1 else 'mistakes'}:\n" + "\n".join(blocks),
        where=f"{path}, line {found[0][0]}",
        todo=_ADVICE.get(model, ""),
    )


_ADVICE: Mapping[type[BaseModel], str] = {
    Campaign: "Correct it; `clusterflow check FILE` validates without running, `clusterflow schema` prints all keys.",
    PropertyRun: (
        "Correct it; `clusterflow property FILE --dry-run` validates without running, "
        "`clusterflow schema --properties` prints all keys."
    ),
}
"""Model of a whole file → what to do about its mistakes."""


def _message(e: Mapping[str, Any], trail: Sequence[str | int], value: Any, data: Any, model: type[BaseModel]) -> str:
    """What is wrong and what would be right, for one of pydantic's errors."""
    kind = e["type"]
    if kind == "extra_forbidden":
        sections = _sections(model, trail[:-1], data)
        allowed = sorted({name for section in sections for name in section.model_fields})
        close = difflib.get_close_matches(str(trail[-1]), allowed, n=1)
        below = _below(sections, str(trail[-1]))
        hint = f"; it goes under `{below}:`" if below else f"; did you mean '{close[0]}'?" if close else ""
        return f"unknown key '{trail[-1]}'{hint}\n      allowed here: {', '.join(allowed)}"
    if kind in ("union_tag_invalid", "literal_error"):
        options = _expected(e).split(", ")
        of_key = e["loc"][-1:] == ("[key]",)  # pydantic's mark for the key of a mapping; `value` is what it holds
        given = trail[-1] if of_key else value
        close = difflib.get_close_matches(str(given), options, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        told = shown(given) if given is None or isinstance(given, (dict, list)) else f"'{given}'"
        what = f"unknown key '{given}'" if of_key else f"{told} is not possible"
        return f"{what}{hint}\n      allowed: {', '.join(options)}"
    return describe(e, value)


def _expected(e: Mapping[str, Any]) -> str:
    """The words of which one was expected."""
    expected = str(e["ctx"].get("expected_tags") or e["ctx"].get("expected"))
    return ", ".join(a.strip(" '") for a in expected.replace(" or ", ",").split(","))
