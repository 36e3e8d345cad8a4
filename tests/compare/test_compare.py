"""Two versions compared: what is joined, what is left out, what a rule decides, how it exits."""

import contextlib
import json
import math
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from bench.compare.document import as_dict
from bench.compare.gate import make_gate
from bench.compare.judge import GateStatus, MetricChange, VersionComparison, compare
from bench.compare.pairing import join
from bench.compare.rules import IN_POINTS, Rule, is_relative, parse_rules
from bench.compare.versions import read_version
from bench.compare.write import as_markdown, as_text, conclusion
from bench.errors import FolderError, RecordError, RequestError
from bench.records.columns import HIGHER_IS_BETTER, METRICS
from bench.statistics.verdict import Verdict
from tests.builders.results import Results
from tests.builders.shared import bench

RECORDED = Path(__file__).parents[1] / "data" / "ab"
STEP = "step_time_ms_p50>5%"
NOISE = (0.01, -0.012, 0.004, -0.007, 0.011)  # of five seeds, as a share


class Sides:
    """Two results folders in the making."""

    def __init__(self, place: Path) -> None:
        self.base, self.new = Results(place / "base"), Results(place / "new")

    def pair(self, seed: int, base: dict[str, object], new: dict[str, object], arm="adamw"):
        """One seed of an arm on both sides; fields as in runs.csv."""
        for side, fields in ((self.base, base), (self.new, new)):
            side.ended(side.planned(optimizer=arm, seed=seed), **fields)

    def times(self, ratio: float, seeds=5, arm="adamw", **fields):
        """Step times of NEW that are `ratio` those of BASE, but for some noise."""
        for seed in range(1, seeds + 1):
            base = {"step_time_ms_p50": 10.0 + seed, **fields}
            slower = (10.0 + seed) * ratio * (1 + NOISE[(seed - 1) % 5])
            self.pair(seed, base, {"step_time_ms_p50": slower, **fields}, arm)

    def losses(self, differences: list[float], arm="adamw"):
        for seed, difference in enumerate(differences, start=1):
            base, new = 2.0 + 0.1 * seed, 2.0 + 0.1 * seed + difference
            self.pair(seed, {"val_loss_final": base}, {"val_loss_final": new}, arm)

    def compared(self, *rules: str, keep: bool = False) -> VersionComparison:
        base, new = read_version(self.base.write()), read_version(self.new.write())
        return compare(join(base, new), parse_rules(rules), keep)

    def line(self, metric: str, *rules: str) -> MetricChange:
        (arm,) = self.compared(*rules).arms
        line = arm.line(metric)
        assert line is not None
        return line


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


