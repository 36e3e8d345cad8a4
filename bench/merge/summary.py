"""summary.csv: one row an arm and section."""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.merge.sections import Arm, Section
from bench.records.columns import CONSTANTS, FLAG, METRICS, NUMBER, TEXT, WHOLE, Kind, kind_of

IDENTITY = (
    "host_id",
    "env_id",
    "code_sha256",
    "corpus",
    "corpus_sha256",
    "device",
    "gpu_name",
    "host_cpu_model",
    "runtime",
    "torch_version",
    "eval_protocol",
    "arm_id",
    "model",
    "optimizer",
)
# n_seeds: distinct seeds with an ok row, the n of the statistics; n_seeds_timing: those that the
# timing statistics use; n_ok and n_planned: cells.
COUNTS = ("n_seeds", "n_seeds_timing", "n_seeds_planned", "n_ok", "n_planned")

# Of each metric over the seeds; low and high are the ends of the 95 % t interval of the mean.
PARTS = ("mean", "sd", "low", "high", "n")

COLUMNS: dict[str, Kind] = {
    "section": WHOLE,
    **dict.fromkeys(IDENTITY, TEXT),
    **dict.fromkeys(COUNTS, WHOLE),
    "timing_clean": FLAG,  # false: every seed was disturbed, and the timing statistics show all
    **{name: kind_of(name) for name in CONSTANTS},
    **{
        f"{metric}_{part}": WHOLE if part == "n" else NUMBER for metric in METRICS for part in PARTS
    },
}


def summary_rows(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """Rows with the COLUMNS; units are in the names, unknown is None.

    `<metric>_n` is the number of seeds that have the figure: it may be below n_seeds, and for a
    timing below n_seeds_timing.
    """
    for number, section in enumerate(sections, start=1):
        for arm in section.arms:
            yield {"section": number, **_identity(section, arm), **_figures(arm)}


def _identity(section: Section, arm: Arm) -> dict[str, Any]:
    told = {name: " ".join(section.values(name)) or None for name in IDENTITY}
    return {
        **told,
        "device": section.key.device,
        "arm_id": arm.arm_id,
        "model": arm.model,
        "optimizer": arm.optimizer,
        "n_seeds": arm.n_seeds,
        "n_seeds_timing": arm.n_seeds_timing,
        "n_seeds_planned": len(arm.seeds),
        "n_ok": len(arm.ok),
        "n_planned": arm.cells_planned,
        "timing_clean": section.timing.clean,
    }


def _figures(arm: Arm) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in CONSTANTS:
        value = arm.constant(name)
        figures[name] = int(value) if value is not None and value.is_integer() else value
    for metric in METRICS:
        spread = arm.spread(metric)
        interval = spread.interval
        figures |= {
            f"{metric}_mean": spread.mean,
            f"{metric}_sd": spread.sd,
            f"{metric}_low": interval and interval.low,
            f"{metric}_high": interval and interval.high,
            f"{metric}_n": spread.n,
        }
    return figures
