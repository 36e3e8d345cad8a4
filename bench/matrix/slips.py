"""Text where a number is meant (`0,001`, `(0.9, 0.95)`, `10**-3`): what to write instead."""

import math
import re

from bench.matrix.scalars import INT, PLAIN

# Signs that look like a hyphen-minus: hyphens, dashes, and the minus of mathematics.
MINUS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"), "-")
POSITIVE = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
NUMBER = f"[-+]?{POSITIVE}"
IN_BRACKETS = re.compile(rf"\( *{NUMBER}(?: *, *{NUMBER})* *,? *\)?|{NUMBER} *\)")
BASE = re.compile(r"[-+]?0[bBoOxX][0-9a-fA-F]+")
LITERAL = re.compile(rf"({NUMBER})[fF]")  # as C has them; 16f may be a name
POWER = re.compile(rf"({POSITIVE}) *(?:\*\*|\^) *({NUMBER})")
# What may be meant as text as well, such as the list "0,1".
COMMA = re.compile(r"([-+]?[0-9]+),([0-9]+(?:[eE][-+]?[0-9]+)?)")
THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}([,'’\s])[0-9]{3}(?:\1[0-9]{3})*(?:\.[0-9]+)?")
SEVERAL = re.compile(rf"{NUMBER}(?: *, *{NUMBER})+")
SIXTIES = re.compile(r"[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9]*)?")  # minutes and seconds
CALCULATED = re.compile(rf"({NUMBER}) *(?:([*/]) *({NUMBER})|%)")
WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def meant(text: str) -> str | None:
    """What to write for text that can only be a slip of a number, in quotes or not; else None."""
    signs = "".join(str(int(c)) if c.isdecimal() else c for c in text.translate(MINUS)).strip()
    plain = re.sub(r"(?<=[0-9])_(?=[0-9])", "", signs)
    if is_number(plain):
        return plain
    if IN_BRACKETS.fullmatch(signs):
        return _unbracketed(signs)
    if (found := LITERAL.fullmatch(plain)) and not found[1].isdecimal():
        return found[1]
    try:
        if BASE.fullmatch(plain):
            return str(int(plain, 0))
        if found := POWER.fullmatch(plain):
            return _written(float(found[1]) ** float(found[2]))
    except (ValueError, ArithmeticError):  # 0b12, 0**-1, 10**999
        pass
    return None


def perhaps_meant(text: str) -> str | None:
    """What to write for text that may be a slip where it has no quotes; else None."""
    if THOUSANDS.fullmatch(text):
        whole = re.sub(r"[,'’\s]", "", text)
        return f"{whole} or {text.replace(',', '.')}" if COMMA.fullmatch(text) else whole
    if COMMA.fullmatch(text):
        return text.replace(",", ".")
    if SEVERAL.fullmatch(text):
        return f"[{', '.join(re.findall(NUMBER, text))}]"
    if SIXTIES.fullmatch(text):
        value = 0.0
        for part in text.split(":"):
            value = 60 * value + float(part)
        return _written(value)
    if found := CALCULATED.fullmatch(text):
        return _calculated(float(found[1]), found[2], float(found[3] or 100))
    return WORDS.get(text.lower())


def is_number(text: str) -> bool:
    """Whether YAML reads it as a finite number."""
    is_whole = PLAIN[INT].fullmatch(text) is not None
    return is_whole or (re.fullmatch(NUMBER, text) is not None and math.isfinite(float(text)))


def _unbracketed(text: str) -> str:
    if not (text.startswith("(") and text.endswith(")")):
        return "a list in square brackets, such as [0.9, 0.95]"  # {...} ended it at a comma
    numbers = re.findall(NUMBER, text)
    return f"[{', '.join(numbers)}]" if "," in text else numbers[0]


def _calculated(one: float, sign: str | None, other: float) -> str | None:
    """A product, or a share: of one by another, or in percent."""
    if sign == "*":
        return _written(one * other)
    return _written(one / other) if other else None


def _written(value: float) -> str | None:
    if not math.isfinite(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
