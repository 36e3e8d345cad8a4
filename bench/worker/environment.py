"""The software and hardware that the worker found itself on."""

import os
import platform
import resource
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.border.surroundings import CHANGING, TOLD, compiler_environment

MIB = 2**20
OUR_FOLDERS = ("PYTHONPATH", *compiler_environment(Path()))  # where they lie changes nothing


def environment() -> dict[str, Any]:
    """For env.json: enough to tell why two machines differ."""
    content: dict[str, Any] = {
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "numpy_version": np.__version__,
        "platform": platform.platform(),
        "torch_build": torch.__config__.show(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if value and name.startswith((*TOLD, *CHANGING)) and name not in OUR_FOLDERS
        },
    }
    if torch.cuda.is_available():
        content["cuda_version"] = torch.version.cuda
        content["gpu_name"] = torch.cuda.get_device_name()
    return content


def rss_peak_mib() -> float | None:
    """Peak resident memory of this process. Not ru_maxrss, which a parent's memory leaks into."""
    with open("/proc/self/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def processor_use() -> dict[str, float | int]:
    """What this process and its ended children had of the processors, in all."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_time_s": sum(use.ru_utime + use.ru_stime for use in (own, children)),
        "context_switches_voluntary": own.ru_nvcsw + children.ru_nvcsw,
        "context_switches_involuntary": own.ru_nivcsw + children.ru_nivcsw,
    }


def gpu_memory_bytes(device: torch.device) -> int:
    """All that the GPU has; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.get_device_properties(device).total_memory)


def gpu_peaks_mib(device: torch.device) -> dict[str, float]:
    """torch's own peaks since the process began, warm-up included."""
    if device.type != "cuda":
        return {}
    return {
        "gpu_mem_allocated_peak_mib": torch.cuda.max_memory_allocated(device) / MIB,
        "gpu_mem_reserved_peak_mib": torch.cuda.max_memory_reserved(device) / MIB,
    }
