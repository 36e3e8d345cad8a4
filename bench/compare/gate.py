"""What `compare` and `ab` share: rules in, a comparison's text and exit code out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.compare.across import ACROSS, joined_across
from bench.compare.annotations import as_annotations
from bench.compare.judge import VersionComparison, compare
from bench.compare.junit import as_junit
from bench.compare.pairing import join, read_version
from bench.compare.rules import Rule, parse_rules
from bench.compare.write import as_json, as_markdown, as_text
from bench.errors import RequestError, nearest
from bench.records.programs import OURS, Setup

FORMATS: dict[str, Callable[[VersionComparison], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
    "junit": as_junit,
    "annotations": as_annotations,
}
# What `ab` leaves beside what was compared: file -> format.
LEFT = {
    "compare.md": "markdown",
    "compare.json": "json",
    "compare.xml": "junit",
    "annotations.txt": "annotations",
}


@dataclass(frozen=True)
class Gate:
    rules: tuple[Rule, ...]
    undecided_fails: bool
    keep_disturbed: bool
    across: str  # a column; empty: in pairs on one machine
    write: Callable[[VersionComparison], str]

    def compare(
        self, base: Path, new: Path, names: tuple[str | None, str | None] = (None, None)
    ) -> VersionComparison:
        """`names`: what readers know the versions by, if not by their folders.

        Raises:
            FolderError, RecordError: for what cannot be read.
            RequestError: if they do not differ in the column of `across` alone.
        """
        joined = join(read_version(base, names[0]), read_version(new, names[1]))
        if self.across:
            joined = joined_across(joined, self.across)
        return compare(joined, self.rules, self.keep_disturbed, self.undecided_fails)

    def fails(self, comparison: VersionComparison) -> bool:
        return comparison.fails(comparison.outcome)


def make_gate(
    fail_on: Sequence[str],
    undecided: str,
    disturbed: str,
    form: str,
    setup: Setup = OURS,
    across: str | None = None,
) -> Gate:
    """The options of both commands, checked; rules by the figures that rows of a setup may have.

    Raises:
        RequestError: for a rule, or a word, that is not allowed.
    """
    for option, word, allowed in (
        ("--undecided", undecided, ("pass", "fail")),
        ("--disturbed", disturbed, ("drop", "keep")),
        ("--format", form, tuple(FORMATS)),
        ("--across", across, tuple(ACROSS)),
    ):
        if word is not None and word not in allowed:
            raise RequestError(f"{option} {word}: no such word. {nearest(word, allowed)}")
    rules = parse_rules(fail_on, setup)
    return Gate(rules, undecided == "fail", disturbed == "keep", across or "", FORMATS[form])


def leave(comparison: VersionComparison, folder: Path) -> None:
    """In every format that a CI takes, beside what was compared."""
    for file, form in LEFT.items():
        write_atomically(folder / file, FORMATS[form](comparison))
