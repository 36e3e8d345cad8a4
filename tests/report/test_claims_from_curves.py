"""Claims at equal cost, to a target and of the last evaluations: verdicts, families, words."""

import math

import pytest
from scipy import stats

from bench.matrix.claim_forms import Claim
from bench.merge.asked import Asked, read_asked
from bench.merge.from_curves import with_curves
from bench.report.build import build_report
from bench.report.family import family_at_equal_cost, make_family
from bench.report.looks import claim_fingerprint
from bench.report.page.headline import headline, rests_on
from bench.statistics.ends import End
from bench.statistics.verdict import Verdict, alpha_of_look
from tests.builders.claims import NOISE, OWN
from tests.builders.results import Results, sections_of

TENTHS = range(0, 101, 10)
SEEDS = 5


def claim(metric: str, *also: dict, margin=0.01, **terms) -> Asked:
    baseline = {"model": "gpt", "optimizer": "adamw"}
    first = {"baseline": baseline, "metric": metric, "margin": margin, **terms}
    return Asked(Claim.model_validate({**first, "also": list(also)}))


def run(folder: Results, optimizer: str, seed: int, final: float, each_s: float, **fields) -> None:
    """One run of 100 steps, evaluated every ten, whose loss falls from 4.5 to about `final`."""
    run_id = folder.planned(optimizer=optimizer, seed=seed)
    folder.ended(run_id, val_loss_final=final, train_time_s=100 * each_s, **fields)
    ends = final - 2.5 * math.exp(-100 / 15)
    folder.curve(run_id, [(s, s * each_s, ends + 2.5 * math.exp(-s / 15)) for s in TENTHS])


def arms(folder: Results, n=SEEDS, muon=-0.05, slower=1.0, **fields) -> Results:
    """adamw, and muon that ends lower by so much and takes so many times longer for a step."""
    for seed in range(1, n + 1):
        noise = NOISE[seed % 6]
        run(folder, "adamw", seed, 2.0 + noise, 0.05, **fields)
        run(folder, "muon", seed, 2.0 + noise + muon + OWN[seed % 6], 0.05 * slower, **fields)
    return folder


def compared(folder: Results, asked: Asked, look: int = 1):
    (section,) = sections_of(folder)
    section = with_curves(section, [terms for terms in asked.claims if terms])
    families = [make_family(section, asked, look, terms) for terms in asked.claims]
    return section, families


def verdicts(folder: Results, asked: Asked) -> list[Verdict]:
    return [each.comparisons[0].verdict for each in compared(folder, asked)[1]]


def test_a_gain_at_equal_steps_may_be_a_loss_at_equal_time(new):
    folder = arms(new(), muon=-0.02, slower=2.0)
    assert verdicts(folder, claim("val_loss_final")) == [Verdict.BETTER]
    assert verdicts(folder, claim("val_loss_at_equal_time")) == [Verdict.WORSE]


def test_the_interval_at_equal_cost_is_students_over_the_pairs_read_there(new):
    """muon is read half-way through its training: at 50 of its 100 steps."""
    folder = arms(new(), slower=2.0)
    _, (family,) = compared(folder, claim("val_loss_at_equal_time"))
    by = {(row["run_id"], row["step"]): row["val_loss"] for row in folder.curves}
    pairs = [by[f"gpt/muon/cpu#{s}", 50] - by[f"gpt/adamw/cpu#{s}", 100] for s in range(1, 6)]
    mean, error = sum(pairs) / 5, stats.sem(pairs)
    wanted = stats.t.interval(1 - alpha_of_look(1), 4, loc=mean, scale=error)
    contrast = family.comparisons[0].contrast
    assert (contrast.interval.low, contrast.interval.high) == pytest.approx(wanted)


def test_a_cost_to_a_target_is_a_ratio(new):
    folder = arms(new(), muon=-0.3)
    _, (family,) = compared(folder, claim("steps_to", target=2.1, margin=0.05))
    (found,) = family.comparisons
    assert family.relative
    assert found.verdict is Verdict.BETTER
    assert found.contrast.is_paired
    ratios = [
        _reached(folder, "muon", s, 2.1) / _reached(folder, "adamw", s, 2.1) for s in range(1, 6)
    ]
    assert found.contrast.mean == pytest.approx(sum(map(math.log, ratios)) / 5)


def _reached(folder: Results, optimizer: str, seed: int, target: float) -> int:
    run_id = f"gpt/{optimizer}/cpu#{seed}"
    rows = (row for row in folder.curves if row["run_id"] == run_id)
    return min(row["step"] for row in rows if row["val_loss"] <= target)


def test_whoever_misses_a_target_that_the_other_reaches_has_lost(new):
    """9 of 9 seeds are enough for a sign test at the first look of one comparison; 5 are not."""
    asked = claim("steps_to", target=1.99, margin=0.05)
    folder = arms(new(), n=9, muon=-0.2)
    _, (family,) = compared(folder, asked)
    (found,) = family.comparisons
    assert found.ends.count[End.FINISHED, End.MISSED] > 0
    assert found.verdict is Verdict.BETTER
    assert "short of the target in the baseline" in rests_on(found)
    assert verdicts(arms(new("few"), n=5, muon=-0.2), asked) == [Verdict.UNDECIDED]


