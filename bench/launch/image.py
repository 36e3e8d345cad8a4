"""The images that cells run in: tagged by the hash of their inputs, built only when missing."""

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.border.identity import PACKAGE
from bench.errors import EngineError, MissingError
from bench.launch.engine import Engine
from bench.records.requirements import normalised

ROOT = PACKAGE.parent
DEFAULT_BASE = "python:3.11-slim-bookworm"
OFFLINE_BASE = "bench-base:bookworm"  # made by docker/base-offline.sh
PULL_TIMEOUT_S = 600.0


def dockerfile(device: str) -> Path:
    return ROOT / "docker" / f"{device}.Dockerfile"


def tag(device: str, base: str) -> str:
    """bench-<device>:<hash>. Wheels enter by name and size: names carry version and build.

    Raises:
        MissingError: where the program was installed without the files that images are made of.
    """
    if not dockerfile(device).exists():
        raise MissingError(
            f"{dockerfile(device)} is not there: images are made in a clone of the repository. "
            "Run from one, or without containers: --runtime local"
        )
    wheels = [wheel for wheel in _wheels() if _is_pinned(wheel)]
    inputs = [
        dockerfile(device).read_text(encoding="utf-8"),
        (ROOT / "docker" / "constraints.txt").read_text(encoding="utf-8"),
        base,
        os.environ.get("TORCH_INDEX", ""),
        *(f"{wheel.name} {wheel.stat().st_size}" for wheel in wheels),
    ]
    digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
    return f"bench-{device}:{digest[:12]}"


def further_wheels() -> list[Path]:
    """Those in docker/wheels that are not of the image itself, but of a matrix's requirements."""
    return [wheel for wheel in _wheels() if not _is_pinned(wheel)]


def _wheels() -> list[Path]:
    return sorted((ROOT / "docker" / "wheels").glob("*.whl"))


def _is_pinned(wheel: Path) -> bool:
    """Whether it is of a package that docker/constraints.txt pins."""
    lines = (ROOT / "docker" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {normalised(line.partition("==")[0]) for line in lines if "==" in line}
    return normalised(wheel.name.partition("-")[0]) in pinned


def bases() -> list[str]:
    """Base images, best first: the one asked for, or the usual one and the offline one."""
    asked = os.environ.get("BASE_IMAGE")
    return [asked] if asked else [DEFAULT_BASE, OFFLINE_BASE]


def find_image(engine: Engine, device: str) -> tuple[str, str] | None:
    """(tag, image id) of the image for today's inputs, if it is there."""
    for base in bases():
        image_id = engine.image_id(tag(device, base))
        if image_id is not None:
            return tag(device, base), image_id
    return None


def require_image(engine: Engine, device: str) -> str:
    """The id of the image for a device.

    Raises:
        MissingError: naming the command that builds it.
    """
    found = find_image(engine, device)
    if found is None:
        raise MissingError(
            f"the image for {device} cells is not built for its present inputs: "
            f"docker/{device}.Dockerfile, docker/constraints.txt, docker/wheels, BASE_IMAGE "
            f"({os.environ.get('BASE_IMAGE') or 'not set'}) and TORCH_INDEX "
            f"({os.environ.get('TORCH_INDEX') or 'not set'}). Set them as they were, or build it "
            f"with: make image-{device}   (or run without containers: RUNTIME=local)"
        )
    return found[1]


def require_named(engine: Engine, tag: str) -> str:
    """The id of an image that somebody asked for by its tag.

    Raises:
        MissingError: naming the images that are here.
    """
    image_id = engine.image_id(tag)
    if image_id is None:
        raise MissingError(
            f"{engine.name} has no image {tag!r}. Build or load it first; of this program there "
            f"are: {', '.join(engine.tags('bench-*')) or 'none'}."
        )
    return image_id


def build(engine: Engine, device: str, base: str) -> str:
    """Build the image for a device; its tag. The build's own output goes to the terminal.

    Raises:
        MissingError: for wheels without torch's, which would be all that the build has.
        EngineError: if the build fails.
    """
    name = tag(device, base)
    if _wheels() and not any(wheel.name.startswith("torch-") for wheel in _wheels()):
        raise MissingError(
            f"docker/wheels holds {_wheels()[0].name} and no torch, and an image is built from "
            "wheels alone where there are any. Fill it first (make wheels), or empty it to build "
            "from the index."
        )
    arguments = {"BASE_IMAGE": base, "TORCH_INDEX": os.environ.get("TORCH_INDEX", "")}
    build_file(engine, dockerfile(device), name, arguments)
    return name


def build_file(engine: Engine, file: Path, name: str, arguments: Mapping[str, str]) -> None:
    """Build a Dockerfile of ours under a tag.

    Raises:
        EngineError: if the build fails.
    """
    words = ["build", "--file", str(file), "--tag", name]
    for key, value in arguments.items():
        words += ["--build-arg", f"{key}={value}"]
    try:
        answer = subprocess.run([engine.name, *words, str(ROOT)], stdin=subprocess.DEVNULL)
    except OSError as error:
        raise EngineError(f"{engine.name} build: {error}") from error
    if answer.returncode != 0:
        raise EngineError(f"{engine.name} build of docker/{file.name} failed; its output is above.")


def find_base(engine: Engine) -> str:
    """A base image that is here, or could be pulled.

    Raises:
        MissingError: if there is none, with the ways to one.
    """
    for base in bases():
        if engine.image_id(base) is not None:
            return base
    first = bases()[0]
    try:
        engine.command("pull", first, timeout_s=PULL_TIMEOUT_S)
    except EngineError as error:
        raise MissingError(
            f"the base image {first} is not here and cannot be pulled ({error}). Without a "
            "registry: make base-offline wheels   (Debian, as root), then again; or without "
            "containers: RUNTIME=local"
        ) from error
    return first