# --- Rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("step_time_ms_p50>5%", Rule("step_time_ms_p50", 0.05, relative=True)),
        (" step_time_ms_p50 > +0.5 ", Rule("step_time_ms_p50", 0.5, relative=False)),
        ("val_loss_final>0.01", Rule("val_loss_final", 0.01, relative=False)),
        ("val_loss_final>1e-2", Rule("val_loss_final", 0.01, relative=False)),
        ("val_loss_final>.5%", Rule("val_loss_final", 0.005, relative=True)),
        ("tokens_per_s<-5%", Rule("tokens_per_s", -0.05, relative=True)),
        ("step_time_ms_p50>0%", Rule("step_time_ms_p50", 0.0, relative=True)),
    ],
)
def test_a_rule_is_read(text: str, rule: Rule) -> None:
    assert parse_rules([text]) == (rule,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step_time_ms_50>5%", "Did you mean 'step_time_ms_p50'?"),
        ("step_time_ms_p50", "write COLUMN>NUMBER"),
        ("step_time_ms_p50>=5%", "write COLUMN>NUMBER"),
        ("step_time_ms_p50>5 percent", "write COLUMN>NUMBER"),
        ("step_time_ms_p50>nan", "write COLUMN>NUMBER"),
        ("step_time_ms_p50>1e999", "too large"),
        ("step_time_ms_p50<5%", "Write step_time_ms_p50>5%"),
        ("step_time_ms_p50>-5%", "Write step_time_ms_p50>5%"),
        ("tokens_per_s>5%", "Write tokens_per_s<-5%"),
        ("tokens_per_s<5%", "Write tokens_per_s<-5%"),
        ("tokens_per_s<-100%", "less than 100%"),
        ("step_time_drift_pct>5%", "Write step_time_drift_pct>5, in its own unit"),
        ("seed>1", "no such metric"),
    ],
)
def test_a_wrong_rule_is_told_what_is_right(text: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_rules([text])
    assert words in str(caught.value)


def test_all_mistakes_in_rules_are_told_at_once() -> None:
    wrong = ["sped>1", STEP, "tokens_per_s>1%", STEP]
    with pytest.raises(RequestError) as caught:
        parse_rules(wrong)
    message = str(caught.value)
    assert len(message.splitlines()) == 3
    assert "step_time_ms_p50 has two rules" in message


@given(
    metric=st.sampled_from(METRICS),
    size=st.floats(min_value=0, max_value=99.0).map(lambda value: float(f"{value:.6g}")),
    percent=st.booleans(),
    spaces=st.text(" \t", max_size=2),
)
def test_a_rule_that_is_written_again_is_the_same_rule(
    metric: str, size: float, percent: bool, spaces: str
) -> None:
    relative = percent and metric not in IN_POINTS
    sign, value = ("<", f"-{size!r}") if metric in HIGHER_IS_BETTER else (">", repr(size))
    text = f"{spaces}{metric}{spaces}{sign}{spaces}{value}{spaces}{'%' if relative else ''}"
    (rule,) = parse_rules([text])
    assert (rule.metric, rule.relative) == (metric, relative)
    assert math.isclose(abs(rule.threshold), size / 100 if relative else size)
    (again,) = parse_rules([str(rule)])
    assert math.isclose(again.threshold, rule.threshold, rel_tol=1e-5, abs_tol=1e-12)


@given(st.text(max_size=40))
def test_no_text_breaks_the_grammar(text: str) -> None:
    with contextlib.suppress(RequestError):
        (rule,) = parse_rules([text])
        assert rule.metric in METRICS


# --- Figures -------------------------------------------------------------------------------------


def test_times_are_compared_by_paired_ratios_with_a_t_interval(sides: Sides) -> None:
    sides.times(1.2)
    line = sides.line("step_time_ms_p50", STEP)
    logs = [math.log(1.2 * (1 + noise)) for noise in NOISE]
    half = t.ppf(0.975, 4) * statistics.stdev(logs) / math.sqrt(5)
    interval = line.contrast.interval
    assert interval is not None
    assert math.isclose(interval.low, statistics.fmean(logs) - half)
    assert math.isclose(interval.high, statistics.fmean(logs) + half)
    assert math.isclose(line.base_mean or 0, 13.0)


def test_losses_are_compared_by_differences(sides: Sides) -> None:
    sides.losses([0.01, 0.02, 0.03, 0.02, 0.01])
    line = sides.line("val_loss_final")
    assert math.isclose(line.contrast.mean or 0, 0.018)
    assert not line.contrast.relative


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (0.8, Verdict.BETTER),
        (1.2, Verdict.WORSE),
        (1.001, Verdict.EQUIVALENT),
        (1.06, Verdict.WORSE),
    ],
)
def test_verdicts_of_a_time(sides: Sides, ratio: float, verdict: Verdict) -> None:
    sides.times(ratio)
    assert sides.line("step_time_ms_p50", STEP).judgement.verdict is verdict


def test_without_a_rule_nothing_is_equivalent(sides: Sides) -> None:
    sides.times(1.001)
    assert sides.line("step_time_ms_p50").judgement.verdict is Verdict.UNDECIDED


