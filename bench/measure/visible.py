"""CUDA_VISIBLE_DEVICES of whoever called us: which of a machine's GPUs are there for our cells.

Source: NVIDIA's CUDA C++ Programming Guide, "CUDA Environment Variables"; torch reads it likewise
(torch/cuda/__init__.py, _parse_visible_devices).
"""

import re
from collections.abc import Mapping, Sequence

from bench.measure.gpus import Gpu, WholeGpu, with_uuid

VARIABLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
BUS = "PCI_BUS_ID"  # the order that is NVML's; CUDA's own puts the fastest GPU first
OLDER = "MIG-GPU-"  # MIG-GPU-<UUID>/<GPU instance>/<compute instance>, of drivers before R470


class AmbiguousError(Exception):
    """It may mean one GPU or another, or none. Its arguments: why, and the remedy."""


def chosen(every: Sequence[WholeGpu], variables: Mapping[str, str]) -> list[Gpu]:
    """Which GPUs and instances CUDA would show; all where the variable is not set.

    As with CUDA, the first entry that names no GPU ends the list, and one that comes twice empties
    it. Of several instances CUDA shows a process the first; here each cell gets one.

    Raises:
        AmbiguousError: for a number where GPUs differ and CUDA's order is not that of the bus, for
            how several UUIDs begin, for a GPU in MIG mode, and for an instance named the older way.
    """
    asked = variables.get(VARIABLE)
    if asked is None:
        return [gpu for whole in every for gpu in whole.parts]
    entries = [entry.strip() for entry in asked.split(",")]
    found: list[Gpu] = []
    for entry in entries:
        fitting = _fitting(entry, every)
        if len(fitting) > 1:
            raise AmbiguousError(
                f"{VARIABLE}={asked}: the UUIDs of {len(fitting)} GPUs begin with {entry}",
                "write more of the UUID (nvidia-smi -L)",
            )
        if not fitting and entry.startswith(OLDER):
            raise AmbiguousError(
                f"{VARIABLE}={asked} names an instance (MIG) in a way that this driver does not",
                "name it by its UUID (nvidia-smi -L)",
            )
        if not fitting:
            break
        if fitting[0] in found:
            return []
        found += fitting
    for whole in every:
        if whole.gpu in found and whole.instances is not None:
            raise AmbiguousError(
                f"{VARIABLE}={asked} names {whole.gpu}, which is in MIG mode", whole.mig_remedy
            )
    by_number = any(_number(entry) is not None for entry in entries[: len(found)])
    kinds = {whole.gpu.name for whole in every if not whole.lost}
    which_matters = len(kinds) > 1 and len(found) < len(every)
    if by_number and which_matters and variables.get(ORDER) != BUS:
        raise AmbiguousError(
            f"{VARIABLE}={asked} numbers GPUs that differ, and CUDA counts from the fastest one",
            f"name them by UUID (nvidia-smi -L), or set {ORDER}={BUS}",
        )
    return found


def _fitting(entry: str, every: Sequence[WholeGpu]) -> list[Gpu]:
    """The GPUs that an entry means: a number, or how a UUID begins."""
    number = _number(entry)
    if number is None:
        return with_uuid(entry, every)
    return [every[number].gpu] if number < len(every) else []


def _number(entry: str) -> int | None:
    """CUDA reads the digits that an entry begins with; None where it begins with none."""
    digits = re.match(r"\+?([0-9]+)", entry)
    return int(digits[1]) if digits else None
