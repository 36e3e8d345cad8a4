"""How often a gate failed over many rounds: false alarms, and slowdowns that it found."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from operator import attrgetter, itemgetter

from bench.compare.findings import in_unit
from bench.compare.judge import GateStatus, VersionComparison
from bench.report.page.content import Heading, number, table
from bench.report.page.markdown import escape, headed
from bench.statistics.interval import Interval, share_interval
from bench.statistics.text import NOT_AVAILABLE, aligned

SCHEMA = "bench-calibration/1"
WORST_FIRST = tuple(reversed(GateStatus))


@dataclass(frozen=True)
class Judged:
    """What a rule said of one arm of one side in one round. Shares are fractions: 0.05 is 5 %."""

    round: int
    kind: str  # the side that was held against base
    arm: str  # its label; empty: all of them
    rule: str  # empty: failed or missing cells, which concern every rule
    outcome: GateStatus
    pairs: int | None
    change: float | None  # with its interval: a share, or a difference in the metric's unit
    low: float | None
    high: float | None

    @property
    def width(self) -> float | None:
        return None if self.low is None or self.high is None else self.high - self.low


FIELDS = tuple(field.name for field in fields(Judged))


def judged(round_number: int, kind: str, comparison: VersionComparison) -> Iterator[Judged]:
    """Every finding of one round's comparison."""
    lines = {one.arm.label: one for one in comparison.arms}
    for finding in comparison.findings:
        arm, rule = finding.arm or "", finding.rule
        line = lines[arm].line(rule.metric) if rule and arm in lines else None
        figures: tuple[int | None, float | None, float | None, float | None] = (None,) * 4
        if line and line.contrast.n:
            contrast, interval = line.contrast, line.contrast.interval
            ends = (contrast.mean, *((interval.low, interval.high) if interval else (None, None)))
            change, low, high = (in_unit(line, end) for end in ends)
            figures = (contrast.n, change, low, high)
        yield Judged(round_number, kind, arm, str(rule or ""), finding.outcome, *figures)


@dataclass(frozen=True)
class Tally:
    """How the gate ended over the rounds of one kind."""

    kind: str
    outcomes: Counter[GateStatus]

    @property
    def rounds(self) -> int:
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        return self.outcomes[GateStatus.FAIL]

    @property
    def interval(self) -> Interval:
        """Of the share of rounds that failed: exact, 95 %."""
        return share_interval(self.failed, self.rounds)

    def as_dict(self) -> dict[str, object]:
        counts = {str(outcome): self.outcomes[outcome] for outcome in WORST_FIRST}
        share = self.failed / self.rounds
        ends = {"low": self.interval.low, "high": self.interval.high}
        about: dict[str, object] = {"kind": self.kind, "rounds": self.rounds, "share_failed": share}
        return about | ends | counts


def tallies(rows: Iterable[Judged]) -> list[Tally]:
    """A round of a kind ends as the worst of what was found in it, as one comparison does."""
    found: dict[str, dict[int, set[GateStatus]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        found[row.kind][row.round].add(row.outcome)
    return [
        Tally(kind, Counter(next(filter(seen.__contains__, WORST_FIRST)) for seen in of.values()))
        for kind, of in found.items()
    ]


def _share(tally: Tally) -> str:
    low, high = (f"{100 * end:.1f}" for end in (tally.interval.low, tally.interval.high))
    return f"{100 * tally.failed / tally.rounds:.1f} % ({low} to {high})"


OUTCOMES = {
    GateStatus.FAIL: "failed",
    GateStatus.PASS: "passed",
    GateStatus.UNDECIDED: "undecided",
}
TALLY_HEADINGS = (
    Heading("side"),
    *(number(text) for text in ("rounds", *OUTCOMES.values(), "share failed (95 %)")),
)
RULE_HEADINGS = (
    *(Heading(text) for text in ("side", "arm", "rule")),
    *(number(text) for text in (*OUTCOMES.values(), "mean change", "sd over rounds", "mean width")),
)


def tally_table(rows: Sequence[Judged]) -> list[list[str]]:
    """A row for each kind."""
    return [
        [tally.kind, str(tally.rounds), *_counts(tally.outcomes), _share(tally)]
        for tally in tallies(rows)
    ]


def rule_table(rows: Sequence[Judged]) -> list[list[str]]:
    """A row for each kind, arm and rule; changes of a ratio in percent."""
    place = attrgetter("kind", "arm", "rule")
    order = {key: n for n, key in enumerate(dict.fromkeys(map(place, rows)))}
    table_of = []
    for key, group in groupby(sorted(rows, key=lambda row: order[place(row)]), place):
        found = list(group)
        changes = [row.change for row in found if row.change is not None]
        widths = [row.width for row in found if row.width is not None]
        factor, unit = (100, " %") if key[2].endswith("%") else (1, "")
        figures = (
            statistics.fmean(changes) if changes else None,
            statistics.stdev(changes) if len(changes) > 1 else None,
            statistics.fmean(widths) if widths else None,
        )
        written = [NOT_AVAILABLE if x is None else f"{factor * x:.3g}{unit}" for x in figures]
        table_of.append([*key, *_counts(Counter(row.outcome for row in found)), *written])
    return table_of


def _counts(outcomes: Mapping[GateStatus, int]) -> list[str]:
    return [str(outcomes[outcome]) for outcome in OUTCOMES]


def as_text(rows: Sequence[Judged]) -> str:
    """For a terminal: how often the gate failed, by side."""
    lines = [[heading.text for heading in TALLY_HEADINGS], *tally_table(rows)]
    return "\n".join(aligned(lines, left={0})) + "\n"


def as_line(rows: Sequence[Judged]) -> str:
    """The same in one line: again 1 of 20 failed, 3 undecided; slower-15 ..."""
    return "; ".join(
        f"{tally.kind} {tally.failed} of {tally.rounds} failed, "
        f"{tally.outcomes[GateStatus.UNDECIDED]} undecided"
        for tally in tallies(rows)
    )


def as_markdown(rows: Sequence[Judged], command: str, facts: Mapping[str, str]) -> str:
    """calibration.md: the two tables, the command, what it ran on."""
    lines = ["# How often the gate is wrong", "", f"    {command}"]
    for caption, headings, body in (
        ("Rounds", TALLY_HEADINGS, tally_table(rows)),
        ("Rules", RULE_HEADINGS, rule_table(rows)),
    ):
        columns = [(heading, itemgetter(place)) for place, heading in enumerate(headings)]
        lines += headed(table(caption, body, columns), "##")
    lines += ["", "## What it ran on", ""]
    lines += [f"- {escape(term)}: {escape(text)}" for term, text in facts.items()]
    return "\n".join(lines) + "\n"


def as_json(rows: Sequence[Judged], command: str, facts: Mapping[str, str]) -> str:
    """calibration.json."""
    content = {
        "schema": SCHEMA,
        "command": command,
        "ran_on": dict(facts),
        "sides": [tally.as_dict() for tally in tallies(rows)],
        "rounds": [asdict(row) for row in rows],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
