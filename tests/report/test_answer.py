"""The report's first screen: the verdict, the ladder, what a target costs, each as it is worded."""

import re

import pytest

from bench.merge.asked import read_asked
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.report.build import build_report
from bench.report.family import make_family
from bench.report.page.headline import headline
from bench.report.targets import target_of, to_target
from bench.statistics.power import seeds_to_decide
from bench.statistics.text import of_loss, of_measure, write_signed
from bench.statistics.verdict import alpha_of_look
from tests.builders.answers import CLAIM, NOISE, Answer
from tests.builders.results import TENTHS, Results

BASE = ("nanogpt", "adamw")
CORNERS = {
    BASE: 2.0,
    ("nanogpt", "truemuon"): 2.001,
    ("nanokimi", "adamw"): 1.9,
    ("nanokimi", "truemuon"): 1.95,
}


def factorial(results: Results, corners=CORNERS, seeds=5, **fields) -> Results:
    for arm, (corner, loss) in enumerate(corners.items()):
        for seed in range(1, seeds + 1):
            run_id = results.planned(*corner, seed=seed)
            noise = 0.0 if corner == BASE else NOISE[(seed * (arm + 1)) % 5]
            size = 100_000 if corner[0] == "nanogpt" else 133_000
            end = loss + 0.01 * seed + noise
            seconds = 100.0 * (1 + arm) * (1 + noise)
            figures = {"val_loss_final": end, "train_time_s": seconds, "n_params": size}
            results.ended(run_id, **figures | fields)
            results.curve(run_id, [(s, seconds * s / 100, end + 1 - s / 100) for s in TENTHS])
    return results


def test_the_first_sentence_gives_each_arms_verdict(new):
    answer = Answer(factorial(new()))
    assert answer.headline.lead == (
        "Final validation loss (nats per token) against nanogpt + adamw, margin 0.01: "
        "nanokimi + adamw and nanokimi + truemuon are better, nanogpt + truemuon is equivalent, "
        "each on 5 of 5 planned seeds, at these learning rates: nothing was tuned here."
    )


def test_what_became_of_the_other_seeds_is_in_the_first_sentence(new):
    folder = factorial(new(), seeds=20)
    for row in folder.runs:
        kimi, muon = row["model"] == "nanokimi", row["optimizer"] == "truemuon"
        if row["seed"] > 10 and not (kimi and muon):
            row |= {"status": "diverged", "val_loss_final": None}
        if kimi and muon and row["seed"] in (1, 2):
            row |= {"status": "crashed", "reason": "exit code 1", "val_loss_final": None}
    for corner in CORNERS:
        folder.planned(*corner, seed=21)
    lead = Answer(folder).headline.lead.partition("margin 0.01: ")[2]
    assert lead == (
        "nanokimi + adamw is better, nanogpt + truemuon is undecided on 10 of 21 planned seeds, "
        "10 diverged in both, 1 run in neither; "
        "nanokimi + truemuon is better on 8 of 21 planned seeds, 2 failed in this configuration, "
        "10 diverged in the baseline, 1 run in neither, "
        "at these learning rates: nothing was tuned here."
    )


def test_the_points_say_by_how_much_and_what_did_it(new):
    points = Answer(factorial(new())).headline.points
    assert points[0].startswith("nanokimi + adamw: -0.1000 (99.17 % interval -0.10")
    assert points[0].endswith(", better; up to 45 % bad runs not ruled out")
    told = re.sub(r" \([-+0-9.]+ to [-+0-9.]+\)", "", points[3])
    assert told != points[3]  # each with its interval
    assert told == (
        "Model or optimizer? From nanogpt + adamw to nanokimi + truemuon the difference is "
        "-0.0500. The optimizer alone: +0.0010; the model alone (mixture, SwiGLU, 33 % more "
        "parameters): -0.1000; what only both together do: +0.0490."
    )


