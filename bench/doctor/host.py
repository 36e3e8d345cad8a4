"""The machine as it is now: interpreter, memory, load, clocks."""

import importlib.util
import sys
from pathlib import Path

from bench.border.options import Limits
from bench.doctor.finding import Answer, ok, problem, unknown, warning

CPU_SYSFS = Path("/sys/devices/system/cpu")
PYTHONS = ((3, 11), (3, 14))  # from, below; `requires-python` in pyproject.toml
# The extra `report`, each package by the module that it is imported as.
REPORT_PACKAGES = {
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "pandas": "pandas",
    "PIL": "pillow",
    "plotly": "plotly",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
}
# Running tasks a CPU, over the last minute. From one for every second CPU on, a cell is likely
# to share its CPU, or the caches and memory of its CPU, with work that is not the benchmark's.
MAX_LOAD = 0.5


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Answer:
    said = ".".join(map(str, version))
    if PYTHONS[0] <= version[:2] < PYTHONS[1]:
        return ok(f"{said}, {sys.executable}")
    return problem(f"{said} is not 3.11, 3.12 or 3.13", "name one that is: make setup PYTHON=PATH")


def report_extra() -> Answer:
    absent = [
        package
        for module, package in REPORT_PACKAGES.items()
        if importlib.util.find_spec(module) is None
    ]
    if not absent:
        return ok(", ".join(REPORT_PACKAGES.values()))
    return warning(
        f"no {' and no '.join(absent)}: cells run, reports cannot be made",
        "make setup   (or: pip install 'bench-matrix[report]')",
    )


def memory(gib: float) -> Answer:
    """What is free, against what the container of a cell may take by default."""
    limit = Limits().memory_gib
    if gib >= limit:
        return ok(f"{gib:.1f} GiB available; a cell may take {limit:g} GiB (limits.memory_gib)")
    return warning(
        f"{gib:.1f} GiB available, less than the {limit:g} GiB that a cell may take",
        "end what uses it, or set a lower limits.memory_gib in the matrix",
    )


def load(one_minute: float, cpus: int) -> Answer:
    """The load average, against the CPUs that this process may use."""
    said = f"{one_minute:.2f} in the last minute on {cpus} CPU{'s' if cpus > 1 else ''}"
    if one_minute <= MAX_LOAD * cpus:
        return ok(said)
    return warning(
        f"{said}: other programs would share the CPUs with the cells and disturb their times",
        "wait, or end what runs (top shows it)",
    )


def governor(sysfs: Path = CPU_SYSFS) -> Answer:
    """What sets the CPUs' clock."""
    files = sorted(sysfs.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    names = sorted({file.read_text(encoding="utf-8").strip() for file in files})
    if not names:
        return unknown("the kernel does not say, as in most virtual machines")
    if names == ["performance"]:
        return ok("performance on every CPU")
    return warning(
        f"{', '.join(names)}: the clock follows the load, and so do step times",
        "cpupower frequency-set -g performance   (as root)",
    )


def turbo(sysfs: Path = CPU_SYSFS) -> Answer:
    """A fact, no fault: a machine is measured as it is used."""
    switches = {"intel_pstate/no_turbo": "0", "cpufreq/boost": "1"}  # file: its text where on
    for name, on in switches.items():
        if (sysfs / name).is_file():
            if (sysfs / name).read_text(encoding="utf-8").strip() == on:
                return ok("on: the clock depends on heat and on the load of the other cores")
            return ok("off: the clock does not depend on heat")
    return unknown("the kernel does not say, as in most virtual machines")