def test_whoever_misses_a_target_more_often_is_never_better(new):
    folder = arms(new(), n=9, muon=-0.2)
    for row in folder.curves:
        if row["run_id"] in ("gpt/muon/cpu#1", "gpt/muon/cpu#2"):
            row["val_loss"] += 1.0
    found = verdicts(folder, claim("steps_to", target=2.03, margin=0.05))
    assert found == [Verdict.UNDECIDED]


def test_a_target_that_neither_reaches_is_no_pair(new):
    _, (family,) = compared(arms(new()), claim("steps_to", target=1.0, margin=0.05))
    (found,) = family.comparisons
    assert found.ends.count == {(End.MISSED, End.MISSED): SEEDS}
    assert found.ends.against_better() == (0, 0)
    assert found.verdict is Verdict.UNDECIDED


def test_a_disturbed_seed_is_no_pair_at_equal_time_and_one_at_equal_operations(new):
    folder = arms(new(), n=6)
    folder.runs[1] |= {"tainted": "true", "taint_reasons": "cpu_steal 3%"}
    for metric, n in (("val_loss_at_equal_time", 5), ("val_loss_at_equal_flops", 6)):
        _, (family,) = compared(folder, claim(metric))
        assert family.comparisons[0].contrast.n == n
        assert family.comparisons[0].verdict is Verdict.BETTER


def test_disturbed_in_every_seed_there_is_no_verdict_at_equal_time(new):
    folder = arms(new(), tainted="true", taint_reasons="cpu_steal 3%")
    _, (family,) = compared(folder, claim("val_loss_at_equal_time"))
    found = family.comparisons[0].judgement
    assert (found.verdict, found.why) == (
        Verdict.NOT_AVAILABLE,
        "every seed was disturbed from outside",
    )


def test_a_budget_beyond_the_end_of_a_run_gives_no_verdict(new):
    _, (family,) = compared(arms(new()), claim("val_loss_at_equal_time", budget=6.0))
    found = family.comparisons[0].judgement
    assert (found.verdict, found.why) == (Verdict.NOT_AVAILABLE, "10 of 10 runs end before that")


def test_a_failed_seed_is_lost_at_equal_cost_as_anywhere(new):
    folder = arms(new())
    run_id = folder.planned(optimizer="muon", seed=6)
    folder.ended(run_id, status="crashed", reason="exit code 1")
    run(folder, "adamw", 6, 2.0, 0.05)
    assert verdicts(folder, claim("val_loss_at_equal_flops")) == [Verdict.UNDECIDED]


def test_a_finished_run_without_a_curve_counts_against_its_arm(new):
    folder = arms(new())
    folder.curves = [row for row in folder.curves if row["run_id"] != "gpt/muon/cpu#1"]
    _, (family,) = compared(folder, claim("val_loss_at_equal_flops"))
    assert family.comparisons[0].ends.count[End.MISSING, End.FINISHED] == 1


# --- several claims ---

EQUAL_TIME = {"metric": "val_loss_at_equal_time", "margin": 0.01}


def test_claims_share_the_level_of_a_look(new):
    folder = arms(new())
    _, alone = compared(folder, claim("val_loss_final"))
    _, both = compared(folder, claim("val_loss_final", EQUAL_TIME))
    assert [family.alpha for family in both] == [alone[0].alpha / 2] * 2
    assert {family.look for family in both} == {1}


@pytest.mark.slow
def test_all_claims_make_one_look(new, tmp_path):
    folder = arms(new()).write()
    (folder / "matrix.yaml").write_text(MATRIX.format(also=ALSO))
    for _ in range(2):
        build_report([folder], tmp_path / "report")
    (row,) = (folder / "looks.csv").read_text().splitlines()[1:]
    assert row.split(",")[2] == "val_loss_final val_loss_at_equal_time"


def test_what_is_claimed_of_a_figure_tells_claims_apart(new):
    folder = arms(new())
    found = {
        claim_fingerprint(compared(folder, asked)[1])
        for asked in (
            claim("val_loss_at_equal_time"),
            claim("val_loss_at_equal_time", budget=4.0),
            claim("val_loss_at_equal_time", budget=3.0),
            claim("val_loss_tail", tail=3),
            claim("val_loss_tail", tail=4),
        )
    }
    assert len(found) == 5


MATRIX = """
name: tiny
matrix: {{model: [gpt], optimizer: [adamw], device: [cpu], seed: [1]}}
claim:
  baseline: {{model: gpt, optimizer: adamw}}
  metric: val_loss_final
  margin: 0.01
{also}
"""
ALSO = """\
  also:
  - {metric: val_loss_at_equal_time, margin: 0.01}
"""