def test_the_ladder_climbs_in_differences_and_in_ratios_of_time(new):
    rows = Answer(factorial(new())).table("Model or optimizer?")
    assert [row["contrast"] for row in rows] == [
        "optimizer alone",
        "model alone",
        "interaction",
        "whole difference",
    ]
    differences = [float(row["difference, final validation loss (nats per token)"]) for row in rows]
    assert differences == pytest.approx([0.001, -0.1, 0.049, -0.05])
    assert sum(differences[:3]) == pytest.approx(differences[3])
    assert [row["verdict"] for row in rows] == ["equivalent", "better", "exploratory", "better"]
    times = [float(row["training time"].removesuffix(" %")) for row in rows]
    # Arms take 1, 2, 3 and 4 times as long: x 2 by the optimizer, x 3 by the model, x 4 in all.
    assert times == pytest.approx([100, 200, 100 * (4 / 6 - 1), 300], rel=0.005)


def test_a_variants_base_says_what_its_bundle_is(new):
    corners = {
        (model.replace("kimi", "kimi-8"), opt): loss for (model, opt), loss in CORNERS.items()
    }
    variant = CLAIM % "" + "models: {nanokimi-8: {base: nanokimi, n_experts: 8}}\n"
    rows = Answer(factorial(new("a"), corners), variant).table("Model or optimizer?")
    bundle = "nanogpt → nanokimi-8 (mixture, SwiGLU, 33 % more parameters), under adamw"
    assert rows[1]["what changes"] == bundle
    rows = Answer(factorial(new("b"), corners)).table("Model or optimizer?")
    assert rows[1]["what changes"] == "nanogpt → nanokimi-8 (33 % more parameters), under adamw"


def test_without_a_claim_it_is_exploratory_and_nothing_is_equivalent(new):
    answer = Answer(factorial(new()), claim=None)
    assert answer.headline.lead.startswith("No claim was made before the run. Exploratory, final")
    assert "margin" not in answer.headline.lead
    verdicts = [
        row["verdict"] for row in answer.table("Every configuration against the first (explo")
    ]
    assert verdicts == ["undecided", "better", "better"]


def test_few_seeds_are_shown_without_a_verdict(new):
    answer = Answer(factorial(new(), seeds=4))
    assert answer.headline.lead.endswith("have no verdict yet, each on 4 of 4 planned seeds.")
    rows = answer.table("The claim")
    assert {row["verdict"] for row in rows} == {"no verdict"}
    assert {row["remark"] for row in rows} == {"4 pairs of seeds; a verdict needs 5"}
    assert all(re.fullmatch(r"-?\+?0\.\d{4} to [+-]0\.\d{4}", each) for each in intervals(rows))


def intervals(rows: list[dict[str, str]]) -> list[str]:
    return [row["interval (99.17 %)"] for row in rows]


def test_seeds_that_would_decide_are_told_while_undecided(new):
    noisy = factorial(new())
    for row in noisy.runs:
        if row["optimizer"] == "truemuon":
            row["val_loss_final"] += 0.05 * (-1) ** row["seed"]
    rows = {row["configuration"]: row for row in Answer(noisy).table("The claim")}
    assert rows["nanogpt + truemuon"]["verdict"] == "undecided"
    low, high = rows["nanogpt + truemuon"]["seeds that would decide"].replace(",", "").split(" to ")
    assert 5 < int(low) < int(high)
    assert rows["nanokimi + adamw"]["seeds that would decide"] == ""
    (decided, *_) = Answer(factorial(new("decided"))).table("The claim")
    assert not {"seeds that would decide", "remark"} & set(decided)


def test_many_arms_are_counted_and_the_best_named(new):
    folder = new()
    for arm in range(12):
        for seed in range(1, 6):
            run_id = folder.planned("nanogpt", "adamw" if arm == 0 else f"opt{arm}", seed)
            noise = NOISE[(seed * (1 + arm % 4)) % 5] if arm else 0.0
            folder.ended(run_id, val_loss_final=2.0 - 0.05 * (arm % 3) + 0.1 * seed + noise)
    answer = Answer(folder)
    # Arms 3, 6 and 9 end where the baseline does, 1, 4, 7, 10 lie 0.05 below it, the others 0.1.
    lead = answer.headline.lead
    told = "8 of 11 configurations are better, 3 of 11 configurations are equivalent"
    assert f"{told}, on 5 of 5 planned seeds" in lead
    named = [point.partition(":")[0] for point in answer.headline.points]
    assert sorted(named[:4]) == sorted(f"nanogpt + opt{arm}" for arm in (2, 5, 8, 11))
    assert named[6] == "These 6 differ most; all 11 are in the table below."


