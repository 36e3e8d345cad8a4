"""All checks, in the order in which they are told."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench.doctor import cells, files, gpu, host
from bench.doctor.finding import BOTH, GPU, Check, Diagnosis
from bench.errors import EngineError
from bench.launch.choose import choose_launcher
from bench.launch.container import ContainerLauncher
from bench.launch.local import LocalLauncher
from bench.measure.nvml import Gpus, find_gpus


def examine(
    runtime: str, worker_python: str | None, results: Path, corpus: str | None
) -> list[Diagnosis]:
    """What `run` would find here. Builds, fetches and leaves nothing.

    Raises:
        RequestError: for a runtime that does not exist.
    """
    gpus = find_gpus()
    checks = [
        Check("Python", host.python, needed=True),
        Check("report extra", host.report_extra),
        *_of_cells(runtime, worker_python, gpus),
        Check("NVML", partial(gpu.nvml, gpus), (GPU,), needed=True),
        Check("GPU", partial(gpu.gpu, gpus), (GPU,), needed=True),
        Check("GPU processes", partial(gpu.processes, gpus), (GPU,)),
        Check("memory", lambda: host.memory(host.available_memory())),
        Check("load", lambda: host.load(os.getloadavg()[0], len(os.sched_getaffinity(0)))),
        Check("CPU governor", host.governor),
        Check("CPU turbo", host.turbo),
        Check("corpus", partial(files.corpus, corpus), needed=True),
        Check("results folder", partial(files.results_folder, results), needed=True),
        Check("results disk", partial(files.results_room, results)),
    ]
    return [check.finding() for check in checks]


def _of_cells(runtime: str, worker_python: str | None, gpus: Gpus) -> Iterator[Check]:
    """What depends on where cells run."""
    try:
        launcher, why = choose_launcher(runtime, worker_python)
    except EngineError as error:
        yield Check("engine", partial(cells.no_engine, error), needed=True)
        return
    yield Check("engine", partial(cells.engine, runtime, launcher, why), needed=True)
    if isinstance(launcher, ContainerLauncher):
        engine = launcher.engine
        for device, benchmark in cells.BENCHMARKS.items():
            name, of = f"{device.upper()} image", (benchmark,)
            yield Check(name, partial(cells.image, engine, device), of, needed=True)
            yield Check(f"room for {name}", partial(cells.image_room, engine, device), of)
        yield Check("container toolkit", partial(gpu.toolkit, gpus, engine), (GPU,), needed=True)
    elif isinstance(launcher, LocalLauncher):
        yield Check("torch and numpy", partial(cells.packages, launcher), BOTH, needed=True)
        if gpus.gpus:
            yield Check("torch with CUDA", partial(cells.cuda, launcher), (GPU,), needed=True)
