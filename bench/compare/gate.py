"""What `compare` and `ab` share: rules in, a comparison's text and exit code out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.compare.judge import GateStatus, VersionComparison, compare
from bench.compare.pairing import join, read_version
from bench.compare.rules import Rule, parse_rules
from bench.compare.write import as_json, as_markdown, as_text
from bench.errors import RequestError, nearest
from bench.records.programs import OURS, Setup

FORMATS: dict[str, Callable[[VersionComparison], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
}


@dataclass(frozen=True)
class Gate:
    rules: tuple[Rule, ...]
    undecided_fails: bool
    keep_disturbed: bool
    write: Callable[[VersionComparison], str]

    def compare(
        self, base: Path, new: Path, names: tuple[str | None, str | None] = (None, None)
    ) -> VersionComparison:
        """`names`: what readers know the versions by, if not by their folders."""
        joined = join(read_version(base, names[0]), read_version(new, names[1]))
        return compare(joined, self.rules, self.keep_disturbed)

    def fails(self, comparison: VersionComparison) -> bool:
        if comparison.outcome is GateStatus.UNDECIDED:
            return self.undecided_fails
        return comparison.outcome is GateStatus.FAIL


def make_gate(
    fail_on: Sequence[str], undecided: str, disturbed: str, form: str, setup: Setup = OURS
) -> Gate:
    """The options of both commands, checked; rules by the figures that rows of a setup may have.

    Raises:
        RequestError: for a rule, or a word, that is not allowed.
    """
    for option, word, allowed in (
        ("--undecided", undecided, ("pass", "fail")),
        ("--disturbed", disturbed, ("drop", "keep")),
        ("--format", form, tuple(FORMATS)),
    ):
        if word not in allowed:
            raise RequestError(f"{option} {word}: no such word. {nearest(word, allowed)}")
    return Gate(
        parse_rules(fail_on, setup), undecided == "fail", disturbed == "keep", FORMATS[form]
    )


def leave(comparison: VersionComparison, folder: Path) -> None:
    """compare.md and compare.json beside what was compared."""
    write_atomically(folder / "compare.md", as_markdown(comparison))
    write_atomically(folder / "compare.json", as_json(comparison))
