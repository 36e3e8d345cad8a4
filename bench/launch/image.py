"""The images that cells run in: tagged by the hash of their inputs, built only when missing.

A device's own, and those with what a matrix requires on top of it.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.border.identity import PACKAGE
from bench.errors import EngineError, MissingError
from bench.launch.engine import Engine
from bench.records.requirements import normalised, pinned

ROOT = PACKAGE.parent
CELLS, DERIVED = "Dockerfile", "own.Dockerfile"  # in docker/: a device's image, and what adds to it
DEFAULT_BASE = "python:3.11-slim-bookworm"
OFFLINE_BASE = "bench-base:bookworm"  # made by docker/base-offline.sh
PULL_TIMEOUT_S = 600.0
OLDEST_PYTHON = (3, 11)  # of what runs inside
ANSWER = "bench asks for the version: "  # before it: an image may print as it starts


def tag(device: str, base: str) -> str:
    """bench-<device>:<hash>. Wheels enter by name and size: names carry version and build.

    Raises:
        MissingError: where the program was installed without the files that images are made of.
    """
    inputs = hashed(
        _dockerfile(CELLS),
        device,
        (ROOT / "docker" / "constraints.txt").read_text(encoding="utf-8"),
        base,
        os.environ.get("TORCH_INDEX", ""),
        *told(wheel for wheel in wheels() if _is_pinned(wheel)),
    )
    return f"bench-{device}:{inputs}"


def derived_tag(cell_image: str, requirements: Sequence[str]) -> str:
    """bench-<device>-own:<hash>, by the tag of the image below and all that comes on top."""
    wanted = sorted(f"{name}=={version}" for name, version in pinned(requirements).items())
    repository = f"{cell_image.partition(':')[0]}-own"
    inputs = hashed(_dockerfile(DERIVED), cell_image, *wanted, *told(further_wheels()))
    return f"{repository}:{inputs}"


def hashed(*inputs: str) -> str:
    """12 hex digits over all that an image is made of."""
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:12]


def _dockerfile(name: str) -> str:
    file = ROOT / "docker" / name
    if not file.exists():
        raise MissingError(
            f"{file} is not there: images are made in a clone of the repository. "
            "Run from one, or without containers: --runtime local"
        )
    return file.read_text(encoding="utf-8")


def told(wheels: Iterable[Path]) -> list[str]:
    """By name and size."""
    return [f"{wheel.name} {wheel.stat().st_size}" for wheel in wheels]


def further_wheels() -> list[Path]:
    """Those in docker/wheels that are not of the image itself, but of a matrix's requirements."""
    return [wheel for wheel in wheels() if not _is_pinned(wheel)]


def wheels() -> list[Path]:
    """What images of cells are made of where no index is reached."""
    return sorted((ROOT / "docker" / "wheels").glob("*.whl"))


