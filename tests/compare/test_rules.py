"""Rules of --fail-on: how they are written, and what each decides."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.compare.gate import make_gate
from bench.compare.judge import GateStatus
from bench.compare.rules import Rule, parse_rules
from bench.compare.write import as_text
from bench.errors import RequestError
from bench.records.columns import COLUMNS, IN_POINTS, METRICS
from bench.statistics.verdict import Verdict
from tests.builders.shared import bench
from tests.builders.sides import NOISE, STEP, Sides

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
    more = COLUMNS[metric].more_is_better
    sign, value = ("<", f"-{size!r}") if more else (">", repr(size))
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


@pytest.mark.parametrize("new", [{"gpu_energy_j": None}, {"gpu_energy_j": 0.0}])
@pytest.mark.parametrize("across", [None, "gpu_name"])
def test_figures_that_new_lacks_may_be_its_worst(
    sides: Sides, across: str | None, new: dict[str, object]
) -> None:
    """An energy that was not read, or one of 0, which has no ratio: as a report counts it."""
    old, other = {"gpu_name": "A100"}, {"gpu_name": "H100" if across else "A100"}
    for seed, noise in enumerate(NOISE, start=1):
        figures = {"gpu_energy_j": 800 * (1 + noise)}
        sides.pair(seed, figures | old, {"gpu_energy_j": 500 * (1 - noise)} | other)
        sides.pair(5 + seed, figures | old, new | other)

    def judged(limit: str) -> tuple[GateStatus, str, Verdict]:
        gate = make_gate([f"gpu_energy_j>{limit}"], "pass", "drop", "text", across=across)
        compared = gate.compare(sides.base.write(), sides.new.write())
        line, (found,) = compared.arms[0].line("gpu_energy_j"), compared.findings
        assert line is not None
        return found.outcome, found.why, line.judgement.verdict

    why = "seeds 6, 7, 8, 9, 10 ended in NEW without this figure"
    assert judged("10%") == (GateStatus.UNDECIDED, why, Verdict.UNDECIDED)
    for row in sides.new.runs:
        row["gpu_energy_j"] = row["gpu_energy_j"] and 2 * float(str(row["gpu_energy_j"]))
    assert judged("10%")[0] is GateStatus.FAIL  # whatever the others are


def test_figures_that_base_lacks_are_left_out(sides: Sides) -> None:
    for seed, noise in enumerate((*NOISE, *NOISE), start=1):
        base = {"gpu_energy_j": 800.0} if seed < 6 else {}
        sides.pair(seed, base, {"gpu_energy_j": 800 * (1 + noise)})
    assert sides.compared("gpu_energy_j>10%").outcome is GateStatus.PASS


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


@pytest.mark.parametrize("metric", METRICS)
def test_every_figure_can_have_a_rule_by_its_direction(sides: Sides, metric: str) -> None:
    """Twice as much at every seed, and half as much: one of them is worse."""
    more = COLUMNS[metric].more_is_better
    percent = "" if metric in IN_POINTS else "%"
    rule = f"{metric}{'<-' if more else '>'}1{percent}"
    with pytest.raises(RequestError, match=f"Write {metric}"):
        parse_rules([f"{metric}{'>' if more else '<-'}1{percent}"])
    for seed, noise in enumerate(NOISE, start=1):
        sides.pair(seed, {metric: 10.0 + seed}, {metric: 2 * (10.0 + seed) * (1 + noise)})
    base, new = sides.base.write(), sides.new.write()
    gate = make_gate([rule], "fail", "drop", "text")
    doubled, halved = gate.compare(base, new).outcome, gate.compare(new, base).outcome
    assert (doubled, halved) == (
        (GateStatus.PASS, GateStatus.FAIL) if more else (GateStatus.FAIL, GateStatus.PASS)
    )