def page_of(folder: Results, tmp_path, also: str) -> str:
    path = folder.write()
    (path / "matrix.yaml").write_text(MATRIX.format(also=also))
    assert read_asked([path]).claim, "it cannot be read"
    build_report([path], tmp_path / "report")
    return (tmp_path / "report" / "report.md").read_text()


def test_the_page_tells_every_claim(new, tmp_path):
    page = page_of(arms(new(), muon=-0.02, slower=2.0), tmp_path, ALSO)
    assert "Also claimed, validation loss at equal training time (nats per token, at 5.00 s" in page
    assert "gpt + muon is worse on 5 of 5 planned seeds." in page
    assert "for 1 comparison of each of 2 claims" in page
    header, *rows = (tmp_path / "report" / "summary.csv").read_text().splitlines()
    assert "val_loss_at_equal_time_mean" in header
    assert len(rows) == 2


@pytest.mark.slow
def test_a_further_claim_that_no_run_has_is_told(new, tmp_path):
    page = page_of(arms(new()), tmp_path, "  also: [{metric: gpu_energy_j, margin: 0.05}]")
    assert "Also claimed, and not tested: no run here has gpu_energy_j." in page.replace("\\", "")


# --- at equal steps, and at equal cost ---


def first_words(folder: Results, asked: Asked):
    section, families = compared(folder, asked)
    at_cost = family_at_equal_cost(section, asked, families[0])
    return headline(section, families, asked, "", at_cost), at_cost


def test_where_a_gain_is_gone_at_equal_cost_the_first_sentence_says_so(new):
    folder = arms(new(), muon=-0.02)
    for row in folder.runs:
        row["optimizer_flops_per_step"] = 300 if row["optimizer"] == "muon" else 100
    found, at_cost = first_words(folder, claim("val_loss_final"))
    assert at_cost.metric == "val_loss_at_equal_flops"
    assert at_cost.exploratory
    assert "gpt + muon is better on 5 of 5 planned seeds" in found.lead
    assert (
        "; at equal operations, which was not claimed, gpt + muon would be worse (+" in found.lead
    )
    (told,) = [point for point in found.points if point.startswith("At equal operations (at ")]
    assert "gpt + muon +" in told


def test_a_claim_at_equal_cost_that_comes_out_otherwise_is_in_the_first_sentence(new):
    folder = arms(new(), muon=-0.02, slower=2.0)
    found, at_cost = first_words(folder, claim("val_loss_final", EQUAL_TIME))
    assert at_cost is None
    assert "; at equal training time gpt + muon is worse (+" in found.lead


def test_where_both_agree_the_first_sentence_says_nothing_of_it(new):
    found, _ = first_words(arms(new(), muon=-0.5), claim("val_loss_final"))
    assert "which was not claimed" not in found.lead
    assert any(point.startswith("At equal operations (at ") for point in found.points)


@pytest.mark.parametrize("metric", ["perplexity", "bits_per_char", "bits_per_byte"])
def test_at_equal_cost_it_is_in_the_claims_own_unit(metric, new):
    convert = math.exp if metric == "perplexity" else lambda loss: loss / math.log(2) / 3.3
    folder = arms(new(), muon=-0.1, slower=1.5)
    for row in folder.runs:
        row["optimizer_flops_per_step"] = 50 if row["optimizer"] == "muon" else 10
        row[metric] = convert(float(row["val_loss_final"]))
    _, in_nats = first_words(folder, claim("val_loss_final"))
    _, at_cost = first_words(folder, claim(metric))
    (expected,), (found,) = in_nats.comparisons, at_cost.comparisons
    nats = expected.arm.claimed[in_nats.metric]
    assert found.arm.claimed[at_cost.metric] == pytest.approx(
        {seed: convert(loss) for seed, loss in nats.items()}
    )
    assert found.contrast.mean != pytest.approx(expected.contrast.mean)


def test_without_operations_it_is_training_time(new):
    folder = arms(new(), muon=-0.02, slower=2.0, flops_per_token=None)
    found, at_cost = first_words(folder, claim("val_loss_final"))
    assert at_cost.metric == "val_loss_at_equal_time"
    assert "at equal training time, which was not claimed, gpt + muon would be worse" in found.lead


@pytest.mark.parametrize(
    "asked",
    [claim("val_loss_at_equal_flops"), claim("val_loss_final", EQUAL_TIME), claim("train_time_s")],
)
def test_it_is_told_once_and_of_losses_alone(new, asked):
    assert first_words(arms(new()), asked)[1] is None


def test_equal_cost_is_no_further_comparison_of_the_family(new):
    section, (family,) = compared(arms(new()), claim("val_loss_final"))
    family_at_equal_cost(section, claim("val_loss_final"), family)
    assert family.alpha == alpha_of_look(1)


def test_the_forest_shows_both_on_one_axis(new, tmp_path):
    page = page_of(arms(new(), muon=-0.02), tmp_path, "").replace("\\", "")
    (alt,) = [line for line in page.splitlines() if line.startswith("![Forest plot")]
    assert "Difference in final validation loss" in alt
    assert "The same at equal operations." in alt
    assert "what the verdicts would be there, where nothing was claimed of it" in page
