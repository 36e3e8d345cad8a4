"""Utilisation of large cells: `python -m tests.gpu.large OUT.csv RESULTS...`.

MFU (Chowdhery et al. 2022, appendix B) is the arithmetic that a token's active parameters need,
`flops_per_token`, times tokens a second, over what the GPU could do: by its datasheet (dense
bfloat16) where that is known here, and by a product of two large matrices on this very GPU.
"""

import csv
import statistics
import sys
from pathlib import Path

import torch

from bench.border.options import TrainOptions
from bench.measure.peaks import mfu_pct, peak_tflops
from bench.records.rows import Row, read_table
from tests.gpu.timing import microseconds

BFLOAT16 = TrainOptions(dtype="bfloat16")
SIDE = 8_192  # of the matrices
ROUNDS = 10
AIMS_PCT = {"gpt2": 40.0, "kimi-2-of-2": 30.0, "kimi-2-of-8": 30.0}  # of the datasheet
HEAD = (
    "model",
    "gpu_name",
    "tokens_per_s",
    "step_time_ms_p50",
    "flops_per_token",
    "mfu_datasheet_pct",
    "aim_pct",
    "mfu_measured_pct",
    "measured_tflops",
    "n_params",
    "n_params_active",
    "gpu_mem_allocated_peak_mib",
    "compile_time_s",
)


def main(out: str, *results: str, device: str = "cuda", side: int = SIDE) -> None:
    rate_tflops = matrix_rate_tflops(device, side)
    with open(out, "w", newline="") as file:
        writer = csv.DictWriter(file, HEAD, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        for row in (row for folder in results for row in read_table(Path(folder) / "runs.csv")):
            if row["status"] != "ok":
                continue
            line = utilisation(row, rate_tflops)
            writer.writerow(line)
            print(*(line[name] for name in HEAD), sep="\t")


def utilisation(row: Row, rate_tflops: float) -> dict[str, object]:
    """A row and what share of the GPU it used; empty for a GPU whose datasheet is not known."""
    did = float(row["flops_per_token"]), float(row["tokens_per_s"])
    of_datasheet = mfu_pct(*did, peak_tflops(row["gpu_name"], BFLOAT16))
    return {
        **row,
        "mfu_datasheet_pct": "" if of_datasheet is None else of_datasheet,
        "aim_pct": AIMS_PCT[row["model"]],
        "mfu_measured_pct": mfu_pct(*did, rate_tflops),
        "measured_tflops": rate_tflops,
    }


def matrix_rate_tflops(device: str, side: int) -> float:
    """Of bfloat16 products of random matrices: those of zeros draw less power and run faster."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times_us = [microseconds(lambda: a @ b, device, 10) for _ in range(ROUNDS)]
    return 2 * side**3 / statistics.median(times_us) / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
