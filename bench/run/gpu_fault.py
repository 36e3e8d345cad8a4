"""Whether a cell ended because its GPU failed. Pure.

What a cell says is not enough: a class could say that its GPU is lost whenever its loss is bad, and
would be run until it is good. Evidence is what the launching side has read itself, or a word that
the worker gave before any class that a matrix brings could speak.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.border.options import Limits
from bench.launch.job import Exit
from bench.launch.process import GRACE_S
from bench.measure.watch import Readings
from bench.records.endings import GPU_FAILED, LOG_TAIL

# Xids that tell a fault of the GPU or of the driver's own firmware, whatever a program does: those
# after which NVIDIA resets the GPU or the machine. Not among them are those that a program brings
# about (the Kubernetes device plugin passes over 13, 31, 43, 45, 68 and 109), notes that end
# nothing (63, 64, 92, 154), and those of NVLink (74, 136, 144 to 150, 155): whether they end
# anything their further words tell, which NVML does not pass on. Source: NVIDIA, "Xid Errors",
# catalog.
MACHINE_XIDS = {
    48: "uncorrectable ECC error",
    62: "its microcontroller halted",
    79: "fallen off the bus",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "its system processor does not answer",
    120: "error of its system processor",
    140: "unrecovered ECC error",
    143: "it could not be initialised",
    156: "a failing part of it was retired",
    158: "fatal timeout",
}
# It ends one program and leaves all others alone: of several on a GPU it is the cell's only where
# CUDA told the cell so as well.
CONTAINED, TOLD_OF_IT = 94, "uncorrectable ECC error"
# The driver ends a program within a moment of the Xid, and torch takes a few seconds to tell and to
# let go. What came longer before the end did not bring it about.
NEAR_S = 10.0

# A worker that gets no GPU: our own words (bench/worker/cell.py), and CUDA's.
NO_GPU = (
    "torch finds no usable GPU",
    "no CUDA-capable device is detected",
    "No CUDA GPUs are",
    "busy or unavailable",
)


def with_gpu_fault(
    row: Mapping[str, Any], readings: Readings, ended: Exit, limits: Limits
) -> dict[str, Any]:
    """The columns that an attempt at a cell on a GPU gets where the GPU failed; else none."""
    since = _since(row, ended, limits)
    if since is None or not readings.on_gpu:
        return {}
    evidence = "; ".join(_evidence(row, readings, since))
    if not evidence:
        return {}
    reason = f"{GPU_FAILED}{evidence}; the cell: {row['status']}: {row['reason']}"
    return {"status": "interrupted", "reason": reason}


def _since(row: Mapping[str, Any], ended: Exit, limits: Limits) -> float | None:
    """From when on a fault of the GPU explains the end; None: it does not look like one.

    A loss that diverged, memory that ran out, a good end, and a cell that spoke until it had had
    all its time stay what they are.
    """
    if row["status"] == "crashed":
        return ended.exited - NEAR_S
    if row["status"] == "timeout" and "heartbeat_s" in row["reason"]:  # grace, then, too
        return ended.exited - GRACE_S - limits.heartbeat_s - NEAR_S
    return None


def _evidence(row: Mapping[str, Any], readings: Readings, since: float) -> Iterator[str]:
    said = (row["reason"] or "").partition(LOG_TAIL)[0]
    late = [one for at, one in readings.gpu if at >= since]
    for xid in dict.fromkeys(xid for one in late for xid in one.sample.xids or ()):
        if xid in MACHINE_XIDS and (xid != CONTAINED or TOLD_OF_IT in said):
            yield f"Xid {xid} ({MACHINE_XIDS[xid]})"
    if readings.lost is not None:
        yield f"NVML lost it while the cell ran: {readings.lost}"
    if not readings.opened_device and any(words in said for words in NO_GPU):
        yield "the worker got no GPU, which had been reached from there before"
