"""What is wrong with a value, in plain words: pydantic's kinds of error, and mistakes that keys make together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


class PlacedError(ValueError):
    """A mistake that only the whole of a section shows. ``at`` is the path, from that section on, of the key that the
    message is about, so that it can be shown with its line."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


_SECTION: Final = "this is a section: write keys with their values below it"
_NUMBER, _WHOLE = "a number is needed here", "a whole number is needed here"
_NAME: Final = "this may have letters, digits, _ and -, begins with a letter or digit, and has at most {0} characters"

PLAIN: Final[Mapping[str, str]] = {
    "bool_parsing": "this is either true or false",
    "bool_type": "this is either true or false",
    "dict_type": _SECTION,
    "finite_number": "this must be a finite number",
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "greater_than": "this must be greater than {gt:g}",
    "greater_than_equal": "this must be greater than or equal to {ge:g}",
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "this whole number is too large",
    "int_type": _WHOLE,
    "less_than": "this must be less than {lt:g}",
    "less_than_equal": "this must be less than or equal to {le:g}",
    "model_attributes_type": _SECTION,
    "model_type": _SECTION,
    "path_type": "the path of a file or folder is needed here",
    "string_too_long": "this may have at most {max_length} characters",
    "string_too_short": "this needs at least {min_length} characters",
    "string_type": "a text is needed here; put quotes around it if it looks like a number",
    "tuple_type": "a list is needed here, such as [a, b]",
    "union_tag_not_found": "the key 'kind' is missing, which says what this section is",
}
"""Kind of error → what to say; in braces what pydantic tells of it. Those that are not here are told in `describe`, or
name what is allowed (`clusterflow.config.load`)."""

PATTERNS: Final[Mapping[str, str]] = {
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,40}$": _NAME.format(41),
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,60}$": _NAME.format(61),
    r"^[A-Za-z0-9_+-]+$": "this may have letters, digits, _, + and -",
    r"^[A-Za-z0-9_.()+-]+$": "this may have letters, digits, _ . ( ) + and -",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "this is `package.module:Class`, such as ase.calculators.emt:EMT",
    r"^([A-Za-z]\w*)?$": "this is the name of an argument: letters, digits and _, beginning with a letter",
    r"^[^\x00\n\r]+$": "this is one line of text",
}
"""Pattern of a text → what it allows."""


def describe(error: Mapping[str, Any], value: Any) -> str:
    """What one of pydantic's errors means, with the ``value`` that was given."""
    kind, told = str(error["type"]), error.get("ctx") or {}
    if kind == "missing":
        last = error["loc"][-1]
        if not isinstance(last, int):
            return f"the key '{last}' is missing"
        return f"a list of more entries is needed here (given: {last or 'none'})"
    if kind == "too_long":
        return f"a list of at most {told['max_length']} is needed here (given: {told['actual_length']})"
    if kind == "too_short":
        return f"a list of at least {told['min_length']} is needed here (given: {told['actual_length'] or 'none'})"
    if kind in PLAIN:
        return f"{PLAIN[kind].format(**told)} (given: {shown(value)})"
    if kind == "string_pattern_mismatch":
        return (
            f"{PATTERNS.get(str(told['pattern']), 'this must match ' + str(told['pattern']))} (given: {shown(value)})"
        )
    message = str(told.get("error") or error["msg"])
    told_already = isinstance(value, (dict, list)) or str(value) in message
    return message if told_already else f"{message} (given: {shown(value)})"


def shown(value: Any) -> str:
    """A value as a message names it."""
    if isinstance(value, (dict, list)):
        return "a section" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)