def test_a_higher_rate_is_better(sides: Sides) -> None:
    for seed, noise in enumerate(NOISE, start=1):
        sides.pair(seed, {"tokens_per_s": 1000}, {"tokens_per_s": 1200 * (1 + noise)})
    compared = sides.compared("tokens_per_s<-5%")
    line = compared.arms[0].line("tokens_per_s")
    assert line is not None
    assert line.judgement.verdict is Verdict.BETTER
    assert compared.outcome is GateStatus.PASS


def test_losses_that_are_equal_to_the_last_digit_are_identical_at_any_number_of_seeds(
    sides: Sides,
) -> None:
    sides.losses([0.0])
    compared = sides.compared("val_loss_final>0.01")
    line = compared.arms[0].line("val_loss_final")
    assert line is not None
    assert line.judgement.verdict is Verdict.IDENTICAL
    assert compared.outcome is GateStatus.PASS


def test_a_loss_needs_five_pairs_and_a_time_three(sides: Sides) -> None:
    sides.losses([0.5, 0.6, 0.4, 0.5])
    compared = sides.compared("val_loss_final>0.01")
    assert compared.outcome is GateStatus.UNDECIDED
    assert compared.findings[0].why == "4 of the 5 pairs that it needs"


def test_intervals_hold_together_over_arms_and_rules(sides: Sides) -> None:
    sides.times(1.0, arm="adamw")
    sides.times(1.0, arm="muon")
    assert math.isclose(sides.compared().confidence, 1 - 0.05 / 2)
    rules = (STEP, "wall_time_s>5%", "val_loss_final>0.1")
    assert math.isclose(sides.compared(*rules).confidence, 1 - 0.05 / 6)


def test_a_figure_of_zero_has_no_ratio(sides: Sides) -> None:
    sides.times(1.0, compile_time_s=0.0)
    assert sides.compared().arms[0].line("compile_time_s") is None


@pytest.mark.parametrize("metric", ["val_loss_final", *IN_POINTS])
def test_what_may_be_negative_has_differences(metric: str) -> None:
    assert not is_relative(metric)


# --- What is joined ------------------------------------------------------------------------------


def test_repeats_of_a_seed_on_two_machines_are_averaged_and_count_once(sides: Sides) -> None:
    for side, step_ms in ((sides.base, 10.0), (sides.new, 12.0)):
        run_id = side.planned()
        side.ended(run_id, host_id="one", step_time_ms_p50=step_ms)
        side.ended(run_id, host_id="two", attempt=2, step_time_ms_p50=step_ms + 10)
    line = sides.line("step_time_ms_p50")
    assert line.contrast.n == 1
    assert (line.base_mean, line.new_mean) == (15.0, 17.0)


def test_the_first_ok_attempt_on_a_machine_counts(sides: Sides) -> None:
    sides.pair(1, {"step_time_ms_p50": 10}, {"step_time_ms_p50": 99})
    sides.new.ended(sides.new.plan[0]["run_id"], attempt=2, step_time_ms_p50=11)
    sides.new.ended(sides.new.plan[0]["run_id"], attempt=3, status="interrupted")
    assert sides.line("step_time_ms_p50").new_mean == 99


@pytest.mark.parametrize("again", [{}, {"host_id": "host2"}])
def test_a_seed_that_failed_in_new_is_not_washed_by_a_later_attempt(sides: Sides, again) -> None:
    sides.times(1.0, seeds=3)
    sides.pair(4, {"step_time_ms_p50": 10}, {"status": "diverged"})
    sides.new.ended(sides.new.plan[-1]["run_id"], attempt=2, step_time_ms_p50=10, **again)
    compared = sides.compared(STEP)
    assert compared.outcome is GateStatus.FAIL
    assert "seed 4 failed only in NEW (diverged)" in as_text(compared)
    assert sides.line("step_time_ms_p50").contrast.n == 3


