"""Figures as text for readers: enough digits to compare, none that noise has written."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence

NOT_AVAILABLE = "n/a"

# Losses of two arms differ in the third decimal; the published original gives four.
LOSS_DECIMALS = 4
# Times and memory: three significant digits, but a whole number is never rounded to tens.
SIGNIFICANT = 3
MOST_DECIMALS = 6

# From here on a number in full would be a line of digits that nobody reads: 1.000e+50.
IN_POWERS = 1e15

Decimals = Callable[[float], int]  # how many a value gets


def of_loss(value: float) -> int:
    return LOSS_DECIMALS


def of_count(value: float) -> int:
    return 0


def of_measure(value: float) -> int:
    """For a time, a rate or a size."""
    if value == 0:
        return 0
    return min(MOST_DECIMALS, max(0, SIGNIFICANT - 1 - math.floor(math.log10(abs(value)))))


def write(value: float | None, decimals: Decimals) -> str:
    return NOT_AVAILABLE if value is None else fixed(value, decimals(value))


def fixed(value: float, places: int, sign: str = "-") -> str:
    """With so many decimals; `sign` is that of a format: "+" writes it of every number."""
    return f"{value:{sign}.3e}" if abs(value) >= IN_POWERS else f"{value:{sign},.{places}f}"


def write_signed(value: float, decimals: Decimals) -> str:
    """A difference, with its sign: +0.0012, -0.0410; 0.0000 has none."""
    text = fixed(value, decimals(value), "+")
    return text if text.strip("+-0.,") else text.lstrip("+-")


def write_spread(mean: float | None, sd: float | None, decimals: Decimals) -> str:
    """mean ± sd, both to the decimals of the mean."""
    if mean is None:
        return NOT_AVAILABLE
    if sd is None:
        return f"{write(mean, decimals)} ± {NOT_AVAILABLE}"
    places = decimals(mean)
    spread = fixed(sd, places)
    if sd > 0 and not spread.strip("0."):
        # A spread too small for the mean's decimals is not the same as none.
        spread = f"<{10.0**-places:.{places}f}"
    return f"{write(mean, decimals)} ± {spread}"


def counted(number: int, what: str) -> str:
    """1 seed, 2 seeds."""
    return f"{number:,} {what if number == 1 else plural(what)}"


def plural(what: str) -> str:
    """seed -> seeds, study -> studies."""
    return f"{what[:-1]}ies" if what.endswith("dy") else f"{what}s"


def span(figures: Iterable[int]) -> str:
    """3, or 3 to 5."""
    low, high = min(found := list(figures)), max(found)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def seed_words(seeds: Iterable[int]) -> str:
    """seed 3; seeds 1, 4."""
    listed = sorted(seeds)
    return f"seed{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"


def sentences(*found: str) -> str:
    """Those that are not empty, as one text."""
    return " ".join(sentence for sentence in found if sentence)


def aligned(table: Sequence[Sequence[str]], left: Collection[int]) -> list[str]:
    """Rows of a table as lines of columns, those of these numbers set left, the others right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if place in left else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def printable(line: str) -> str:
    """A text of a CSV for a terminal, which none of it may command."""
    return "".join(sign if sign.isprintable() else "?" for sign in line)
