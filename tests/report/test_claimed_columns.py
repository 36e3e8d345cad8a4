"""A claim may be about any measured column: each with its words, its scale and its direction."""

import html
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.records.columns import COLUMNS, METRICS, is_relative
from bench.records.kinds import FIGURE, LOSS, TIMING
from bench.records.programs import OURS
from bench.report.build import build_report
from bench.report.family import make_family
from bench.report.page.headline import headline
from bench.report.page.markdown import escape
from bench.report.words import metric_words
from bench.statistics.contrast import difference
from bench.statistics.ends import End, Ends
from bench.statistics.verdict import Verdict, judge
from tests.builders.claims import NOISE, OWN, claimed
from tests.builders.results import Results, sections_of

MATRIX = """
name: tiny
matrix: {model: [gpt], optimizer: [adamw], device: [cuda], seed: [1]}
claim: {baseline: {model: gpt, optimizer: adamw}, metric: %s, margin: 0.05}
"""
# An arm -> what its figure is of the baseline's; each has some noise of its own.
PLANTED = {"adamw": 1.0, "muon": 0.8, "lion": 1.2, "sgd": 1.0}
LOSS_WORDS = ("", "")
# (column, the baseline's figure, the first words of the page, what better and worse are)
CLAIMS = [
    ("val_loss_final", 2.0, "Final validation loss (nats per token)", LOSS_WORDS),
    ("bits_per_char", 2.0, "Bits per character", LOSS_WORDS),
    ("bits_per_byte", 2.0, "Bits per byte", LOSS_WORDS),
    ("step_time_ms_p50", 12.0, "Median step time (ms)", (" (faster)", " (slower)")),
    ("tokens_per_s", 9000.0, "Training throughput (tokens/s)", (" (higher)", " (lower)")),
    ("host_rss_peak_mib", 300.0, "Peak host memory (MiB)", (" (less)", " (more)")),
    ("gpu_energy_j", 800.0, "GPU energy (J)", (" (less)", " (more)")),
]


def planted(folder: Results, metric: str, base: float, seeds: int = 5) -> Results:
    for place, (optimizer, share) in enumerate(PLANTED.items()):
        for index in range(seeds):
            own = OWN[(index + place) % 6] if place else 0.0
            run_id = folder.planned(optimizer=optimizer, seed=index + 1, device="cuda")
            folder.ended(run_id, **{metric: base * (share + own) * (1 + NOISE[index % 6])})
    return folder


def family_of(folder: Results, metric: str, margin: float = 0.05):
    (section,) = sections_of(folder)
    family = make_family(section, claimed(metric, margin), 1)
    return section, family, {each.arm.optimizer: each for each in family.comparisons}


@pytest.mark.parametrize(("metric", "base", "title", "words"), CLAIMS)
def test_planted_differences_are_told_in_the_words_of_their_column(new, metric, base, title, words):
    folder = planted(new(), metric, base).write()
    (folder / "matrix.yaml").write_text(MATRIX % metric)
    build_report([folder], folder / "report")
    less, more = ("muon", "lion") if not COLUMNS[metric].more_is_better else ("lion", "muon")
    relative = COLUMNS[metric].kind != LOSS
    lead = (
        f"{title} against gpt + adamw, margin {'5 %' if relative else '0.05'}: "
        f"gpt + {less} is better{words[0]}, gpt + {more} is worse{words[1]}, "
        "gpt + sgd is equivalent, each on 5 of 5 planned seeds"
    )
    page = html.unescape((folder / "report" / "index.html").read_text())
    text = (folder / "report" / "report.md").read_text()
    assert lead in page
    assert escape(lead) in text
    change = "-20" if relative else f"{-0.2 * base:.2f}"
    assert f"gpt + muon: {change}" in page
    assert ("A configuration's figure over the baseline's, less 1" in page) is relative
    for told in (page, text):
        assert ("Ratio of " in told) is relative
        assert (COLUMNS[metric].heading or metric_words(OURS, metric)) in told
        assert ("shaded: ± 5 %, the margin" in told) is relative
        assert ("a ratio of 1 / 1.05 to 1.05" in told) is relative
        assert f"{'More' if COLUMNS[metric].more_is_better else 'Less'} is better." in told


@pytest.mark.parametrize("metric", METRICS)
def test_every_figure_can_be_claimed_and_fewer_are_better_unless_it_says_so(new, metric):
    base = 2.0
    section, family, found = family_of(planted(new(), metric, base), metric)
    lower, higher = found["muon"].verdict, found["lion"].verdict
    expected = (Verdict.BETTER, Verdict.WORSE)
    assert (lower, higher) == (expected[::-1] if family.column.more_is_better else expected)
    assert found["sgd"].verdict is Verdict.EQUIVALENT
    assert found["muon"].contrast.relative is is_relative(metric, COLUMNS[metric])
    told = headline(section, [family], claimed(metric, 0.05), "").lead
    assert told.startswith(COLUMNS[metric].title[0].upper() + COLUMNS[metric].title[1:])


figures = st.lists(st.floats(0.5, 2.0), min_size=5, max_size=9)
FLIPPED = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}


@settings(deadline=None, derandomize=True, database=None)
@given(figures, st.floats(0.5, 2.0), st.integers(0, 2), st.booleans(), st.booleans())
def test_the_other_direction_is_the_other_verdict(base, ratio, failed, relative, varies):
    seeds = dict(enumerate(base))
    new = {seed: figure * ratio * (1 + 0.01 * (seed % 3)) for seed, figure in seeds.items()}
    contrast = difference(new, seeds, relative=relative, confidence=0.95)
    finished, both = (End.FINISHED, End.FINISHED), (End.DIVERGED, End.DIVERGED)
    ends = Ends({finished: len(seeds), both: failed})

    def verdict(lower_is_better: bool) -> Verdict:
        return judge(
            contrast,
            ends,
            margin=0.05,
            lower_is_better=lower_is_better,
            least_seeds=3,
            varies=varies,
        ).verdict

    assert verdict(True) is FLIPPED.get(verdict(False), verdict(False))


