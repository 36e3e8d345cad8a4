"""Two scripted GPUs, of which the second is the cell's, and what readings of it must say."""

from dataclasses import replace

from bench.measure.gpu_reader import GpuSample
from tests.builders.nvml_stub import Reading

OURS: dict[str, Reading] = {  # of the second GPU, the cell's
    "gpu1.memory_used_mib": 1000.5,
    "gpu1.memory_total_mib": 16000,
    "gpu1.processes": {4242: 300, 77: None},
    "gpu1.power_w": 250.25,
    "gpu1.power_instant_w": 260.5,
    "gpu1.energy_w": 250,
    "gpu1.power_limit_w": 650,
    "gpu1.power_default_limit_w": 700,
    "gpu1.utilisation_pct": 87,
    "gpu1.sm_clock_mhz": 1980,
    "gpu1.temperature_c": 61,
    "gpu1.event_reasons": 0x44,
    "gpu1.app_clock_mhz": 1410,
    "gpu1.app_clock_default_mhz": 1980,
    "gpu1.xids": "",
}
OTHERS: dict[str, Reading] = {  # of the first: nothing of it may ever be seen
    key.replace("gpu1", "gpu0"): {1: 1} if key.endswith("processes") else 5 for key in OURS
}
# What a reading of the cell's GPU says, but for its energy.
SAID = GpuSample(
    used_mib=1000.5,
    processes={4242: 300.0, 77: None},
    energy_j=None,
    power_instant_w=260.5,
    power_average_w=250.25,
    utilisation_pct=87.0,
    sm_clock_mhz=1980.0,
    temperature_c=61.0,
    slowdowns=("sw_power_cap", "hw_thermal_slowdown"),
    xids=(),
)


def without_energy(sample: GpuSample) -> GpuSample:
    return replace(sample, energy_j=None)


def moment(reason: str) -> float:
    """Seconds of CLOCK_MONOTONIC that a reason tells."""
    return float(reason.partition("(at ")[2].partition(" s of CLOCK_MONOTONIC)")[0])
