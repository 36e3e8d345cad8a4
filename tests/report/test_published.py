"""The pages of published results say in words what their CSVs say.

A page may hold no figure with a decimal point that is neither in a sentence computed here, nor in a
table of columns (test_results.py), nor quoted from the original or from a matrix.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime

import pytest

from bench.matrix.yamlfile import read_yaml
from bench.merge.merging import EndedCell
from bench.records.rows import read_table
from tests.builders.shared import ROOT
from tests.report.published import (
    GPT_ADAMW,
    GPT_MUON,
    GPT_TRUEMUON,
    IN_WORDS,
    KIMI_ADAMW,
    KIMI_TRUEMUON,
    LOSS,
    Sentences,
    known,
    mean,
)
from tests.report.published_original import ARMS as ORIGINALS
from tests.report.published_original import SAYS as ORIGINAL_SAYS
from tests.report.published_original import costs, original
from tests.report.published_tuned import ARMS as TUNED
from tests.report.published_tuned import SAYS as TUNED_SAYS
from tests.report.published_tuned import (
    TEST_LOSS,
    at_equal_operations,
    best,
    gap,
    loss_on_test,
    pair,
    tuned,
    tuning_gain,
)

# What the original reports, and the ratios of its times.
REPORTED = (
    "1.7285 1.6756 5.63 5.34 0.21 0.28 26.85 19.21 0.0508 0.1264 2.5 0.0060 0.0081 1.35 0.03 0.01"
)
# Rates, decay, margin and shares of the matrices; versions.
SETTINGS = "0.001 0.01 0.1 0.8 3.11 2.13"
QUOTED = {
    "results/original-cpu/README.md": REPORTED + " " + SETTINGS,
    "results/tuned-cpu/README.md": SETTINGS,
    "README.md": "",
}


def the_readmes_opening() -> Sentences:
    p = original()
    cost, _, verdict = costs(KIMI_TRUEMUON)
    whole, model = (p.difference(arm, GPT_ADAMW) for arm in (KIMI_TRUEMUON, KIMI_ADAMW))
    model_cost, _, _ = costs(KIMI_ADAMW)
    tests = {arm: pair(arm, TEST_LOSS) for arm in (KIMI_TRUEMUON, GPT_TRUEMUON)}
    (tuned_verdict,) = {tuned().verdict(test) for test in tests.values()}
    yield (
        f"At equal iterations NanoKimi + TrueMuon is {p.verdict(whole)} than NanoGPT + AdamW by "
        f"{-mean(whole):.4f} nats a token (here a character), and NanoKimi + AdamW by "
        f"{-mean(model):.4f}. At equal operations the first difference is {mean(cost):+.4f}, "
        f"{p.verdict(cost)}, and only NanoKimi + AdamW stays {p.verdict(model_cost)}, by "
        f"{-mean(model_cost):.4f}; at equal training time there is {verdict} (only "
        f"{'two' if p.arm(GPT_ADAMW).n_seeds_timing == 2 else 'other'} seeds of five were timed "
        "undisturbed):"
    )
    yield (
        f"over 1,000 iterations, NanoKimi + TrueMuon is {tuned_verdict} than NanoGPT + AdamW by "
        f"{-mean(tests[KIMI_TRUEMUON]):.4f} on the test split and NanoGPT + TrueMuon by "
        f"{-mean(tests[GPT_TRUEMUON]):.4f}, each about half as much as untuned; at equal "
        "operations, on the validation split, only the latter still is "
        f"({-mean(at_equal_operations(GPT_TRUEMUON)):.4f})."
    )


PAGES: dict[str, tuple[Callable[[], Sentences], ...]] = {
    "results/original-cpu/README.md": ORIGINAL_SAYS,
    "results/tuned-cpu/README.md": TUNED_SAYS,
    "README.md": (the_readmes_opening,),
}


@pytest.mark.parametrize(
    ("page", "say"),
    [(page, say) for page, found in PAGES.items() for say in found],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_page_says_what_the_csvs_say(page: str, say: Callable[[], Sentences]) -> None:
    text = prose(page)
    missing = [sentence for sentence in say() if sentence not in text]
    assert not missing, f"{page} does not say: {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_no_other_figure_is_on_a_page(page: str) -> None:
    left = prose(page)
    for say in PAGES[page]:
        for sentence in say():
            left = left.replace(sentence, "")
    assert set(re.findall(r"\d+\.\d+", left)) <= set(QUOTED[page].split())


def prose(page: str) -> str:
    """A page on one line, without code and without the tables whose columns are computed."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page == "README.md":
        text = text.partition("## Two commands")[0]
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith("| nano")]
    return " ".join(" ".join(lines).split())


def test_the_originals_pair_is_lower_on_every_seed() -> None:
    assert max(original().difference(KIMI_TRUEMUON, GPT_ADAMW).values) < 0


def test_at_equal_operations_one_pair_of_each_page_stays_better() -> None:
    by_page = (
        [arm for arm in ORIGINALS if original().verdict(costs(arm)[0]) == "better"],
        [arm for arm in TUNED if tuned().verdict(at_equal_operations(arm)) == "better"],
    )
    assert by_page == ([KIMI_ADAMW], [GPT_TRUEMUON])


