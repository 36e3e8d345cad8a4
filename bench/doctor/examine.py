"""All checks, in the order in which they are told."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.doctor import cells, files, gpu, gpu_settings, host
from bench.doctor.finding import BOTH, GPU, Diagnosis, checked, explained, problem
from bench.errors import EngineError
from bench.launch.choose import choose_launcher
from bench.launch.container import ContainerLauncher
from bench.launch.local import LocalLauncher
from bench.measure.gpus import Gpus
from bench.measure.listed import find_gpus
from bench.measure.machine import this_room


def examine(
    runtime: str, worker_python: str | None, results: Path, corpus: str | None
) -> list[Diagnosis]:
    """What `run` would find here. Builds, fetches and leaves nothing.

    Raises:
        RequestError: for a runtime that does not exist.
    """
    gpus = find_gpus()
    return [
        checked("Python", host.python, needed=True),
        checked("report extra", host.report_extra),
        *_of_cells(runtime, worker_python, gpus),
        checked("NVML", partial(gpu.nvml, gpus), (GPU,), needed=True),
        checked("GPU", partial(gpu.gpu, gpus), (GPU,), needed=True),
        checked("GPU processes", partial(gpu.processes, gpus), (GPU,)),
        checked("GPU power limit", partial(gpu_settings.power_limit, gpus), (GPU,)),
        checked("GPU clocks", partial(gpu_settings.clocks, gpus), (GPU,)),
        checked("memory", lambda: host.memory(this_room().free_gib)),
        checked("load", lambda: host.load(os.getloadavg()[0], len(os.sched_getaffinity(0)))),
        checked("CPU governor", host.governor),
        checked("CPU turbo", host.turbo),
        checked("corpus", partial(files.corpus, corpus), needed=True),
        checked("results folder", partial(files.results_folder, results), needed=True),
        checked("results disk", partial(files.results_room, results)),
    ]


def _of_cells(runtime: str, worker_python: str | None, gpus: Gpus) -> Iterator[Diagnosis]:
    """What depends on where cells run."""
    try:
        launcher, why = choose_launcher(runtime, worker_python)
    except EngineError as error:
        remedy = "start it, or run without containers: --runtime local"
        answer = problem(explained(error)[0], remedy)
        yield checked("engine", lambda: answer, needed=True)
        return
    yield checked("engine", partial(cells.engine, runtime, launcher, why), needed=True)
    if isinstance(launcher, ContainerLauncher):
        engine = launcher.engine
        yield checked("limits of cells", partial(cells.limits, launcher))
        for device, benchmark in cells.BENCHMARKS.items():
            name, of = f"{device.upper()} image", (benchmark,)
            yield checked(name, partial(cells.image, engine, device), of, needed=True)
            yield checked(f"room for {name}", partial(cells.image_room, engine, device), of)
        yield checked("container toolkit", partial(gpu.toolkit, gpus, engine), (GPU,), needed=True)
    elif isinstance(launcher, LocalLauncher):
        yield checked("torch and numpy", partial(cells.packages, launcher), BOTH, needed=True)
    if gpus.gpus:
        reached = partial(cells.cuda, launcher, gpus)
        yield checked("torch with CUDA", reached, (GPU,), needed=True)
