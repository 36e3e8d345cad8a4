"""The columns of runs.csv. An entry here is all that a column is; its unit is in its name."""

from bench.records.kinds import (
    CONSTANT,
    DECLARED,
    FIGURE,
    FLAG,
    LOSS,
    NUMBER,
    SETTINGS,
    TEXT,
    TIME,
    TIMING,
    WHOLE,
    Column,
    Kind,
)
from bench.statistics.text import of_count, of_loss

SETTLED = ("ok", "diverged", "oom", "oom_killed", "timeout", "crashed")
STATUSES = (*SETTLED, "interrupted", "skipped")
IMPORTED = "imported"  # `runtime` of rows of runs that were made elsewhere

_NATS = "nats per token"

COLUMNS: dict[str, Column] = {
    # identity
    "run_id": Column("12 hex digits over everything that was asked of the cell"),
    "host_id": Column("salted hash of the machine and its hardware, GPUs apart"),
    "attempt": Column(
        "1, 2, ... within this folder; a failure among them stays one, whatever came later", WHOLE
    ),
    "arm_id": Column("run_id without the seed"),
    "schema_version": Column("version of these columns", WHOLE),
    "name": Column("the matrix's name"),
    "model": Column("model as the matrix names it"),
    "optimizer": Column("optimizer as the matrix names it"),
    "device": Column("cpu or cuda"),
    "seed": Column("the random seed", WHOLE),
    "order_in_seed": Column("position of the cell among the arms of its seed, from 0", WHOLE),
    "part": Column(
        "of an equal tuning budget: trial, or tuned for the best one on the matrix's own "
        "seeds; empty for a cell of the matrix itself"
    ),
    "tuned_optimizer": Column(
        "the matrix's name of the optimizer that a trial or tuned cell is of"
    ),
    "trial": Column("1, 2, ...: which trial's settings these are; 1 is the matrix's own", WHOLE),
    "tuned_settings": Column("the settings of it that tuning tries, as JSON"),
    "study": Column(
        "1, 2, ...: which of several tunings a trial or tuned cell is of; empty where all is tuned "
        "once",
        WHOLE,
    ),
    "settings": Column(
        "what of train, eval and data differs from the defaults, or what all runs of a program "
        "share, as JSON",
        SETTINGS,
    ),
    "status": Column("how it ended: " + ", ".join(STATUSES)),
    "reason": Column("why it did not end ok"),
    "stage": Column("what it was doing when it ended; empty when ok"),
    "resumed": Column(
        "how often it went on from a checkpoint of an earlier attempt; empty for programs", WHOLE
    ),
    "resumed_from": Column(
        "the step from which it went on last, whether that was kept on another machine, and which "
        "later ones were damaged"
    ),
    "log_path": Column("the worker's log, relative to the results folder"),
    "runtime": Column(
        "docker, podman, apptainer or local; imported: it was made elsewhere, and read by `import`"
    ),
    "image_id": Column("id of the container's image"),
    "env_id": Column(
        "the image's id, or a hash of the versions of Python, torch, numpy and what the "
        "matrix requires, and of the files of installed classes; imported: and a hash of the files "
        "that it was read from"
    ),
    "code_sha256": Column("hash of the files that the worker runs"),
    "git_commit": Column("commit of the working tree"),
    "git_dirty": Column("whether tracked files differed from it", FLAG),
    "started_at": Column("UTC, ISO 8601", TIME),
    # time
    "wall_time_s": Column(
        "from before the launch to the observed exit, less `wait_time_s`; of a run that went on "
        "from a checkpoint, also what training, evaluations and checkpoints had taken until then; "
        "the other phases below add up to it",
        TIMING,
        heading="wall (s)",
        title="wall time",
        unit="s",
    ),
    "startup_time_s": Column(
        "launch to the worker's first line", TIMING, title="start-up time", unit="s"
    ),
    "import_time_s": Column("importing torch", TIMING, title="time to import torch", unit="s"),
    "data_time_s": Column(
        "the corpus's tokens, mapped and checked; the table of batch positions",
        TIMING,
        title="time to read the data",
        unit="s",
    ),
    "build_time_s": Column(
        "model, weights and optimizer, moved to the device",
        TIMING,
        title="time to build the model",
        unit="s",
    ),
    "compile_time_s": Column("compiling the model", TIMING, title="compile time", unit="s"),
    "compile_cache": Column(
        "what of it came from the cache of compiled code: warm, all; cold, nothing; or how many "
        "graphs of how many; empty without `train.compile`"
    ),
    "warmup_time_s": Column(
        "steps that train nothing, before the clock", TIMING, title="warm-up time", unit="s"
    ),
    "train_time_s": Column(
        "training steps alone: no evaluation, no warm-up",
        TIMING,
        heading="training (s)",
        title="training time",
        unit="s",
    ),
    "wait_time_s": Column(
        "waiting for its turn, where `ab` and `calibrate` let versions train in turn: no part of "
        "`wall_time_s`; else empty",
        NUMBER,
    ),
    "eval_time_s": Column("evaluations", TIMING, title="evaluation time", unit="s"),
    "checkpoint_time_s": Column(
        "keeping checkpoints, and going on from one; empty without `limits.checkpoint_every`",
        TIMING,
        title="time for checkpoints",
        unit="s",
    ),
    "infer_time_s": Column(
        "measuring inference", TIMING, title="time spent on measuring inference", unit="s"
    ),
    "teardown_time_s": Column(
        "end of the last phase to exit observed: writing the results, leaving",
        TIMING,
        title="teardown time",
        unit="s",
    ),
    "unaccounted_time_s": Column(
        "wall_time_s less all phases but waiting", TIMING, title="unaccounted time", unit="s"
    ),
    "step_time_ms_p50": Column(
        "median over the raw training step times",
        TIMING,
        heading="step p50 (ms)",
        title="median step time",
        unit="ms",
    ),
    "step_time_ms_p90": Column(
        "90th percentile of the same", TIMING, title="90th percentile of the step time", unit="ms"
    ),
    "step_time_ms_p99": Column(
        "99th percentile of the same", TIMING, title="99th percentile of the step time", unit="ms"
    ),
    "step_time_drift_pct": Column(
        "median step time of the last third above that of the first; a drift by itself is no "
        "disturbance",
        TIMING,
        title="drift of the step time",
        unit="%",
    ),
    "step_time_source": Column(
        "of a program: told, where it prints the times of its steps, or stamps, those of the lines "
        "that it prints; empty for built-in cells, which time each step"
    ),
    "tokens_per_s": Column(
        "training tokens / train_time_s",
        TIMING,
        more_is_better=True,
        heading="tokens / s",
        title="training throughput",
        unit="tokens/s",
    ),
    "mfu_pct": Column(
        "model FLOPs utilisation: flops_per_token x tokens_per_s, of `peak_tflops`",
        TIMING,
        more_is_better=True,
        title="model FLOPs utilisation",
        unit="%",
    ),
    "infer_time_ms_p50": Column(
        "forward pass of one batch (batch_size x block_size tokens), median; "
        "empty if it changed from round to round",
        TIMING,
        heading="infer. p50 (ms)",
        title="median inference time",
        unit="ms",
    ),
    "infer_time_ms_p90": Column(
        "90th percentile of the same",
        TIMING,
        title="90th percentile of the inference time",
        unit="ms",
    ),
    # work
    "steps": Column("training steps done", CONSTANT),
    "tokens": Column("training tokens seen", CONSTANT),
    "epochs": Column("tokens / tokens of the training split", NUMBER),
    "n_params": Column("parameters", CONSTANT, heading="parameters", decimals=of_count),
    "n_params_active": Column(
        "parameters that one token uses; embedding tables count whole, though it "
        "looks up a row of each",
        CONSTANT,
        heading="active parameters",
        decimals=of_count,
    ),
    "flops_per_token": Column(
        "6 x active matrix parameters + 12 x layers x block x width: causal "
        "attention counts in full, as if each token saw all others",
        CONSTANT,
        heading="FLOPs / token",
        decimals=of_count,
    ),
    "optimizer_flops_per_step": Column(
        "operations of one optimizer step, Newton-Schulz included",
        CONSTANT,
        heading="optimizer FLOPs / step",
        decimals=of_count,
    ),
    "passes_per_step": Column(
        "forward and backward passes of a training step: 1, or as often as an optimizer calls its "
        "closure; each is `flops_per_token` a token",
        FIGURE,
        heading="passes / step",
        title="passes per step",
    ),
    "graph_steps_share": Column(
        "of the steps, how many ran in CUDA graphs (`train.graph_steps`); empty where none were "
        "asked for",
        CONSTANT,
    ),
    "threads": Column("threads of one CPU operator", CONSTANT),
    "cpus": Column("CPUs the cell was given"),
    "cpus_enforced": Column(
        "whether it was bound to them; false under a rootless engine without the control group "
        "cpuset",
        FLAG,
    ),
    "neighbours": Column(
        "other cells of the same run that ran at any moment between its launch and exit; "
        "0: it was alone",
        WHOLE,
    ),
    "neighbour_ids": Column("their run_ids"),
    "memory_limit_gib": Column("limits.memory_gib", NUMBER),
    "timeout_limit_s": Column("limits.timeout_s", NUMBER),
    "heartbeat_limit_s": Column("limits.heartbeat_s", NUMBER),
    "memory_limit_enforced": Column(
        "whether anything held the cell to it; false in the runtimes local and apptainer, and "
        "under a rootless engine without the control group memory",
        FLAG,
    ),
    # loss
    "train_loss_final": Column(
        "loss on the training split after the last step, by eval_protocol",
        LOSS,
        heading="train loss, final",
        decimals=of_loss,
        title="final training loss",
        unit=_NATS,
    ),
    "val_loss_final": Column(
        "loss on the validation split after the last step, by eval_protocol",
        LOSS,
        heading="val. loss, final",
        decimals=of_loss,
        title="final validation loss",
        unit=_NATS,
    ),
    "test_loss_final": Column(
        "loss on the whole test split after the last step; empty without a third "
        "share in data.split",
        LOSS,
        heading="test loss, final",
        decimals=of_loss,
        title="final test loss",
        unit=_NATS,
    ),
    "val_loss_best": Column(
        "lowest validation loss of all evaluations (the original's figure)",
        LOSS,
        heading="val. loss, best",
        decimals=of_loss,
        title="best validation loss",
        unit=_NATS,
    ),
    "perplexity": Column("exp(val_loss_final)", LOSS, heading="perplexity", title="perplexity"),
    "bits_per_char": Column(
        "val_loss_final / ln 2; empty for token files, whose tokens are no characters",
        LOSS,
        decimals=of_loss,
        title="bits per character",
    ),
    "bits_per_byte": Column(
        "val_loss_final / ln 2 / UTF-8 bytes that a token of the validation split stands for; "
        "empty where these are not known",
        LOSS,
        decimals=of_loss,
        title="bits per byte",
    ),
    "param_efficiency": Column(
        "perplexity / millions of parameters: the original's figure; it rewards a worse perplexity",
        LOSS,
        heading="param_efficiency",
        title="perplexity per million parameters",
    ),
    "eval_protocol": Column("full or sampled"),
    "metrics": Column(
        "of a program: the last figure of each metric that its matrix declares, as JSON", DECLARED
    ),
    # memory
    "gpu_mem_nvml_peak_mib": Column(
        "highest reading of GPU memory by NVML, the CUDA context included",
        FIGURE,
        heading="GPU memory, NVML (MiB)",
        title="peak GPU memory by NVML",
        unit="MiB",
    ),
    "gpu_mem_source": Column(
        "process: memory of the cell's own processes; device_delta: of the whole "
        "device, less what was in use just before the cell"
    ),
    "gpu_mem_context_mib": Column(
        "by NVML once the CUDA context was made, before data and model",
        FIGURE,
        title="GPU memory of the CUDA context",
        unit="MiB",
    ),
    "gpu_mem_allocated_peak_mib": Column(
        "peak of torch's allocated memory",
        FIGURE,
        heading="GPU memory, torch (MiB)",
        title="peak GPU memory allocated by torch",
        unit="MiB",
    ),
    "gpu_mem_reserved_peak_mib": Column(
        "peak of torch's reserved memory",
        FIGURE,
        title="peak GPU memory reserved by torch",
        unit="MiB",
    ),
    "optimizer_state_mib": Column(
        "all tensors that the optimizer holds, work space included, without the "
        "model's and their gradients; empty where that cannot be told",
        FIGURE,
        title="optimizer state",
        unit="MiB",
    ),
    "host_rss_peak_mib": Column(
        "the worker's peak resident memory (VmHWM)",
        FIGURE,
        heading="host memory (MiB)",
        title="peak host memory",
        unit="MiB",
    ),
    "host_tree_rss_peak_mib": Column(
        "peak sum of resident memory of all its processes, seen once a "
        "second; shared pages count for each",
        NUMBER,
    ),
    "cgroup_mem_peak_mib": Column(
        "peak memory charged to its container, page cache "
        "included, as last read: up to a second before a sudden end",
        FIGURE,
        title="peak container memory",
        unit="MiB",
    ),
    # machine
    "cpu_time_s": Column(
        "CPU time of the worker, start-up to result", TIMING, title="CPU time", unit="s"
    ),
    "context_switches_voluntary": Column("it waited", WHOLE),
    "context_switches_involuntary": Column("it was made to wait", WHOLE),
    "cpu_steal_pct": Column("share of its CPUs' time in training that the hypervisor took", NUMBER),
    "cpu_others_pct": Column("share that other processes took", NUMBER),
    "cpu_throttled_pct": Column("share for which a quota of a control group stopped it", NUMBER),
    "cpu_clock_mean_mhz": Column("mean clock of its CPUs in training", NUMBER),
    "host_load_mean": Column("mean of the host's one-minute load average in training", NUMBER),
    "gpu_energy_j": Column(
        "energy of the whole board, what it takes idle included, over the training "
        "phase, if that took 10 s or more, in spans of 1 s or more between evaluations",
        TIMING,
        title="GPU energy",
        unit="J",
    ),
    "gpu_energy_source": Column(
        "energy_counter, or power readings integrated: power_instant, power_average; "
        "energy_counter_module, where it may hold a CPU on the GPU's module as well"
    ),
    "gpu_power_mean_w": Column("energy / time", TIMING, title="mean GPU power", unit="W"),
    "gpu_util_mean_pct": Column(
        "mean utilisation in training",
        TIMING,
        more_is_better=True,
        title="mean GPU utilisation",
        unit="%",
    ),
    "gpu_temp_max_c": Column(
        "maximum temperature", FIGURE, title="highest GPU temperature", unit="°C"
    ),
    "sm_clock_mean_mhz": Column(
        "mean SM clock in training", TIMING, more_is_better=True, title="mean SM clock", unit="MHz"
    ),
    "sm_clock_min_mhz": Column("lowest reading of it", NUMBER),
    "sm_clock_max_mhz": Column("highest reading of it", NUMBER),
    "gpu_power_limit_w": Column("power limit that was enforced as the cell was launched", NUMBER),
    "gpu_power_default_w": Column("power limit that the GPU has by default", NUMBER),
    "gpu_app_clocks_set": Column(
        "whether application clocks differed from their default; NVML does not tell clocks that "
        "nvidia-smi -lgc locked",
        FLAG,
    ),
    "gpu_xids": Column(
        "Xids that the driver reported of the GPU while the cell ran; none if there was none"
    ),
    "gpu_slowdowns": Column(
        "what held the GPU back in training, by NVML's names, each with its share of "
        "the readings; none if nothing did"
    ),
    "tainted": Column("whether something from outside disturbed the timings", FLAG),
    "taint_reasons": Column("what did, each with its share of the training phase"),
    "taint_unchecked": Column("causes that could not be checked, and why"),
    "host_cpu_model": Column("the processor"),
    "cpu_isa": Column(
        "the processor's maker and those of its instruction sets by which numeric libraries choose "
        "their kernels: losses of CPU runs are compared between machines that have them alike"
    ),
    "gpu_name": Column("the GPU; of a cell with several, their number before it"),
    "peak_tflops": Column(
        "of the GPU in the number format of its products, dense, as NVIDIA tells it "
        "(bench/measure/peaks.py); empty for others, for several and for instances (MIG)",
        NUMBER,
    ),
    "gpu_uuid": Column("the GPU's own id, or those of several"),
    "driver_version": Column("NVIDIA driver"),
    "cuda_version": Column("CUDA that torch was built with"),
    "torch_version": Column("torch"),
    "python_version": Column("the worker's Python"),
    # fairness
    "init_hash": Column(
        "SHA-256 over the initial weights, 12 digits: equal for all optimizers of a model and seed"
    ),
    "data_order_hash": Column(
        "SHA-256 over the batch positions, 12 digits: equal for all arms of a seed"
    ),
    "corpus": Column("the text's name, or that of the first token file"),
    "corpus_sha256": Column(
        "SHA-256 of the text; of token files one over their splits, their own and `vocab_size`"
    ),
    "tokens_on": Column(
        "where batches come from: device, the GPU's memory; host, files that are mapped there"
    ),
}
RUN_COLUMNS = {name: column.meaning for name, column in COLUMNS.items()}