@pytest.mark.parametrize("arm", [GPT_TRUEMUON, KIMI_TRUEMUON])
def test_tuning_about_halves_truemuons_lead(arm: str) -> None:
    before = tuned().difference(arm, GPT_ADAMW, TEST_LOSS)
    assert 0.45 < mean(pair(arm, TEST_LOSS)) / mean(before) < 0.55


def test_two_cells_of_the_original_ran_at_once_and_the_last_trained_alone() -> None:
    cells = original().section.ok
    (last,) = (cell for cell in cells if company(cell, cells) < 0.5)
    assert last is original().cells(GPT_TRUEMUON)[5]
    assert all(0.95 < company(cell, cells) < 1.01 for cell in cells if cell is not last)
    others_end = max(lifetime(cell)[1] for cell in cells if cell is not last)
    until_warm = ("startup_time_s", "import_time_s")
    assert lifetime(last)[0] + sum(known(last.number(name)) for name in until_warm) > others_end


def company(cell: EndedCell, cells: Sequence[EndedCell]) -> float:
    """The mean number of other cells that there were while it lived."""
    begin, end = lifetime(cell)
    shared = (
        max(0.0, min(end, other_end) - max(begin, other_begin))
        for other_begin, other_end in (lifetime(other) for other in cells if other is not cell)
    )
    return sum(shared) / (end - begin)


def lifetime(cell: EndedCell) -> tuple[float, float]:
    """From launch to exit, in s since 1970."""
    begin = datetime.fromisoformat(cell.text("started_at")).timestamp()
    return begin, begin + known(cell.number("wall_time_s"))


def test_other_work_took_more_of_the_new_arms_cpus_than_of_the_baselines() -> None:
    p = original()
    taken = {arm: p.mean(arm, "cpu_others_pct") for arm in (GPT_ADAMW, *ORIGINALS)}
    assert min(taken, key=lambda arm: taken[arm]) == GPT_ADAMW


def test_inference_of_one_network_differs_by_more_than_is_reported_of_two() -> None:
    of_one = original().ratios(KIMI_ADAMW, KIMI_TRUEMUON, "infer_time_ms_p50")
    assert max(of_one) > 0.0081 / 0.0060


def test_a_gap_between_the_splits_makes_every_tuned_difference_larger_on_validation() -> None:
    for arm in TUNED:
        assert mean(pair(arm, LOSS)) < mean(pair(arm, TEST_LOSS)) < 0


def test_tuning_lowers_the_validation_loss_by_more_than_the_test_loss() -> None:
    for arm in IN_WORDS:
        assert tuning_gain(arm, LOSS) < min(0, tuning_gain(arm, TEST_LOSS))


def test_what_tuning_chose_for_muon_is_lower_on_validation_and_higher_on_test() -> None:
    p = tuned()
    gains = [p.difference(best(GPT_MUON), GPT_MUON, column) for column in (LOSS, TEST_LOSS)]
    shift = p.contrast(gap(best(GPT_MUON)), gap(GPT_MUON))
    own, new = p.tuning(GPT_MUON).trials[0], known(p.tuning(GPT_MUON).best)
    assert mean(gains[0]) < 0 < min(gains[1].values)
    assert [p.verdict(gain) for gain in gains] == ["undecided", "undecided"]
    assert known(shift.interval).excludes(0)
    assert known(new.mean) < known(own.mean)
    assert loss_on_test(GPT_MUON, new) > loss_on_test(GPT_MUON, own)


def test_adamws_larger_rates_were_tried_with_another_weight_decay() -> None:
    for arm in (GPT_ADAMW, KIMI_ADAMW):
        tuning = tuned().tuning(arm)
        best_one = known(tuning.best).settings
        larger = [trial for trial in tuning.trials if trial.settings["lr"] > best_one["lr"]]
        assert larger
        assert all(t.settings["weight_decay"] != best_one["weight_decay"] for t in larger)


def test_the_edges_of_the_space_are_where_the_page_says() -> None:
    edges = {arm: tuned().tuning(arm).edges for arm in IN_WORDS}
    assert edges == {
        GPT_ADAMW: [],
        GPT_TRUEMUON: ["lr"],
        GPT_MUON: ["adamw_lr"],
        KIMI_ADAMW: [],
        KIMI_TRUEMUON: ["lr"],
    }


def test_the_tuning_had_one_seed_and_no_cell_of_a_second() -> None:
    rows = read_table(ROOT / "results" / "tuned-cpu" / "runs.csv")
    assert {row["seed"] for row in rows if row["part"] == "trial"} == {"101"}
    assert sum(row["status"] == "interrupted" for row in rows) == 4


@pytest.mark.parametrize("page", ["docs/tuning.md", "CHANGELOG.md"])
def test_a_page_tells_the_matrix_that_was_run_from_the_one_there_is(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    in_words = {1: "one seed", 2: "two seeds", 8: "eight", 16: "sixteen"}
    for matrix in ("bench/matrix/tuned.yaml", "results/tuned-cpu/matrix.yaml"):
        tune = read_yaml(ROOT / matrix).data["tune"]
        assert f"{in_words[tune['trials']]} trials on {in_words[len(tune['seeds'])]}" in text
