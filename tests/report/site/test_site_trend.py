"""Which changes a site marks: those that are there, and no others."""

import math
import random
import re

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from bench.report.site.findings import findings
from bench.report.site.trend import MOST_BUNDLES, arm_trends
from bench.statistics.verdict import ALPHA
from tests.builders.shared import ROOT
from tests.builders.sites import (
    LOSS,
    MEMORY,
    RATE,
    REGRESSIONS,
    TIME,
    facts_of,
    noisy_facts,
)

ARM = "gpt + adamw"


def marks(bundles):
    """(bundle, arm, metric, whether worse) of every mark."""
    return [
        (point.bundle, arm.series, trend.metric, point.change.worse)
        for arm in arm_trends(bundles)
        for trend in arm.trends
        for point in trend.points
        if point.change
    ]


def one_arm(values, column=TIME, seeds=1, **fields):
    """A bundle for each value, which all seeds have."""
    return [
        facts_of(number, {ARM: {column: dict.fromkeys(range(seeds), value)}}, **fields)
        for number, value in enumerate(values)
    ]


def wavering(count, level=10.0, spread=0.01):
    noise = random.Random(4)
    return [level * math.exp(noise.gauss(0, spread)) for _ in range(count)]


def test_the_three_regressions_are_marked_and_nothing_else():
    """Throughput is the step time's other face: one regression, told in one line."""
    bundles = [noisy_facts(number, REGRESSIONS) for number in range(50)]
    assert set(marks(bundles)) == {
        (20, "nanokimi + truemuon", LOSS, True),
        (33, "nanogpt + adamw", TIME, True),
        (33, "nanogpt + adamw", RATE, True),
        (41, "nanokimi + adamw", MEMORY, True),
    }
    told = [(each.bundle, str(each).split(" +")[0]) for each in findings(arm_trends(bundles))]
    assert told == [
        (41, "worse: host memory"),
        (33, "worse: step time"),
        (20, "worse: final validation loss"),
    ]


def test_the_same_without_them_has_no_mark():
    assert marks([noisy_facts(number) for number in range(50)]) == []


@pytest.mark.parametrize("count", [6, 21, 34, 49])
def test_a_mark_does_not_depend_on_what_comes_later(count):
    bundles = [noisy_facts(number, REGRESSIONS) for number in range(50)]
    early = [mark for mark in marks(bundles) if mark[0] < count]
    assert sorted(marks(bundles[:count])) == sorted(early)


@pytest.mark.parametrize(
    ("column", "worse", "better"), [(TIME, 1.3, 0.7), (RATE, 0.7, 1.3), (MEMORY, 1.3, 0.7)]
)
def test_worse_and_better_follow_the_direction_of_the_metric(column, worse, better):
    before = wavering(20)
    assert marks(one_arm([*before, 10 * worse], column)) == [(20, ARM, column, True)]
    assert marks(one_arm([*before, 10 * better], column)) == [(20, ARM, column, False)]


def test_a_change_is_marked_once_and_its_way_back_as_well():
    values = [*wavering(12), *wavering(12, 13.0), *wavering(12)]
    assert marks(one_arm(values)) == [(12, ARM, TIME, True), (24, ARM, TIME, False)]


@pytest.mark.parametrize("spread", [0.005, 0.01])
def test_a_second_change_is_found_soon_after_the_first(spread):
    steps = wavering(40, spread=spread)
    for later in (21, 22, 24):
        up = [step * (1.15 if place >= 20 else 1) for place, step in enumerate(steps)]
        again = [step * (1.15 if place >= later else 1) for place, step in enumerate(up)]
        back = [step / (1.15 if place >= later else 1) for place, step in enumerate(up)]
        assert marks(one_arm(again)) == [(20, ARM, TIME, True), (later, ARM, TIME, True)]
        assert marks(one_arm(back)) == [(20, ARM, TIME, True), (later, ARM, TIME, False)]


def test_one_slow_bundle_does_not_hide_what_comes_after_it():
    steps = wavering(40)
    steps[20] *= 1.4
    slower = [step * (1.1 if place >= 30 else 1) for place, step in enumerate(steps)]
    ends = [(20, ARM, TIME, True), (21, ARM, TIME, False)]
    assert marks(one_arm(slower)) == [*ends, (30, ARM, TIME, True)]
    assert marks(one_arm(steps)) == ends


