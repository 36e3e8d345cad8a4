"""The columns of every CSV, each with its meaning; a unit is in its name."""

SETTLED = ("ok", "diverged", "oom", "oom_killed", "timeout", "crashed")
STATUSES = (*SETTLED, "interrupted", "skipped")

# column -> what it is. Empty means unknown or not applicable.
RUN_COLUMNS: dict[str, str] = {
    # identity
    "run_id": "12 hex digits over everything that was asked of the cell",
    "host_id": "salted hash of the machine and its hardware, GPUs apart",
    "attempt": "1, 2, ... within this folder; a failure among them stays one, whatever came later",
    "arm_id": "run_id without the seed",
    "schema_version": "version of these columns",
    "name": "the matrix's name",
    "model": "model as the matrix names it",
    "optimizer": "optimizer as the matrix names it",
    "device": "cpu or cuda",
    "seed": "the random seed",
    "order_in_seed": "position of the cell among the arms of its seed, from 0",
    "part": "of an equal tuning budget: trial, or tuned for the best one on the matrix's own "
    "seeds; empty for a cell of the matrix itself",
    "tuned_optimizer": "the matrix's name of the optimizer that a trial or tuned cell is of",
    "trial": "1, 2, ...: which trial's settings these are; 1 is the matrix's own",
    "tuned_settings": "the settings of it that tuning tries, as JSON",
    "settings": "what of train, eval and data differs from the defaults, as JSON",
    "status": "how it ended: " + ", ".join(STATUSES),
    "reason": "why it did not end ok",
    "stage": "what it was doing when it ended; empty when ok",
    "log_path": "the worker's log, relative to the results folder",
    "runtime": "docker, podman or local",
    "image_id": "id of the container's image",
    "env_id": "the image's id, or a hash of the versions of Python, torch, numpy and what the "
    "matrix requires, and of the files of installed classes",
    "code_sha256": "hash of the files that the worker runs",
    "git_commit": "commit of the working tree",
    "git_dirty": "whether tracked files differed from it",
    "started_at": "UTC, ISO 8601",
    # time
    "wall_time_s": "from before the launch to the observed exit; the phases below add up to it",
    "startup_time_s": "launch to the worker's first line",
    "import_time_s": "importing torch",
    "data_time_s": "the corpus's tokens, mapped and checked; the table of batch positions",
    "build_time_s": "model, weights and optimizer, moved to the device",
    "compile_time_s": "compiling the model",
    "warmup_time_s": "steps that train nothing, before the clock",
    "train_time_s": "training steps alone: no evaluation, no warm-up",
    "eval_time_s": "evaluations",
    "infer_time_s": "measuring inference",
    "teardown_time_s": "end of the last phase to exit observed: writing the results, leaving",
    "unaccounted_time_s": "wall_time_s less all phases",
    "step_time_ms_p50": "median over the raw training step times",
    "step_time_ms_p90": "90th percentile of the same",
    "step_time_ms_p99": "99th percentile of the same",
    "step_time_drift_pct": "median step time of the last third above that of the first; no taint",
    "tokens_per_s": "training tokens / train_time_s",
    "infer_time_ms_p50": "forward pass of one batch (batch_size x block_size tokens), median; "
    "empty if it changed from round to round",
    "infer_time_ms_p90": "90th percentile of the same",
    # work
    "steps": "training steps done",
    "tokens": "training tokens seen",
    "epochs": "tokens / tokens of the training split",
    "n_params": "parameters",
    "n_params_active": "parameters that one token uses; embedding tables count whole, though it "
    "looks up a row of each",
    "flops_per_token": "6 x active matrix parameters + 12 x layers x block x width: causal "
    "attention counts in full, as if each token saw all others",
    "optimizer_flops_per_step": "operations of one optimizer step, Newton-Schulz included",
    "threads": "threads of one CPU operator",
    "cpus": "CPUs the cell was bound to",
    "neighbours": "other cells of the same run that ran at any moment between its launch and exit; "
    "0: it was alone",
    "neighbour_ids": "their run_ids",
    "memory_limit_gib": "limits.memory_gib",
    "timeout_limit_s": "limits.timeout_s",
    "heartbeat_limit_s": "limits.heartbeat_s",
    "memory_limit_enforced": "whether anything held the cell to it; false in the local runtime",
    # loss
    "train_loss_final": "loss on the training split after the last step, by eval_protocol",
    "val_loss_final": "loss on the validation split after the last step, by eval_protocol",
    "test_loss_final": "loss on the whole test split after the last step; empty without a third "
    "share in data.split",
    "val_loss_best": "lowest validation loss of all evaluations (the original's figure)",
    "perplexity": "exp(val_loss_final)",
    "bits_per_char": "val_loss_final / ln 2",
    "param_efficiency": "perplexity / millions of parameters: the original's figure; it rewards "
    "a worse perplexity",
    "eval_protocol": "full or sampled",
    # memory
    "gpu_mem_nvml_peak_mib": "highest reading of GPU memory by NVML, the CUDA context included",
    "gpu_mem_source": "process: memory of the cell's own processes; device_delta: of the whole "
    "device, less what was in use just before the cell",
    "gpu_mem_context_mib": "by NVML once the CUDA context was made, before data and model",
    "gpu_mem_allocated_peak_mib": "peak of torch's allocated memory",
    "gpu_mem_reserved_peak_mib": "peak of torch's reserved memory",
    "optimizer_state_mib": "all tensors that the optimizer holds, work space included, without the "
    "model's and their gradients; empty where that cannot be told",
    "host_rss_peak_mib": "the worker's peak resident memory (VmHWM)",
    "host_tree_rss_peak_mib": "peak sum of resident memory of all its processes, seen once a "
    "second; shared pages count for each",
    "cgroup_mem_peak_mib": "peak memory charged to its container, page cache "
    "included, as last read: up to a second before a sudden end",
    # machine
    "cpu_time_s": "CPU time of the worker, start-up to result",
    "context_switches_voluntary": "it waited",
    "context_switches_involuntary": "it was made to wait",
    "cpu_steal_pct": "share of its CPUs' time in training that the hypervisor took",
    "cpu_others_pct": "share that other processes took",
    "cpu_throttled_pct": "share for which a quota of a control group stopped it",
    "cpu_clock_mean_mhz": "mean clock of its CPUs in training",
    "host_load_mean": "mean of the host's one-minute load average in training",
    "gpu_energy_j": "energy of the whole board, what it takes idle included, over the training "
    "phase, if that took 10 s or more, in spans of 1 s or more between evaluations",
    "gpu_energy_source": "energy_counter, or power readings integrated: power_instant, "
    "power_average",
    "gpu_power_mean_w": "energy / time",
    "gpu_util_mean_pct": "mean utilisation in training",
    "gpu_temp_max_c": "maximum temperature",
    "sm_clock_mean_mhz": "mean SM clock in training",
    "gpu_slowdowns": "what held the GPU back in training, by NVML's names, each with its share of "
    "the readings; none if nothing did",
    "tainted": "whether something from outside disturbed the timings",
    "taint_reasons": "what did, each with its share of the training phase",
    "taint_unchecked": "causes that could not be checked, and why",
    "host_cpu_model": "the processor",
    "gpu_name": "the GPU",
    "gpu_uuid": "the GPU's own id",
    "driver_version": "NVIDIA driver",
    "cuda_version": "CUDA that torch was built with",
    "torch_version": "torch",
    "python_version": "the worker's Python",
    # fairness
    "init_hash": "SHA-256 over the initial weights, 12 digits: equal for all optimizers of a "
    "model and seed",
    "data_order_hash": "SHA-256 over the batch positions, 12 digits: equal for all arms of a seed",
    "corpus": "the text's name",
    "corpus_sha256": "SHA-256 of the text",
}