def test_a_seed_that_the_machine_lost_is_none_that_new_failed(sides: Sides) -> None:
    sides.times(1.0, seeds=3)
    lost = {"status": "crashed", "reason": "ended by SIGKILL; it left no result"}
    sides.pair(4, {"step_time_ms_p50": 10}, lost)
    compared = sides.compared(STEP)
    assert compared.outcome is GateStatus.UNDECIDED
    assert "1 of 4 seeds ended only in BASE" in as_text(compared)


@pytest.mark.parametrize("elsewhere", [{"host_id": "host2"}, {"gpu_name": "another GPU"}])
def test_times_and_memory_of_different_machines_are_not_compared(
    sides: Sides, elsewhere: dict[str, str]
) -> None:
    sides.times(1.0, seeds=3)
    figures = {"step_time_ms_p50": 10.0, "host_rss_peak_mib": 300.0, "val_loss_final": 2.0}
    sides.pair(4, figures, {**figures, **elsewhere})
    compared = sides.compared()
    (arm,) = compared.arms
    pairs = {line.metric: line.contrast.n for line in arm.lines}
    assert (pairs["step_time_ms_p50"], pairs["host_rss_peak_mib"]) == (3, 3)
    assert pairs["val_loss_final"] == 4
    assert "seed 4 ran on different machines: only their losses are compared" in as_text(compared)


def test_nothing_comparable_under_a_rule_is_undecided_and_said(sides: Sides) -> None:
    figures = {"step_time_ms_p50": 10.0}
    for seed in range(1, 6):
        sides.pair(seed, figures, {**figures, "host_id": "host2"})
    compared = sides.compared(STEP)
    assert compared.outcome is GateStatus.UNDECIDED
    assert "UNDECIDED: step_time_ms_p50>5%, gpt + adamw, cpu: nothing can be compared" in as_text(
        compared
    )


def test_versions_without_a_common_arm_are_undecided(sides: Sides) -> None:
    sides.base.cell()
    sides.new.ended(sides.new.planned(optimizer="muon"))
    compared = sides.compared(STEP)
    assert compared.outcome is GateStatus.UNDECIDED
    text = as_text(compared)
    assert "gpt + adamw, cpu: only in BASE" in text
    assert "gpt + muon, cpu: only in NEW" in text
    assert "the versions share no arm" in text


def test_seeds_on_one_side_are_named_and_left_out(sides: Sides) -> None:
    sides.times(1.0, seeds=3)
    sides.base.cell(seed=8)
    sides.new.cell(seed=9)
    sides.new.ended(sides.new.planned(seed=8), status="interrupted")
    compared = sides.compared()
    assert compared.arms[0].arm.seeds == (1, 2, 3)
    text = as_text(compared)
    assert "seed 8 ended only in BASE" in text
    assert "seed 9 ended only in NEW" in text


def test_what_new_lacks_is_not_known_to_keep_a_rule(sides: Sides) -> None:
    sides.times(1.0, seeds=3)
    assert sides.compared(STEP).outcome is GateStatus.PASS
    sides.base.cell(seed=8)
    compared = sides.compared(STEP)
    assert compared.outcome is GateStatus.UNDECIDED
    first, *further = conclusion(compared)
    assert first.startswith("UNDECIDED: step_time_ms_p50>5%")
    assert further == ["UNDECIDED: gpt + adamw, cpu: 1 of 4 seeds ended only in BASE"]


def test_an_arm_that_new_lacks_is_undecided_as_well(sides: Sides) -> None:
    sides.times(1.0, seeds=3)
    sides.base.ended(sides.base.planned(optimizer="muon"))
    compared = sides.compared(STEP)
    assert compared.outcome is GateStatus.UNDECIDED
    assert "UNDECIDED: gpt + muon, cpu: this arm is only in BASE" in conclusion(compared)


