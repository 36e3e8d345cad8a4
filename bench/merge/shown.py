"""Which columns of runs.csv the tables and pictures of a device show, in order."""


def memory_columns(device: str) -> tuple[str, ...]:
    """The memory that counts on a device (peaks, MiB): the pictures show the first of them."""
    if device == "cuda":
        return ("gpu_mem_allocated_peak_mib", "gpu_mem_nvml_peak_mib")
    return ("host_rss_peak_mib",)


def cell_columns(device: str, *, has_test: bool = False) -> list[str]:
    """Of a section's table of cells; a test loss where there is such a split."""
    test = ("test_loss_final",) if has_test else ()
    losses = ("val_loss_final", *test, "val_loss_best", "train_loss_final", "perplexity")
    times = ("train_time_s", "step_time_ms_p50", "tokens_per_s", "infer_time_ms_p50")
    return [*losses, *times, *memory_columns(device), "wall_time_s"]


def arm_columns(device: str, *, has_test: bool = False) -> list[str]:
    """Of its summary: the main figures."""
    left_out = ("train_loss_final", "tokens_per_s", "wall_time_s")
    return [name for name in cell_columns(device, has_test=has_test) if name not in left_out]
