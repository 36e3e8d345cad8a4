"""The verdict and the main table as text for a terminal."""

import pytest

from bench.report.build import build_report
from bench.report.page.content import Headline
from bench.report.page.terminal import main_table, terminal_lines
from tests.builders.results import Results, sections_of, two_arms

HEADINGS = (
    "configuration  final loss (n)  perplexity (n)  training time, s (n)  memory, MiB (n)"
    "  parameters"
)


def figures(row: str) -> str:
    """What follows the three words of a configuration."""
    return " ".join(row.split()[3:])


@pytest.fixture
def folder(tmp_path):
    return Results(tmp_path / "results")


@pytest.mark.slow
def test_a_report_hands_over_the_pages_verdict_and_a_row_a_configuration(folder):
    for row in two_arms(folder, seeds=range(1, 6)).runs:
        row["val_loss_final"] += 0.001 * (row["seed"] % 2) * (row["optimizer"] == "muon")
    built = build_report([folder.write()], folder.path / "report")
    page = (folder.path / "report" / "index.html").read_text()
    lead, point, at_cost, empty, headings, *rows = built.terminal_lines
    assert "gpt + muon is better on 5 of 5 planned seeds" in lead
    assert f'<p class="verdict">{lead}</p>' in page
    assert f"<li>{point.removeprefix('- ')}</li>" in page
    assert at_cost.startswith("- At equal operations (at ")
    assert empty == ""
    assert headings == HEADINGS
    assert rows[0].startswith("gpt + adamw  ")
    assert rows[1].startswith("gpt + muon  ")
    assert figures(rows[0]) == "2.0300 (5) 7.39 (5) 5.00 (5) 300 (5) 2,000,000"
    assert figures(rows[1]) == "1.7806 (5) 7.39 (5) 5.00 (5) 300 (5) 2,000,000"
    assert {len(row) for row in (headings, *rows[:2])} == {len(HEADINGS)}


def test_every_figure_has_the_n_of_its_own_seeds(folder):
    two_arms(folder, seeds=(1, 2, 3))
    for row in folder.runs:
        if row["seed"] == 2:
            row["tainted"] = "true"
        if (row["seed"], row["optimizer"]) == (3, "muon"):
            row |= {"perplexity": None, "host_rss_peak_mib": None}
    (section,) = sections_of(folder)
    _, adamw, muon, note = main_table(section)
    assert figures(adamw) == "2.0200 (3) 7.39 (3) 5.00 (2) 300 (3) 2,000,000"
    assert figures(muon) == "1.7700 (3) 7.39 (2) 5.00 (2) 300 (2) 2,000,000"
    assert note.startswith("Means over seeds; in brackets n")


def test_what_is_not_known_is_told_as_such(folder):
    two_arms(folder, train_time_s=None, n_params=None)
    (section,) = sections_of(folder)
    _, adamw, *_ = main_table(section)
    assert figures(adamw) == "2.0150 (2) 7.39 (2) n/a 300 (2) n/a"


def test_disturbed_times_are_marked(folder):
    (section,) = sections_of(two_arms(folder, tainted="true", taint_reasons="swap 5%"))
    _, adamw, *_ = main_table(section)
    assert "5.00† (2)" in adamw


@pytest.mark.slow
def test_each_section_has_its_name_its_verdict_and_its_table(folder, tmp_path):
    other = Results(tmp_path / "other")
    two_arms(other, host_cpu_model="Another processor", host_id="host2")
    built = build_report([two_arms(folder).write(), other.write()], tmp_path / "report")
    assert built.terminal_lines.count(HEADINGS) == 2
    named = [line for line in built.terminal_lines if "rocessor" in line]
    assert named == ["A processor, cpu, local runtime:", "Another processor, cpu, local runtime:"]


def test_a_name_commands_no_terminal(folder):
    for optimizer in ("adamw", "\x1b[2Jmuon"):
        folder.ended(folder.planned(optimizer=optimizer))
    sections = sections_of(folder)
    lines = terminal_lines([Headline("", "gpt + \x1b[2Jmuon is undecided")], sections)
    assert lines[0] == "gpt + ?[2Jmuon is undecided"
    assert lines[4].split()[:5] == ["gpt", "+", "?[2Jmuon", "2.0000", "(1)"]
    assert all(line.isprintable() for line in lines)


def test_without_a_run_that_ended_ok_there_is_no_line(folder):
    folder.ended(folder.planned(), "crashed", reason="exit code 1")
    assert build_report([folder.write()], folder.path / "report").terminal_lines == []