@pytest.mark.parametrize(
    ("corners", "says"),
    [
        (
            [("nanokimi", "adamw")],
            "nanogpt + adamw, the claim's baseline, is not among the configurations here",
        ),
        ([BASE], "nanogpt + adamw, the claim's baseline, is the only configuration here"),
    ],
)
def test_what_cannot_be_compared_is_said(new, corners, says):
    answer = Answer(factorial(new(), {corner: CORNERS[corner] for corner in corners}))
    assert answer.family is None
    assert says in answer.headline.lead


def test_two_arms_of_the_baselines_names_are_no_baseline(new):
    folder = factorial(new())
    folder.ended(folder.planned(*BASE, seed=1, arm="another"))
    answer = Answer(folder)
    assert "2 configurations are called nanogpt + adamw" in answer.headline.lead


def test_a_seed_that_diverges_keeps_an_arm_from_being_better(new):
    folder = factorial(new(), seeds=6)
    lost = next(
        row
        for row in folder.runs
        if (row["model"], row["optimizer"], row["seed"]) == ("nanokimi", "adamw", 2)
    )
    lost |= {"status": "diverged", "val_loss_final": None}
    answer = Answer(folder)
    row = next(
        each for each in answer.table("The claim") if each["configuration"] == "nanokimi + adamw"
    )
    assert (row["verdict"], row["remark"]) == (
        "undecided",
        "by the sign of 6 seeds",
    )
    assert "nanokimi + truemuon is better" in answer.headline.lead


def test_a_claim_on_time_climbs_in_ratios_alone(new):
    claim = CLAIM.replace("val_loss_final, margin: 0.01", "train_time_s, margin: 0.05") % ""
    answer = Answer(factorial(new()), claim)
    assert answer.headline.lead.startswith(
        "Training time (s) against nanogpt + adamw, margin 5 %: nanogpt + truemuon,"
    )
    assert answer.headline.lead.endswith("are worse (slower), each on 5 of 5 planned seeds.")
    rows = answer.table("Model or optimizer?")
    assert "training time" not in rows[0]  # once is enough
    changes = [float(row["change, training time (s)"].removesuffix(" %")) for row in rows]
    assert changes == pytest.approx([100, 200, -33.3, 300], rel=0.005)


def test_disturbed_times_decide_no_claim(new):
    claim = CLAIM.replace("val_loss_final, margin: 0.01", "train_time_s, margin: 0.05") % ""
    answer = Answer(factorial(new("every"), tainted="true", taint_reasons="swap 5%"), claim)
    assert answer.headline.lead.endswith("cannot be compared, each on 5 of 5 planned seeds.")
    assert "every seed was disturbed from outside" in answer.headline.points[0]
    partly = factorial(new("some"))
    for row in partly.runs:
        row["tainted"] = "true" if row["seed"] == 2 else "false"
    assert "Times are without seed 2: disturbed." in Answer(partly, claim).headline.points


def test_a_step_over_fewer_seeds_has_no_verdict(new):
    folder = factorial(new(), seeds=6)
    for row in folder.runs:
        if (row["optimizer"], row["model"], row["seed"]) == ("truemuon", "nanogpt", 6):
            row |= {"status": "crashed", "val_loss_final": None}
    answer = Answer(folder)
    verdicts = [row["verdict"] for row in answer.table("Model or optimizer?")]
    assert verdicts == ["undecided", "see the claim", "exploratory", "see the claim"]
    assert ", over the 5 seeds that all four have. " in answer.headline.points[3]


def test_what_one_seed_shows_is_not_in_the_headline(new):
    assert not any(
        "Model or" in point for point in Answer(factorial(new(), seeds=1)).headline.points
    )


