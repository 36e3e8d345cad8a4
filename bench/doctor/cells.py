"""What cells run in: a container engine and its images, or the worker's own interpreter."""

import os
import shutil

from bench.doctor.finding import CPU, GPU, Answer, explained, ok, problem, unknown, warning
from bench.errors import MissingError
from bench.launch.apptainer import ApptainerLauncher
from bench.launch.container import ContainerLauncher
from bench.launch.engine import CONTROLLERS, Engine
from bench.launch.image import bases, find_image
from bench.launch.job import Launcher
from bench.launch.local import LocalLauncher
from bench.launch.reach import in_image, why_unreached
from bench.measure.gpus import Gpus
from bench.measure.packed import packed

BENCHMARKS = {"cpu": CPU, "cuda": GPU}  # by the device of their cells
# Disk space that building an image takes. A CPU image is 0.9 GB, 1.3 GB with its build's layers;
# for CUDA, with its libraries in wheels and unpacked, an estimate to the safe side.
BUILD_GIB = {"cpu": 1.5, "cuda": 10.0}


def engine(runtime: str, launcher: Launcher, why: str) -> Answer:
    """`why` as choose_launcher gives it."""
    if isinstance(launcher, ContainerLauncher):
        return ok(f"{launcher.engine.version() or 'version not told'}; {why}")
    if packed():
        return warning(
            f"{why}; nothing limits the memory of each of them",
            "limit that of all together as you start the container: --memory 8g",
        )
    if isinstance(launcher, ApptainerLauncher):
        return warning(f"{why}; nothing limits the memory of such cells", "prefer docker or podman")
    if runtime == "local":
        return ok(why)
    return warning(
        f"{why}; nothing limits the memory of such cells",
        "install docker or podman and start it; where permission is denied, join its group",
    )


def limits(launcher: ContainerLauncher) -> Answer:
    """Whether the engine holds cells to their CPUs, memory and number of processes."""
    lacking = CONTROLLERS - launcher.controllers
    if not lacking:
        return ok("cells are held to their CPUs, memory and number of processes")
    named = ", ".join(sorted(lacking))
    return warning(
        f"{launcher.runtime} cannot use the control groups {named}: cells run without these "
        "limits, and rows say so (cpus_enforced, memory_limit_enforced)",
        "delegate them to its user, with control groups of version 2: Delegate=cpu cpuset io "
        "memory pids under [Service] in /etc/systemd/system/user@.service.d/delegate.conf, then "
        "systemctl daemon-reload, and log in anew",
    )


def image(engine: Engine, device: str) -> Answer:
    """Whether the image is there, and built from what would go into it today."""
    try:
        found = find_image(engine, device)
    except MissingError as error:
        return problem(*explained(error))
    if found is not None:
        return ok(f"{found[0]}, built from what docker/ holds now")
    older = engine.tags(f"bench-{device}")
    remedy = f"make image-{device}; make {BENCHMARKS[device]} builds it too"
    if not any(engine.image_id(base) for base in bases()):
        remedy += f"; without a registry for its base {bases()[0]} first: make base-offline wheels"
    return problem(
        f"not built from what docker/ holds now; older ones: {', '.join(older)}"
        if older
        else "not built",
        remedy,
    )


def image_room(engine: Engine, device: str) -> Answer:
    """Whether the image is there already or could be built."""
    root = _data_root(engine)
    if root is None:
        return unknown(
            f"{engine.name} keeps its images on another machine, whose disk is not seen from here"
        )
    try:
        free_gib = shutil.disk_usage(root).free / 2**30
    except OSError as error:
        return unknown(f"{root} cannot be read: {error.strerror}")
    said = f"{free_gib:.1f} GiB free in {root}"
    if find_image(engine, device) is not None:
        return ok(f"{said}; the image is built")
    if free_gib >= BUILD_GIB[device]:
        return ok(f"{said}; building takes {BUILD_GIB[device]:g} GiB")
    return problem(
        f"{said}; building takes {BUILD_GIB[device]:g} GiB",
        f"make room there   ({engine.name} image prune removes images that nothing names)",
    )


def _data_root(engine: Engine) -> str | None:
    """Where the engine keeps its images; None if it runs on another machine than this."""
    info = engine.info()
    if engine.name == "podman":
        host, root = info["host"]["hostname"], info["store"]["graphRoot"]
    else:
        host, root = info["Name"], info["DockerRootDir"]
    return str(root) if host == os.uname().nodename else None


def packages(launcher: LocalLauncher) -> Answer:
    """What a cell imports as a local process."""
    try:
        launcher.environment("cpu")
    except MissingError as error:
        return problem(
            explained(error)[0],
            "make bench-cpu RUNTIME=local sets them up; "
            "or name an interpreter that has them: --worker-python PATH",
        )
    return ok(f"{launcher.python} has them")


def cuda(launcher: Launcher, gpus: Gpus) -> Answer:
    """Whether torch reaches a GPU from where cells run: each kind of GPU is tried out once."""
    container = in_image(launcher.runtime)
    for gpu in {gpu.name: gpu for gpu in gpus.gpus}.values():
        try:
            found = launcher.reach(gpu.uuid)
        except MissingError as error:  # no image, or no way in: other checks tell
            return (unknown if container else problem)(*explained(error))
        if why := why_unreached(found, gpus.driver_version, container):
            text, remedy = explained(MissingError(why))
            return problem(f"{gpu}: {text}", remedy)
    return ok(f"torch {found.torch} computes on {', '.join(sorted(gpus.names))}")