PLAN_COLUMNS: dict[str, str] = {
    "run_id": RUN_COLUMNS["run_id"],
    "arm_id": RUN_COLUMNS["arm_id"],
    "name": RUN_COLUMNS["name"],
    "model": RUN_COLUMNS["model"],
    "optimizer": RUN_COLUMNS["optimizer"],
    "device": RUN_COLUMNS["device"],
    "seed": RUN_COLUMNS["seed"],
    "order_in_seed": RUN_COLUMNS["order_in_seed"],
    "part": RUN_COLUMNS["part"],
    "tuned_optimizer": RUN_COLUMNS["tuned_optimizer"],
    "trial": RUN_COLUMNS["trial"] + "; empty where the trials have not told yet",
    "settings": RUN_COLUMNS["settings"],
    "selected": "whether --only and --shard chose it, in any run so far; coverage counts these",
}

CURVE_COLUMNS: dict[str, str] = {
    "run_id": RUN_COLUMNS["run_id"],
    "host_id": RUN_COLUMNS["host_id"],
    "attempt": RUN_COLUMNS["attempt"],
    "step": "training steps done at this evaluation",
    "tokens": "training tokens seen",
    "train_time_s": "training time so far",
    "train_loss": "loss on the training split",
    "val_loss": "loss on the validation split",
    "expert_load_max": "tokens that chose the busiest expert of any block, over an equal share (1: "
    "all alike), on the validation windows; weights, where all experts are visited; empty without "
    "experts",
    "router_entropy": "nats: of a token's scores as shares, the mean over tokens and blocks of the "
    "same windows; empty without experts",
    "n_params": "parameters at this evaluation; pruning lowers it",
    "n_params_active": "parameters that one token uses at this evaluation",
    "optimizer_state_mib": "all tensors that the optimizer holds at this evaluation",
}
