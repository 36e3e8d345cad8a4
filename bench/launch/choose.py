"""Which launcher: what was asked for, or the first that answers, and why, in one line."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from bench.errors import EngineError, RequestError, nearest
from bench.launch import apptainer
from bench.launch.apptainer import ApptainerLauncher
from bench.launch.container import ContainerLauncher
from bench.launch.engine import Engine
from bench.launch.job import Launcher
from bench.launch.local import LocalLauncher
from bench.measure.packed import packed

RUNTIMES = ("auto", "docker", "podman", "apptainer", "local")


def choose_launcher(
    runtime: str,
    worker_python: str | None,
    image: str | None = None,
    requirements: tuple[str, ...] = (),
    installed: tuple[str, ...] = (),
) -> tuple[Launcher, str]:
    """The launcher, and one line that says why it is this one.

    `image`: the tag of an image for all cells, in place of the one made for their device; for
    Apptainer a file.
    `requirements`: what cells need beside torch and numpy.
    `installed`: classes that cells import from where they run, which an image's id tells already.

    Raises:
        RequestError: for a runtime that does not exist, or an image without a container engine.
        EngineError: if an engine was asked for by name and does not answer.
    """
    if runtime not in RUNTIMES:
        raise RequestError(f"there is no runtime {runtime!r}. {nearest(runtime, RUNTIMES)}")
    if image is not None and requirements:
        raise RequestError(
            f"--image {image} names the cells' image, and the matrix asks for another one by its "
            "image.requirements. Leave out one of the two."
        )
    if runtime == "apptainer":
        why = f"{apptainer.version()}, as asked; untested with a real one"
        return ApptainerLauncher(Path(image) if image else None), why
    local = LocalLauncher(worker_python or sys.executable, installed=installed)
    launcher, why = _choose(runtime, local)
    if image is None:
        return replace(launcher, requirements=requirements), why
    if not isinstance(launcher, ContainerLauncher):
        raise RequestError(
            f"--image {image} needs a container engine, and none is used here ({why}). "
            "Start docker or podman, or leave out --image (of a matrix: image.tag)."
        )
    return replace(launcher, image=image), f"{why}; image {image}, as asked"


def _choose(runtime: str, local: LocalLauncher) -> tuple[ContainerLauncher | LocalLauncher, str]:
    if runtime == "local":
        return local, "local processes, as asked"
    if runtime != "auto":
        why_not = Engine(runtime).why_not()
        if why_not is not None:
            raise EngineError(
                f"{runtime} was asked for and does not answer: {why_not}. Start it, or run "
                "without containers: RUNTIME=local"
            )
        return ContainerLauncher(Engine(runtime)), f"{runtime} containers, as asked"
    if packed():
        return local, "local processes in this container, which holds all in one"
    refused = []
    for name in ("docker", "podman"):
        why_not = Engine(name).why_not()
        if why_not is None:
            return ContainerLauncher(Engine(name)), f"{name} containers: the engine answers"
        installed = shutil.which(name) is not None
        refused.append(f"{name} does not answer ({why_not})" if installed else f"no {name} here")
    return local, f"local processes: {' and '.join(refused)}"