def test_arms_are_joined_by_what_was_asked_and_not_by_their_names(sides: Sides) -> None:
    sides.base.ended(sides.base.planned(arm="a1"))
    sides.new.ended(sides.new.planned(arm="a2"))
    compared = sides.compared()
    assert compared.arms == ()
    assert "gpt + adamw, cpu (a1): only in BASE" in as_text(compared)


def test_disturbed_cells_leave_the_times_alone(sides: Sides) -> None:
    sides.times(1.0, seeds=3)
    odd = {"step_time_ms_p50": 90.0, "tainted": True, "taint_reasons": "cpu_steal 3.1%"}
    sides.pair(4, {"step_time_ms_p50": 10.0}, odd)
    compared = sides.compared()
    pairs = {line.metric: line.contrast.n for line in compared.arms[0].lines}
    assert (pairs["step_time_ms_p50"], pairs["val_loss_final"]) == (3, 4)
    assert pairs["host_rss_peak_mib"] == 4
    assert "seed 4 disturbed from outside (cpu_steal)" in as_text(compared)


def test_where_every_pair_was_disturbed_times_are_shown_and_decide_nothing(sides: Sides) -> None:
    sides.times(2.0, tainted=True, taint_reasons="swap 42%")
    compared = sides.compared(STEP)
    line = compared.arms[0].line("step_time_ms_p50")
    assert line is not None
    assert line.contrast.n == 5
    assert line.judgement.verdict is Verdict.NOT_AVAILABLE
    assert compared.outcome is GateStatus.UNDECIDED
    assert "every pair was disturbed" in as_text(compared)


def test_cells_that_ran_in_turn_decide_though_they_were_disturbed(sides: Sides) -> None:
    sides.times(1.2, seeds=4, tainted=True, taint_reasons="cpu_others 30%")
    sides.pair(5, {"step_time_ms_p50": 15.0}, {"step_time_ms_p50": 18.0})
    compared = sides.compared(STEP, keep=True)
    line = compared.arms[0].line("step_time_ms_p50")
    assert line is not None
    assert (line.contrast.n, line.judgement.verdict) == (5, Verdict.WORSE)
    assert compared.outcome is GateStatus.FAIL
    text = as_text(compared)
    assert "seeds 1, 2, 3, 4 disturbed from outside (cpu_others): kept" in text
    assert "13.0†" in text


# --- What a rule decides -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        (1.15, GateStatus.FAIL),
        (1.0, GateStatus.PASS),
        (0.5, GateStatus.PASS),
        (1.05, GateStatus.UNDECIDED),
    ],
)
def test_a_rule_fails_only_if_the_whole_interval_lies_beyond_it(
    sides: Sides, ratio: float, outcome: GateStatus
) -> None:
    sides.times(ratio)
    assert sides.compared(STEP).outcome is outcome


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        (0.85, GateStatus.FAIL),
        (1.0, GateStatus.PASS),
        (2.0, GateStatus.PASS),
        (0.95, GateStatus.UNDECIDED),
    ],
)
def test_a_rate_fails_below_its_threshold(sides: Sides, ratio: float, outcome: GateStatus) -> None:
    for seed, noise in enumerate(NOISE, start=1):
        sides.pair(seed, {"tokens_per_s": 1000}, {"tokens_per_s": 1000 * ratio * (1 + noise)})
    assert sides.compared("tokens_per_s<-5%").outcome is outcome


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [
        ([0.05, 0.06, 0.04, 0.05, 0.05], GateStatus.FAIL),
        ([0.001, -0.001, 0.002, 0.0, 0.001], GateStatus.PASS),
        ([0.05, -0.06, 0.04, -0.05, 0.05], GateStatus.UNDECIDED),
    ],
)
def test_a_loss_fails_by_its_difference(
    sides: Sides, differences: list[float], outcome: GateStatus
) -> None:
    sides.losses(differences)
    assert sides.compared("val_loss_final>0.01").outcome is outcome


