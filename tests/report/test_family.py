"""From results folders to verdicts: the claim, its family, its ladders."""

import math

import pytest
from scipy.stats import pearsonr, ttest_rel

from bench.merge.asked import Asked, read_asked
from bench.records.columns import COLUMNS
from bench.report.family import baseline_of, least_seeds, make_family
from bench.statistics.ends import End
from bench.statistics.power import seeds_to_decide
from bench.statistics.verdict import ALPHA, Verdict
from tests.builders.claims import OWN, arm, claimed, losses
from tests.builders.results import LATER, Results, sections_of

CLAIM = """\
claim:
  baseline: {model: gpt, optimizer: adamw}
  metric: val_loss_final
  margin: 0.01
"""


def family_of(folder: Results, asked=None, look=1):
    [section] = sections_of(folder)
    return make_family(section, asked or claimed(), look)


# --- what was asked


def write_matrix(folder: Results, text: str) -> Results:
    folder.write()
    (folder.path / "matrix.yaml").write_text(text)
    return folder


def asked_of(*folders: Results) -> Asked:
    return read_asked([folder.path for folder in folders])


def test_the_claim_is_read_with_what_variants_are_based_on(new):
    models = "models:\n  big: {base: nanokimi, n_experts: 8}\n"
    asked = asked_of(write_matrix(new(), CLAIM + models))
    assert asked.claim == claimed().claim
    assert asked.bases == {"big": "nanokimi"}
    assert asked.note == ""


def test_a_folder_without_a_claim_agrees_with_any_other(new):
    folders = [write_matrix(new("a"), "name: x\n"), write_matrix(new("b"), CLAIM), new("c")]
    folders[2].write()  # without any matrix.yaml
    assert asked_of(*folders).claim == claimed().claim
    assert asked_of(folders[0]) == Asked(None)


def test_folders_that_claim_different_things_claim_nothing(new):
    other = CLAIM.replace("0.01", "0.02")
    asked = asked_of(write_matrix(new("a"), CLAIM), write_matrix(new("b"), other))
    assert asked.claim is None
    assert asked.note == "The folders make different claims: what follows is exploratory."


@pytest.mark.parametrize(
    "text",
    [
        "claim: {margin: 0.01}\n",
        "claim: 5\n",
        CLAIM.replace("0.01", "-1"),
        CLAIM.replace("0.01", ".inf"),
        CLAIM.replace("0.01", ".nan"),
        CLAIM.replace("val_loss_final", "losses"),
        CLAIM.replace("val_loss_final", "train_time_s").replace("0.01", "5"),  # seconds, once
        CLAIM + "  margin: 0.5\n",  # twice
        "- claim\n",
        "claim: [\n",
        "",
    ],
)
def test_a_claim_that_cannot_be_read_is_told_and_not_guessed(new, text):
    asked = asked_of(write_matrix(new("a"), text), write_matrix(new("b"), CLAIM))
    assert asked.claim is None
    what = "The matrix.yaml of a holds no claim that can be read"
    assert asked.note == f"{what}: what follows is exploratory."


def test_a_name_that_means_different_models_is_based_on_none(new):
    first = write_matrix(new("a"), "models: {big: {base: nanokimi}, wide: {base: nanogpt}}\n")
    second = write_matrix(new("b"), "models: {big: {base: nanogpt}, wide: {base: nanogpt}}\n")
    assert asked_of(first, second).bases == {"wide": "nanogpt"}
    assert asked_of(write_matrix(new("c"), "models: [1]\n")).bases == {}


# --- the family


def test_arms_are_compared_with_the_baseline_at_bonferronis_level(new):
    folder = new()
    arm(folder, optimizer="muon", losses=losses(1.9, 1))  # planned before the baseline
    arm(folder, losses=losses(2.0))
    arm(folder, model="kimi", losses=losses(1.8, -1))
    family = family_of(folder)
    assert family.baseline.label == "gpt + adamw"
    assert (family.metric, family.margin) == ("val_loss_final", 0.01)
    assert not family.exploratory
    assert [each.arm.label for each in family.comparisons] == ["gpt + muon", "kimi + adamw"]
    assert family.alpha == ALPHA / 2 / 2  # of the first look, over two comparisons
    assert family.confidence == 1 - family.alpha
    arms = (losses(1.9, 1), losses(1.8, -1))
    for comparison, figures in zip(family.comparisons, arms, strict=True):
        expected = ttest_rel(figures, losses(2.0)).confidence_interval(1 - 0.0125)
        interval = comparison.contrast.interval
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
        assert comparison.contrast.mean < 0  # arm - baseline: less loss
        assert comparison.verdict is Verdict.BETTER
        assert comparison.correlation == pytest.approx(pearsonr(figures, losses(2.0)).statistic)
        assert comparison.seeds_needed is None


