"""`compare --across`: unpaired between unlike machines, and labelled so wherever it is read."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy.stats import ttest_ind

from bench.compare.across import ACROSS
from bench.compare.annotations import as_annotations
from bench.compare.gate import make_gate
from bench.compare.judge import GateStatus, VersionComparison
from bench.compare.junit import as_junit
from bench.compare.write import as_dict, as_markdown, as_text
from bench.errors import RequestError
from bench.records.rows import read_table, write_table
from bench.statistics.verdict import Verdict
from tests.builders.shared import bench
from tests.builders.sides import NOISE, STEP, Sides

LOSS = "val_loss_final>0.05"
OLD = {"gpu_name": "A100", "host_id": "host-a", "driver_version": "535", "image_id": "sha256:aaaa"}
NEW = {"gpu_name": "H100", "host_id": "host-h", "driver_version": "550", "image_id": "sha256:bbbb"}


def fill(sides: Sides, ratio=1.0, seeds=5, base=OLD, new=NEW, arm="adamw") -> None:
    """Step times of BASE around 100 ms, those of NEW `ratio` times as long; losses alike."""
    for seed in range(1, seeds + 1):
        noise, other = NOISE[(seed - 1) % 5], NOISE[seed % 5]
        left = {"step_time_ms_p50": 100 * (1 + noise), "val_loss_final": 2 + noise}
        right = {"step_time_ms_p50": 100 * ratio * (1 + other), "val_loss_final": 2 + other}
        sides.pair(seed, left | base, right | new, arm)


def across(
    sides: Sides, *rules: str, column="gpu_name", undecided="pass", disturbed="drop"
) -> VersionComparison:
    gate = make_gate(rules, undecided, disturbed, "text", across=column)
    return gate.compare(sides.base.write(), sides.new.write())


def refused(sides: Sides, column: str) -> str:
    with pytest.raises(RequestError) as caught:
        across(sides, column=column)
    return str(caught.value)


# --- Figures and rules ---------------------------------------------------------------------------


def test_a_ratio_is_that_of_new_to_base_with_welchs_interval(sides: Sides) -> None:
    fill(sides, 1.2)
    line = across(sides).arms[0].line("val_loss_final")
    assert line is not None
    base, new = ([2 + noise for noise in NOISE], [2 + noise for noise in (*NOISE[1:], NOISE[0])])
    low, high = ttest_ind(new, base, equal_var=False).confidence_interval(0.95)
    assert line.contrast.interval is not None
    assert (line.contrast.interval.low, line.contrast.interval.high) == pytest.approx((low, high))
    step = as_dict(across(sides, STEP))["arms"][0]["metrics"]["step_time_ms_p50"]
    assert step["change"] == pytest.approx(0.2, abs=0.01)
    assert (step["pairs"], step["runs_new_base"], step["verdict"]) == (None, [5, 5], "worse")


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        (1.2, GateStatus.FAIL),
        (0.8, GateStatus.PASS),
        (1.0, GateStatus.PASS),
        (1.05, GateStatus.UNDECIDED),
    ],
)
@pytest.mark.parametrize("column", ACROSS)
def test_rules_decide_as_in_pairs(
    sides: Sides, ratio: float, outcome: GateStatus, column: str
) -> None:
    fill(sides, ratio)
    assert across(sides, STEP, column=column).outcome is outcome


def test_intervals_hold_together_over_arms_and_rules(sides: Sides) -> None:
    fill(sides)
    fill(sides, arm="muon")
    assert across(sides, STEP, LOSS).confidence == pytest.approx(1 - 0.05 / 4)


def test_a_time_needs_three_runs_on_each_side_and_a_loss_five(sides: Sides) -> None:
    fill(sides, 2.0, seeds=2)
    few = across(sides, STEP).findings
    assert (few[0].outcome, few[0].why) == (
        GateStatus.UNDECIDED,
        "2 of the 3 runs on each side that it needs",
    )
    fill(sides, 2.0, seeds=4, arm="muon")
    time, loss = (
        next(found for found in across(sides, rule).findings if found.arm == "gpt + muon, cpu")
        for rule in (STEP, LOSS)
    )
    assert time.outcome is GateStatus.FAIL
    assert (loss.outcome, loss.why[:6]) == (GateStatus.UNDECIDED, "4 of t")


def test_what_is_the_same_in_all_runs_of_a_side_is_held_against_a_rule(sides: Sides) -> None:
    fill(sides)  # host_rss_peak_mib is 300 in every run
    for row in sides.new.runs:
        row["host_rss_peak_mib"] = 400.0
    (found,) = across(sides, "host_rss_peak_mib>5%").findings
    assert (found.outcome, found.why) == (
        GateStatus.FAIL,
        "the same figure in all runs of each side",
    )


@pytest.mark.parametrize("told", [True, False])
def test_a_seed_that_failed_in_new_fails_the_gate(sides: Sides, told: bool) -> None:
    fill(sides, 0.5, seeds=4)
    where = NEW if told else {**NEW, "gpu_name": ""}
    sides.pair(5, {"step_time_ms_p50": 100.0, **OLD}, {"status": "crashed", **where})
    compared = across(sides, STEP)
    assert compared.outcome is GateStatus.FAIL
    assert "seed 5 failed only in NEW (crashed)" in as_text(compared)
    line = compared.arms[0].line("step_time_ms_p50")
    assert line is not None
    assert line.judgement.verdict is not Verdict.BETTER


def test_a_seed_that_failed_in_base_is_left_out_on_both_sides(sides: Sides) -> None:
    """A seed sets weights and batches: an odd one must weigh on both sides or on none."""
    fill(sides, seeds=5)
    sides.pair(6, {"status": "crashed", **OLD}, {"step_time_ms_p50": 900.0, **NEW})
    compared = across(sides, STEP)
    line = compared.arms[0].line("step_time_ms_p50")
    assert line is not None
    assert [sorted(group) for group in line.contrast.groups] == [[1, 2, 3, 4, 5]] * 2
    assert compared.outcome is GateStatus.PASS


def test_seeds_and_arms_that_new_lacks_are_undecided(sides: Sides) -> None:
    fill(sides, seeds=5)
    sides.base.ended(sides.base.planned(seed=6), **OLD)
    sides.base.ended(sides.base.planned(optimizer="muon"), **OLD)
    told = as_text(across(sides, STEP))
    assert "UNDECIDED: gpt + adamw, cpu: 1 of 6 seeds ended only in BASE" in told
    assert "UNDECIDED: gpt + muon, cpu: this arm is only in BASE" in told


def test_disturbed_times_are_left_out_and_losses_kept(sides: Sides) -> None:
    fill(sides, 1.0, seeds=5)
    odd = {"step_time_ms_p50": 900.0, "tainted": True, "taint_reasons": "swap 9%"}
    sides.pair(6, {"step_time_ms_p50": 100.0, **OLD}, odd | NEW)
    runs = {line.metric: line.contrast.n for line in across(sides).arms[0].lines}
    assert (runs["step_time_ms_p50"], runs["val_loss_final"]) == (5, 6)
    assert across(sides, STEP).outcome is GateStatus.PASS


def test_several_machines_of_a_side_are_repeats_of_a_seed_and_no_more_seeds(sides: Sides) -> None:
    fill(sides, seeds=5)
    for row in list(sides.new.runs):
        figures = {"step_time_ms_p50": row["step_time_ms_p50"] * 1.2, "host_id": "host-i"}
        sides.new.ended(row["run_id"], attempt=2, **{**NEW, **figures})
    compared = across(sides, STEP)
    line = compared.arms[0].line("step_time_ms_p50")
    assert line is not None
    assert [len(group) for group in line.contrast.groups] == [5, 5]
    assert line.new_mean == pytest.approx(110, rel=0.01)
    assert "machines: 1 / 2; what differs may be the machine and not its" in as_text(compared)
    assert "NEW has host-h and host-i; each side must have one" in refused(sides, "host_id")


# --- The column ----------------------------------------------------------------------------------


def test_a_column_that_is_unknown_is_refused_with_those_that_would_do(sides: Sides) -> None:
    fill(sides, base={**OLD, "image_id": ""})
    said = refused(sides, "image_id")
    assert "BASE has none that is known, NEW has bbbb; it must be known on both sides" in said
    assert "Columns that would do: gpu_name, driver_version, host_id." in said


def test_a_column_that_older_results_lack_is_refused(sides: Sides, tmp_path: Path) -> None:
    fill(sides)
    rows = read_table(sides.base.write() / "runs.csv")
    older = tmp_path / "older.csv"
    known = [name for name in rows[0] if name not in ("gpu_name", "driver_version")]
    write_table(older, known, [{name: row[name] for name in known} for row in rows])
    gate = make_gate([], "pass", "drop", "text", across="driver_version")
    with pytest.raises(RequestError, match="BASE has none that is known, NEW has 550"):
        gate.compare(older, sides.new.write())


def test_a_column_that_is_the_same_is_refused(sides: Sides) -> None:
    fill(sides, new={**NEW, "gpu_name": "A100"})
    assert "BASE has A100, NEW has A100; it must differ. Leave --across out" in refused(
        sides, "gpu_name"
    )


def test_a_side_with_two_values_is_refused_also_where_one_of_them_only_failed(sides: Sides) -> None:
    fill(sides)
    sides.new.ended(sides.new.plan[0]["run_id"], "oom", 2, **{**NEW, "gpu_name": "V100"})
    assert "NEW has H100 and V100; each side must have one" in refused(sides, "gpu_name")


def test_what_did_not_end_has_no_say_in_it(sides: Sides) -> None:
    fill(sides)
    sides.new.ended(sides.new.planned(seed=9), "interrupted", **{**NEW, "gpu_name": "V100"})
    assert across(sides, STEP).outcome is GateStatus.PASS


def test_no_such_column_is_told_the_nearest(sides: Sides) -> None:
    fill(sides)
    assert "Did you mean 'gpu_name'?" in refused(sides, "gpu_names")


@pytest.mark.parametrize("arm", ["adamw", "on the CPU"])
def test_runs_that_do_not_tell_the_column_are_not_compared_and_keep_no_rule(
    sides: Sides, arm: str
) -> None:
    """Some runs of an arm, or all of one that needed no GPU."""
    fill(sides, 1.0, seeds=5)
    for seed in (6, 7):
        step = {"step_time_ms_p50": 100.0}
        sides.pair(seed, step | OLD, step | NEW | {"gpu_name": ""}, arm)
    compared = across(sides, STEP)
    assert compared.outcome is GateStatus.UNDECIDED
    assert f"gpt + {arm}, cpu: seeds 6, 7 tell no gpu_name in NEW: not compared." in as_text(
        compared
    )
    line = compared.arms[0].line("step_time_ms_p50")
    assert line is not None
    assert line.contrast.n == 5


# --- What is said --------------------------------------------------------------------------------


def test_every_format_says_across_what_and_unpaired(sides: Sides) -> None:
    fill(sides, 1.2)
    compared = across(sides, STEP)
    words = "across gpu_name: A100 / H100, unpaired"
    text = as_text(compared)
    assert f"{words}; differs as well: image_id, host_id, driver_version\n" in text
    assert "one machine of each; what differs may be the machine and not its kind of GPU" in text
    assert "1 arm compared across gpu_name, unpaired." in text
    assert "5 against 5" in text
    assert words.replace("_", r"\_") in as_markdown(compared)
    assert as_dict(compared)["across"] == {
        "column": "gpu_name",
        "differs_as_well": ["image_id", "host_id", "driver_version"],
        "known_on_one_side": [],
    }
    suite = ElementTree.fromstring(as_junit(compared)).find("testsuite")
    assert suite is not None
    assert suite.get("name") == f"bench compare base new {words}"
    assert "allowed +5 %25, across gpu_name, unpaired" in as_annotations(compared)


def test_in_pairs_nothing_of_it_is_said(sides: Sides) -> None:
    sides.times(1.2)
    compared = sides.compared(STEP)
    assert as_dict(compared)["across"] is None
    for text in (as_text(compared), as_junit(compared), as_annotations(compared)):
        assert "across" not in text
        assert "unpaired" not in text


def test_what_only_one_side_knows_is_named(sides: Sides) -> None:
    fill(sides, base={**OLD, "driver_version": ""}, new={**NEW, "gpu_mem_source": "process"})
    assert "known on one side alone: driver_version, gpu_mem_source\n" in as_text(across(sides))


@pytest.mark.parametrize(
    ("column", "new"), [("host_id", NEW), ("image_id", {**NEW, "host_id": "host-a"})]
)
def test_the_machine_is_no_doubt_where_it_is_the_question_or_the_same(
    sides: Sides, column: str, new: dict[str, str]
) -> None:
    fill(sides, new=new)
    assert "may be the machine" not in as_text(across(sides, column=column))


@pytest.mark.slow
def test_the_command_compares_across(sides: Sides) -> None:
    fill(sides, 1.2)
    base, new = sides.base.write(), sides.new.write()
    options = ("--fail-on", STEP, "--format", "json")
    answer = bench("compare", base, new, "--across", "gpu_name", *options)
    assert answer.returncode == 1, answer.stderr
    assert json.loads(answer.stdout)["across"]["column"] == "gpu_name"
    assert bench("compare", base, new, *options).returncode == 0  # nothing in pairs: undecided
    wrong = bench("compare", base, base, "--across", "gpu_name")
    assert wrong.returncode == 2
    assert "it must differ" in wrong.stderr
