"""A stub of NVIDIA's management library: the real pynvml, on any machine, with scripted readings.

A pytest plugin: a test module says `pytest_plugins = "tests.builders.nvml_stub"` and takes the
fixture `nvml`.
(It holds no assertion to rewrite, and tests import names from it as well: PYTEST_DONT_REWRITE.)
"""

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pynvml
import pytest

from bench.border.atomic import write_atomically
from bench.measure.listed import find_gpus
from tests.builders.shared import without

# A reading's value; None takes the key out of the script: its call is then not supported.
Reading = str | float | Mapping[int, float | None] | None

MACHINE_KEYS = {
    "init",  # absent, or the error that nvmlInit ends with
    "driver",  # version
}
GPU_KEYS = {  # after `gpu0.`, `gpu1.` and so on; `gpu0.mig0.` and so on of instances (MIG)
    "uuid",  # a GPU is there if it has one
    "name",
    "mig_mode",  # 1: on
    "virtualization_mode",  # as in pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU
    "lost",  # 1: every call of this GPU says that it is lost; an error: all its calls say that
    "memory_used_mib",
    "memory_total_mib",
    "processes",  # of computation: {pid: MiB, or None where NVML knows no memory}
    "power_w",  # average
    "power_instant_w",  # a field value of its own
    "energy_w",  # the counter grows by this many joules a second
    "power_limit_w",  # enforced
    "power_default_limit_w",
    "utilisation_pct",
    "sm_clock_mhz",
    "app_clock_mhz",
    "app_clock_default_mhz",
    "module_power_w",  # of the GPU's whole module
    "xids",  # that the driver has reported so far, "79 31"; an event set tells later ones
    "temperature_c",
    "event_reasons",  # bit mask
    "throttle_reasons",  # the same under its older name; like event_reasons where absent
}

TWO_GPUS: dict[str, Reading] = {
    "driver": "580.1",
    "gpu0.uuid": "GPU-aaaa",
    "gpu0.name": "Stub GPU A",
    "gpu1.uuid": "GPU-bbbb",
    "gpu1.name": "Stub GPU B",
}

# The first GPU whole, the second in MIG mode with two instances, whose numbers have a gap.
WITH_MIG: dict[str, Reading] = {
    **TWO_GPUS,
    "gpu1.mig_mode": 1,
    "gpu1.mig0.uuid": "MIG-b0",
    "gpu1.mig0.name": "Stub GPU B MIG 1g.10gb",
    "gpu1.mig2.uuid": "MIG-b2",
    "gpu1.mig2.name": "Stub GPU B MIG 2g.20gb",
}


def error(code: int) -> str:
    """A reading whose call returns this code of NVML's, as in pynvml.NVML_ERROR_GPU_IS_LOST."""
    return f"error:{code}"


class NvmlStub:
    """The stub's script. Each change is seen whole, at the next call, by every process."""

    def __init__(self, library: Path, script: Path) -> None:
        self._script = script
        self._readings: dict[str, Reading] = {}
        folders = [str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
        # What a child needs to load the stub; this process's children inherit it.
        self.environment = {
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, folders)),
            "NVML_STUB": str(script),
        }

    def write(self, readings: Mapping[str, Reading]) -> None:
        """The whole script. Before the first one, the machine has no NVIDIA driver."""
        lines = [
            f"{_known(key)} {_text(value)}\n"
            for key, value in readings.items()
            if value is not None
        ]
        write_atomically(self._script, "".join(lines))
        self._readings = dict(readings)

    def change(self, **readings: Reading) -> None:
        """Some readings, as in `change(**{"gpu0.lost": 1})`; the others stay."""
        self.write(self._readings | readings)


def _known(key: str) -> str:
    """The key. A misspelt one would silently mean 'not supported'."""
    of_gpu = re.fullmatch(r"gpu\d+\.(?:mig\d+\.)?(\w+)", key)
    if of_gpu[1] not in GPU_KEYS if of_gpu else key not in MACHINE_KEYS:
        raise KeyError(f"the NVML stub has no reading {key!r}")
    return key


def _text(value: Reading) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{pid}:{'-' if mib is None else mib}" for pid, mib in value.items())
    return str(int(value) if isinstance(value, bool) else value)


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled stub, in a folder of its own.

    It has no SONAME: once loaded by its path, it must not answer for a later load of the real
    libnvidia-ml.so.1 by name.
    """
    if shutil.which("gcc") is None:
        without("there is no gcc to compile the NVML stub with")
    library = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    source = Path(__file__).with_suffix(".c")
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", library, source], check=True)
    return library


@contextmanager
def scripted_nvml(library: Path, script: Path) -> Iterator[NvmlStub]:
    """The stub under pynvml, in this process and its children; all as it was on leaving."""
    stub = NvmlStub(library, script)
    loaded = ctypes.CDLL(str(library))
    # pynvml keeps the texts that the library's nvmlErrorString gave.
    texts = dict(pynvml.NVMLError._errcode_to_string)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stub.environment.items():
            patch.setenv(name, value)
        patch.setattr(pynvml, "nvmlLib", loaded)
        patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        patch.setattr(pynvml, "_nvmlLib_refcount", 0)
        patch.setattr(pynvml.NVMLError, "_errcode_to_string", texts)
        find_gpus.cache_clear()
        try:
            yield stub
        finally:
            find_gpus.cache_clear()
            while loaded.nvmlShutdown() == pynvml.NVML_SUCCESS:
                pass  # once for each nvmlInit that has had no nvmlShutdown


@pytest.fixture
def nvml(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NvmlStub]:
    """The stub until the test ends; without a driver until its first `write`."""
    with scripted_nvml(nvml_library, tmp_path_factory.mktemp("nvml") / "script") as stub:
        yield stub
