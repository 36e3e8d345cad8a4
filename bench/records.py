"""The CSV schemas, and how rows reach the disk.

`runs.csv` is the only commit point: a row is appended in one write and fsynced when its cell
ends. A write that a crash cut off is not a row: reading passes over it, and the next append
removes it first.
"""

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.atomic import write_atomically
from bench.errors import RecordError

Row = dict[str, str]

# A reason may quote a log; csv's own limit of 128 KiB a field would make such a row unreadable.
csv.field_size_limit(2**31 - 1)

SETTLED = ("ok", "diverged", "oom", "oom_killed", "timeout", "crashed")
STATUSES = (*SETTLED, "interrupted", "skipped")

# column -> what it is; its unit is in its name. Empty means unknown or not applicable.
RUN_COLUMNS: dict[str, str] = {
    # identity
    "run_id": "12 hex digits over everything that was asked of the cell",
    "host_id": "salted hash of the machine and its hardware",
    "attempt": "1, 2, ... within this folder; the highest that is neither interrupted nor "
    "skipped tells how the cell ended",
    "arm_id": "run_id without the seed",
    "schema_version": "version of these columns",
    "name": "the matrix's name",
    "model": "model as the matrix names it",
    "optimizer": "optimizer as the matrix names it",
    "device": "cpu or cuda",
    "seed": "the random seed",
    "order_in_seed": "position of the cell among the arms of its seed, from 0",
    "status": "how it ended: " + ", ".join(STATUSES),
    "reason": "why it did not end ok",
    "stage": "what it was doing when it ended; empty when ok",
    "log_path": "the worker's log, relative to the results folder",
    "runtime": "docker, podman or local",
    "image_id": "id of the container's image",
    "env_id": "the image's id, or a hash of the Python, torch and numpy versions",
    "code_sha256": "hash of the files that the worker runs",
    "git_commit": "commit of the working tree",
    "git_dirty": "whether tracked files differed from it",
    "started_at": "UTC, ISO 8601",
    # time
    "wall_time_s": "from before the launch to the observed exit; the phases below add up to it",
    "startup_time_s": "launch to the worker's first line",
    "import_time_s": "importing torch",
    "data_time_s": "reading the corpus, tokens, the table of batch positions",
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
    "infer_time_ms_p50": "forward pass of one batch (batch_size x block_size tokens), median",
    "infer_time_ms_p90": "90th percentile of the same",
    # work
    "steps": "training steps done",
    "tokens": "training tokens seen",
    "n_params": "parameters",
    "n_params_active": "parameters that one token uses",
    "flops_per_token": "6 x active matrix parameters + 12 x layers x block x width",
    "optimizer_flops_per_step": "operations of one optimizer step, Newton-Schulz included",
    "threads": "threads of one CPU operator",
    "cpus": "CPUs the cell was bound to",
    "memory_limit_gib": "limits.memory_gib",
    "memory_limit_enforced": "whether anything held the cell to it; false in the local runtime",
    # loss
    "train_loss_final": "loss on the training split after the last step, by eval_protocol",
    "val_loss_final": "loss on the validation split after the last step, by eval_protocol",
    "val_loss_best": "lowest validation loss of all evaluations (the original's figure)",
    "perplexity": "exp(val_loss_final)",
    "bits_per_char": "val_loss_final / ln 2",
    "param_efficiency": "perplexity / millions of parameters: the original's figure; it rewards "
    "a worse perplexity",
    "eval_protocol": "full or sampled",
    # memory
    "gpu_mem_nvml_peak_mib": "peak of GPU memory by NVML, the CUDA context included",
    "gpu_mem_source": "process: memory of the cell's own processes; device_delta: of the whole "
    "device, less what was in use just before the cell",
    "gpu_mem_context_mib": "by NVML once the CUDA context was made, before data and model",
    "gpu_mem_allocated_peak_mib": "peak of torch's allocated memory",
    "gpu_mem_reserved_peak_mib": "peak of torch's reserved memory",
    "optimizer_state_mib": "tensors of the optimizer's state",
    "host_rss_peak_mib": "the worker's peak resident memory (VmHWM)",
    "host_tree_rss_peak_mib": "peak sum of resident memory of all its processes, seen once a "
    "second; shared pages count for each",
    "cgroup_mem_peak_mib": "peak memory charged to its container, page cache included",
    # machine
    "cpu_time_s": "CPU time of the worker, start-up to result",
    "context_switches_voluntary": "it waited",
    "context_switches_involuntary": "it was made to wait",
    "cpu_steal_pct": "share of its CPUs' time in training that the hypervisor took",
    "cpu_others_pct": "share that other processes took",
    "cpu_throttled_pct": "share for which a quota of a control group stopped it",
    "cpu_clock_mean_mhz": "mean clock of its CPUs in training",
    "host_load_mean": "mean of the host's one-minute load average in training",
    "gpu_energy_j": "energy over the training phase, if that took 10 s or more",
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
}


