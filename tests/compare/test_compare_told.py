"""What a comparison says and how it exits; what it cannot read."""

import json
import math
from pathlib import Path

import pytest

from bench.compare.gate import make_gate
from bench.compare.judge import GateStatus
from bench.compare.pairing import read_version
from bench.compare.write import as_dict, as_markdown, as_text
from bench.errors import FolderError, RecordError
from tests.builders.shared import bench
from tests.builders.sides import STEP, Sides

RECORDED = Path(__file__).parents[1] / "data" / "ab"


# --- What is written -----------------------------------------------------------------------------


def test_code_and_image_may_differ_and_are_named(sides: Sides) -> None:
    for seed in range(1, 4):
        same = {"step_time_ms_p50": 10.0, "runtime": "docker"}
        old = {"code_sha256": "aaaa1111", "env_id": "sha256:cccc3333", "git_commit": "eeee5555"}
        new = {"code_sha256": "bbbb2222", "env_id": "sha256:dddd4444", "git_commit": "ffff6666"}
        sides.pair(seed, {**same, **old}, {**same, **new})
    base, new_line, both, *_ = as_text(sides.compared()).splitlines()
    assert base == "BASE  base: code_sha256 aaaa1111, git_commit eeee5555, env_id cccc3333"
    assert new_line == "NEW   new: code_sha256 bbbb2222, git_commit ffff6666, env_id dddd4444"
    assert "runtime docker" in both


def test_markdown_begins_with_its_conclusion_in_one_line(sides: Sides) -> None:
    sides.times(1.2)
    lines = as_markdown(sides.compared(STEP)).splitlines()
    assert lines[0].startswith(r"**FAILED: step\_time\_ms\_p50&gt;5%")
    assert any(line.startswith("| step\\_time\\_ms\\_p50 \\*") for line in lines)
    widths = {line.count(" | ") for line in lines if line.startswith("| ")}
    assert len(widths) == 1


def test_hostile_names_are_plain_text_in_every_form(sides: Sides) -> None:
    hostile = "a|b<script>`x`*\x1b[31m"
    for side in (sides.base, sides.new):
        side.ended(side.planned(model=hostile, arm="arm"), git_commit="<b>|")
    compared = sides.compared()
    page = as_markdown(compared)
    assert "<script>" not in page
    assert "a\\|b&lt;script&gt;\\`x\\`\\*" in page
    assert "\x1b" not in as_text(compared)
    assert json.loads(json.dumps(as_dict(compared)))["arms"][0]["label"].startswith("a|b<script>")


def test_json_holds_all_metrics_and_names_its_schema(sides: Sides) -> None:
    sides.times(1.2)
    found = as_dict(sides.compared(STEP))
    assert (found["schema"], found["outcome"]) == ("bench-compare/1", "fail")
    (arm,) = found["arms"]
    step = arm["metrics"]["step_time_ms_p50"]
    assert math.isclose(step["change"], 0.2, abs_tol=0.01)
    assert step["low"] < step["change"] < step["high"]
    assert step["new_by_seed"].keys() == {"1", "2", "3", "4", "5"}
    assert "perplexity" in arm["metrics"]
    assert "gpu_energy_j" not in arm["metrics"]
    assert found["findings"] == [
        {"rule": STEP, "arm": "gpt + adamw, cpu", "outcome": "fail", "why": ""}
    ]


def test_an_interval_too_wide_for_a_double_is_not_available(sides: Sides) -> None:
    for seed, ratio in ((1, 1e-200), (2, 1e200), (3, 1e200)):
        sides.pair(seed, {"step_time_ms_p50": 10.0}, {"step_time_ms_p50": 10.0 * ratio})
    compared = sides.compared()
    assert as_dict(compared)["arms"][0]["metrics"]["step_time_ms_p50"]["high"] is None
    assert " to n/a" in as_text(compared)


# --- What cannot be read -------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"runs\.csv is not there"):
        read_version(tmp_path)


@pytest.mark.parametrize(
    ("column", "text", "words"),
    [
        ("step_time_ms_p50", "fast", "step_time_ms_p50 is 'fast', not a number"),
        ("seed", "one", "seed is 'one', not a whole number"),
        ("attempt", "", "attempt is '', not a whole number"),
        ("status", "fine", "status is 'fine'; known are ok, "),
    ],
)
def test_a_damaged_row_is_named(sides: Sides, column: str, text: str, words: str) -> None:
    sides.base.cell(seed=1)
    sides.base.runs[0][column] = text
    with pytest.raises(RecordError, match=words):
        read_version(sides.base.write())


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(RecordError, match="has no rows"):
        read_version(tmp_path)


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RecordError, match="lacks the columns run_id, host_id"):
        read_version(tmp_path)


# --- Recorded by ab on a real machine, see data/ab/README.md --------------------------------------


@pytest.mark.parametrize(("recorded", "code"), [("aa", 0), ("slowed", 1)])
def test_equal_versions_pass_and_a_slowdown_of_15_percent_fails(recorded: str, code: int) -> None:
    sides = (RECORDED / recorded / "base", RECORDED / recorded / "head")
    keep = ("--disturbed", "keep", "--undecided", "fail")
    answer = bench("compare", *sides, "--fail-on", STEP, *keep, "--format", "json")
    assert answer.returncode == code, answer.stdout + answer.stderr
    found = json.loads(answer.stdout)
    assert len(found["arms"]) == 2
    for arm in found["arms"]:
        assert arm["metrics"]["val_loss_final"]["verdict"] == "identical"
        assert arm["metrics"]["step_time_ms_p50"]["pairs"] == 10


@pytest.mark.parametrize("recorded", ["aa", "slowed"])
def test_disturbed_pairs_decide_nothing_unless_they_ran_in_turn(recorded: str) -> None:
    gate = make_gate([STEP], "fail", "drop", "text")
    compared = gate.compare(RECORDED / recorded / "base", RECORDED / recorded / "head")
    assert compared.outcome is GateStatus.UNDECIDED


# --- The command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_takes_folders_and_files_and_exits_by_its_rules(sides: Sides) -> None:
    sides.times(1.2)
    base, new = sides.base.write(), sides.new.write()
    failed = bench("compare", base, new / "runs.csv", "--fail-on", STEP)
    assert failed.returncode == 1, failed.stderr
    assert failed.stdout.splitlines()[-2].startswith("FAILED: step_time_ms_p50>5%; 1 arm compared")
    passed = bench("compare", base, new, "--fail-on", "step_time_ms_p50>50%", "--format", "json")
    assert passed.returncode == 0
    assert json.loads(passed.stdout)["outcome"] == "pass"
    told = bench("compare", new, base, "--format", "markdown")
    assert told.returncode == 0
    assert told.stdout.startswith("**1 arm compared; no rule was given")


@pytest.mark.slow
def test_undecided_is_loud_and_exits_as_asked(sides: Sides) -> None:
    sides.times(1.05)
    arguments = ("compare", sides.base.write(), sides.new.write(), "--fail-on", STEP)
    answer = bench(*arguments)
    assert answer.returncode == 0
    assert "UNDECIDED" in answer.stdout
    assert bench(*arguments, "--undecided", "fail").returncode == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fail-on", "speed>5%"], "no such metric"),
        (["--undecided", "maybe"], "--undecided maybe"),
        (["--disturbed", "maybe"], "--disturbed maybe"),
        (["--format", "xml"], "--format xml"),
    ],
)
def test_a_wrong_request_exits_2(options: list[str], words: str, tmp_path: Path) -> None:
    answer = bench("compare", tmp_path, tmp_path, *options)
    assert answer.returncode == 2
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
