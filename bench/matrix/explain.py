"""pydantic's findings -> one sentence each: what is wrong, what is allowed, the nearest name."""

import math
import re
from collections.abc import Iterable
from typing import Any

from bench.border.options import OWN
from bench.errors import nearest, shown

NUMBER_IN_TEXT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def explain(error: Any, allowed_keys: Iterable[str]) -> str:
    """One error of `pydantic.ValidationError.errors()` as a sentence with its remedy."""
    context, given = error.get("ctx", {}), error["input"]
    length = context.get("actual_length")  # of a list
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key. {nearest(str(error['loc'][-1]), allowed_keys)}"
        case "missing":
            return "is required."
        case "union_tag_not_found" if error["loc"][:2] == ("tune", "space"):
            return (
                f"{shown(given)} is neither a list of values nor a range. Write [0.0, 0.1], "
                "{log: [1.0e-4, 1.0e-1]} or {linear: [0.0, 1.0]}."
            )
        case "union_tag_not_found":
            return "needs `base`, the built-in that it varies, or `class`, one of your own."
        case "union_tag_invalid":
            tags = set(re.findall(r"'([^']*)'", context["expected_tags"])) - {OWN}
            return f"base {context['tag']!r} is not a built-in. {nearest(context['tag'], tags)}"
        case "literal_error":
            valid = re.findall(r"'([^']*)'", context["expected"])
            return f"{shown(given)} is not allowed. {nearest(str(given), valid)}"
        case "string_pattern_mismatch" if error["loc"][0] == "image":
            return (
                f"{shown(given)} names no exact version: nobody could run the same again. "
                "Write name==version."
            )
        case "string_pattern_mismatch" if error["loc"][-1] == OWN:
            return f"{shown(given)} names no class. Write package.module:Name."
        case "string_pattern_mismatch" if error["loc"][-1] in ("corpus", "path"):
            return f"{shown(given)} holds a control character. Rename it."
        case "string_pattern_mismatch":
            return (
                f"{shown(given)} cannot be a name. Use 1 to 64 letters, digits, '.', '_' or '-', "
                "a letter or digit first."
            )
        case "value_error":  # of a check of our own
            return str(context["error"])
        case "too_short" if length:
            return f"has too few: {length}. Give at least {context['min_length']}."
        case "too_short" | "string_too_short":
            return "is empty. Give at least one value."
        case "too_long":
            return f"has too many: {length}. Give at most {context['max_length']}."
        case "model_type" | "dict_type":
            return f"{shown(given)} is not a mapping. Write {{key: value}}."
        case "list_type":
            return f"{shown(given)} is not a list. Write [value, value]."
        case "string_type":
            return f"{shown(given)} is not text. Put it in quotes."
        case "bool_type":
            return f"{shown(given)} is not true or false. Write one of these two."
        case "float_type" | "int_type" | "int_from_float":
            return _not_a_number(error["type"], given)
        case _:
            return f"{shown(given)} {error['msg'].removeprefix('Input ')}."


def why_no_setting(value: Any) -> str | None:
    """Why a value cannot be an argument of a class of your own; None if it can."""
    if isinstance(value, str) and NUMBER_IN_TEXT.fullmatch(value):
        return _not_a_number("float_type", value)
    if isinstance(value, list):
        return next((why for each in value if (why := why_no_setting(each))), None)
    if value is None or isinstance(value, bool | int | str):
        return None
    if isinstance(value, float) and math.isfinite(value):
        return None
    return f"{shown(value)} cannot be an argument. Give a plain value, or a list of them."


def _not_a_number(kind: str, given: Any) -> str:
    wanted = "a number" if kind == "float_type" else "a whole number"
    if isinstance(given, str) and NUMBER_IN_TEXT.fullmatch(given):
        mantissa, _, exponent = given.lower().partition("e")
        if not exponent:
            return f"{given!r} is text, not {wanted}. Write it without quotes: {given}."
        mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
        sign = "" if exponent[0] in "+-" else "+"
        return (
            f"{given!r} is text to YAML, which wants a point and a sign. "
            f"Write {mantissa}e{sign}{exponent}."
        )
    return f"{shown(given)} is not {wanted}."
