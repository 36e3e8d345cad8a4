"""CUDA_VISIBLE_DEVICES of whoever called us: which of a machine's GPUs are there for our cells.

Source: NVIDIA's CUDA C++ Programming Guide, "CUDA Environment Variables"; torch reads it likewise
(torch/cuda/__init__.py, _parse_visible_devices).
"""

import re
from collections.abc import Mapping, Sequence

VARIABLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
BUS = "PCI_BUS_ID"  # the order that is NVML's; CUDA's own puts the fastest GPU first


class AmbiguousError(Exception):
    """It may mean one GPU or another. Its arguments: why, and the remedy."""


def chosen(uuids: Sequence[str], names: Sequence[str], variables: Mapping[str, str]) -> list[int]:
    """Which of the GPUs, given in NVML's order, CUDA would show; all where the variable is not set.

    As with CUDA, the first entry that names no GPU ends the list, and one that comes twice empties
    it.

    Raises:
        AmbiguousError: for a number where GPUs differ and CUDA's order is not that of the bus, for
            how several UUIDs begin, and for a part of a GPU (MIG).
    """
    asked = variables.get(VARIABLE)
    if asked is None:
        return list(range(len(uuids)))
    entries = [entry.strip() for entry in asked.split(",")]
    if any(entry.startswith("MIG-") for entry in entries):
        raise AmbiguousError(
            f"{VARIABLE}={asked} names a part of a GPU (MIG), and a cell gets a whole one",
            f"name whole GPUs alone in {VARIABLE}",
        )
    found: list[int] = []
    for entry in entries:
        fitting = _fitting(entry, uuids)
        if len(fitting) > 1:
            raise AmbiguousError(
                f"{VARIABLE}={asked}: the UUIDs of {len(fitting)} GPUs begin with {entry}",
                "write more of the UUID (nvidia-smi -L)",
            )
        if not fitting:
            break
        if fitting[0] in found:
            return []
        found += fitting
    by_number = any(_number(entry) is not None for entry in entries[: len(found)])
    which_matters = len(set(names)) > 1 and len(found) < len(uuids)
    if by_number and which_matters and variables.get(ORDER) != BUS:
        raise AmbiguousError(
            f"{VARIABLE}={asked} numbers GPUs that differ, and CUDA counts from the fastest one",
            f"name them by UUID (nvidia-smi -L), or set {ORDER}={BUS}",
        )
    return found


def _fitting(entry: str, uuids: Sequence[str]) -> list[int]:
    """The GPUs that an entry means: a number, or how a UUID begins."""
    number = _number(entry)
    if number is not None:
        return [number] if number < len(uuids) else []
    if not entry.startswith("GPU-"):
        return []
    return [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]


def _number(entry: str) -> int | None:
    """CUDA reads the digits that an entry begins with; None where it begins with none."""
    digits = re.match(r"\+?([0-9]+)", entry)
    return int(digits[1]) if digits else None
