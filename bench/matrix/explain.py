"""pydantic's findings -> one sentence each: what is wrong, what is allowed, the nearest name."""

import math
import re
from collections.abc import Iterable
from typing import Any

from bench.border.options import OWN
from bench.errors import nearest, shown
from bench.matrix.scalars import INT, PLAIN
from bench.matrix.slips import is_number, meant, perhaps_meant

PATHS_INSIDE = (("program", "replace"), ("program", "files"))  # what their keys are
IDENTIFIERS = (("program", "environment"), ("program", "metrics"))
TOKENS = ("data", "tokens")  # paths, by split


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
        case "string_pattern_mismatch" if error["loc"][:2] in PATHS_INSIDE:
            return f"{shown(given)} is no path within the program's folder. Name a file in it."
        case "string_pattern_mismatch" if error["loc"][:2] in IDENTIFIERS:
            return f"{shown(given)} cannot be a name here. Use letters, digits and '_'."
        case "string_pattern_mismatch" if error["loc"] == ("limits", "checkpoint_every"):
            return f"{shown(given)} is neither steps nor minutes. Write 500 steps, or 10 min."
        case "string_pattern_mismatch" if _is_path(error["loc"]):
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
            least = context["min_length"]
            return f"is empty. Give at least {'one value' if least == 1 else f'{least} values'}."
        case "too_long":
            return f"has too many: {length}. Give at most {context['max_length']}."
        case "model_type" | "dict_type":
            return f"{shown(given)} is not a mapping. Write {{key: value}}."
        case "list_type":
            return f"{shown(given)} is not a list. Write [value, value]."
        case "string_type" if isinstance(given, list | dict):
            kind = "a list" if isinstance(given, list) else "a mapping"
            wanted = "path" if _is_path(error["loc"]) else "name"
            return f"{shown(given)} is {kind}, not text. Write a {wanted}."
        case "string_type" if error["loc"] == ("limits", "checkpoint_every"):
            number = isinstance(given, int) and not isinstance(given, bool)
            what = f"has no unit. Write {given} steps" if number else "is no text. Write 500 steps"
            return f"{shown(given)} {what}, or 10 min."
        case "string_type":
            return f"{shown(given)} is not text. Put it in quotes."
        case "bool_type":
            return f"{shown(given)} is not true or false. Write one of these two."
        case "float_type" | "int_type" | "int_from_float":
            return _not_a_number(error["type"], given, error["loc"][-1])
        case _:
            return f"{shown(given)} {error['msg'].removeprefix('Input ')}."


def _is_path(loc: tuple[int | str, ...]) -> bool:
    return loc[-1] in ("corpus", "path") or loc[:2] == TOKENS


def _not_a_number(kind: str, given: Any, key: str | int) -> str:
    wanted = "a number" if kind == "float_type" else "a whole number"
    is_text = isinstance(given, str)
    if is_text and given.endswith("%") and kind != "float_type":
        return f"{shown(given)} is a share, not a whole number. Write how many, in digits."
    right = meant(given) or perhaps_meant(given) if is_text else str(given)
    numbers = [each for each in (right or "").split(" or ") if is_number(each)]
    if numbers and kind != "float_type":
        whole = [each for each in numbers if PLAIN[INT].fullmatch(each)]
        numbers = whole or _beside(float(numbers[0]))
    if not numbers:
        # A setting that may be null is null by default.
        or_none = f", or leave {key} out" if right == "null" and isinstance(key, str) else ""
        return f"{shown(given)} is not {wanted}. Write one in digits{or_none}."
    told = f"{shown(given)} is {'text, ' if is_text else ''}not {wanted}."
    return f"{told} {instead(given, ' or '.join(numbers))}"


def _beside(number: float) -> list[str]:
    """The whole numbers that are nearest: one, or one on each side."""
    low, high = math.floor(number), math.ceil(number)
    return [str(low)] if low == high else [str(low), str(high)]


def instead(given: Any, right: str) -> str:
    """The remedy for what is not as it should be written."""
    in_quotes = given in (right, right.title(), right.upper())  # "True" as well
    return f"Write it without quotes: {right}." if in_quotes else f"Write {right}."
