"""What docs/compare.md says of how often the gate is wrong is what was measured."""

import csv
import re

import pytest

from bench.compare.alarms import FIELDS, Judged, tallies
from bench.compare.judge import GateStatus
from bench.statistics.interval import share_interval
from tests.builders.shared import ROOT

MEASURED = sorted((ROOT / "tests" / "data" / "calibrate").glob("*.csv"))


def rows(name: str) -> list[Judged]:
    with open(ROOT / "tests" / "data" / "calibrate" / name, newline="") as file:
        table = csv.DictReader(file)
        assert tuple(table.fieldnames or ()) == FIELDS
        return [
            Judged(
                **{name: row[name] for name in ("kind", "arm", "rule")},
                round=int(row["round"]),
                outcome=GateStatus(row["outcome"]),
                pairs=int(row["pairs"]),
                **{name: float(row[name]) for name in ("change", "low", "high")},
            )
            for row in table
        ]


def page() -> dict[str, list[str]]:
    """Rule -> its fields in the table of the docs."""
    text = (ROOT / "docs" / "compare.md").read_text()
    table = text.partition("<!-- calibration")[2].partition("<!-- end of calibration")[0]
    return {
        rule: fields.split(" | ") for rule, fields in re.findall(r"\| `(.+)` \| (.+) \|", table)
    }


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_the_docs_say_what_was_measured(file):
    found = rows(file.name)
    ((rule),) = {row.rule for row in found}
    told = []
    for tally in tallies(found):
        ends = share_interval(tally.failed, tally.rounds)
        assert tally.rounds == 40
        share, low, high = (
            f"{100 * value:.1f}" for value in (tally.failed / tally.rounds, ends.low, ends.high)
        )
        undecided = tally.outcomes[GateStatus.UNDECIDED]
        told.append(f"{share} % ({low} to {high}), [{undecided}]")
    assert page()[rule] == told


def test_the_gate_of_the_workflow_holds_what_it_promises():
    """At most 5 % false alarms, and 15 % found in at least four of five."""
    again, _, slower = tallies(rows("over-5-percent.csv"))
    assert again.failed / again.rounds <= 0.05
    assert slower.failed / slower.rounds >= 0.8
