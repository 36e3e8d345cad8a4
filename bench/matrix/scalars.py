"""Scalars as YAML 1.2's core schema reads them."""

import re

TAG = "tag:yaml.org,2002:"
NULL, BOOLEAN, INT, FLOAT, TEXT, MERGE = (
    f"{TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "merge")
)
# What stands without quotes is the first of these that it fits whole, and else text: `off` and
# 2024-05-01 too. PyYAML's own rules are those of 1.1, to which 010 is eight and 1:30 is ninety.
# `<<` is of 1.1 alone, and what people expect.
PLAIN = {
    NULL: re.compile(r"~|null|Null|NULL|"),
    BOOLEAN: re.compile(r"true|True|TRUE|false|False|FALSE"),
    INT: re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    FLOAT: re.compile(
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
    MERGE: re.compile("<<"),
}
KINDS = {
    NULL: "null",
    BOOLEAN: "true or false",
    INT: "a whole number of at most 64 bits",
    FLOAT: "a number",
    TEXT: "text in UTF-8",
}


def read_scalar(text: str, tag: str) -> str | int | float | bool | None:
    """What a scalar with one of the tags of KINDS holds.

    Raises:
        ValueError: where it is none of that kind, or one that cannot be stored and shown.
    """
    if tag == TEXT:
        if not is_utf8(text):
            raise ValueError("half a character, by an escape")
        return text
    if tag == FLOAT and PLAIN[INT].fullmatch(text):
        return float(_whole(text))
    if not PLAIN[tag].fullmatch(text):
        raise ValueError("of another kind")
    if tag == FLOAT:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return _whole(text) if tag == INT else {"t": True, "f": False}.get(text[:1].lower())


def _whole(text: str) -> int:
    # Python refuses more digits than it would read in good time.
    value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if value.bit_length() > 64:
        raise ValueError("more than 64 bits")
    return value


def is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a character, by an escape
        return False
    return True