def test_a_loss_that_no_field_holds_makes_no_arm_better(new):
    folder = factorial(new(), seeds=7)
    for row in folder.runs:
        seed, with_muon = row["seed"], row["optimizer"] == "truemuon"
        row["perplexity"] = (
            7.0 - with_muon * (1 + 0.01 * (seed % 4)) - 0.01 * (seed * len(row["model"]) % 5)
        )
        if (row["optimizer"], row["seed"]) == ("truemuon", 2):
            row["perplexity"] = None
    claim = CLAIM.replace("val_loss_final", "perplexity") % ""
    rows = Answer(folder, claim).table("The claim")
    assert rows[0]["verdict"] == "undecided"
    assert rows[0]["remark"] == "by the sign of 7 seeds"


def test_a_small_margin_is_told_from_none(new):
    lead = Answer(factorial(new()), CLAIM.replace("0.01", "0.00002") % "").headline
    assert "margin 2e-05:" in lead.lead
    assert lead.points[-2].startswith("nanogpt + truemuon: +0.001000 (")


def test_folders_that_claim_different_things_are_exploratory_and_say_why(new):
    one = Answer(factorial(new("a")))
    other = factorial(new("b"), seeds=1)
    folders = [one_of.write() for one_of in (factorial(new("a")), other)]
    (folders[1] / "matrix.yaml").write_text(CLAIM.replace("0.01", "0.02") % "")
    asked = read_asked(folders)
    family = make_family(one.section, asked, look=1)
    lead = headline(one.section, [family], asked, "").lead
    assert lead.startswith("The folders make different claims: what follows is exploratory. Final")


def test_a_ratio_that_few_seeds_leave_open_is_not_spelled_out(new):
    folder = factorial(new(), seeds=3)
    for row in folder.runs:
        row["train_time_s"] *= 10.0 ** (row["seed"] * len(row["model"]) % 5)
    (time,) = {row["interval (99.17 %)"] for row in Answer(folder).table("Model")[1:2]}
    assert time.endswith(" % to over 1,000 times")


def test_a_look_that_tests_nothing_does_not_raise_what_the_next_one_needs(new):
    noisy = factorial(new(), seeds=4)
    for row in noisy.runs:
        if row["optimizer"] == "truemuon":
            row["val_loss_final"] += 0.05 * (-1) ** row["seed"]
    family = Answer(noisy).family
    first = family.comparisons[0]
    alpha = alpha_of_look(1) / 3
    assert first.seeds_needed == seeds_to_decide(first.contrast.sd, 4, 0.01, alpha, least=5)


def test_a_verdict_by_sign_says_so_everywhere(new):
    folder = factorial(new(), seeds=8)
    for row in folder.runs:
        if (row["model"], row["optimizer"], row["seed"]) == (*BASE, 3):
            row |= {"status": "diverged", "val_loss_final": None}
    answer = Answer(folder)
    row = next(
        each for each in answer.table("The claim") if each["configuration"] == "nanokimi + adamw"
    )
    assert row["verdict"] == "better by sign"
    told = "better by sign (8 of 8 seeds); up to 31 % bad runs not ruled out"
    assert answer.headline.points[0].endswith(told)
    assert "seeds are tested by their sign" in answer.tables[0].note


# --- targets


def test_the_target_is_the_claims_or_the_worst_seed_of_the_worst_arm(new):
    answer = Answer(factorial(new("a")))
    ends = [arm.spread("val_loss_final").by_seed for arm in answer.section.arms]
    assert target_of(answer.section, answer.asked) == max(ends[1].values())
    answer = Answer(factorial(new("b")), CLAIM % ", target: 2.5")
    assert target_of(answer.section, answer.asked) == 2.5
    assert any("2.5000, the claim's target" in table.caption for table in answer.tables)


