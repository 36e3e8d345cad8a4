"""The pages of published results say in words what their CSVs say.

A page may hold no figure with a decimal point that is neither in a sentence computed here, nor in a
table of columns (test_results.py), nor quoted from the original or from a matrix.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime

import pytest

from bench.merge.merging import EndedCell
from bench.records.rows import read_table
from tests.builders.shared import ROOT
from tests.report.published import (
    GPT_ADAMW,
    GPT_TRUEMUON,
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
from tests.report.published_small_bpe import SAYS as SMALL_BPE_SAYS
from tests.report.published_tuned import (
    ALL,
    TEST_LOSS,
    at_equal_operations,
    pair,
    studies_of,
    tuned,
)
from tests.report.published_tuned import ARMS as TUNED
from tests.report.published_tuned import SAYS as TUNED_SAYS

# What the original reports, and the ratios of its times.
REPORTED = (
    "1.7285 1.6756 5.63 5.34 0.21 0.28 26.85 19.21 0.0508 0.1264 2.5 0.0060 0.0081 1.35 0.03 0.01"
)
# Rates, decay, margin and shares of the matrices; versions.
SETTINGS = "0.001 0.01 0.1 0.8 3.11 2.13"
QUOTED = {
    "results/original-cpu/README.md": REPORTED + " " + SETTINGS,
    "results/tuned-cpu/README.md": SETTINGS + " 0.95 0.99 0.999 0.0003 0.3",
    "results/small-bpe-cpu/README.md": "0.001 0.003 0.005 0.01 0.02 0.03 0.05 2.13 0.23",
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
        f"NanoKimi + TrueMuon is {tuned_verdict} than NanoGPT + AdamW by "
        f"{-mean(tests[KIMI_TRUEMUON]):.4f} on the test split and NanoGPT + TrueMuon by "
        f"{-mean(tests[GPT_TRUEMUON]):.4f}; at equal operations, on the validation split, only the "
        f"latter still is ({-mean(at_equal_operations(GPT_TRUEMUON)):.4f})."
    )


PAGES: dict[str, tuple[Callable[[], Sentences], ...]] = {
    "results/original-cpu/README.md": ORIGINAL_SAYS,
    "results/tuned-cpu/README.md": TUNED_SAYS,
    "results/small-bpe-cpu/README.md": SMALL_BPE_SAYS,
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
    lines = [line for line in text.splitlines() if not line.startswith(("| nano", "| of-today"))]
    return " ".join(" ".join(lines).split())


def test_the_originals_pair_is_lower_on_every_seed() -> None:
    assert max(original().difference(KIMI_TRUEMUON, GPT_ADAMW).values) < 0


def test_at_equal_operations_one_pair_of_each_page_stays_better() -> None:
    by_page = (
        [arm for arm in ORIGINALS if original().verdict(costs(arm)[0]) == "better"],
        [arm for arm in TUNED if tuned().verdict(at_equal_operations(arm)) == "better"],
    )
    assert by_page == ([KIMI_ADAMW], [GPT_TRUEMUON])


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


def test_every_tuned_difference_is_larger_on_the_split_of_the_choice() -> None:
    for arm in TUNED:
        assert mean(pair(arm, LOSS)) < mean(pair(arm, TEST_LOSS)) < 0


def test_no_rate_was_best_at_an_edge_and_beta2_was_never_best_at_its_default() -> None:
    for arm in ALL:
        studies = studies_of(arm)
        assert len(studies) == 5
        assert not any({"lr", "adamw_lr"} & {*one.edges} for one in studies)
        betas = {known(one.best).settings.get("beta2") for one in studies}
        assert betas in ({None}, {0.95, 0.99})


def test_the_small_matrix_is_the_one_that_comes_along() -> None:
    mine = (ROOT / "results" / "small-bpe-cpu" / "matrix.yaml").read_text(encoding="utf-8")
    assert mine == (ROOT / "bench" / "matrix" / "small-bpe.yaml").read_text(encoding="utf-8")


def test_each_study_had_a_seed_of_its_own_and_the_matrix_is_the_one_that_comes_along() -> None:
    rows = read_table(ROOT / "results" / "tuned-cpu" / "runs.csv")
    trials = {(row["study"], row["seed"]) for row in rows if row["part"] == "trial"}
    judged = {(row["study"], row["seed"]) for row in rows if row["part"] == "tuned"}
    assert trials == {(f"{n}", f"{100 + n}") for n in range(1, 6)}
    assert judged == {(f"{n}", f"{n}") for n in range(1, 6)}
    mine = (ROOT / "results" / "tuned-cpu" / "matrix.yaml").read_text(encoding="utf-8")
    assert mine == (ROOT / "bench" / "matrix" / "tuned.yaml").read_text(encoding="utf-8")