def test_what_grows_by_the_same_at_every_seed_is_held_against_a_rule(sides: Sides) -> None:
    for seed in range(1, 4):
        sides.pair(seed, {"optimizer_state_mib": 4.0}, {"optimizer_state_mib": 5.0})
    assert sides.compared("optimizer_state_mib>5%").outcome is GateStatus.FAIL
    assert sides.compared("optimizer_state_mib>25%").outcome is GateStatus.PASS
    assert sides.compared("optimizer_state_mib>1").outcome is GateStatus.PASS
    assert sides.compared("optimizer_state_mib>0.99").outcome is GateStatus.FAIL


def test_the_same_growth_at_two_seeds_is_too_few(sides: Sides) -> None:
    for seed in range(1, 3):
        sides.pair(seed, {"optimizer_state_mib": 4.0}, {"optimizer_state_mib": 5.0})
    assert sides.compared("optimizer_state_mib>5%").outcome is GateStatus.UNDECIDED


@pytest.mark.parametrize("status", ["diverged", "crashed", "timeout", "oom", "oom_killed"])
def test_a_version_that_fails_more_often_passes_no_rule(sides: Sides, status: str) -> None:
    sides.times(0.5, seeds=4)
    sides.pair(5, {"step_time_ms_p50": 10.0}, {"status": status})
    compared = sides.compared(STEP)
    assert compared.outcome is GateStatus.FAIL
    assert f"seed 5 failed only in NEW ({status})" in as_text(compared)


def test_a_seed_that_fails_in_new_alone_is_not_made_up_for_by_another_in_base(sides: Sides) -> None:
    step = {"step_time_ms_p50": 10.0}
    sides.pair(1, {"status": "crashed"}, step)
    sides.pair(2, step, {"status": "crashed"})
    sides.pair(3, step, {"status": "oom"})
    sides.pair(4, {"status": "timeout"}, {"status": "crashed"})
    for seed in range(5, 8):
        sides.pair(seed, step, step)
    compared = sides.compared(STEP)
    (failed,) = [found for found in compared.findings if found.outcome is GateStatus.FAIL]
    assert failed.why == "seeds 2, 3 failed only in NEW (crashed, oom)"
    answer = bench("compare", sides.base.path, sides.new.path, "--fail-on", STEP)
    assert answer.returncode == 1, answer.stderr
    assert "seeds 2, 3 failed only in NEW (crashed, oom)" in answer.stdout


def test_without_rules_a_failure_is_named_and_fails_nothing(sides: Sides) -> None:
    sides.times(1.0, seeds=4)
    sides.pair(5, {"step_time_ms_p50": 10.0}, {"status": "crashed"})
    compared = sides.compared()
    assert compared.outcome is None
    assert "seed 5 failed in NEW (crashed)" in as_text(compared)


def test_a_version_that_fails_as_often_or_less_is_judged_by_its_figures(sides: Sides) -> None:
    sides.times(1.0, seeds=5)
    sides.pair(6, {"status": "crashed"}, {"status": "crashed"})
    sides.pair(7, {"status": "oom"}, {"step_time_ms_p50": 10.0})
    assert sides.compared(STEP).outcome is GateStatus.PASS


def test_one_arm_that_fails_outweighs_others_that_pass_or_are_undecided(sides: Sides) -> None:
    sides.times(1.2, arm="adamw")
    sides.times(1.0, arm="muon")
    sides.times(1.05, arm="other")
    assert sides.compared(STEP).outcome is GateStatus.FAIL


@pytest.mark.parametrize(
    ("ratio", "undecided", "fails"),
    [(1.2, "pass", True), (1.05, "pass", False), (1.05, "fail", True), (1.0, "fail", False)],
)
def test_undecided_fails_only_where_asked(
    sides: Sides, ratio: float, undecided: str, fails: bool
) -> None:
    sides.times(ratio)
    gate = make_gate([STEP], undecided, "drop", "text")
    assert gate.fails(gate.compare(sides.base.write(), sides.new.write())) is fails


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
