"""What the words of the report mean."""

from bench.report.page.content import Heading, Table, table

TERMS = {
    "cell": "One model with one optimizer on one device with one seed, run in its own container.",
    "arm": "A model with an optimizer and all settings: the cells that differ in their seed alone.",
    "coverage": (
        "How many of the planned cells ended ok, and how the others ended. Every planned cell has "
        "a row; none is left out of the count."
    ),
    "n": "Distinct seeds. Of repeats of a seed the earliest counts: later ones were run by choice.",
    "claim": (
        "What the matrix states before the run: a baseline, a metric, a margin. Without one the "
        "same comparisons are shown as exploratory."
    ),
    "difference": (
        "An arm less the baseline, seed by seed: both saw the same batches in the same order."
    ),
    "interval": (
        "A t interval of the mean difference over seeds. Those of one table hold together with "
        "the stated confidence (Bonferroni)."
    ),
    "margin": "The difference, given in the matrix, below which two arms count as equal.",
    "better, worse": "The interval excludes 0.",
    "equivalent": "The interval lies within ± the margin.",
    "identical": "Every pair of seeds has the same figure, so that there is no spread to test.",
    "undecided": (
        "The interval holds 0 and reaches beyond the margin. It does not say that arms are equal: "
        "it says that these seeds cannot tell."
    ),
    "no verdict": "Too few pairs of seeds: a verdict on a loss needs five.",
    "diverged": "The loss ceased to be finite. Such a seed ranks below every finished one.",
    "failed": (
        "A seed of which any attempt diverged or crashed by its own doing, or ran out of memory or "
        "time without a later one that had more. An arm that failed more often is never better."
    ),
    "by sign": (
        "Where a seed did not finish in both arms, seeds are counted as won or lost, and what is "
        "missing counts against the verdict."
    ),
    "bad runs": (
        "What so many finished seeds do not exclude: the largest rate of failures, or of runs far "
        "worse than those seen, at 95 %."
    ),
    "look": (
        "Each report on other figures of the same folders. Who looks after every seed and stops "
        "when it suits finds a difference by chance sooner or later; the k-th look is therefore "
        "tested at 0.05 / k(k + 1)."
    ),
    "ladder": (
        "From the baseline: the optimizer changed alone, the model changed alone, and what only "
        "both together do (the interaction). The three sum to the whole difference."
    ),
    "taint, †": (
        "Something outside of the cell, such as another process on its CPU, disturbed its timing. "
        "Timing statistics leave its seed out for all arms; its losses count."
    ),
    "n/a": "Unknown or not measured; never 0 and never a guess.",
}


def terms_table() -> Table:
    return table(
        "Words", [Heading("word"), Heading("meaning")], [list(pair) for pair in TERMS.items()]
    )