# What a spreadsheet takes for a formula, full-width signs included. Control characters before it
# are passed over: some programs drop them.
FORMULA = re.compile(r"[\x00-\x1f]*[=+\-@＝＋－＠]")


def as_field(value: Any) -> str:
    """A CSV field: floats by repr, true / false, empty for None, always one physical line.

    A text that a spreadsheet would run as a formula gets an apostrophe before it, which makes it
    plain text there; a number never does, nor when it is written again as the text it was read as.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    # A file name that is not UTF-8 reaches us with half characters, which no file can hold.
    printable = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    text = " ".join(printable.split())
    return f"'{text}" if FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_line(fields: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([as_field(field) for field in fields])
    return buffer.getvalue()


def write_table(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    columns = list(columns)
    lines = [as_line(columns), *(as_line(row.get(name) for name in columns) for row in rows)]
    write_atomically(path, "".join(lines))


def _complete_lines(path: Path) -> list[bytes]:
    """The lines of a file that end with a line feed: what a crash cut off is no line."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error


def _fields(path: Path, number: int, line: bytes) -> list[str]:
    """One line's fields. Each line is parsed by itself: damage cannot swallow its neighbours."""
    try:
        return next(csv.reader([line.decode("utf-8")], strict=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, number, str(error)) from error


def _damaged(path: Path, number: int, why: str) -> RecordError:
    return RecordError(
        f"{path}:{number}: {why}. Put the line right or remove it; the other rows are complete."
    )


def read_table(path: Path) -> list[Row]:
    """All complete rows of a CSV of ours, every field as text; none if there is no file."""
    lines = [_fields(path, number, line) for number, line in enumerate(_complete_lines(path), 1)]
    header = lines[0] if lines else []
    for number, fields in enumerate(lines[1:], start=2):
        if len(fields) != len(header):
            why = f"{len(fields)} fields under a header of {len(header)}"
            raise _damaged(path, number, why)
    return [dict(zip(header, fields, strict=True)) for fields in lines[1:]]


def terminal(attempts: Sequence[Row]) -> Row | None:
    """The attempt that tells how a cell ended, of its rows with the oldest first.

    It is the last settled one: an interrupted or skipped attempt leaves a cell as it was. Without
    a settled one it is the last; None if there is none.
    """
    settled = [row for row in attempts if row["status"] in SETTLED]
    candidates = settled or attempts
    return candidates[-1] if candidates else None


class RunsTable:
    """`runs.csv` of one results folder, open for appending rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._of: dict[str, list[Row]] = defaultdict(list)
        header = self._header()
        for row in read_table(path):
            self._remember({name: row.get(name, "") for name in RUN_COLUMNS})
        if header != list(RUN_COLUMNS) or self._is_torn():
            self._rewrite()

    def _header(self) -> list[str]:
        """The file's columns; empty if there is no file yet.

        Raises:
            RecordError: if a newer version of this program, or another program, wrote it.
        """
        lines = _complete_lines(self.path)
        header = _fields(self.path, 1, lines[0]) if lines else []
        newer = [name for name in header if name not in RUN_COLUMNS]
        if newer:
            raise RecordError(
                f"{self.path}: unknown columns {', '.join(newer)}: a newer version of this "
                "program wrote it, or another program. Use that version, or another --out."
            )
        return header

    def _remember(self, row: Row) -> None:
        self.rows.append(row)
        self._of[row["run_id"]].append(row)

    def _is_torn(self) -> bool:
        return not self.path.read_bytes().endswith(b"\n")

    def _rewrite(self) -> None:
        """Drop a torn last line, and give an older file the columns that have come since."""
        write_table(self.path, RUN_COLUMNS, self.rows)

    def append(self, row: Mapping[str, Any]) -> None:
        """Commit one row: when this returns, it is on the disk.

        Raises:
            RecordError: if the disk does not take it; earlier rows are complete.
        """
        unknown = set(row) - set(RUN_COLUMNS)
        assert not unknown, f"no such columns in runs.csv: {sorted(unknown)}"
        fields = {name: as_field(row.get(name)) for name in RUN_COLUMNS}
        line = as_line(fields.values()).encode()
        try:
            if self._is_torn():  # an earlier append met a full disk
                self._rewrite()
            self._append_line(line)
        except OSError as error:
            raise RecordError(
                f"{self.path}: the row of {fields['run_id']} could not be written: {error}. "
                "Earlier rows are complete. Mend it and run again: the cell is still open."
            ) from error
        self._remember(fields)

    def _append_line(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(handle, line) != len(line):
                raise OSError(f"{self.path}: the disk took only a part of a row")
            os.fsync(handle)
        finally:
            os.close(handle)

    def of(self, run_id: str) -> list[Row]:
        """The rows of one cell, oldest attempt first."""
        return sorted(self._of[run_id], key=lambda row: int(row["attempt"]))