def test_fewer_than_five_bundles_compare_no_time():
    assert marks(one_arm([10, 10.1, 9.9, 10.05, 30])) == []
    assert marks(one_arm([10, 10.1, 9.9, 10.05, 10, 30])) == [(5, ARM, TIME, True)]


@pytest.mark.parametrize(("share", "marked"), [(1.0, 0), (1.009, 0), (0.9911, 0), (1.011, 1)])
def test_a_constant_size_is_marked_from_one_percent_on(share, marked):
    found = marks(one_arm([400.0] * 6 + [400.0 * share], MEMORY))
    assert len(found) == marked


def test_times_of_another_machine_are_compared_with_its_own_alone():
    here, there = one_arm(wavering(12)), one_arm(wavering(12, 3.0), host_id="host2")
    mixed = [bundle for pair in zip(here, there, strict=True) for bundle in pair]
    assert marks(mixed) == []
    slower = one_arm([4.0], host_id="host2")
    assert marks([*mixed, *slower]) == [(24, ARM, TIME, True)]
    assert marks([*mixed, *one_arm([4.0], host_id="host2", gpu_name="a GPU")]) == []


def test_times_of_nobody_knows_which_machine_are_not_compared():
    assert marks(one_arm([*wavering(12), 30.0], host_id="")) == []


def test_a_bundle_that_was_disturbed_tells_nothing():
    quiet, loud = one_arm(wavering(12)), one_arm([30.0], decides=False)
    assert marks([*quiet, *loud]) == []
    (trend,) = arm_trends([*quiet, *loud])[0].trends
    assert not trend.points[-1].decides
    after = one_arm(wavering(13)[-1:])
    assert marks([*quiet, *loud, *after]) == []


# --- losses


def losses(*by_bundle, **fields):
    return [
        facts_of(number, {ARM: {LOSS: dict(enumerate(found))}}, **fields)
        for number, found in enumerate(by_bundle)
    ]


SEEDS = [1.70, 1.72, 1.69, 1.71, 1.73]


def test_the_same_code_gives_the_same_losses_and_no_mark():
    assert marks(losses(*[SEEDS] * 50)) == []


def test_a_loss_is_compared_from_the_second_bundle_on_and_from_any_machine():
    worse = [loss + 0.1 + 0.001 * place for place, loss in enumerate(SEEDS)]
    first, second = losses(SEEDS, worse)
    assert marks([first, second]) == [(1, ARM, LOSS, True)]
    (elsewhere,) = losses(worse, host_id="another")
    assert marks([first, elsewhere]) == [(1, ARM, LOSS, True)]
    assert marks([second, first]) == [(1, ARM, LOSS, False)]


def test_the_same_shift_at_every_seed_needs_no_spread():
    assert marks(losses(SEEDS, [loss + 0.001 for loss in SEEDS])) == [(1, ARM, LOSS, True)]


def test_rounding_is_no_shift():
    third = [loss / 3 for loss in SEEDS]
    again = [loss * (1 / 3) for loss in SEEDS]
    assert third != again
    assert marks(losses(third, again, third)) == []


def test_four_seeds_in_common_are_too_few():
    assert marks(losses(SEEDS, [loss + 1 for loss in SEEDS[:4]])) == []


def test_runs_that_are_no_pairs_are_compared_by_their_means():
    """By seed, these two would differ by the same everywhere."""
    rising = [1.0, 2.0, 3.0, 4.0, 5.0]
    higher = [loss + 0.5 for loss in rising]
    assert marks(losses(rising, higher)) == [(1, ARM, LOSS, True)]
    assert marks(losses(rising, higher, is_paired=False)) == []
    far = [loss + 500 for loss in rising]
    assert marks(losses(rising, far, is_paired=False)) == [(1, ARM, LOSS, True)]


# --- runs that did not end ok


def with_ends(*by_bundle):
    return [
        facts_of(number, {ARM: {LOSS: {1: 1.7}}}, ends={ARM: dict(enumerate(ends))})
        for number, ends in enumerate(by_bundle)
    ]


def told(*by_bundle):
    return [(each.bundle, str(each)) for each in findings(arm_trends(with_ends(*by_bundle)))]


OK = ["ok"] * 5


def test_seeds_that_failed_and_had_not_are_a_change_for_the_worse():
    crashed = ["ok", "crashed", "ok", "ok", "crashed"]
    assert told(OK, crashed) == [(1, "worse: 2 of 5 seeds crashed")]
    assert told(OK, crashed, crashed) == [(1, "worse: 2 of 5 seeds crashed")]
    assert told(OK, crashed, ["oom", *crashed[1:]]) == [
        (2, "worse: 1 of 5 seeds oom"),
        (1, "worse: 2 of 5 seeds crashed"),
    ]
    assert told(crashed, OK) == []


