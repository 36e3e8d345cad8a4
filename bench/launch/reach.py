"""Whether torch reaches a GPU from where cells run, and what to do where it does not."""

import json
from dataclasses import dataclass

from bench.border.surroundings import PROBE_ANSWER
from bench.measure.packed import packed

PROGRAM = "bench.worker.gpu_probe"
TIMEOUT_S = 180.0  # a first import of torch from a cold disk takes a minute
MAX_WORDS = 400  # characters of what torch or an engine said

# The oldest driver of each major version of CUDA; within one, older drivers run newer minor
# versions. Source: NVIDIA's CUDA release notes, "CUDA Toolkit and Minimum Required Driver Version
# for CUDA Minor Version Compatibility".
OLDEST_DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580"}


# Of CUDA, where another program has the GPU's memory, or all of it.
IN_USE = ("out of memory", "busy or unavailable")


@dataclass(frozen=True)
class Reach:
    """What a probe found where cells run. None: not told."""

    error: str | None  # why nothing could be computed, in torch's or the engine's words
    torch: str | None = None  # its version
    built_for: str | None = None  # the CUDA that torch was built for, "13.0"; None: without any
    driver_cuda: str | None = None  # the newest CUDA that the driver supports


def read_reach(output: str) -> Reach:
    """Of what the probe printed, among whatever else was printed.

    Raises:
        ValueError: if it did not come to an answer.
    """
    _, _, told = output.partition(PROBE_ANSWER)
    return Reach(**json.loads(told.partition("\n")[0]))


def in_image(runtime: str) -> bool:
    """Whether cells run in an image: in containers, or beside the launching side in one."""
    return runtime != "local" or packed() is not None


def why_unreached(found: Reach, driver: str | None, container: bool) -> str | None:
    """None if cells can compute on the GPU; else why not, and after a full stop the remedy.

    `driver`: its version by NVML. `container`: as by in_image().
    """
    if found.error is None:
        return None
    place = "of the image" if container else "of the worker's Python"
    rebuild = (
        "TORCH_INDEX=URL make image-cuda   (or name another one: --image TAG)"
        if container
        else "make setup RUNTIME=local TORCH_INDEX=URL"
    )
    said = _shortened(" ".join(found.error.split()))
    if found.torch is None:
        return f"no GPU reaches the cells' container ({said}). {_way_in(container)}"
    name = f"torch {found.torch} {place}"
    if found.built_for is None:
        return f"{name} was built without CUDA. Build or install one with it: {rebuild}"
    if any(words in found.error for words in IN_USE):
        return (
            f"{name} gets no room on this GPU ({said}). Somebody computes there: wait for it, "
            "--wait-for-gpu, or name another one: --gpus"
        )
    if "no kernel image" in found.error:
        return (
            f"{name}, built for CUDA {found.built_for}, has no kernels for this GPU's architecture "
            f"({said}). Take a torch that lists the GPU's compute capability: {rebuild}"
        )
    if found.driver_cuda and _version(found.driver_cuda) < _version(found.built_for):
        return (
            f"{name} was built for CUDA {found.built_for}, and the driver {driver or ''} supports "
            f"up to CUDA {found.driver_cuda} ({said}). Update the driver "
            f"to {_driver_for(found)} or later, or take a torch of an older CUDA: {rebuild}"
        )
    return (
        f"{name} reaches no GPU, although the driver {driver or ''} lists one ({said}). "
        f"{_way_in(container)}"
    )


def _driver_for(found: Reach) -> str:
    """The oldest driver that will do. What is compiled on the spot (PTX) wants CUDA's own minor."""
    same = f"one of CUDA {found.built_for}"
    major, driver_major = (
        str(each).partition(".")[0] for each in (found.built_for, found.driver_cuda)
    )
    if major == driver_major or "unsupported toolchain" in (found.error or ""):
        return same
    return OLDEST_DRIVERS.get(int(major), same)


def _shortened(words: str) -> str:
    """The middle of a long text is left out: a program is named first, and why it failed last."""
    half = MAX_WORDS // 2
    return f"{words[:half]} [...] {words[-half:]}" if len(words) > MAX_WORDS else words


def _way_in(container: bool) -> str:
    if not container:
        return "Nvidia-smi must work for this user; see that /dev/nvidia* can be opened"
    return (
        "See that the NVIDIA container toolkit is installed and configured for this engine, and "
        "that it lists the GPU (nvidia-ctk cdi list); after an update of the driver generate its "
        "list anew and restart the engine"
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