def test_a_margin_is_a_share_of_what_has_ratios(new):
    folder = planted(new(), "step_time_ms_p50", 12.0)
    _, family, found = family_of(folder, "step_time_ms_p50", margin=0.3)
    assert family.limit == pytest.approx(math.log(1.3))
    assert found["lion"].judgement.why == "by less than the margin"  # 1.2 times
    narrow = family_of(folder, "step_time_ms_p50", margin=0.0001)[2]
    assert narrow["sgd"].verdict is Verdict.UNDECIDED
    assert narrow["sgd"].seeds_needed.low > 5


def test_a_size_that_no_seed_varies_differs_by_what_it_differs_by(new):
    folder = new()
    for optimizer, size in (("adamw", 300.0), ("muon", 240.0), ("sgd", 303.0), ("lion", 300.0)):
        for seed in (1, 2, 3):
            run_id = folder.planned(optimizer=optimizer, seed=seed)
            fields = {"host_rss_peak_mib": size, "train_time_s": size}
            folder.ended(run_id, **fields)
    found = family_of(folder, "host_rss_peak_mib")[2]
    told = {name: (each.verdict, each.judgement.why) for name, each in found.items()}
    assert told == {
        "muon": (Verdict.BETTER, "the same difference at every seed"),
        "sgd": (Verdict.WORSE, "by less than the margin"),
        "lion": (Verdict.IDENTICAL, "equal to the last digit at every seed"),
    }
    times = family_of(folder, "train_time_s")[2]
    assert times["muon"].verdict is Verdict.NOT_AVAILABLE  # a time that does not vary is none


def test_replicates_are_compared_by_the_ratio_of_their_geometric_means(new):
    folder = planted(new(), "step_time_ms_p50", 12.0)
    for index, row in enumerate(folder.runs):
        row["settings"] = folder.plan[index]["settings"] = '{"program": {"seeds": "replicates"}}'
    section, family, found = family_of(folder, "step_time_ms_p50")
    assert math.exp(found["muon"].contrast.mean) == pytest.approx(0.8, rel=0.01)
    assert not found["muon"].contrast.is_paired
    lead = headline(section, [family], claimed("step_time_ms_p50", 0.05), "").lead
    assert "gpt + muon is better (faster), gpt + lion is worse (slower)" in lead


# --- what is missing is no advantage


def test_what_was_not_read_counts_against_the_arm_that_lacks_it(new):
    folder = planted(new(), "gpu_energy_j", 800.0, seeds=8)
    rows = [row for row in folder.runs if row["optimizer"] == "muon" and row["seed"] > 3]
    for row in rows:
        row["gpu_energy_j"] = None
    section, family, found = family_of(folder, "gpu_energy_j")
    assert found["muon"].verdict is Verdict.UNDECIDED  # 3 won, 5 lost
    lead = headline(section, [family], claimed("gpu_energy_j", 0.05), "").lead
    assert "gpu + muon" not in lead
    assert "gpt + muon is undecided on 3 of 8 planned seeds, 5 missing in this config" in lead


def test_a_disturbed_seed_is_left_out_of_times_and_counts_for_sizes(new):
    for metric, n in (("gpu_energy_j", 4), ("gpu_mem_nvml_peak_mib", 5)):
        folder = planted(new(metric), metric, 800.0)
        folder.runs[-1] |= {"tainted": "true", "taint_reasons": "gpu_others 5%"}
        found = family_of(folder, metric)[2]
        assert {each.contrast.n for each in found.values()} == {n}
        assert {each.ends.all_finished for each in found.values()} == {True}
        assert found["muon"].verdict is Verdict.BETTER


def test_who_wins_by_the_others_failures_is_not_called_faster(new):
    folder = planted(new(), "step_time_ms_p50", 12.0, seeds=12)
    for row in folder.runs[:2]:
        row |= {"status": "diverged", "step_time_ms_p50": None}
    section, family, found = family_of(folder, "step_time_ms_p50")
    assert found["muon"].told == "better by sign"
    lead = headline(section, [family], claimed("step_time_ms_p50", 0.05), "").lead
    assert "gpt + muon is better on 10 of 12" in lead or "gpt + muon is better, " in lead
    assert "faster" not in lead


def test_a_size_of_0_has_no_ratio(new):
    folder = planted(new(), "optimizer_state_mib", 8.0)
    for row in folder.runs:
        if row["optimizer"] == "sgd":
            row["optimizer_state_mib"] = 0.0
    found = family_of(folder, "optimizer_state_mib")[2]
    assert (found["sgd"].verdict, found["sgd"].judgement.why) == (
        Verdict.NOT_AVAILABLE,
        "a figure of 0 has no ratio",
    )
    assert found["muon"].verdict is Verdict.BETTER


def test_where_nothing_read_it_nothing_is_tested(new):
    (section,) = sections_of(planted(new(), "step_time_ms_p50", 12.0))
    asked = claimed("gpu_energy_j", 0.05)
    assert make_family(section, asked, 1) is None
    assert headline(section, [None], asked, "").lead == (
        "Nothing is tested: no run here has gpu_energy_j, which the claim is about."
    )


def test_every_kind_of_figure_is_tried_here():
    kinds = {COLUMNS[metric].kind for metric, *_ in CLAIMS}
    assert kinds == {LOSS, TIMING, FIGURE}
