"""What several GPUs of one cell tell -> what one GPU in their place would tell. Pure."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

from bench.measure.gpu_reader import GpuSample, GpuSettings
from bench.measure.series import mean

T = TypeVar("T", GpuSample, GpuSettings)


def _by_pid(lists: Sequence[Mapping[int, float | None]]) -> dict[int, float | None]:
    """pid -> MiB on all GPUs; None where one does not tell it."""
    total: dict[int, float | None] = {}
    for pid, mib in chain.from_iterable(listed.items() for listed in lists):
        so_far = total.get(pid, 0.0)
        total[pid] = None if mib is None or so_far is None else so_far + mib
    return total


_FROM: dict[str, Callable[[Sequence[Any]], Any]] = {
    "used_mib": sum,
    "processes": _by_pid,
    "energy_j": sum,
    "power_instant_w": sum,
    "power_average_w": sum,
    "utilisation_pct": mean,
    "sm_clock_mhz": mean,
    "temperature_c": max,
    "slowdowns": lambda lists: tuple(dict.fromkeys(chain.from_iterable(lists))),
    "xids": lambda lists: tuple(chain.from_iterable(lists)),
    "power_limit_w": sum,
    "power_default_w": sum,
    "app_clocks_set": any,
    "module_power_w": sum,
}


def as_one(each: Sequence[T]) -> T:
    """A figure is told if every GPU tells it; Xids are if one does: another may be gone by then."""
    if len(each) == 1:
        return each[0]
    found: dict[str, Any] = {}
    for name in vars(each[0]):
        values = [getattr(one, name) for one in each]
        told = [value for value in values if value is not None]
        whole = len(told) == len(values) or (name == "xids" and told)
        found[name] = _FROM[name](told) if whole else None
    return type(each[0])(**found)