def test_seeds_that_were_not_run_are_told_too_and_a_failure_after_that():
    opened = ["open", "skipped", "ok", "ok", "ok"]
    failed = ["timeout", "crashed", "ok", "ok", "ok"]
    assert told(OK, opened, failed) == [
        (2, "worse: 1 of 5 seeds crashed, 1 timeout"),
        (1, "worse: 1 of 5 seeds open, 1 skipped"),
    ]


def test_an_arm_whose_cells_all_fail_is_told():
    bundles = [noisy_facts(0), facts_of(1, {})]
    arm = "nanogpt + adamw"
    failed = facts_of(1, {}, labels={arm: arm}, ends={arm: dict.fromkeys(range(1, 9), "crashed")})
    assert [str(each) for each in findings(arm_trends([bundles[0], failed]))] == [
        "worse: 8 of 8 seeds crashed"
    ]


# --- what it takes to be found


def moved_by(n: int, share: float) -> float:
    """Standard deviations at which a t test of n values, 1 more of them or less, finds 80 %."""
    alpha = ALPHA / MOST_BUNDLES / (4 * 4)
    critical = scipy.stats.t.isf(alpha / 2, n - 1)

    def missing(noncentrality: float) -> float:
        return scipy.stats.nct.sf(critical, n - 1, noncentrality) - 0.8

    return scipy.optimize.brentq(missing, 0, 100) * share


def test_the_docs_say_what_is_found():
    text = (ROOT / "docs" / "artifacts.md").read_text()
    losses, times = (
        [float(field) for field in re.findall(r"[\d.]+", line)]
        for line in re.findall(r"\| a (?:loss|time) moves by,[^|]*\|(.*)\|", text)
    )
    of_losses = [moved_by(n, math.sqrt(1 / n) * math.sqrt(1 + 1 / 20)) for n in (5, 8, 10, 20)]
    of_times = [moved_by(n, math.sqrt(1 + 1 / n)) for n in (5, 10, 20, 40)]
    assert losses == pytest.approx(of_losses, abs=0.06)
    assert times == pytest.approx(of_times, abs=0.06)


# --- arms


def test_arms_of_the_newest_bundle_come_first_and_equal_names_are_told_apart():
    old = facts_of(0, {}, labels={"aaaaaaaa1": "gpt + adamw, cpu", "cccc": "gpt + sgd, cpu"})
    new = facts_of(1, {}, labels={"bbbbbbbb2": "gpt + adamw, cpu"})
    assert [arm.label for arm in arm_trends([old, new])] == [
        "gpt + adamw, cpu (bbbbbb)",
        "gpt + adamw, cpu (aaaaaa)",
        "gpt + sgd, cpu",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 8])
def test_of_two_hundred_sites_without_a_change_few_have_a_mark(seeds):
    """At most 5 %: the first five bundles compare no time, and tests share what they refer to."""
    marked = sum(
        bool(
            marks(
                [noisy_facts(n, salt=f"{site} ", seeds=range(seeds)) for n in range(MOST_BUNDLES)]
            )
        )
        for site in range(200)
    )
    assert marked <= 10


def sites_of_times(count: int, noise, drift=0.0):
    """Sites of 50 bundles without a step: the step times of four arms, with this noise."""
    arms = "abcd"
    for _ in range(count):
        yield [
            facts_of(
                n, {arm: {TIME: {1: 10 * math.exp(0.02 * noise() + drift * n)}} for arm in arms}
            )
            for n in range(MOST_BUNDLES)
        ]


@pytest.mark.slow
@pytest.mark.parametrize(("freedom", "share"), [(5, "33 %"), (3, "69 %")])
def test_the_docs_say_how_often_noise_with_heavy_tails_is_marked(freedom, share):
    draw = np.random.default_rng(freedom)
    sites = sites_of_times(200, lambda: float(draw.standard_t(freedom)))
    found = sum(map(bool, map(marks, sites))) / 200
    assert found == pytest.approx(int(share[:-2]) / 100, abs=0.08)
    assert share in (ROOT / "docs" / "artifacts.md").read_text()


def test_a_drift_is_no_change():
    noise = random.Random(8)
    assert [marks(site) for site in sites_of_times(5, lambda: noise.gauss(0, 1), 0.01)] == [[]] * 5
