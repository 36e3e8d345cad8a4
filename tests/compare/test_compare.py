"""Two versions compared: their figures, what is joined, what is left out."""

import math
import statistics

import pytest
from scipy.stats import t

from bench.compare.findings import conclusion
from bench.compare.judge import GateStatus
from bench.compare.write import as_text
from bench.records.columns import COLUMNS, IN_POINTS, is_relative
from bench.statistics.verdict import Verdict
from tests.builders.sides import NOISE, STEP, Sides

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
    assert not is_relative(metric, COLUMNS[metric])


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
    apart = "seed 4 ran on no machine known to be the same: only their losses are compared"
    assert apart in as_text(compared)


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
