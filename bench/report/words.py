"""Words that the page and its pictures share."""

from collections.abc import Iterable, Sequence

from bench.merge.arms import Arm
from bench.merge.sections import Section
from bench.records.kinds import Column
from bench.records.programs import Setup
from bench.report.family import Family
from bench.statistics.contrast import Contrast
from bench.statistics.text import of_loss, span, write_spread

# Which memory counts on a device: (title, unit, in words).
MEMORY = {
    "gpu_mem_allocated_peak_mib": (
        "GPU memory, peak",
        "MiB allocated by torch",
        "the peak of what torch allocated on the GPU",
    ),
    "gpu_mem_nvml_peak_mib": (
        "GPU memory, peak",
        "MiB, by NVML",
        "the highest reading of GPU memory by NVML",
    ),
    "host_rss_peak_mib": (
        "Host memory, peak",
        "MiB resident",
        "the peak resident memory of the training process",
    ),
}

# What costs the same, where a loss at equal steps is told there as well.
COST = {
    "val_loss_at_equal_flops": "at equal operations",
    "val_loss_at_equal_time": "at equal training time",
}


def metric_name(setup: Setup, metric: str) -> str:
    """A column without a title has its unit in its name."""
    return setup.columns[metric].title or metric


def metric_words(setup: Setup, metric: str, name: str = "") -> str:
    """With its unit: "training time (s)"; under another name, where one is given."""
    name, unit = name or metric_name(setup, metric), setup.columns[metric].unit
    return f"{name} ({unit})" if unit else name


def claimed_words(family: Family) -> str:
    """What is compared, and at what: "validation loss at equal operations (..., at 12 FLOPs)"."""
    unit = family.column.unit
    about = ", ".join(filter(None, (unit, family.at)))
    name = metric_name(family.setup, family.metric)
    return f"{name} ({about})" if about else name


def contrast_words(family: Family) -> str:
    """As an axis says it: "difference in perplexity", "training time, as a ratio"."""
    if family.relative:
        return f"{metric_name(family.setup, family.metric)}, as a ratio"
    return f"difference in {metric_words(family.setup, family.metric)}"


def margin_words(family: Family) -> str:
    """0.01, or 5 % of what is compared by its ratio; empty where nothing was claimed."""
    if family.margin is None:
        return ""
    return f"{100 * family.margin:g} %" if family.relative else f"{family.margin:g}"


def direction_words(column: Column, relative: bool) -> tuple[str, str]:
    """What better and worse are, of a figure that has ratios: ("faster", "slower")."""
    if not relative:
        return "", ""
    if column.more_is_better:
        return "higher", "lower"
    return ("faster", "slower") if column.unit in ("s", "ms") else ("less", "more")


def difference_words(family: Family) -> dict[str, str]:
    """What captions of differences from the baseline have in common."""
    margin, name = "", metric_name(family.setup, family.metric)
    if family.margin is not None:
        unit = "" if family.relative else f" {family.column.unit}"
        margin = f"; shaded: ± {margin_words(family)}{unit}".rstrip() + ", the margin"
    what = f"Ratio of {name} to that of" if family.relative else f"Difference in {name} from"
    return {
        "what": f"{what} {family.baseline.label}",
        "mean": "geometric mean" if family.relative else "mean",
        "each": percent(family.confidence),
        "margin": margin,
        "better": f"{'More' if family.column.more_is_better else 'Less'} is better.",
    }


def claim_words(family: Family) -> str:
    if not family.exploratory:
        return ""
    return family.note or "No claim was made before the run: this is exploratory."


def times_words(section: Section) -> str:
    """What a training time is, as a sentence without its full stop."""
    if not section.setup.program:
        return "Training time leaves out evaluation, warm-up and start-up"
    told = {"told": "told by the program", "stamps": "by the stamps of the lines that it printed"}
    if section.is_imported and section.timing.sources:
        return "Training time is as it was imported"
    found = [told.get(source, source) for source in sorted(section.timing.sources)]
    if len(found) > 1:
        return f"Training time is {found[0]} in some runs and {found[1]} in others: not compared"
    return f"Training time is {found[0]}" if found else "Training time is not known"


def memory_words(section: Section) -> tuple[str, str, str]:
    return MEMORY[section.memory[0]]


def losses(section: Section) -> str:
    """Each configuration's final loss: "Final validation loss: a 1.8000 ± 0.0100, b ..."."""
    metric = section.main_metric
    spreads = [(arm.label, arm.spread(metric)) for arm in section.arms]
    told = ", ".join(f"{label} {write_spread(s.mean, s.sd, of_loss)}" for label, s in spreads)
    return f"{loss_words(section)}: {told}"


def loss_words(section: Section) -> str:
    """What stands for how good an arm is, as a sentence begins: "Final validation loss"."""
    title = section.setup.columns[section.main_metric].title
    return f"{title[:1].upper()}{title[1:]}" or section.main_metric


def count_words(contrast: Contrast) -> str:
    """How many seeds it is over: "5"; without pairs the runs of each arm: "5 against 4"."""
    between = " against " if len(contrast.groups) == 2 else ", "
    return between.join(str(len(group)) for group in contrast.groups)


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
