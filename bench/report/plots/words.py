"""Words that several captions share."""

from collections.abc import Iterable

from bench.merge.sections import Section
from bench.records.columns import HIGHER_IS_BETTER, memory_columns
from bench.report.family import Family
from bench.report.plots.style import MOST_POINTS
from bench.statistics.text import of_loss, write_spread

# What a claim may be about: (name, unit).
METRICS = {
    "val_loss_final": ("final validation loss", "nats per token"),
    "test_loss_final": ("final test loss", "nats per token"),
    "val_loss_best": ("best validation loss", "nats per token"),
    "perplexity": ("perplexity", "exp of nats per token"),
    "train_time_s": ("training time", "s"),
}

# Which memory counts on a device: (title, unit, in words).
MEMORY = {
    "gpu_mem_allocated_peak_mib": (
        "GPU memory, peak",
        "MiB allocated by torch",
        "the peak of what torch allocated on the GPU",
    ),
    "host_rss_peak_mib": (
        "Host memory, peak",
        "MiB resident",
        "the peak resident memory of the cell's process",
    ),
}


def metric_words(metric: str) -> tuple[str, str]:
    """Name and unit; a column that is not among them has its unit in its name."""
    return METRICS.get(metric, (metric, ""))


def margin_words(family: Family) -> str:
    """What follows the intervals; empty where nothing was claimed."""
    if family.margin is None:
        return ""
    amount = f"± {family.margin:g} {metric_words(family.metric)[1]}".rstrip()
    return f"; shaded: {amount}, the margin"


def claim_words(family: Family) -> str:
    if not family.exploratory:
        return ""
    return family.note or "No claim was made before the run: this is exploratory."


def better_words(metric: str) -> str:
    return "More is better." if metric in HIGHER_IS_BETTER else "Less is better."


def memory_words(section: Section) -> tuple[str, str, str]:
    return MEMORY[memory_columns(section.key.device)[0]]


def losses(section: Section) -> str:
    """Each arm's final loss."""
    spreads = [(arm.label, arm.spread("val_loss_final")) for arm in section.arms]
    return ", ".join(f"{label} {write_spread(s.mean, s.sd, of_loss)}" for label, s in spreads)


def n_words(seeds: Iterable[int]) -> str:
    """For example "n = 3" or "n = 2 to 3" of each arm's seeds; an arm without any has no mean."""
    counts = sorted(set(seeds) - {0})
    if not counts:
        return "n = 0"
    return f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")


def first_seeds(n: int) -> str:
    """What follows "single seeds" where an arm has n of them."""
    return f", the first {MOST_POINTS} of each arm" if n > MOST_POINTS else ""


def percent(confidence: float) -> str:
    """95 %, 98.33 %."""
    return f"{100 * confidence:.4g} %"
