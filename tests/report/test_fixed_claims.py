"""A claim that one configuration's mean is at most so much."""

import math

import pytest
from scipy import stats

from bench.matrix.claim_forms import FixedClaim
from bench.merge.asked import Asked, read_asked
from bench.report.build import build_report
from bench.report.fixed import by_known_deviation, fixed_family, seeds_that_decide
from bench.report.looks import claim_fingerprint
from bench.statistics.ends import End
from bench.statistics.known import KnownDeviation, runs_needed
from bench.statistics.verdict import Verdict, alpha_of_look
from tests.builders.claims import arm
from tests.builders.results import Results, sections_of

LOSSES = [3.276, 3.279, 3.277, 3.280, 3.278]  # their mean is 3.278


def fixed(at_most=3.28, sd=None, metric="val_loss_final", optimizer="adamw") -> FixedClaim:
    named = {"model": "gpt", "optimizer": optimizer}
    return FixedClaim.model_validate({"arm": named, "metric": metric, "at_most": at_most, "sd": sd})


def judged(folder: Results, claim: FixedClaim, losses=LOSSES, look=1):
    arm(folder, losses=losses)
    (section,) = sections_of(folder)
    return fixed_family(section, Asked(None, fixed=claim), claim, look)


@pytest.mark.parametrize(
    ("at_most", "verdict"),
    [(3.2805, Verdict.BETTER), (3.2785, Verdict.UNDECIDED), (3.27, Verdict.WORSE)],
)
def test_the_verdict_is_the_one_sided_t_test_of_scipy(new, at_most, verdict):
    family = judged(new(), fixed(at_most))
    assert family.comparisons[0].verdict is verdict
    found = stats.ttest_1samp(LOSSES, at_most, alternative="less")
    assert bool(found.pvalue <= alpha_of_look(1)) is (verdict is Verdict.BETTER)
    ends = found.confidence_interval(1 - alpha_of_look(1))
    assert family.comparisons[0].contrast.interval.high + at_most == pytest.approx(ends.high)


def test_a_later_look_is_tested_more_strictly(new):
    first, third = (judged(new(str(look)), fixed(3.2805), look=look) for look in (1, 3))
    assert first.comparisons[0].verdict is Verdict.BETTER
    assert third.comparisons[0].verdict is Verdict.UNDECIDED


def test_four_seeds_are_too_few(new):
    family = judged(new(), fixed(4.0), LOSSES[:4])
    assert family.comparisons[0].verdict is Verdict.TOO_FEW


@pytest.mark.parametrize(("n", "verdict"), [(5, Verdict.TOO_FEW), (9, Verdict.BETTER)])
def test_a_seed_that_is_missing_counts_against_the_claim_by_its_sign(new, n, verdict):
    """8 of 9 have p = 0.02, under 0.025."""
    folder = new()
    folder.ended(folder.planned(seed=n), status="interrupted")
    family = judged(folder, fixed(4.0), [3.2 + 0.01 * i for i in range(n - 1)])
    (found,) = family.comparisons
    assert found.ends.count[End.MISSING, End.FINISHED] == 1
    assert found.verdict is verdict


def test_with_a_seed_that_failed_it_is_never_shown(new):
    """Its loss is not known, and may be anything."""
    folder = new()
    folder.ended(folder.planned(seed=20), status="diverged", reason="not finite")
    family = judged(folder, fixed(4.0), [3.2 + 0.01 * i for i in range(19)])
    judgement = family.comparisons[0].judgement
    assert (judgement.verdict, judgement.why) == (Verdict.UNDECIDED, "1 seed failed")
    over = judged(new("over"), fixed(3.0), [3.2 + 0.01 * i for i in range(19)])
    assert over.comparisons[0].verdict is Verdict.WORSE


def test_a_finished_seed_without_the_figure_is_missing(new):
    folder = new()
    folder.cell(seed=6, val_loss_final=None)
    family = judged(folder, fixed(4.0))
    assert family.comparisons[0].ends.count[End.MISSING, End.FINISHED] == 1


def test_an_arm_that_is_not_here_is_not_tested(new):
    assert judged(new(), fixed(optimizer="lion")) is None


# --- a deviation that is known ---


