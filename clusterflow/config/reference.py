"""The reference page of the campaign file, made from its sections: `python -m clusterflow.config.reference`."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clusterflow.config.campaign import Campaign
from clusterflow.config.properties import PropertyRun
from clusterflow.config.quantities import UNITS

_HEAD = """\
# The campaign file

Made from the code by `python -m clusterflow.config.reference > docs/reference/configuration.md`; a test keeps it true.
Quantities are text with a unit (`600 K`, `0.5 fs`, `1.5 GPa`, `4 Å`); a range is a list of two. Unknown keys are
refused. `clusterflow schema` prints the same as JSON Schema, for editors.
"""


_PROPERTY_HEAD = """\
# The property file

Made from the code by `python -m clusterflow.config.reference properties > docs/reference/property-file.md`; a test
keeps it true. Quantities are text with a unit, as in [the campaign file](configuration.md). What each property means:
[properties](../concepts/properties.md). `clusterflow schema --properties` prints the same as JSON Schema.
"""


def reference_page() -> str:
    """Markdown text: one table per section, in the order of the campaign file."""
    return page_of(_HEAD, {"The whole file": Campaign})


def property_page() -> str:
    """The same for the property file."""
    return page_of(_PROPERTY_HEAD, {"The whole file": PropertyRun})


def page_of(head: str, models: Mapping[str, type[BaseModel]]) -> str:
    """Markdown text: a head, and for each model a table of its keys under its title, followed by those of its parts."""
    parts = [head]
    seen: list[type[BaseModel]] = []
    for title, model in models.items():
        _section(model, title, parts, seen, top=True)
    return "\n".join(parts).rstrip() + "\n"


def _section(
    model: type[BaseModel], title: str, parts: list[str], seen: list[type[BaseModel]], *, top: bool = False
) -> None:
    if model in seen:
        return
    seen.append(model)
    parts.append(f"## {title}\n")
    text = inspect.getdoc(model)
    if text:
        parts.append(text + "\n")
    parts += ["| key | value | default | meaning |", "|---|---|---|---|"]
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        parts.append(f"| `{name}` | {_type(field)} | {_default(field)} | {_meaning(field)} |")
        inner += [(name, m) for m in _models(field.annotation)]
    parts.append("")
    for name, m in inner:
        kind = m.model_fields["kind"].default if "kind" in m.model_fields else ""
        prefix = "" if top else title.split(" ", maxsplit=1)[0].strip("`").rstrip(":") + "."
        _section(m, f"`{prefix}{name}:`" + (f" kind {kind}" if kind else ""), parts, seen)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in get_args(annotation) for m in _models(a)]


def _type(field: FieldInfo) -> str:
    for item in field.metadata:
        found = getattr(item, "json_schema", None)
        if isinstance(found, dict) and "description" in found:
            return str(found["description"]).split(",", maxsplit=1)[0]
    return _named(field.annotation)


def _named(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        for item in args[1:]:
            found = getattr(item, "json_schema", None)
            if isinstance(found, dict) and "description" in found:
                return str(found["description"]).split(",", maxsplit=1)[0]
        return _named(args[0])
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_named(a) for a in args if a is not type(None)))
    if origin is tuple:
        inner = [a for a in args if a is not Ellipsis]
        return f"list of {_named(inner[0])}" if Ellipsis in args else f"[{', '.join(_named(a) for a in inner)}]"
    if origin is dict:
        return f"mapping of {_named(args[0])} to {_named(args[1])}"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "section"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "Path": "path"}.get(
        getattr(kind, "__name__", str(kind)), "any value"
    )


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return f"`{value.kind}`" if hasattr(value, "kind") else "see below"
    if value is None or value in ({}, (), ""):
        return "·"
    unit = next((next(iter(UNITS[d])) for d in UNITS if d in _type(field).strip("[]").split(", ")), "")
    shown = [f"{v:g} {unit}" if unit else str(v) for v in (value if isinstance(value, tuple) else [value])]
    return f"`{shown[0]}`" if not isinstance(value, tuple) else f"`[{', '.join(shown)}]`"


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(property_page() if sys.argv[1:] == ["properties"] else reference_page())