def _is_pinned(wheel: Path) -> bool:
    """Whether it is of a package that docker/constraints.txt pins."""
    lines = (ROOT / "docker" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = {normalised(line.partition("==")[0]) for line in lines if "==" in line}
    return normalised(wheel.name.partition("-")[0]) in names


def bases() -> list[str]:
    """Base images, best first: the one asked for, or the usual one and the offline one."""
    asked = os.environ.get("BASE_IMAGE")
    return [asked] if asked else [DEFAULT_BASE, OFFLINE_BASE]


def find_image(
    engine: Engine, device: str, requirements: Sequence[str] = ()
) -> tuple[str, str] | None:
    """(tag, image id) of the image for today's inputs and these requirements, if it is there."""
    for base in bases():
        name = tag(device, base)
        image_id = engine.image_id(name)
        if image_id is None:
            continue
        if requirements:
            name = derived_tag(name, requirements)
            image_id = engine.image_id(name)
        return (name, image_id) if image_id is not None else None
    return None


def require_image(engine: Engine, device: str, requirements: Sequence[str] = ()) -> str:
    """The id of the image for a device's cells, with these requirements.

    Raises:
        MissingError: naming the command that builds it.
    """
    found = find_image(engine, device, requirements)
    if found is None:
        what = f"{device} cells{' with ' + ', '.join(requirements) if requirements else ''}"
        raise MissingError(
            f"the image for {what} is not built. Build it with: make image-{device}"
            f"{' MATRIX=FILE' if requirements else ''}   (or run without containers: "
            "RUNTIME=local). If you built one before, what it is made of has changed: the files of "
            f"docker/, BASE_IMAGE ({os.environ.get('BASE_IMAGE') or 'not set'}) or TORCH_INDEX "
            f"({os.environ.get('TORCH_INDEX') or 'not set'})."
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
            f"{engine.name} has no image {tag!r}. Build or load it first, or name another one. "
            f"Images of this program here: {', '.join(engine.tags('bench-*')) or 'none'}."
        )
    return image_id


def check_python(engine: Engine, tag: str, image_id: str) -> None:
    """An image that somebody asked for runs what cells run.

    Raises:
        MissingError: if it has no Python that is new enough.
    """
    ask = "import sys; print(ANSWER, *sys.version_info[:2])".replace("ANSWER", repr(ANSWER))
    words = ["run", "--rm", "--pull", "never", "--network", "none", image_id, "python3", "-c", ask]
    try:
        _, _, told = engine.command(*words).partition(ANSWER)
        found = tuple(map(int, told.split()[:2]))
    except (EngineError, ValueError) as error:
        raise MissingError(
            f"the image {tag} does not run python3, by which cells are started: {error}. Add "
            f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer to it."
        ) from error
    if found < OLDEST_PYTHON:
        raise MissingError(
            f"the image {tag} has Python {'.'.join(map(str, found)) or 'without a version'}, and "
            f"cells need {'.'.join(map(str, OLDEST_PYTHON))} or newer. Name another image."
        )


def build(engine: Engine, device: str, base: str) -> str:
    """Build the image for a device; its tag. The build's own output goes to the terminal.

    Raises:
        MissingError: for wheels without torch's, which would be all that the build has.
        EngineError: if the build fails.
    """
    name = tag(device, base)
    if wheels() and not any(wheel.name.startswith("torch-") for wheel in wheels()):
        raise MissingError(
            f"docker/wheels holds {wheels()[0].name} and no torch. Where that folder has wheels, "
            "an image is built from them alone. Fill it (make wheels), or empty it to build from "
            "pip's index."
        )
    torch_index = os.environ.get("TORCH_INDEX", "")
    arguments = {"DEVICE": device, "BASE_IMAGE": base, "TORCH_INDEX": torch_index}
    build_file(engine, CELLS, name, arguments)
    return name


def build_derived(engine: Engine, cell_image: str, requirements: Sequence[str]) -> str:
    """Build an image with these requirements on top of a cell's image; its tag.

    From docker/wheels alone where that holds every requirement, else from pip's index.

    Raises:
        EngineError: if the build fails.
    """
    name = derived_tag(cell_image, requirements)
    arguments = {
        "CELL_IMAGE": cell_image,
        "REQUIREMENTS": " ".join(requirements),
        "NO_INDEX": "1" if all(map(_is_held, requirements)) else "",
    }
    build_file(engine, DERIVED, name, arguments)
    return name


def _is_held(requirement: str) -> bool:
    """Whether docker/wheels has a wheel of it: NAME-VERSION-..., NAME with underscores."""
    name, _, version = requirement.partition("==")
    parts = (wheel.name.split("-")[:2] for wheel in further_wheels())
    return any((normalised(found), of) == (normalised(name), version) for found, of in parts)


def build_file(engine: Engine, file: str, name: str, arguments: Mapping[str, str]) -> None:
    """Build a Dockerfile of docker/ under a tag.

    Raises:
        EngineError: if the build fails.
    """
    words = ["build", "--file", str(ROOT / "docker" / file), "--tag", name]
    for key, value in arguments.items():
        words += ["--build-arg", f"{key}={value}"]
    try:
        answer = subprocess.run([engine.name, *words, str(ROOT)], stdin=subprocess.DEVNULL)
    except OSError as error:
        raise EngineError(f"{engine.name} build could not be run: {error}") from error
    if answer.returncode != 0:
        failed = f"{engine.name} build of docker/{file} failed. Its output above says why."
        raise EngineError(failed + _without_index())


def _without_index() -> str:
    """What to do where this machine reaches an index of packages, and a build on it does not.

    This happens behind a proxy whose certificate no image knows, and where containers have no
    network. With wheels at hand a build asks no index.
    """
    if wheels():
        return ""
    return (
        " If it reached no index of packages: make wheels   fetches them outside of the build; "
        "then the same again. Or run without containers: RUNTIME=local"
    )


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