def test_a_known_deviation_gives_the_z_test_and_the_rule_of_records(new):
    """(3.28 - 3.278) * sqrt(5) = 0.00447; at 2.5 % and sd 0.0013 it takes 1.96 * 0.0013."""
    found = by_known_deviation(judged(new(), fixed(3.28, sd=0.0013)))
    assert found.score == pytest.approx(0.002 * math.sqrt(5))
    assert found.needed == pytest.approx(stats.norm.isf(0.025) * 0.0013)
    assert found.is_under
    assert not by_known_deviation(judged(new("wide"), fixed(3.28, sd=0.01))).is_under


def test_how_many_runs_of_a_known_deviation_would_decide():
    known = KnownDeviation(0.002, 5, 0.01, 0.025)
    n = known.runs_needed
    assert KnownDeviation(0.002, n, 0.01, 0.025).is_under
    assert not KnownDeviation(0.002, n - 1, 0.01, 0.025).is_under
    assert KnownDeviation(-0.002, 5, 0.01, 0.025).runs_needed is None


def test_how_many_seeds_of_this_deviation_would_decide(new):
    family = judged(new(), fixed(3.2785))
    n, sd = seeds_that_decide(family), stats.tstd(LOSSES)
    for count, shows in ((n, True), (n - 1, False)):
        half = stats.t.isf(alpha_of_look(1), count - 1) * sd / math.sqrt(count)
        assert bool(half <= 0.0005) is shows
    assert seeds_that_decide(judged(new("over"), fixed(3.27))) is None
    assert runs_needed(1e-9, 1.0, 0.025, 5, 1000) is None


def test_with_a_failed_seed_a_known_deviation_tells_nothing(new):
    folder = new()
    folder.ended(folder.planned(seed=6), status="crashed", reason="exit code 1")
    assert by_known_deviation(judged(folder, fixed(3.28, sd=0.001))) is None


# --- the page ---

MATRIX = """
name: tiny
matrix: {{model: [gpt], optimizer: [adamw], device: [cpu], seed: [1]}}
claim: {{arm: {{model: gpt, optimizer: adamw}}, metric: val_loss_final, at_most: {at_most}{more}}}
"""


def page_of(folder: Results, tmp_path, at_most=3.2805, more="") -> str:
    arm(folder, losses=LOSSES)
    path = folder.write()
    (path / "matrix.yaml").write_text(MATRIX.format(at_most=at_most, more=more))
    assert read_asked([path]).fixed
    build_report([path], tmp_path / "report")
    return (tmp_path / "report" / "report.md").read_text().replace("\\", "")


def test_the_first_sentence_says_whether_it_is_shown(new, tmp_path):
    page = page_of(new(), tmp_path, more=", sd: 0.0013")
    lead = (
        "Final validation loss (nats per token) of gpt + adamw is at most 3.2805: shown, on 5 of 5"
    )
    assert lead in page
    assert "Its mean is 3.2780: -0.0025 from there (" in page
    assert (
        "By the deviation of a run that the claim knows, 0.0013: (target - mean) · √n is " in page
    )
    assert "### The claim: final validation loss (nats per token) is at most 3.2805" in page


def test_where_it_is_not_shown_it_says_how_many_seeds_would(new, tmp_path):
    page = page_of(new(), tmp_path, at_most=3.2785)
    assert "is at most 3.2785: not shown, on 5 of 5 planned seeds." in page
    assert "At this mean and deviation, " in page


def test_each_report_on_other_figures_is_a_look(new, tmp_path):
    folder = new()
    page_of(folder, tmp_path)
    arm(folder, losses=[3.279], first=6)
    folder.write()
    build_report([folder.path], tmp_path / "report")
    rows = (folder.path / "looks.csv").read_text().splitlines()[1:]
    assert [row.partition(",")[0] for row in rows] == ["1", "2"]


def test_what_is_claimed_tells_claims_apart(new):
    families = [judged(new(str(i)), fixed(x, sd)) for i, (x, sd) in enumerate(CLAIMS)]
    assert len({claim_fingerprint([family]) for family in families}) == len(CLAIMS)


CLAIMS = [(3.2805, None), (3.281, None), (3.281, 0.001), (3.281, 0.002)]
