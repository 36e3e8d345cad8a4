"""Whether a cell ended because its GPU failed. Pure.

What a cell says is not enough: a class could say that its GPU is lost whenever its loss is bad, and
would be run until it is good. Evidence is what the launching side has read itself, or a word that
the worker gave before any class that a matrix brings could speak.
"""

from collections.abc import Mapping
from typing import Any

from bench.measure.watch import Readings
from bench.records.endings import GPU_FAILED, LOG_TAIL

# Xids that tell a fault of the hardware or of the driver's own firmware, whatever a program does.
# Those that a program brings about (13, 31, 43, 68, 69, 109) or that follow from its end (45) are
# not among them, nor are notes that end nothing (63, 92, 154). Source: NVIDIA, "Xid Errors",
# catalog; its Kubernetes device plugin passes over the same ones of programs.
MACHINE_XIDS = {
    48: "uncorrectable ECC error",
    62: "its microcontroller halted",
    64: "a failing row of memory could not be replaced",
    74: "NVLink error",
    79: "fallen off the bus",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "its system processor does not answer",
    120: "error of its system processor",
    140: "unrecovered ECC error",
}

# A worker that finds no GPU: our own words (bench/worker/cell.py), and CUDA's.
NO_GPU = ("torch finds no usable GPU", "no CUDA-capable device is detected", "No CUDA GPUs are")
# What a fault of the GPU can look like from within the cell. A loss that diverged, memory that ran
# out and a good end stay what they are.
LOOKS = ("crashed", "timeout")


def with_gpu_fault(row: Mapping[str, Any], readings: Readings) -> dict[str, Any]:
    """The columns that an attempt at a cell on a GPU gets where the GPU failed; else none."""
    evidence = "; ".join(_evidence(row, readings)) if row["status"] in LOOKS else ""
    if not evidence:
        return {}
    reason = f"{GPU_FAILED}{evidence}; the cell: {row['status']}: {row['reason']}"
    return {"status": "interrupted", "reason": reason}


def _evidence(row: Mapping[str, Any], readings: Readings) -> list[str]:
    if not readings.on_gpu:
        return []
    xids = dict.fromkeys(xid for _, one in readings.gpu for xid in one.sample.xids or ())
    found = [f"Xid {xid} ({MACHINE_XIDS[xid]})" for xid in xids if xid in MACHINE_XIDS]
    if readings.lost is not None:
        found.append(f"NVML lost it while the cell ran: {readings.lost}")
    said = (row["reason"] or "").partition(LOG_TAIL)[0]
    if not readings.opened_device and any(words in said for words in NO_GPU):
        found.append("the worker found no GPU, which had been reached from there before")
    return found
