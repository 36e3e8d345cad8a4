"""What the words of the report mean."""

from collections.abc import Sequence
from operator import itemgetter

from bench.records.programs import Setup
from bench.report.page.content import Heading, Table, table

TERMS = {
    "run": (
        "One model with one optimizer on one device with one seed, in a container of its own (in "
        "files and logs: a cell)."
    ),
    "configuration": (
        "A model with an optimizer and all settings: the runs that differ in their seed alone (in "
        "files: an arm)."
    ),
    "coverage": (
        "How many of the planned runs ended ok, and how the others ended. Every planned run has "
        "a row; none is left out of the count."
    ),
    "n": (
        "Seeds that differ. If a seed was run again, the earliest run counts: later ones were made "
        "by choice."
    ),
    "claim": (
        "What the matrix states before the run: a baseline, a metric, a margin. Without one the "
        "same comparisons are shown as exploratory."
    ),
    "difference": (
        "A configuration less the baseline, seed by seed: both saw the same batches in the same "
        "order."
    ),
    "interval": (
        "A t interval of the mean difference over seeds. Those of one table hold together with "
        "the stated confidence (Bonferroni)."
    ),
    "margin": (
        "The difference, given in the matrix, below which two configurations count as equal."
    ),
    "better, worse": "The interval excludes 0.",
    "equivalent": "The interval lies within ± the margin.",
    "identical": "Every pair of seeds has the same figure, so that there is no spread to test.",
    "undecided": (
        "The interval holds 0 and reaches beyond the margin. It does not say that configurations "
        "are equal: it says that these seeds cannot tell."
    ),
    "no verdict": "Too few pairs of seeds: a verdict on a loss needs five.",
    "diverged": "The loss ceased to be finite. Such a seed ranks below every finished one.",
    "failed": (
        "A seed of which any attempt diverged or crashed by its own doing, or ran out of memory or "
        "time and did not finish when it was given more. A configuration that failed more often is "
        "never better."
    ),
    "by sign": (
        "Where a seed did not finish in both configurations, seeds are counted as won or lost, and "
        "what is missing counts against the verdict."
    ),
    "bad runs": (
        "Runs that fail, or end far worse than those seen. Few finished seeds cannot exclude them: "
        "the true rate may still be as high as is said (95 % confidence)."
    ),
    "interim look": (
        "Each report on other figures of the same folders. If one looks after every seed and stops "
        "when the result suits, one finds a difference by chance sooner or later. Therefore the "
        "k-th look is tested at 0.05 / k(k + 1)."
    ),
    "contrast": (
        "A part of the way from the baseline to a configuration: the optimizer changed alone, the "
        "model changed alone, and what only both together do (the interaction). The three sum to "
        "the whole difference."
    ),
    "disturbed, †": (
        "Something outside of the run, such as another process on its CPU, disturbed its timing. "
        "Timing statistics leave its seed out for all configurations; its losses count."
    ),
    "n/a": "Unknown or not measured; never 0 and never a guess.",
}
OF_PROGRAMS = {
    "difference": (
        "A configuration less the baseline, seed by seed. What two runs of a program with one seed "
        "have in common is the program's own doing."
    ),
}
OF_RATIOS = {
    "change": (
        "A configuration's figure over the baseline's, less 1: times, rates, sizes and energy are "
        "compared by their ratio, and what is said of differences holds of the ratio's logarithm."
    ),
}
OF_REPLICATES = {
    "difference": "The mean of a configuration's runs less that of the baseline's.",
    "interval": (
        "Welch's t interval of a difference of means. Those of one table hold together with the "
        "stated confidence (Bonferroni)."
    ),
    "replicates": (
        "Runs of a program that seeds itself: the seed of a run is a number, and makes no pairs."
    ),
    "identical": "Every run of both has the same figure, so that there is no spread to test.",
    "no verdict": "Too few runs: a verdict on a loss needs five of each configuration.",
    "by rank": (
        "Where a run did not finish, the runs of both configurations are ranked, and what is "
        "missing counts against the verdict."
    ),
}


def terms_table(setups: Sequence[Setup] = (), relative: bool = False) -> Table:
    """What holds of the sections with these setups; whether any claim is about ratios."""
    terms = TERMS | (OF_PROGRAMS if any(setup.program for setup in setups) else {})
    terms |= OF_RATIOS if relative else {}
    paired = [setup.is_paired for setup in setups]
    for word, meaning in () if all(paired) else OF_REPLICATES.items():
        both = any(paired) and word in terms
        terms[word] = f"{terms[word]} Of replicates: {meaning}" if both else meaning
    columns = [(Heading("word"), itemgetter(0)), (Heading("meaning"), itemgetter(1))]
    return table("Words", terms.items(), columns)
