"""python -m bench.worker.gpu_probe: whether torch here computes on the GPU it is given, as JSON."""

import json
from typing import Any

import torch

from bench.border.surroundings import PROBE_ANSWER

SIDE = 64  # of the product's matrices: any kernel will do


def look() -> dict[str, Any]:
    """What torch is, what the driver can, and how an attempt to compute ended."""
    return {
        "torch": torch.__version__,
        "built_for": torch.version.cuda,
        "driver_cuda": driver_cuda(),
        "error": why_not(),
    }


def driver_cuda() -> str | None:
    """The newest CUDA that the driver supports, "12.4"; None where it does not tell."""
    ask = getattr(torch._C, "_cuda_getDriverVersion", None)  # a torch without CUDA lacks it
    number = ask() if ask else 0  # 12040; 0 without a driver
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def why_not() -> str | None:
    """None if a small product came out right; else what torch said.

    Only a kernel that runs shows that torch was built for this GPU's architecture.
    """
    try:
        torch.cuda.init()
        ones = torch.ones(SIDE, SIDE, device="cuda")
        product = ones @ ones
        torch.cuda.synchronize()
        right = bool((product == SIDE).all())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None if right else "a product of ones came out wrong"


if __name__ == "__main__":
    print(f"\n{PROBE_ANSWER}{json.dumps(look())}")