_AT_EQUAL = "validation loss at the same {}, `claim.budget` or where the first run of any arm ends"
_TO_TARGET = "{} until the validation loss is held at `claim.target` or below"


def _loss_at(cost: str) -> Column:
    title = f"validation loss at equal {cost}"
    return Column(_AT_EQUAL.format(cost), LOSS, decimals=of_loss, title=title, unit=_NATS)


# What may be claimed and is in no row: it follows from a run's evaluations and from the claim.
OF_CURVES: dict[str, Column] = {
    "val_loss_tail": Column(
        "mean validation loss of the last `claim.tail` evaluations",
        LOSS,
        decimals=of_loss,
        title="mean validation loss of the last evaluations",
        unit=_NATS,
    ),
    "val_loss_at_equal_time": _loss_at("training time"),
    "val_loss_at_equal_tokens": _loss_at("training tokens"),
    "val_loss_at_equal_flops": _loss_at("operations"),
    "steps_to": Column(_TO_TARGET.format("training steps"), LOSS, title="steps to the target"),
    "tokens_to": Column(_TO_TARGET.format("training tokens"), LOSS, title="tokens to the target"),
    "time_to": Column(
        _TO_TARGET.format("training time"), LOSS, title="training time to the target", unit="s"
    ),
}
AT_EQUAL_COST = tuple(name for name in OF_CURVES if "_at_equal_" in name)
TO_TARGET = tuple(name for name in OF_CURVES if name.endswith("_to"))