def test_a_later_look_is_tested_at_less(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    arm(folder, optimizer="muon", losses=losses(1.9985, 1))
    assert [family_of(folder, look=look).alpha for look in (1, 2, 3)] == [
        ALPHA / 2,
        ALPHA / 6,
        ALPHA / 12,
    ]
    first, third = (family_of(folder, look=look).comparisons[0] for look in (1, 3))
    assert third.contrast.interval.low < first.contrast.interval.low


def test_planned_arms_without_a_figure_count_in_the_family(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    arm(folder, optimizer="muon", losses=losses(1.9, 1))
    folder.ended(folder.planned(optimizer="lion"), status="crashed")
    folder.planned(optimizer="sgd")  # open
    family = family_of(folder)
    assert family.alpha == ALPHA / 2 / 3
    assert [each.verdict for each in family.comparisons] == [
        Verdict.BETTER,
        Verdict.TOO_FEW,
        Verdict.TOO_FEW,
    ]
    assert family.comparisons[1].contrast.n == 0


def test_n_is_distinct_seeds_and_a_repeat_of_choice_moves_no_figure(new):
    first, second = new("a"), new("b")
    for folder, shift, when in ((first, 0.0, {}), (second, -0.5, LATER)):
        arm(folder, losses=losses(2.0), **when)
        arm(folder, optimizer="muon", losses=[loss + shift for loss in losses(1.9, 1)], **when)
    [section] = sections_of(first, second)
    contrast = make_family(section, claimed(), 1).comparisons[0].contrast
    assert contrast.n == 5
    expected = [a - b for a, b in zip(losses(1.9, 1), losses(2.0), strict=True)]
    assert contrast.values == pytest.approx(expected)


def test_no_verdict_on_a_loss_from_four_seeds_but_on_a_time_from_three(new):
    folder = new()
    arm(folder, losses=losses(2.0, n=4))
    arm(folder, optimizer="muon", losses=losses(1.0, 1, n=4))
    [comparison] = family_of(folder).comparisons
    assert comparison.verdict is Verdict.TOO_FEW
    assert comparison.contrast.interval is not None  # the figures are shown
    assert comparison.seeds_needed.low == 5  # not fewer, however well they agree
    least = [least_seeds(COLUMNS[name]) for name in ("perplexity", "train_time_s")]
    assert least == [5, 3]


def test_seeds_that_would_decide_are_computed_at_the_margin_and_the_next_look(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    arm(folder, optimizer="muon", losses=losses(2.0, 9))
    arm(folder, optimizer="lion", losses=losses(1.99, -9))
    for look, alpha in ((1, ALPHA / 6 / 2), (2, ALPHA / 12 / 2)):
        for comparison in family_of(folder, claimed(margin=0.005), look).comparisons:
            sd = comparison.contrast.sd
            assert comparison.verdict is Verdict.UNDECIDED
            assert comparison.seeds_needed == seeds_to_decide(sd, 5, 0.005, alpha, least=6)
    assert all(each.seeds_needed is None for each in family_of(folder, Asked(None)).comparisons)


def test_without_a_claim_the_first_arm_is_the_baseline_and_nothing_is_equivalent(new):
    folder = new()
    arm(folder, optimizer="muon", losses=losses(2.0))
    arm(folder, losses=losses(2.0, 0.01))
    family = family_of(folder, Asked(None))
    assert family.exploratory
    assert family.baseline.label == "gpt + muon"
    assert (family.metric, family.margin) == ("val_loss_final", None)
    assert [each.verdict for each in family.comparisons] == [Verdict.UNDECIDED]
    assert family_of(folder).comparisons[0].verdict is Verdict.EQUIVALENT


def test_no_family_without_a_baseline_or_with_one_arm_only(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    assert family_of(folder) is None
    arm(folder, optimizer="muon", losses=losses(2.0))
    assert family_of(folder, claimed(model="absent")) is None
    [section] = sections_of(folder)
    assert baseline_of(section, claimed(optimizer="muon")).label == "gpt + muon"


def test_a_baseline_of_two_settings_is_none(new):
    folder = new()
    for settings in ("aaaa1", "bbbb1"):
        for seed, loss in enumerate(losses(2.0), start=1):
            run_id = folder.planned(seed=seed, arm=settings)
            folder.ended(run_id, val_loss_final=loss)
    arm(folder, optimizer="muon", losses=losses(1.9))
    assert family_of(folder) is None
    assert family_of(folder, Asked(None)).baseline.arm_id == "aaaa1"
    assert family_of(folder, claimed(optimizer="muon")).ladders == ()


def test_identical_arms_and_arms_a_constant_apart(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    arm(folder, optimizer="muon", losses=losses(2.0))
    arm(folder, optimizer="lion", losses=[loss + 1e-4 for loss in losses(2.0)])
    family = family_of(folder)
    assert [each.verdict for each in family.comparisons] == [
        Verdict.IDENTICAL,
        Verdict.NOT_AVAILABLE,
    ]
    assert [each.seeds_needed for each in family.comparisons] == [None, None]
    assert not family.is_tested


@pytest.mark.parametrize("figure", ["nan", "inf", "-inf", ""])
def test_what_is_no_number_never_enters(new, figure):
    folder = new()
    arm(folder, losses=[*losses(2.0), 2.0])
    arm(folder, optimizer="muon", losses=[*losses(1.9, 1), figure])
    contrast = family_of(folder).comparisons[0].contrast
    assert set(contrast.by_seed) == {1, 2, 3, 4, 5}
    assert all(map(math.isfinite, contrast.values))


# --- seeds that failed


def end(folder: Results, optimizer: str, *seeds: int, status="diverged", **fields) -> None:
    for seed in seeds:
        folder.ended(folder.planned(optimizer=optimizer, seed=seed), status=status, **fields)


def test_seeds_are_counted_by_how_either_arm_ended_there(new):
    folder = new()
    arm(folder, losses=losses(2.0, n=3))
    arm(folder, optimizer="muon", losses=losses(1.9, n=2))
    end(folder, "muon", 3, 4, 5)
    end(folder, "adamw", 4, 6)
    end(folder, "adamw", 5, status="crashed", reason="exit code 1")
    end(folder, "muon", 6, status="crashed", reason="ended by SIGKILL")
    folder.planned(seed=7)
    folder.planned(optimizer="muon", seed=7)
    folder.planned(optimizer="muon", seed=8)  # planned for one arm alone
    [comparison] = family_of(folder).comparisons
    assert comparison.ends.count == {
        (End.FINISHED, End.FINISHED): 2,
        (End.DIVERGED, End.FINISHED): 1,
        (End.DIVERGED, End.DIVERGED): 1,
        (End.DIVERGED, End.FAILED): 1,
        (End.MISSING, End.DIVERGED): 1,
        (End.MISSING, End.MISSING): 1,
    }
    assert (comparison.ends.failed_new, comparison.ends.failed_base) == (3, 3)
    assert comparison.n_planned == 7  # for both


def test_an_arm_that_failed_more_often_is_not_better_however_low_its_loss(new):
    folder = new()
    arm(folder, losses=losses(2.0, n=6))
    arm(folder, optimizer="muon", losses=losses(1.0, 1))
    end(folder, "muon", 6)
    [comparison] = family_of(folder).comparisons
    assert comparison.verdict is Verdict.UNDECIDED
    assert comparison.judgement.why == "by the sign of 6 seeds"
    assert comparison.seeds_needed is None  # the power of a t test says nothing of signs


def test_an_arm_that_always_diverges_is_worse_by_the_sign_test(new):
    folder = new()
    arm(folder, losses=[2.0 + seed / 100 for seed in range(8)])
    end(folder, "muon", *range(1, 9))
    arm(folder, optimizer="lion", losses=[1.9 + seed / 100 for seed in range(8)])
    muon, _ = family_of(folder).comparisons
    assert muon.verdict is Verdict.WORSE  # 8 of 8: p = 0.0039, α / 2 = 0.0063
    assert (muon.judgement.why, muon.told) == ("8 of 8 seeds", "worse by sign")
    later, _ = family_of(folder, look=2).comparisons
    assert later.verdict is Verdict.UNDECIDED  # α / 2 = 0.0021


def test_an_arm_that_always_crashes_is_undecided(new):
    folder = new()
    arm(folder, losses=[2.0 + seed / 100 for seed in range(20)])
    end(folder, "muon", *range(1, 21), status="crashed", reason="exit code 1")
    [comparison] = family_of(folder).comparisons
    assert comparison.verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("figure", ["", "inf"])
def test_a_finished_loss_that_no_field_can_hold_counts_against_its_arm(new, figure):
    folder = new()
    arm(folder, losses=[2.0] * 10)
    arm(folder, optimizer="muon", losses=[1.0] * 9 + [figure])
    [comparison] = family_of(folder).comparisons
    assert comparison.ends.count[End.MISSING, End.FINISHED] == 1
    assert comparison.told == "better by sign"  # 9 of 10: p = 0.011, α / 2 = 0.0125
    arm(folder, losses=[2.0], first=11)
    arm(folder, optimizer="muon", losses=[figure], first=11)
    assert family_of(folder).comparisons[0].verdict is Verdict.UNDECIDED  # 9 of 11


def test_a_time_has_an_interval_from_three_undisturbed_seeds_on(new):
    folder = new()
    for optimizer in ("adamw", "muon"):
        for seed in (1, 2, 3):
            folder.ended(
                folder.planned(optimizer=optimizer, seed=seed),
                train_time_s=5.0 + seed / 10 + (0.2 * seed if optimizer == "muon" else 0.0),
                tainted="true" if (optimizer, seed) == ("muon", 3) else "false",
            )

    def intervals():
        [section] = sections_of(folder)
        [comparison] = make_family(section, claimed(metric="train_time_s"), 1).comparisons
        return [comparison.contrast.interval, section.arms[0].spread("train_time_s").interval]

    assert intervals() == [None, None]  # of two seeds
    folder.runs[-1]["tainted"] = "false"
    assert None not in intervals()
    for row in folder.runs:
        row["tainted"] = "true"
    assert intervals() == [None, None]  # three that were all disturbed


# --- ladders


def four_arms(folder: Results, **fields) -> Results:
    for model, optimizer, mean, own in (
        ("gpt", "adamw", 2.0, 0),
        ("gpt", "muon", 1.9, 1),
        ("kimi", "adamw", 1.7, -1),
        ("kimi", "muon", 1.65, 2),
    ):
        arm(folder, model, optimizer, losses(mean, own), **fields)
    return folder


def test_a_ladder_leads_to_every_arm_that_differs_in_both(new):
    folder = four_arms(new(), train_time_s=5.0)
    arm(folder, "big", "muon", losses(1.5))  # without a (big, adamw) below it
    family = family_of(folder)
    [ladder] = family.ladders
    assert (ladder.model, ladder.optimizer) == ("kimi", "muon")
    own = sum(OWN[:5]) / 5  # the mean of one arm's own noise
    assert ladder.by_optimizer.mean == pytest.approx(-0.1 + own)
    assert ladder.by_model.mean == pytest.approx(-0.3 - own)
    assert ladder.interaction.mean == pytest.approx(0.05 + 2 * own)
    assert ladder.whole.mean == pytest.approx(-0.35 + 2 * own)
    whole = next(each for each in family.comparisons if each.arm.label == "kimi + muon")
    assert ladder.whole.interval == whole.contrast.interval


def test_times_are_climbed_in_ratios_and_a_time_of_0_is_left_out(new):
    folder = four_arms(new())
    for row in folder.runs:
        row["train_time_s"] = 5.0 * (1 + 0.01 * row["seed"])
        row["train_time_s"] *= 2 if row["model"] == "kimi" else 1
        row["train_time_s"] *= 3 if row["optimizer"] == "muon" else 1
    folder.runs[0]["train_time_s"] = 0.0
    [ladder] = family_of(folder).time_ladders
    assert ladder.whole.relative
    assert set(ladder.whole.by_seed) == {2, 3, 4, 5}
    assert math.exp(ladder.by_optimizer.mean) == pytest.approx(3)
    assert math.exp(ladder.by_model.mean) == pytest.approx(2)
    assert ladder.interaction.mean == pytest.approx(0, abs=1e-12)
    assert ladder.interaction.interval is None  # rounding is no variance


def test_a_claim_on_time_is_in_ratios_and_so_is_its_one_ladder(new):
    folder = four_arms(new())
    family = family_of(folder, claimed(metric="train_time_s"))
    assert [ladder.whole.relative for ladder in family.ladders] == [True]
    assert family.time_ladders == ()
    assert family.comparisons[0].contrast.relative
    assert family.limit == pytest.approx(math.log(1.01))  # its margin is a share
