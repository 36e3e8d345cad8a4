"""Which columns of runs.csv the report treats as numbers, and how it heads and writes them."""

from dataclasses import dataclass

from bench.statistics import text as digits
from bench.statistics.spread import Spread
from bench.statistics.text import of_count, of_loss, of_measure

# Properties of an arm: the same for all of its seeds, so they have no mean.
CONSTANTS = (
    "steps",
    "tokens",
    "threads",
    "n_params",
    "n_params_active",
    "flops_per_token",
    "optimizer_flops_per_step",
)

# Losses and what is computed from one.
LOSSES = (
    "val_loss_final",
    "val_loss_best",
    "train_loss_final",
    "test_loss_final",
    "perplexity",
    "bits_per_char",
    "param_efficiency",
)

# What may differ from seed to seed: summary.csv has its mean and standard deviation.
METRICS = (
    *LOSSES,
    "train_time_s",
    "step_time_ms_p50",
    "step_time_ms_p90",
    "step_time_ms_p99",
    "step_time_drift_pct",
    "tokens_per_s",
    "infer_time_ms_p50",
    "infer_time_ms_p90",
    "wall_time_s",
    "startup_time_s",
    "import_time_s",
    "data_time_s",
    "build_time_s",
    "compile_time_s",
    "warmup_time_s",
    "eval_time_s",
    "infer_time_s",
    "teardown_time_s",
    "unaccounted_time_s",
    "cpu_time_s",
    "host_rss_peak_mib",
    "cgroup_mem_peak_mib",
    "optimizer_state_mib",
    "gpu_mem_nvml_peak_mib",
    "gpu_mem_context_mib",
    "gpu_mem_allocated_peak_mib",
    "gpu_mem_reserved_peak_mib",
    "gpu_energy_j",
    "gpu_power_mean_w",
    "gpu_util_mean_pct",
    "gpu_temp_max_c",
    "sm_clock_mean_mhz",
)

HIGHER_IS_BETTER = ("tokens_per_s",)  # of all METRICS; of the others, less is better

# Of the METRICS, what somebody else's load on the machine changes: times, and what is taken over
# a time. No loss depends on it, memory is measured as the cell's own, and a highest temperature is
# no mean.
_OVER_TIME = (
    "tokens_per_s",
    "gpu_energy_j",
    "gpu_power_mean_w",
    "gpu_util_mean_pct",
    "sm_clock_mean_mhz",
)
TIMINGS = tuple(name for name in METRICS if "_time_" in name or name in _OVER_TIME)


@dataclass(frozen=True)
class Shown:
    """A numeric column as the tables show it."""

    name: str  # in runs.csv
    heading: str  # with its unit
    decimals: digits.Decimals

    def write(self, value: float | None) -> str:
        return digits.write(value, self.decimals)

    def write_spread(self, spread: Spread) -> str:
        return digits.write_spread(spread.mean, spread.sd, self.decimals)


_SHOWN = (
    Shown("n_params", "parameters", of_count),
    Shown("n_params_active", "active parameters", of_count),
    Shown("flops_per_token", "FLOPs / token", of_count),
    Shown("optimizer_flops_per_step", "optimizer FLOPs / step", of_count),
    Shown("val_loss_final", "val. loss, final", of_loss),
    Shown("test_loss_final", "test loss, final", of_loss),
    Shown("val_loss_best", "val. loss, best", of_loss),
    Shown("train_loss_final", "train loss, final", of_loss),
    Shown("perplexity", "perplexity", of_measure),
    Shown("param_efficiency", "param_efficiency", of_measure),
    Shown("train_time_s", "training (s)", of_measure),
    Shown("step_time_ms_p50", "step p50 (ms)", of_measure),
    Shown("tokens_per_s", "tokens / s", of_measure),
    Shown("infer_time_ms_p50", "infer. p50 (ms)", of_measure),
    Shown("host_rss_peak_mib", "host memory (MiB)", of_measure),
    Shown("gpu_mem_allocated_peak_mib", "GPU memory, torch (MiB)", of_measure),
    Shown("gpu_mem_nvml_peak_mib", "GPU memory, NVML (MiB)", of_measure),
    Shown("wall_time_s", "wall (s)", of_measure),
)
SHOWN = {column.name: column for column in _SHOWN}


def memory_columns(device: str) -> tuple[str, ...]:
    """The memory that counts on a device (peaks, MiB): the pictures show the first of them."""
    if device == "cuda":
        return ("gpu_mem_allocated_peak_mib", "gpu_mem_nvml_peak_mib")
    return ("host_rss_peak_mib",)


def cell_columns(device: str, *, has_test: bool = False) -> list[Shown]:
    """What a section's table of cells shows, in order; a test loss where there is such a split."""
    test = ("test_loss_final",) if has_test else ()
    losses = ("val_loss_final", *test, "val_loss_best", "train_loss_final", "perplexity")
    times = ("train_time_s", "step_time_ms_p50", "tokens_per_s", "infer_time_ms_p50")
    return [SHOWN[name] for name in (*losses, *times, *memory_columns(device), "wall_time_s")]


def arm_columns(device: str, *, has_test: bool = False) -> list[Shown]:
    """What its summary shows: the main figures."""
    left_out = ("train_loss_final", "tokens_per_s", "wall_time_s")
    columns = cell_columns(device, has_test=has_test)
    return [column for column in columns if column.name not in left_out]
