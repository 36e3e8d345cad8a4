"""What a matrix gives to classes of its own, and what it tries: plain values, and none a slip."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bench.errors import shown
from bench.matrix.explain import instead
from bench.matrix.forms import OwnGroup, OwnModelForm
from bench.matrix.program_forms import ProgramValues
from bench.matrix.slips import meant, perhaps_meant
from bench.matrix.yamlfile import Where, Wrong

ZERO_IN_FRONT = re.compile("0[0-9]+")


def check_arguments(form: Any, plain: Mapping[Where, str]) -> list[Wrong]:
    """What cannot be an argument, and what can only be a slip of one.

    `plain`: what stands without quotes, as it is written.
    """
    wrong: list[Wrong] = []
    for where, value in _arguments(form):
        if where[0] != "tune" and not str(where[-1]).isidentifier():
            what = f"{shown(where[-1])} cannot be an argument's name. Use letters, digits and '_'."
            wrong.append((where, what))
        found = list(_check_value(where, value, plain))
        if not found and where[0] == "tune" and isinstance(form.tune.space[where[2]], list):
            found = list(_check_repeated(where, value, plain))
        wrong += found
    return wrong


def _arguments(form: Any) -> Iterator[tuple[Where, Any]]:
    """Each argument of a class, and each option's list of values to try."""
    for kind in ("models", "optimizers"):
        for name, variant in getattr(form, kind).items():
            groups = getattr(variant, "groups", {}).items()
            holders: dict[Where, Any] = {("groups", role): group for role, group in groups}
            for within, holder in {**holders, (): variant}.items():
                if isinstance(holder, OwnModelForm | OwnGroup | ProgramValues):
                    given = holder.model_extra or {}
                    yield from (((kind, name, *within, key), given[key]) for key in given)
    if form.tune is not None:
        for key, values in form.tune.space.items():
            yield ("tune", "space", key), values if isinstance(values, list) else values.ends


def _check_value(where: Where, value: Any, plain: Mapping[Where, str]) -> Iterator[Wrong]:
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _check_value((*where, index), each, plain)
            before, text = (plain.get((*where, n), "") for n in (index - 1, index))
            if before.isdecimal() and ZERO_IN_FRONT.fullmatch(text):
                remedy = f"Write {before}.{text}, or {each} for the whole number."
                yield (*where, index), f"{text} has a zero in front: a decimal comma? {remedy}"
    elif isinstance(value, str):
        if right := meant(value):
            yield where, f"{shown(value)} is text. {instead(value, right)}"
        elif where in plain and (right := perhaps_meant(value)):
            yield where, f"{value!r} is text. Write {right}, or put it in quotes to keep the text."
    elif value is None and plain.get(where) == "":
        yield where, "has no value. Write one; null is Python's None."
    elif isinstance(value, dict) or (isinstance(value, float) and not math.isfinite(value)):
        yield where, f"{shown(value)} cannot be an argument. Give a plain value, or a list of them."


def _check_repeated(where: Where, values: list[Any], plain: Mapping[Where, str]) -> Iterator[Wrong]:
    """No whole number stands twice among whole ones, as in [0,5, 0,1]; other values are one."""
    written = [plain.get((*where, index), "") for index in range(len(values))]
    if all(map(str.isdecimal, written)):
        for index, text in enumerate(written):
            if text in written[:index]:
                what = f"{text} is listed twice. Remove one; a fraction has a point, not a comma."
                yield (*where, index), what
