"""All pictures of a section, each with what it shows in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.report.columns import memory_columns
from bench.report.digits import of_loss, write_spread
from bench.report.family import Family
from bench.report.merge import Merged
from bench.report.plots.bars import comparison_graph
from bench.report.plots.canvas import Files
from bench.report.plots.lines import SECONDS, STEPS, Axis, loss_graph
from bench.report.plots.style import Style
from bench.report.sections import Section
from bench.report.taint import short_note
from bench.report.words import sentences

# The stems of all pictures that a report may have.
NAMES = ("comparison_graph", STEPS.file, SECONDS.file)


@dataclass(frozen=True)
class Drawing:
    """A picture of one section."""

    name: str  # its files' stem in the first section
    caption: str
    alt: str  # what a reader who cannot see it needs
    files: Files


def draw_all(
    section: Section,
    family: Family | None,
    merged: Merged,
    title: str,
    looks: Mapping[str, Style],
) -> list[Drawing]:
    """In the order in which a report shows them; what a section has nothing for is left out."""
    return [
        _comparison(section, title, looks),
        _over_steps(section, title, looks),
        _over_seconds(section, title, looks),
    ]


STEPS_CAPTION = "Validation loss against training steps."
SECONDS_CAPTION = (
    "Validation loss against training time, which leaves out evaluation, warm-up and start-up. "
    "A mean ends where its shortest seed ends; between evaluations it is linear."
)
CURVE_CAPTION = (
    "Thick lines: mean over seeds ({n}); bands: ± 1 sample standard deviation; thin lines: "
    "single seeds that ended ok. The loss axis does not start at 0 and ends at the highest loss "
    "after the first tenth of the evaluations: untrained models lie far above it."
)
BARS_CAPTION = (
    "Bars: mean over seeds ({n}); error bars: ± 1 sample standard deviation over seeds; points: "
    "single seeds. Training time leaves out evaluation, warm-up and start-up; "
    "memory is {memory}; inference time is the median forward pass of one batch."
)

MEMORY_WORDS = {
    "gpu_mem_allocated_peak_mib": "the peak of what torch allocated on the GPU",
    "host_rss_peak_mib": "the peak resident memory of the cell's process",
}


def _comparison(section: Section, title: str, looks: Mapping[str, Style]) -> Drawing:
    memory = MEMORY_WORDS[memory_columns(section.key.device)[0]]
    return Drawing(
        name="comparison_graph",
        caption=sentences(
            BARS_CAPTION.format(n=_n(arm.n_seeds for arm in section.arms), memory=memory),
            short_note(section.timing),
        ),
        alt="Bar charts of final validation loss, training time, peak memory and inference time "
        f"by arm. Final validation loss: {_losses(section)}.",
        files=comparison_graph(section, title, looks),
    )


def _over_steps(section: Section, title: str, looks: Mapping[str, Style]) -> Drawing:
    how = CURVE_CAPTION.format(n=_n(arm.n_seeds for arm in section.arms))
    return _curves(section, STEPS, STEPS_CAPTION, how, title, looks)


def _over_seconds(section: Section, title: str, looks: Mapping[str, Style]) -> Drawing:
    n = _n(arm.n_seeds_timing for arm in section.arms)
    how = sentences(CURVE_CAPTION.format(n=n), short_note(section.timing))
    return _curves(section, SECONDS, SECONDS_CAPTION, how, title, looks)


def _curves(
    section: Section, axis: Axis, what: str, how: str, title: str, looks: Mapping[str, Style]
) -> Drawing:
    return Drawing(
        name=axis.file,
        caption=f"{what} {how}",
        alt=f"Line chart. {what} Final validation loss: {_losses(section)}.",
        files=loss_graph(section, axis, title, looks),
    )


def _losses(section: Section) -> str:
    spreads = [(arm.label, arm.spread("val_loss_final")) for arm in section.arms]
    return ", ".join(f"{label} {write_spread(s.mean, s.sd, of_loss)}" for label, s in spreads)


def _n(seeds: Iterable[int]) -> str:
    """For example "n = 3" or "n = 2 to 3" of each arm's seeds; an arm without any has no mean."""
    counts = sorted(set(seeds) - {0})
    return f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