# What summary.csv and a comparison begin with: all other figures follow in the order of runs.csv.
_FIRST = (
    *("steps", "tokens", "threads"),
    *("val_loss_final", "val_loss_best", "train_loss_final", "test_loss_final"),
    *("perplexity", "bits_per_char", "bits_per_byte", "param_efficiency", "train_time_s"),
    *("step_time_ms_p50", "step_time_ms_p90", "step_time_ms_p99", "step_time_drift_pct"),
    *("tokens_per_s", "mfu_pct", "infer_time_ms_p50", "infer_time_ms_p90", "wall_time_s"),
    *("startup_time_s", "import_time_s", "data_time_s", "build_time_s", "compile_time_s"),
    *("warmup_time_s", "eval_time_s", "infer_time_s", "teardown_time_s", "unaccounted_time_s"),
    *("cpu_time_s", "host_rss_peak_mib", "cgroup_mem_peak_mib", "optimizer_state_mib"),
)


def _of(*kinds: Kind) -> tuple[str, ...]:
    names = dict.fromkeys((*_FIRST, *COLUMNS))
    return tuple(name for name in names if COLUMNS[name].kind in kinds)


CONSTANTS = _of(CONSTANT)
LOSSES = _of(LOSS)
TIMINGS = _of(TIMING)
# With those of a claim that rest on one: what disturbs a run's times disturbs them.
TIMED = (*TIMINGS, "val_loss_at_equal_time", "time_to")
# Of one machine alone: with those of another they have no mean, and make no pairs.
OF_A_MACHINE = (
    *TIMED,
    *(name for name in _of(FIGURE) if "_mem_" in name or "_rss_" in name or name.endswith("_c")),
)
METRICS = _of(LOSS, TIMING, FIGURE)  # each has a mean over seeds
CLAIMABLE = (*METRICS, *OF_CURVES)
SHOWN = {name: COLUMNS[name] for name in (*CONSTANTS, *METRICS) if COLUMNS[name].heading}

OF_GPUS = tuple(name for name in METRICS if name.startswith(("gpu_", "sm_clock_", "mfu_")))

# In percent or degrees already, and 0 or less in a sound cell: these have differences, no ratios.
IN_POINTS = tuple(name for name in METRICS if name.endswith(("_pct", "_c")))


def is_relative(metric: str, column: Column) -> bool:
    """Whether a metric, of `METRICS`, `OF_CURVES` or a program's own, is compared by its ratio.

    The noise of times, sizes and rates multiplies; that of losses adds.
    """
    return metric in TO_TARGET or (column.kind != LOSS and metric not in IN_POINTS)


def memory_columns(device: str) -> tuple[str, ...]:
    """The memory that counts on a device (peaks, MiB): the pictures show the first of them."""
    if device == "cuda":
        return ("gpu_mem_allocated_peak_mib", "gpu_mem_nvml_peak_mib")
    return ("host_rss_peak_mib",)


def kind_of(name: str) -> Kind:
    """Of a column of runs.csv; those of a newer version are text."""
    return COLUMNS[name].kind if name in COLUMNS else TEXT
