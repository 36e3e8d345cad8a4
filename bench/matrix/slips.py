"""Text where a number, a list, true, false or null is meant (`0,001`, `None`): what to write."""

import math
import re
from decimal import Decimal

from bench.matrix.scalars import INT, PLAIN

# Signs that look like a hyphen-minus: hyphens, dashes, and the minus of mathematics.
MINUS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"), "-")
UNSIGNED = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
POSITIVE = rf"{UNSIGNED}(?:[eE][-+]?[0-9]+)?"
NUMBER = f"[-+]?{POSITIVE}"
NUMBERS = f"{NUMBER}(?: *, *{NUMBER})* *,?"
LIST = re.compile(rf"\[ *{NUMBERS} *\]")
IN_BRACKETS = re.compile(rf"(?:tuple|list)? *\([(\[]? *{NUMBERS} *[)\]]?\)?|{NUMBER} *\)")
BASE = re.compile(r"[-+]?0[bBoOxX][0-9a-fA-F]+")
LITERAL = re.compile(rf"({NUMBER})[fF]")  # as C has them; 16f may be a name
SPACED = re.compile(rf"[-+]? *{UNSIGNED} *[eE] *[-+]? *[0-9]+")
POWER = re.compile(rf"(?:({NUMBER}) *[*x×·] *)?({POSITIVE}) *(?:\*\*|\^) *({NUMBER})")
EXACT_WORDS = {"None": "null", "true": "true", "false": "false"}
# What may be meant as text as well, such as the list "0,1".
COMMA = re.compile(r"([-+]?[0-9]+),([0-9]+(?:[eE][-+]?[0-9]+)?)")
THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2}([,'’\s])[0-9]{3}(?:\1[0-9]{3})*(?:\.[0-9]+)?")
SEVERAL = re.compile(rf"{NUMBER}(?:(?: *[,;] *| +){NUMBER})+")
SIXTIES = re.compile(r"[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9]*)?")  # minutes and seconds
CALCULATED = re.compile(rf"({NUMBER}) *(?:([*/]) *({NUMBER})|%)")
FORTRAN = re.compile(rf"([-+]?{UNSIGNED})[dD]([-+][0-9]+)")
REMARK = re.compile(rf"({NUMBER})#.*")
INFINITE = re.compile(r"[-+]?(?:inf|infinity|nan)", re.IGNORECASE)
FILLED_IN = re.compile(r"\$(?:\{[^{}]*\}|[A-Za-z_][A-Za-z0-9_]*)")  # Hydra's, and a shell's
WORDS = {
    **dict.fromkeys(("yes", "y", "on"), "true"),
    **dict.fromkeys(("no", "n", "off"), "false"),
    **dict.fromkeys(("none", "nil", "null"), "null"),
}


def meant(text: str) -> str | None:
    """What to write for text that can only be a slip, in quotes or not; else None."""
    signs = "".join(str(int(c)) if c.isdecimal() else c for c in text.translate(MINUS)).strip()
    signs = _alone(signs)
    plain = re.sub(r"(?<=[0-9])_(?=[0-9])", "", signs)
    if is_number(plain):
        return plain
    if SPACED.fullmatch(signs):
        together = signs.replace(" ", "")
        return together if is_number(together) else None
    if LIST.fullmatch(signs):
        return signs
    if IN_BRACKETS.fullmatch(signs):
        return _unbracketed(signs)
    if (found := LITERAL.fullmatch(plain)) and not found[1].isdecimal():
        return found[1]
    try:
        if BASE.fullmatch(plain):
            return str(int(plain, 0))
        if found := POWER.fullmatch(plain):
            # Decimal: 3 * 0.0001 is 0.0003.
            power = Decimal(repr(float(found[2]) ** float(found[3])))
            return _written(float(Decimal(found[1] or 1) * power))
    except (ValueError, ArithmeticError):  # 0b12, 0**-1, 10**999
        pass
    return EXACT_WORDS.get(signs) or EXACT_WORDS.get(signs.lower())


def perhaps_meant(text: str) -> str | None:
    """What to write for text that may be a slip where it has no quotes; else None."""
    text = _alone(text)
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
    return _of_another_language(text)


def _of_another_language(text: str) -> str | None:
    """What to write for what Fortran, Hydra or YAML 1.1 understands; else None."""
    if found := FORTRAN.fullmatch(text):
        number = f"{found[1]}e{found[2]}"
        return number if is_number(number) else None
    if found := REMARK.fullmatch(text):
        return f"{found[1]} with a space before the #"
    if INFINITE.fullmatch(text):
        return "a finite number"
    if FILLED_IN.fullmatch(text):
        return "the value itself (nothing fills it in, as Hydra would)"
    return WORDS.get(text.lower())


def _alone(text: str) -> str:
    """Without what code has around a value: a comma or semicolon after it, `=` before it."""
    return re.sub(r"\A= *|(?<=[^,; ]) *[,;]\Z", "", text)


def is_number(text: str) -> bool:
    """Whether YAML reads it as a finite number."""
    is_whole = PLAIN[INT].fullmatch(text) is not None
    return is_whole or (re.fullmatch(NUMBER, text) is not None and math.isfinite(float(text)))


def _unbracketed(text: str) -> str:
    if "(" not in text or not text.endswith(")"):
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
