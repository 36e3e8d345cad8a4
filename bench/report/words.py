"""Words that the page and its pictures share."""

from collections.abc import Iterable, Sequence

from bench.merge.sections import Arm, Section
from bench.records.columns import COLUMNS, HIGHER_IS_BETTER, memory_columns
from bench.report.family import Family
from bench.statistics.text import of_loss, span, write_spread

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
        "the peak resident memory of the training process",
    ),
}


def metric_name(metric: str) -> str:
    """A column without a title has its unit in its name."""
    return COLUMNS[metric].title or metric


def metric_words(metric: str) -> str:
    """With its unit: "training time (s)"."""
    name, unit = metric_name(metric), COLUMNS[metric].unit
    return f"{name} ({unit})" if unit else name


def difference_words(family: Family) -> dict[str, str]:
    """What captions of differences from the baseline have in common."""
    margin = ""
    if family.margin is not None:
        amount = f"± {family.margin:g} {COLUMNS[family.metric].unit}".rstrip()
        margin = f"; shaded: {amount}, the margin"
    return {
        "name": metric_name(family.metric),
        "baseline": family.baseline.label,
        "each": percent(family.confidence),
        "margin": margin,
        "better": f"{'More' if family.metric in HIGHER_IS_BETTER else 'Less'} is better.",
    }


def claim_words(family: Family) -> str:
    if not family.exploratory:
        return ""
    return family.note or "No claim was made before the run: this is exploratory."


def memory_words(section: Section) -> tuple[str, str, str]:
    return MEMORY[memory_columns(section.key.device)[0]]


def losses(section: Section) -> str:
    """Each configuration's final loss."""
    spreads = [(arm.label, arm.spread("val_loss_final")) for arm in section.arms]
    return ", ".join(f"{label} {write_spread(s.mean, s.sd, of_loss)}" for label, s in spreads)


def n_words(seeds: Iterable[int]) -> str:
    """For example "n = 3" or "n = 2 to 3"; an arm without any seed has no mean, and is left out."""
    return f"n = {span(set(seeds) - {0} or {0})}"


def n_with_times(arms: Sequence[Arm]) -> str:
    """For example "n = 5, of times n = 2": times lack the seeds that were disturbed."""
    n, times = n_words(arm.n_seeds for arm in arms), n_words(arm.n_seeds_timing for arm in arms)
    return n if n == times else f"{n}, of times {times}"


def percent(share: float) -> str:
    """A confidence: 0.95 -> 95 %, 0.99166 -> 99.17 %."""
    return f"{100 * share:.4g} %"