def test_a_target_is_reached_where_it_is_first_held(new):
    answer = Answer(factorial(new()), CLAIM % ", target: 2.425")
    # A loss falls by 0.1 each 10 steps, from 3.0 + 0.01 seed for the baseline: seeds 1 and 2 are at
    # 2.41 and 2.42 after 60 steps, the others hold it from 70 on.
    base = to_target(answer.section, 2.425)[0]
    assert base.steps.by_seed == {1: 60, 2: 60, 3: 70, 4: 70, 5: 70}
    assert base.tokens.median == 700
    assert base.seconds.median == 70.0
    row = answer.table("Until a validation loss of 2.4250")[0]
    assert (row["seeds that reached it"], row["steps"], row["tokens"]) == ("5 of 5", "70", "700")


def test_a_miss_and_a_divergence_are_not_reached(new):
    folder = factorial(new())
    folder.ended(folder.planned(*BASE, seed=6), "diverged")
    answer = Answer(folder, CLAIM % ", target: 2.035")
    base = to_target(answer.section, 2.035)[0]
    # Ends are 2.01 ... 2.05, only the last evaluation of three seeds is below the target.
    assert base.steps.by_seed == dict.fromkeys(range(1, 7))
    row = answer.table("Until a validation loss of 2.0350")[0]
    assert (row["seeds that reached it"], row["steps"]) == ("0 of 6", "not reached")


def test_a_seed_that_diverged_in_one_folder_and_finished_in_another_is_a_miss(new):
    first = factorial(new("a"))
    for row in first.runs:
        if (row["model"], row["optimizer"], row["seed"]) == (*BASE, 2):
            row |= {"status": "diverged", "val_loss_final": None}
    second = factorial(new("b"))
    (section,) = make_sections(merge([first.write(), second.write()]))
    assert to_target(section, 2.425)[0].steps.by_seed[2] is None
    second.curves.clear()
    (section,) = make_sections(merge([second.write()]))
    assert 2 not in to_target(section, 2.425)[0].steps.by_seed  # how it went is not known: no miss


def test_a_seed_whose_times_do_not_count_is_no_miss_in_time(new):
    folder = factorial(new())
    for row in folder.runs:
        if row["seed"] == 2:
            row["tainted"] = "true"
            if (row["model"], row["optimizer"]) == BASE:
                row |= {"status": "diverged", "val_loss_final": None}
    answer = Answer(folder, CLAIM % ", target: 2.425")
    base = to_target(answer.section, 2.425)[0]
    assert base.steps.by_seed == {1: 60, 2: None, 3: 70, 4: 70, 5: 70}
    assert sorted(base.seconds.by_seed) == [1, 3, 4, 5]
    row = answer.table("Until a validation loss of 2.4250")[0]
    assert row["seeds that reached it"] == "4 of 5"
    assert row["training time (s)"].endswith(" (4 of 4)")


# --- looks, through a whole report


def report_of(results: Results) -> str:
    folder = results.write()
    (folder / "matrix.yaml").write_text(CLAIM % "")
    build_report([folder], folder / "report")
    return (folder / "report" / "report.md").read_text()


@pytest.mark.slow
def test_a_look_at_other_figures_is_counted_and_tested_more_strictly(new):
    assert "98.33 %" not in report_of(factorial(new(), seeds=4))
    assert not (new().path / "looks.csv").exists()  # no verdict: nothing was spent
    first = report_of(factorial(new(), seeds=5))
    assert "This is interim look 1 of those" in first
    assert "(99.17 %)" in first
    assert report_of(factorial(new(), seeds=5)) == first
    second = report_of(factorial(new(), seeds=6))
    assert (
        "This is interim look 2 of those that looks.csv notes, tested at 0.05 / (2 × 3)" in second
    )
    assert "(99.72 %)" in second
    assert len((new().path / "looks.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0.00123, of_loss, "+0.0012"),
        (-0.04, of_loss, "-0.0400"),
        (-0.00001, of_loss, "0.0000"),
        (12.345, of_measure, "+12.3"),
        (-1234.5, of_measure, "-1,234"),
        (0.0, of_measure, "0"),
    ],
)
def test_differences_have_a_sign(value, decimals, text):
    assert write_signed(value, decimals) == text
